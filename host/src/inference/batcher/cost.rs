//! The cost of a model's batches, learnt from those that ran: a fixed part, and a part for each token.
//!
//! A batch is worth making larger only while the fixed part weighs in it. On a GPU that goes on to thousands of tokens;
//! on a CPU a few hundred are as good as any number, and a shorter batch lets the next request have its turn sooner.

use std::time::Duration;

/// Weight that older batches keep with each new one.
const MEMORY: f64 = 0.98;
/// Variation of sizes, relative to their mean, from which on the two parts can be told apart.
const SPREAD_MIN: f64 = 0.05;
/// Batches before a request is dropped by their cost.
const BATCHES_MIN: u64 = 16;
/// No batch is made smaller than this for its cost: measurements below are noise.
const TOKENS_MIN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Weighted sums of 1, x, y, x², xy for tokens x and nanoseconds y.
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    /// The fixed part and that of a token, in nanoseconds, as last fitted.
    line: Option<(f64, f64)>,
    /// The cheapest token seen lately.
    cheapest: Option<f64>,
    batches: u64,
}

impl Cost {
    pub(crate) fn observe(&mut self, tokens: usize, device_ns: u64) {
        let (x, y) = (tokens.max(1) as f64, device_ns as f64);
        for (sum, value) in
            [(&mut self.n, 1.0), (&mut self.x, x), (&mut self.y, y), (&mut self.xx, x * x), (&mut self.xy, x * y)]
        {
            *sum = *sum * MEMORY + value;
        }
        self.batches += 1;
        let mean = self.x / self.n;
        let variance = self.xx / self.n - mean * mean;
        if variance > (mean * SPREAD_MIN).powi(2) {
            let slope = ((self.xy / self.n - mean * self.y / self.n) / variance).max(0.0);
            let fixed = (self.y / self.n - slope * mean).max(0.0);
            self.line = Some((fixed, slope));
        }
        // It rises again slowly, for a device may become slower.
        let sample = y / x;
        self.cheapest = Some(self.cheapest.map_or(sample, |cheapest| sample.min(cheapest * 0.98 + sample * 0.02)));
    }

    /// Returns a lower bound on the time of a batch: half of the recent time of its tokens alone, because a request
    /// dropped by it is lost for good. Zero while little is known: the first batches are slow, and the smallest are
    /// mostly their fixed part.
    pub(crate) fn at_least(&self, tokens: usize) -> Duration {
        match (self.line, self.cheapest) {
            (Some((_, slope)), Some(cheapest)) if self.batches >= BATCHES_MIN => {
                Duration::from_nanos((slope.min(cheapest) / 2.0 * tokens as f64) as u64)
            }
            _ => Duration::ZERO,
        }
    }

    /// Returns the expected time of a batch; none before the first.
    pub(crate) fn expected(&self, tokens: usize) -> Option<Duration> {
        let ns = match self.line {
            Some((fixed, slope)) => fixed + slope * tokens as f64,
            None if self.n > 0.0 => self.y / self.x * tokens as f64,
            None => return None,
        };
        Some(Duration::from_nanos(ns as u64))
    }

    /// Returns the tokens from which on the fixed part is at most `loss` of a batch; none if unknown.
    pub(crate) fn worthwhile(&self, loss: f64) -> Option<usize> {
        let (fixed, slope) = self.line?;
        if slope <= 0.0 {
            return None;
        }
        let tokens = fixed / slope * (1.0 / loss - 1.0);
        Some((tokens.min(1e9) as usize).max(TOKENS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows batches of a device with these two parts.
    fn learnt(fixed: u64, slope: u64, sizes: &[usize]) -> Cost {
        let mut cost = Cost::default();
        sizes.iter().for_each(|&tokens| cost.observe(tokens, fixed + slope * tokens as u64));
        cost
    }

    #[test]
    fn the_two_parts_are_told_apart() {
        let cost = learnt(800_000, 50_000, &[100, 300, 200, 900]);
        let expected = cost.expected(1_000).unwrap();
        assert!((expected.as_secs_f64() - 0.0508).abs() < 1e-4, "{expected:?}");
        // 800 µs are a tenth of 8 ms, of which 7.2 ms are 144 tokens.
        assert!((143..=145).contains(&cost.worthwhile(0.1).unwrap()), "{:?}", cost.worthwhile(0.1));
        assert!(cost.worthwhile(0.03).unwrap() > 500);
    }

    #[test]
    fn a_device_whose_tokens_cost_nothing_takes_as_many_as_there_are() {
        assert_eq!(learnt(100, 0, &[1, 50, 1_000]).worthwhile(0.1), None);
        assert!(learnt(2_000_000, 60, &[100, 16_000, 300, 8_000]).worthwhile(0.1).unwrap() > 200_000);
    }

    #[test]
    fn sizes_that_do_not_differ_teach_nothing_new() {
        assert_eq!(learnt(1_000, 10, &[100; 50]).worthwhile(0.1), None);
        let mut cost = learnt(1_000, 10, &[100, 200]);
        (0..1_000).for_each(|_| cost.observe(150, 2_500));
        assert!((1_890..=1_910).contains(&cost.worthwhile(0.05).unwrap()), "{:?}", cost.worthwhile(0.05));
    }

    #[test]
    fn nobody_is_given_up_by_a_few_slow_batches() {
        let mut cost = learnt(100_000_000, 1_000_000, &[3, 40]);
        assert_eq!(cost.at_least(15_000), Duration::ZERO);
        (0..20).for_each(|i| cost.observe(100 + i * 10, 50_000 * (100 + i as u64 * 10)));
        // Far below the 750 ms that they would take.
        assert!(cost.at_least(15_000) <= Duration::from_millis(376), "{:?}", cost.at_least(15_000));
    }

    #[test]
    fn before_the_first_nothing_is_known() {
        let cost = Cost::default();
        assert_eq!((cost.expected(10), cost.at_least(10), cost.worthwhile(0.1)), (None, Duration::ZERO, None));
    }
}
