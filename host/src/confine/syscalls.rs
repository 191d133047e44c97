//! System calls of a confined process, by seccomp.
//!
//! A list of calls that fail, not of those that may be made: libraries, allocators and drivers make others with each
//! version, and Landlock holds what this leaves open.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

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
const NEVER_ON_CPU: [i64; 50] = [
    // Programs and sockets. A datagram socket of a pair would still send to any other.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    // Signals to others, and what stops or slows them like one. `tgkill` to itself is what `abort` does.
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_kcmp,
    // Attributes of files, which Landlock leaves alone.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    // Memory and queues that others of this user have.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // The kernel's, for a worker of root.
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_syslog,
    libc::SYS_swapon,
    libc::SYS_swapoff,
];

/// The same in the form that older programs use.
#[cfg(target_arch = "x86_64")]
const NEVER_ON_CPU_OLD: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_ON_CPU_OLD: &[i64] = &[];

/// Calls of `NEVER_ON_CPU` that a host makes, some of them with arguments that are looked at.
///
/// `fchmod` needs an open file, and so a right of Landlock's; `chmod` needs none.
const MADE_BY_HOST: [i64; 4] = [libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_fchmod];
/// Calls that a host does not make, beside those that no worker makes either.
const NEVER_IN_HOST: [i64; 8] = [
    libc::SYS_name_to_handle_at,
    libc::SYS_personality,
    libc::SYS_kexec_file_load,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_clock_adjtime,
];
/// Families and protocols of sockets that a host makes, and the types below flags like `SOCK_NONBLOCK`.
const FAMILIES: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];
const PROTOCOLS: [libc::c_int; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
const TYPES: [libc::c_int; 2] = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
/// Types of pairs of sockets. One of datagrams would still send to any other socket of the machine.
const PAIR_TYPES: [libc::c_int; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
const TYPE_MASK: u64 = 0xf;

/// Calls that the compiler process does not make.
const NEVER_IN_COMPILER: [i64; 4] = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_socket, libc::SYS_connect];

/// One number on every architecture, as of all calls since 424.
const FCHMODAT2: i64 = 452;

/// `fcntl` and `ioctl` that let the kernel signal another process, and those that type into the terminal.
const FCNTL_OWNERS: [libc::c_int; 3] = [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG];
const IOCTLS: [u64; 4] = [FIOSETOWN, SIOCSPGRP, libc::TIOCSTI, TIOCLINUX];
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
const TIOCLINUX: u64 = 0x541c;

/// First number of the x32 table, a second way to each call of x86-64.
const X32: u32 = 0x4000_0000;

/// Returns the filter of a worker on a GPU: calls fail with `EPERM`, as if they were not permitted to this user.
pub(super) fn on_gpu() -> Option<BpfProgram> {
    let mut rules = never();
    let is_foreign = condition(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    rules.insert(libc::SYS_socket, vec![rule(vec![is_foreign])?]);
    compiled(rules, &[])
}

/// Returns the filter of the compiler process, which forks and ends its forks.
pub(super) fn in_compiler() -> Option<BpfProgram> {
    let mut rules = never();
    rules.extend(NEVER_IN_COMPILER.map(|call| (call, vec![])));
    compiled(rules, &[])
}

/// Returns the filter of a worker on the CPU, or of one compile.
pub(super) fn on_cpu() -> Option<BpfProgram> {
    let mut rules = never();
    rules.extend(NEVER_ON_CPU.iter().chain(NEVER_ON_CPU_OLD).map(|call| (*call, vec![])));
    rules.extend(of_others()?);
    // Its flags lie in memory, where no filter can look: without it, libraries make threads by `clone`.
    compiled(rules, &[(libc::SYS_clone3, libc::ENOSYS)])
}

/// Returns the filter of a host: it serves, connects and keeps its files, and starts threads but no process.
pub(super) fn in_host() -> Option<BpfProgram> {
    let mut rules = never();
    let denied = NEVER_ON_CPU.iter().filter(|call| !MADE_BY_HOST.contains(call));
    rules.extend(denied.chain(NEVER_ON_CPU_OLD).chain(&NEVER_IN_HOST).map(|call| (*call, vec![])));
    rules.extend(of_others()?);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_kill, vec![rule(vec![condition(0, SeccompCmpOp::Ne, own)?])?]);
    let mut sockets = vec![
        rule(FAMILIES.into_iter().map(|family| is_not(0, family)).collect::<Option<_>>()?)?,
        rule(PROTOCOLS.into_iter().map(|protocol| is_not(2, protocol)).collect::<Option<_>>()?)?,
    ];
    sockets.extend(other_types(TYPES)?);
    rules.insert(libc::SYS_socket, sockets);
    let mut pairs = vec![rule(vec![is_not(0, libc::AF_UNIX)?])?];
    pairs.extend(other_types(PAIR_TYPES)?);
    rules.insert(libc::SYS_socketpair, pairs);
    compiled(rules, &[(libc::SYS_clone3, libc::ENOSYS)])
}

/// Returns rules of calls that a process makes for itself and its threads, and not for others.
fn of_others() -> Option<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::new();
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(vec![condition(0, SeccompCmpOp::Ne, own)?])?]);
    // The limits of another process end it as a signal does; 0 is this one.
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity] {
        let is_other = vec![condition(0, SeccompCmpOp::Ne, own)?, condition(0, SeccompCmpOp::Ne, 0)?];
        rules.insert(call, vec![rule(is_other)?]);
    }
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(vec![condition(0, SeccompCmpOp::MaskedEq(thread), 0)?])?]);
    let with = |value| rule(vec![condition(1, SeccompCmpOp::Eq, value)?]);
    let owners = FCNTL_OWNERS.into_iter().map(|command| with(command as u64)).collect::<Option<_>>()?;
    rules.insert(libc::SYS_fcntl, owners);
    rules.insert(libc::SYS_ioctl, IOCTLS.into_iter().map(with).collect::<Option<_>>()?);
    Some(rules)
}

/// Returns rules for all types of sockets but these.
fn other_types(allowed: [libc::c_int; 2]) -> Option<Vec<SeccompRule>> {
    let others = (0..=TYPE_MASK).filter(|kind| !allowed.iter().any(|allowed| *allowed as u64 == *kind));
    others.map(|kind| rule(vec![condition(1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)?])).collect()
}

fn rule(conditions: Vec<SeccompCondition>) -> Option<SeccompRule> {
    SeccompRule::new(conditions).ok()
}

fn is_not(argument: u8, value: libc::c_int) -> Option<SeccompCondition> {
    condition(argument, SeccompCmpOp::Ne, value as u64)
}

fn never() -> BTreeMap<i64, Vec<SeccompRule>> {
    NEVER.into_iter().map(|call| (call, vec![])).collect()
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Option<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).ok()
}

/// Compiles the rules, behind those of other outcomes: a call of the x32 table, which the compiled part would take for
/// unknown and let pass, ends the process, and each of `failing` fails with its error.
fn compiled(rules: BTreeMap<i64, Vec<SeccompRule>>, failing: &[(i64, libc::c_int)]) -> Option<BpfProgram> {
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().ok()?;
    let rest: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).ok()?.try_into().ok()?;
    let jump = |test: u32, k| sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: 0, jf: 1, k };
    let end = |k| sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    // The call's number is the first field of what a filter sees.
    let load = sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: 0 };
    let mut program = vec![load];
    if cfg!(target_arch = "x86_64") {
        program.extend([jump(libc::BPF_JGE, X32), end(libc::SECCOMP_RET_KILL_PROCESS)]);
    }
    for &(call, error) in failing {
        let number = u32::try_from(call).ok()?;
        program.extend([jump(libc::BPF_JEQ, number), end(libc::SECCOMP_RET_ERRNO | error as u32)]);
    }
    program.extend(rest);
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        for filter in [on_cpu(), on_gpu(), in_compiler(), in_host()] {
            assert!(!filter.unwrap().is_empty());
        }
    }
}
