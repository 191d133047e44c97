//! Structure-blind mutation of inputs: the same inputs for the same seed, on every machine.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, or 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> Option<&'a T> {
        all.get(self.below(all.len())).copied()
    }
}

/// Numbers at the edges of types and limits.
const EDGES: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Texts at the edges of number parsers, of UTF-8 and of names.
const TEXTS: [&str; 20] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "0.1",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "\0",
    "\n",
    "\r\n",
    "%00",
    "%2e%2e",
    "\u{feff}",
    "\u{130}",
    "\\ud800",
    "/../",
];

/// Changes `input`, which stays within `bytes_max`. `words` are the target's own; `other` is another input.
pub(crate) fn mutate(input: &mut Vec<u8>, random: &mut Random, words: &[&str], other: &[u8], bytes_max: usize) {
    for _ in 0..1 << random.below(4) {
        let at = random.below(input.len() + 1);
        let len = 1 + random.below(input.len().saturating_sub(at).min(32));
        let end = (at + len).min(input.len());
        match random.below(12) {
            0 | 1 => with(input, at, |byte| *byte ^= 1 << random.below(8)),
            2 => with(input, at, |byte| *byte = random.next() as u8),
            3 => with(input, at, |byte| *byte = byte.wrapping_add(random.below(33) as u8).wrapping_sub(16)),
            4 => drop(input.drain(at..end)),
            5 => input.truncate(at),
            6 => {
                // A part once more, at times many times.
                let part = input[at..end].to_vec();
                let times = 1 << random.below(6);
                insert(input, at, &part.repeat(times));
            }
            7 => {
                // The start of this one, and the end of another.
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
            8 => {
                let from = random.below(other.len());
                let part = &other[from..(from + len).min(other.len())];
                insert(input, at, part);
            }
            9 => {
                let number = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = 1 << random.below(4);
                let mut number = number[..width].to_vec();
                if random.below(2) == 0 {
                    number.reverse();
                }
                replace(input, at, &number);
            }
            10 => insert(input, at, random.one_of(&TEXTS).unwrap_or_default().as_bytes()),
            _ => {
                let word = random.one_of(words).unwrap_or_default().as_bytes();
                if random.below(2) == 0 { insert(input, at, word) } else { replace(input, at, word) }
            }
        }
        input.truncate(bytes_max);
    }
}

fn with(input: &mut [u8], at: usize, change: impl FnOnce(&mut u8)) {
    if let Some(byte) = input.get_mut(at) {
        change(byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

fn replace(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    let end = (at + part.len()).min(input.len());
    input.splice(at..end, part.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seed: u64) -> Vec<Vec<u8>> {
        let mut random = Random::new(seed);
        let one = |_| {
            let mut input = b"GET / HTTP/1.1".to_vec();
            mutate(&mut input, &mut random, &["host"], b"other", 64);
            input
        };
        (0..1_000).map(one).collect()
    }

    #[test]
    fn a_seed_gives_the_same_inputs_within_the_bound_and_another_seed_gives_others() {
        let first = inputs(1);
        assert_eq!(first, inputs(1));
        assert_ne!(first, inputs(2));
        assert!(first.iter().all(|input| input.len() <= 64));
        let different: std::collections::HashSet<_> = first.iter().collect();
        assert!(different.len() > 900, "{} of 1,000 differ", different.len());
    }
}
