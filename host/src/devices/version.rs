//! CUDA versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of CUDA as the driver counts: 12040 is 12.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CudaVersion(pub u32);

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1_000, self.0 % 1_000 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_people_write_it() {
        assert_eq!(CudaVersion(12_040).to_string(), "12.4");
        assert_eq!(CudaVersion(13_000).to_string(), "13.0");
        assert_eq!(CudaVersion(11_080).to_string(), "11.8");
    }
}
