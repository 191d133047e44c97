//! Division of a host's memory between its budgets. Plain numbers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::byte_budget::EXCESS_PART;
use crate::limits::{
    DEPTH_MAX, HTTP_BODIES_BYTES_MAX, HTTP_CONNECTION_BYTES_MAX, HTTP_CONNECTIONS_MAX, INFERENCE_BYTES_MAX,
    INSTANCE_RESIDENT_BYTES_MAX, INSTANCES_DEFAULT, MAPS_BYTES_MAX,
};

const MIB: u64 = 1 << 20;

/// Smallest memory of a host: room for one component, one tensor and some calls at their default limits.
pub(crate) const MEMORY_MIN: u64 = 1280 * MIB;
/// Memory besides the budgets: code, the database's cache (64 MiB), log lines and their queues (92 MiB), events (8
/// MiB).
const FIXED_BYTES: u64 = 256 * MIB;
/// Smallest budget of request bodies: a component of 64 MiB fits.
const BODIES_BYTES_MIN: u64 = 96 * MIB;
/// Smallest budget of maps: two of them at their own bound.
const MAPS_BYTES_MIN: u64 = 144 * MIB;
/// Smallest budget of inference requests: tensors of 64 MiB fit.
const INFERENCE_BYTES_MIN: u64 = 96 * MIB;
const CONNECTIONS_MIN: u64 = 256;

/// Sizes of the budgets of a host, in bytes unless they are counts. Their sum is at most the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Memory of the host.
    pub total: u64,
    /// Memories of running calls, and answers that clients have not read.
    pub sandboxes: u64,
    /// Request bodies.
    pub bodies: u64,
    /// Inputs and outcomes of maps. They may exceed it by half, so that each map goes on.
    pub maps: u64,
    /// Inference requests.
    pub inference: u64,
    /// Number of HTTP connections, whose heads and buffers take memory.
    pub connections: usize,
    /// Number of calls at a time: a slot that was used once keeps some memory.
    pub instances: u32,
}

impl MemoryPlan {
    /// Divides `total` bytes; less than `MEMORY_MIN` counts as that.
    pub(crate) fn new(total: u64) -> Self {
        let total = total.max(MEMORY_MIN);
        let bodies = (total / 16).clamp(BODIES_BYTES_MIN, HTTP_BODIES_BYTES_MAX);
        let maps = (total / 16).clamp(MAPS_BYTES_MIN, MAPS_BYTES_MAX);
        let inference = (total / 8).clamp(INFERENCE_BYTES_MIN, INFERENCE_BYTES_MAX as u64);
        let connections = (total / 16 / HTTP_CONNECTION_BYTES_MAX).clamp(CONNECTIONS_MIN, HTTP_CONNECTIONS_MAX as u64);
        let instances = total / 8 / INSTANCE_RESIDENT_BYTES_MAX;
        let instances = instances.clamp(u64::from(DEPTH_MAX) + 1, INSTANCES_DEFAULT.into());
        let connection_bytes = connections * HTTP_CONNECTION_BYTES_MAX;
        let others = FIXED_BYTES
            + bodies
            + maps
            + maps / EXCESS_PART
            + inference
            + connection_bytes
            + instances * INSTANCE_RESIDENT_BYTES_MAX;
        Self {
            total,
            sandboxes: total - others,
            bodies,
            maps,
            inference,
            connections: connections as usize,
            instances: instances as u32,
        }
    }

    /// Plan of a host that may use half of the memory of this machine, or of its control group: models and the rest of
    /// the machine have the other half.
    pub(crate) fn of_machine() -> Self {
        Self::new(machine_bytes() / 2)
    }
}

/// Returns the memory of this machine, or of the control group of this process, whichever is less; read once.
pub(crate) fn machine_bytes() -> u64 {
    static BYTES: LazyLock<u64> = LazyLock::new(|| {
        let system = rustix::system::sysinfo();
        let machine = system.totalram.saturating_mul(system.mem_unit.into());
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        group_bytes(&groups, Path::new("/sys/fs/cgroup")).fold(machine, u64::min)
    });
    *BYTES
}

/// Returns the limits of the control groups that hold a process and of those above them, by its lines of
/// `/proc/PID/cgroup`. In a container the first groups are out of sight, and the mount's root is the container's.
fn group_bytes(groups: &str, mount: &Path) -> impl Iterator<Item = u64> {
    groups.lines().filter_map(|line| group(line, mount)).flat_map(|(root, path, file)| {
        let limits = path.ancestors().take_while(|dir| dir.starts_with(&root)).filter_map(|dir| {
            // `max` is no limit; in version 1 that is a number over every machine's memory.
            fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok()
        });
        limits.collect::<Vec<_>>()
    })
}

/// Returns the root of a hierarchy, the directory of a group in it, and the name of the limit's file. None if the
/// hierarchy limits no memory.
fn group(line: &str, mount: &Path) -> Option<(PathBuf, PathBuf, &'static str)> {
    let (number, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (root, file) = match (number, controllers) {
        ("0", "") => (mount.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    let path = root.join(path.trim_start_matches('/'));
    Some((root, path, file))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::FunctionLimits;

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_whole(mib in 0_u64..1 << 20) {
            let plan = MemoryPlan::new(mib * MIB);
            let connections = plan.connections as u64 * HTTP_CONNECTION_BYTES_MAX;
            let resident = u64::from(plan.instances) * INSTANCE_RESIDENT_BYTES_MAX;
            let maps = plan.maps + plan.maps / EXCESS_PART;
            let parts = [plan.sandboxes, plan.bodies, maps, plan.inference, connections, resident, FIXED_BYTES];
            prop_assert_eq!(parts.iter().sum::<u64>(), plan.total);
            // One app alone has five parts in six.
            prop_assert!(plan.sandboxes / 6 * 5 >= FunctionLimits::default().memory_bytes_max);
        }
    }

    #[test]
    fn a_large_machine_has_every_budget_at_its_most() {
        let plan = MemoryPlan::new(12 << 30);
        assert_eq!((plan.bodies, plan.maps), (HTTP_BODIES_BYTES_MAX, MAPS_BYTES_MAX));
        assert_eq!((plan.connections, plan.instances), (HTTP_CONNECTIONS_MAX, INSTANCES_DEFAULT));
        assert!(plan.sandboxes > 8 << 30);
    }

    #[test]
    fn limits_of_control_groups_of_both_versions_are_found_up_to_the_root() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let check = |groups: &str| group_bytes(groups, mount.path()).collect::<Vec<_>>();
        write("user.slice/memory.max", "3000\n");
        write("user.slice/a.scope/memory.max", "max\n");
        assert_eq!(check("0::/user.slice/a.scope\n"), [3_000]);
        write("memory/docker/abc/memory.limit_in_bytes", "1000\n");
        write("memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.limit_in_bytes", "5000\n");
        let lines = "11:cpu,cpuacct:/docker/abc\n7:memory:/docker/abc\n1:name=systemd:/x\n0::/\n";
        assert_eq!(check(lines), [1_000, 9_223_372_036_854_771_712, 5_000]);
        // The name is that of the machine, and the container sees its own group as the root.
        assert_eq!(check("7:hugetlb,memory:/elsewhere/def\n"), [5_000]);
        assert!(check("junk\n7:\n:::\n").is_empty());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_bytes() > 64 * MIB);
    }
}
