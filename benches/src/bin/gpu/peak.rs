//! Peak figures of a device.

use std::fmt;

/// Dense half-precision operations a second with f32 sums, and bytes a second of its memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    pub tflops: Option<f64>,
    pub gbps: Option<f64>,
}

/// By a part of the name, from NVIDIA's data sheets; the first that fits.
const KNOWN: [(&str, f64, f64); 12] = [
    ("H200", 989.0, 4800.0),
    ("H100 PCIe", 756.0, 2000.0),
    ("H100 NVL", 835.0, 3900.0),
    ("H100", 989.0, 3350.0),
    ("A100-SXM4-40GB", 312.0, 1555.0),
    ("A100", 312.0, 2039.0),
    ("L40S", 362.0, 864.0),
    ("L4", 121.0, 300.0),
    ("A10", 125.0, 600.0),
    ("RTX 4090", 165.0, 1008.0),
    ("RTX 3090", 71.0, 936.0),
    ("T4", 65.0, 320.0),
];

impl Peak {
    pub(crate) fn of(name: &str) -> Self {
        let known = KNOWN.iter().find(|(part, ..)| has_words(name, part));
        known.map_or(Self::default(), |&(_, tflops, gbps)| Self { tflops: Some(tflops), gbps: Some(gbps) })
    }

    /// Replaces known peaks by those given by hand.
    pub(crate) fn or(self, tflops: Option<f64>, gbps: Option<f64>) -> Self {
        Self { tflops: tflops.or(self.tflops), gbps: gbps.or(self.gbps) }
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value}"));
        write!(f, "{} TFLOP/s in half precision, {} GB/s of memory", show(self.tflops), show(self.gbps))
    }
}

/// True if the name has these words, whole: an L40 is no L4.
fn has_words(name: &str, part: &str) -> bool {
    let is_edge = |edge: Option<char>| !edge.is_some_and(char::is_alphanumeric);
    name.match_indices(part)
        .any(|(at, _)| is_edge(name[..at].chars().next_back()) && is_edge(name[at + part.len()..].chars().next()))
}

/// A part of the whole in percent, or a dash.
pub(crate) fn percent(part: f64, whole: Option<f64>) -> String {
    whole.map_or("-".to_owned(), |whole| format!("{:.0} %", 100.0 * part / whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_name_wins() {
        assert_eq!(Peak::of("NVIDIA H100 PCIe").tflops, Some(756.0));
        assert_eq!(Peak::of("NVIDIA H100 80GB HBM3").gbps, Some(3350.0));
        assert_eq!(Peak::of("NVIDIA L4").gbps, Some(300.0));
        for other in ["Stub Device 0", "NVIDIA L40", "NVIDIA A10G", "NVIDIA GH200 480GB", "NVIDIA RTX A1000"] {
            assert_eq!(Peak::of(other).tflops, None, "{other}");
        }
        assert_eq!(percent(1.0, Some(4.0)), "25 %");
    }
}
