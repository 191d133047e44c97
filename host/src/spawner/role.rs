//! Roles in which this binary runs beside the host.

use std::path::{Component, Path};

use crate::devices::DeviceName;

/// Bytes of a model's name.
const NAME_BYTES_MAX: usize = 255;

/// A process that a host may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves inference on a device, on the socket that is its standard input.
    Worker(DeviceName),
    /// Reads the files of one model, by its name, on the same kind of socket.
    ModelReader(String),
    /// Probes the devices and writes what it found to its standard output.
    Probe,
    /// Compiles components, on the socket that is its standard input.
    Compiler,
}

impl Role {
    /// Whether a spawner may start it: the name of a model leads to no other place than its directory.
    pub(super) fn is_valid(&self) -> bool {
        let Self::ModelReader(name) = self else { return true };
        let mut parts = Path::new(name).components();
        let is_one_part = matches!(parts.next(), Some(Component::Normal(part)) if part == name.as_str());
        name.len() <= NAME_BYTES_MAX && is_one_part && parts.next().is_none()
    }
}
