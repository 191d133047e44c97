//! tract, used as it is fastest here: one text a run, and as many runs at a time as there are threads.
//!
//! Its own threads inside a matrix product are left off: for many short texts, whole texts side by side are faster. So
//! a batch of one text runs on one thread.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tract_onnx::prelude::*;

use crate::engine::Engine;
use crate::workload::Ids;

const VERSION: &str = "0.23.9";

/// Vectors with the index of their text.
type Part = Vec<(usize, Vec<f32>)>;

pub struct Tract {
    plan: Arc<TypedRunnableModel>,
    threads: usize,
}

impl Tract {
    /// Loads and optimises a graph for texts of any length.
    pub fn load(path: &Path, threads: usize) -> TractResult<Self> {
        let mut model = tract_onnx::onnx().model_for_path(path)?;
        let tokens = model.symbols.sym("tokens");
        model.set_input_fact(0, InferenceFact::dt_shape(i64::datum_type(), tvec!(1.to_dim(), tokens.to_dim())))?;
        Ok(Self { plan: model.into_optimized()?.into_runnable()?, threads })
    }

    fn embed_one(&self, ids: &[u32]) -> TractResult<Vec<f32>> {
        let ids: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
        let ids = tract_ndarray::Array2::from_shape_vec((1, ids.len()), ids)?;
        let outputs = self.plan.run(tvec!(ids.into_tensor().into()))?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

impl Engine for Tract {
    fn name(&self) -> String {
        format!("tract {VERSION}")
    }

    fn embed(&mut self, batch: &[Ids]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let this = &*self;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut vectors = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(ids) = batch.get(index) else {
                    return Ok(vectors);
                };
                vectors.push((index, this.embed_one(ids)?));
            }
        };
        let parts: Vec<TractResult<Part>> = if this.threads == 1 || batch.len() == 1 {
            vec![work()]
        } else {
            std::thread::scope(|scope| {
                let handles: Vec<_> = (0..this.threads).map(|_| scope.spawn(work)).collect();
                handles.into_iter().map(|handle| handle.join().expect("tract does not panic")).collect()
            })
        };
        let mut vectors = vec![Vec::new(); batch.len()];
        for part in parts {
            for (index, vector) in part? {
                vectors[index] = vector;
            }
        }
        Ok(vectors)
    }
}
