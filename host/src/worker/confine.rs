//! Confinement of a worker or a compiler: it may compute, and nothing else.
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
//! A compiler reads hostile components, and no file: its service only what `/proc` says of its forks, each fork
//! nothing. The forks signal nobody, themselves included.
//!
//! Mechanisms that a kernel lacks are left out: this is a second line of defence. Memory and processes have no limit
//! here: `RLIMIT_NPROC` counts a user's processes and not ours, and a model is as large as it is.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
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

/// Calls that the compiler process does not make. It ends its forks by `kill`.
const NEVER_IN_COMPILER: [i64; 4] =
    [libc::SYS_execve, libc::SYS_execveat, libc::SYS_socket, libc::SYS_pidfd_send_signal];
/// Further calls that a fork of it does not make.
const NEVER_IN_COMPILE: [i64; 5] =
    [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo];

/// The strictness of a confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Strict, for a worker on the CPU: it writes no file, makes no socket and starts no program.
    Cpu,
    /// Looser, for a worker on a GPU: the CUDA driver writes caches and devices, and starts a helper.
    Cuda,
    /// For the compiler process: as strict, and it reads nothing but `/proc`.
    Compiler,
    /// For a compile in a fork of it: it reads no file and sends no signal.
    Compile,
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
        if self != Self::Cuda && !matches!(self.shut_files(), Ok(status) if status != RulesetStatus::NotEnforced) {
            missing.push("landlock");
        }
        let is_filtered = self.filter().is_some_and(|filter| seccompiler::apply_filter(&filter).is_ok());
        if !is_filtered {
            missing.push("seccomp");
        }
        if missing.is_empty() {
            tracing::debug!(confinement = ?self, "the process is confined");
        } else {
            tracing::info!(confinement = ?self, ?missing, "this kernel confines the process less than others do");
        }
    }

    /// The calls that fail with `EPERM`, as if they were not permitted to this user.
    fn filter(self) -> Option<BpfProgram> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.into_iter().map(|call| (call, vec![])).collect();
        let more: &[&[i64]] = match self {
            Self::Cpu => &[&NEVER_ON_CPU],
            Self::Compiler => &[&NEVER_IN_COMPILER],
            Self::Compile => &[&NEVER_IN_COMPILER, &NEVER_IN_COMPILE],
            Self::Cuda => &[],
        };
        rules.extend(more.iter().copied().flatten().map(|&call| (call, vec![])));
        if self != Self::Cuda {
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

    /// No file can be written, made, moved or removed, and no TCP port bound or connected to. A compiler reads none
    /// either.
    fn shut_files(self) -> Result<RulesetStatus, RulesetError> {
        let abi = ABI::V5;
        let files = if self == Self::Cpu { AccessFs::from_write(abi) } else { AccessFs::from_all(abi) };
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(files)?
            .handle_access(AccessNet::from_all(abi))?
            .create()?;
        if self == Self::Compiler {
            ruleset = ruleset.add_rules(path_beneath_rules(["/proc"], AccessFs::from_read(abi)))?;
        }
        Ok(ruleset.restrict_self()?.ruleset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        for confinement in [Confinement::Cpu, Confinement::Cuda, Confinement::Compiler, Confinement::Compile] {
            assert!(!confinement.filter().unwrap().is_empty());
        }
    }
}
