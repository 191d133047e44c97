//! Bireme's encoder, as a worker process calls it: a batch without padding.

use std::error::Error;
use std::path::Path;

use bireme_kernels::cpu::Isa;

use crate::engine::Engine;
use crate::worker::encoder::Encoder;
use crate::workload::Ids;

pub struct Ours {
    encoder: Encoder,
    ids: Vec<u32>,
    cu_seqlens: Vec<u32>,
    out: Vec<f32>,
}

impl Ours {
    pub fn load(model: &Path, threads: usize) -> Result<Self, Box<dyn Error>> {
        let encoder = Encoder::load(model, threads)?;
        Ok(Self { encoder, ids: Vec::new(), cu_seqlens: Vec::new(), out: Vec::new() })
    }
}

impl Engine for Ours {
    fn name(&self) -> String {
        format!("bireme {} ({})", env!("CARGO_PKG_VERSION"), Isa::detect().name())
    }

    fn embed(&mut self, batch: &[Ids]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        self.ids.clear();
        self.cu_seqlens.clear();
        self.cu_seqlens.push(0);
        for text in batch {
            self.ids.extend_from_slice(text);
            self.cu_seqlens.push(self.ids.len() as u32);
        }
        self.encoder.run(&self.ids, &self.cu_seqlens, &mut self.out)?;
        Ok(self.out.chunks_exact(self.encoder.dimension()).map(<[f32]>::to_vec).collect())
    }
}
