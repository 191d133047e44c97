//! Confinement of a worker: it may compute, and nothing else.
//!
//! A worker reads untrusted model files with third-party libraries. One that is taken over shall find no network, no
//! file to write and no program to start. Applied before the first thread, since Landlock holds for the calling thread
//! and those it starts.
//!
//! On the CPU: no file is written (Landlock), no socket made, no other program started or signalled, no tracing, no
//! mount, no `io_uring`, no kernel module (seccomp); no core dump, 1,024 files. A CUDA driver writes caches and
//! devices, and starts a helper where its devices are missing: there only sockets of the network, tracing and the
//! kernel's interfaces are taken away, and a worker that is taken over can do what the user can.
//!
//! Mechanisms that a kernel lacks are left out: this is a second line of defence. Memory and processes have no limit
//! here: `RLIMIT_NPROC` counts a user's processes and not ours, and a model is as large as it is.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus,
};
use rustix::process::{Resource, Rlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Files that a worker may have open.
const FILES_MAX: u64 = 1_024;

/// Calls that no worker makes.
const NEVER: [i64; 30] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    // Its operations go round a filter of calls.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_reboot,
];
/// Calls that a worker on the CPU does not make.
const NEVER_ON_CPU: [i64; 4] = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_socket, libc::SYS_kill];

/// The strictness of a confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Strict, for a worker on the CPU: it writes no file, makes no socket and starts no program.
    Cpu,
    /// Looser, for a worker on a GPU: the CUDA driver writes caches and devices, and starts a helper.
    Cuda,
}

impl Confinement {
    /// Returns the confinement for a worker on this CUDA device, else the CPU.
    pub(crate) fn of(device: Option<u32>) -> Self {
        if device.is_some() { Self::Cuda } else { Self::Cpu }
    }

    /// Confines the calling thread and all that it starts, for good.
    pub fn apply(self) {
        let limit = |max| Rlimit { current: Some(max), maximum: Some(max) };
        let mut missing = Vec::new();
        for (name, resource, max) in [("core", Resource::Core, 0), ("nofile", Resource::Nofile, FILES_MAX)] {
            if rustix::process::setrlimit(resource, limit(max)).is_err() {
                missing.push(name);
            }
        }
        if rustix::thread::set_no_new_privs(true).is_err() {
            missing.push("no-new-privs");
        }
        if self == Self::Cpu && !matches!(shut_files(), Ok(status) if status != RulesetStatus::NotEnforced) {
            missing.push("landlock");
        }
        let is_filtered = self.filter().is_some_and(|filter| seccompiler::apply_filter(&filter).is_ok());
        if !is_filtered {
            missing.push("seccomp");
        }
        if missing.is_empty() {
            tracing::debug!(confinement = ?self, "the worker is shut in");
        } else {
            tracing::info!(confinement = ?self, ?missing, "this kernel does not shut the worker in as far as others do");
        }
    }

    /// The calls that fail with `EPERM`, as if they were not permitted to this user.
    fn filter(self) -> Option<BpfProgram> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.into_iter().map(|call| (call, vec![])).collect();
        if self == Self::Cpu {
            rules.extend(NEVER_ON_CPU.into_iter().map(|call| (call, vec![])));
        }
        if self == Self::Cpu {
            return Self::compiled(rules);
        }
        let is_foreign =
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64).ok()?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![is_foreign]).ok()?]);
        Self::compiled(rules)
    }

    fn compiled(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Option<BpfProgram> {
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let arch = std::env::consts::ARCH.try_into().ok()?;
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).ok()?.try_into().ok()
    }
}

/// No file can be written, made, moved or removed, and no TCP port bound or connected to.
fn shut_files() -> Result<RulesetStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        for confinement in [Confinement::of(None), Confinement::of(Some(0))] {
            assert!(!confinement.filter().unwrap().is_empty());
        }
    }
}
