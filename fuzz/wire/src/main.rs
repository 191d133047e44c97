//! Reads broken frames as the host and the worker do: `fuzz-wire COUNT [SEED]`.
//!
//! Good frames of every kind are spliced, cut, stretched and changed, headers included, and read by `Header::parse` and
//! `Frame::decode`. Each must be refused, or be a frame that is written again byte for byte; nothing may panic. What
//! the sanitizer adds is in `fuzz/wire.sh`. Not here: the transport, which needs a process at its other end.

#[expect(dead_code, reason = "the tokenizer's own source, of which its data is used here")]
#[path = "../../../host/src/tokenizer/table.rs"]
mod tokenizer;
#[expect(dead_code, unused_imports, reason = "the wire's own source, of which its readers are used here")]
#[path = "../../../host/src/wire/mod.rs"]
mod wire;
// What the wire's own tests use.
#[path = "../../../host/src/wire/samples.rs"]
mod samples;

use wire::{
    Datatype, FailureKind, Frame, HEADER_BYTES, Header, MAGIC, Manifest, ModelId, ServingSettings, Signature, Tensor,
    TensorSpec,
};

/// SplitMix64: the same frames for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[derive(Debug, Default)]
struct Counts {
    header_refused: u64,
    body_refused: u64,
    read: u64,
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("fuzz-wire COUNT [SEED]: numbers"));
    let (count, seed) = (args.next().expect("fuzz-wire COUNT [SEED]"), args.next().unwrap_or(1));
    println!("{count} frames, seed {seed}: {:?}", fuzz(count, seed));
}

fn fuzz(count: u64, seed: u64) -> Counts {
    let good = good();
    let (mut random, mut counts) = (Random(seed), Counts::default());
    for _ in 0..count {
        let bytes = mutated(&good, &mut random);
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            counts.header_refused += 1;
            continue;
        };
        let Ok(header) = Header::parse(header) else {
            counts.header_refused += 1;
            continue;
        };
        // The reader takes as many bytes as the header says; a stream that ends before them is the end of the worker.
        let body = &body[..header.body_bytes.min(body.len())];
        match Frame::decode(header.kind, body) {
            Err(_) => counts.body_refused += 1,
            Ok(frame) => {
                counts.read += 1;
                let mut again = Vec::new();
                frame.encode(header.job, &mut again);
                assert_eq!(
                    &again[HEADER_BYTES..],
                    body,
                    "a frame that was read is another one when written: {frame:?}"
                );
            }
        }
    }
    counts
}

fn mutated(good: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = good[random.below(good.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let other = &good[random.below(good.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
            3 => {
                // A count or length, at the words where they lie.
                let at = at & !3;
                let huge = [0, 1, 255, 256, 257, 4_096, 4_097, i32::MAX as u32, 1 << 31, u32::MAX - 1, u32::MAX];
                if let Some(word) = bytes.get_mut(at..at + 4) {
                    word.copy_from_slice(&huge[random.below(huge.len())].to_le_bytes());
                }
            }
            4 => {
                let more = random.below(64);
                bytes.extend((0..more).map(|_| random.next() as u8));
            }
            // Another kind for the same body.
            _ => {
                if let Some(kind) = bytes.get_mut(4..8) {
                    kind.copy_from_slice(&(random.below(14) as u32).to_le_bytes());
                }
            }
        }
    }
    // Most frames get a header that lets the body be read at all.
    if random.below(8) != 0 && bytes.len() >= HEADER_BYTES {
        let body = (bytes.len() - HEADER_BYTES) as u64;
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[16..24].copy_from_slice(&body.to_le_bytes());
    }
    bytes
}

fn good() -> Vec<Vec<u8>> {
    let encode = |frame: &Frame| {
        let mut bytes = Vec::new();
        frame.encode(42, &mut bytes);
        bytes
    };
    samples::frames().iter().map(encode).collect()
}
