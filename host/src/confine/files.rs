//! Files, TCP ports and signals of a confined process, by Landlock.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

/// Rights to what is readable. Not those of `AccessFs::from_read`, which also starts programs.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Files of the system that a worker reads: its own process and program (backtraces), and the allocator's setting.
pub(super) const SYSTEM: [&str; 3] = ["/proc/self", "/proc/self/exe", "/proc/sys/vm/overcommit_memory"];
/// Links of one directory that are followed.
const LINKS_MAX: usize = 4_096;
/// Levels of a models' directory that may hold links: models, files, and files of a directory in a model.
const LEVELS: u32 = 3;

/// Rights to a directory of our files. Not those to devices, sockets, pipes and links, of which we make none.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// Rights to a directory in which a socket is bound.
const SOCKETS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});

/// What a host keeps of the file system and of the ports.
#[derive(Debug, Default)]
pub struct HostAccess {
    /// Directories in which it makes, changes and removes files.
    pub writable: Vec<PathBuf>,
    /// Files that it reads and writes, and does not replace.
    pub writable_files: Vec<PathBuf>,
    /// Directories in which it binds and removes sockets.
    pub sockets: Vec<PathBuf>,
    /// Directories whose names it lists.
    pub listed: Vec<PathBuf>,
    /// Files and directories that it reads.
    pub readable: Vec<PathBuf>,
    /// The one TCP port that it binds. A socket that listens unbound gets one that the kernel chooses, as with 0.
    pub port: u16,
}

/// Leaves a host what `access` says, and nobody outside to signal; returns the mechanisms that this kernel lacks.
pub(super) fn shut_host(access: &HostAccess) -> Vec<&'static str> {
    missing(restrict_host(access))
}

fn restrict_host(access: &HostAccess) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        // Not `ConnectTcp`: guests reach the addresses that they were granted, on any port.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(&access.writable, WRITE))?
        .add_rules(path_beneath_rules(&access.writable_files, WRITE))?
        .add_rules(path_beneath_rules(&access.sockets, SOCKETS))?
        .add_rules(path_beneath_rules(&access.listed, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(SYSTEM, READ))?
        .add_rules(path_beneath_rules(&access.readable, READ))?
        .add_rule(NetPort::new(access.port, AccessNet::BindTcp))?
        .restrict_self()
}

/// Leaves only `system` and `readable` to be read, and nothing to be written, bound, connected to or signalled;
/// returns the mechanisms that this kernel lacks.
pub(super) fn shut(system: &[&str], readable: &[PathBuf]) -> Vec<&'static str> {
    missing(restrict(system, readable))
}

fn missing(restricted: Result<RestrictionStatus, RulesetError>) -> Vec<&'static str> {
    match restricted {
        Ok(RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. }) | Err(_) => vec!["landlock"],
        Ok(RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. })
            if effective_abi < ABI::V6 =>
        {
            vec!["landlock's scope of signals"]
        }
        Ok(_) => Vec::new(),
    }
}

fn restrict(system: &[&str], readable: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let linked: Vec<PathBuf> = readable.iter().flat_map(|dir| links(dir, LEVELS)).take(LINKS_MAX).collect();
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(system, READ))?
        .add_rules(path_beneath_rules(readable.iter().chain(&linked), READ))?
        .restrict_self()
}

/// Returns the targets of links below `dir`: a right goes with the file that a path leads to, and the files of a model
/// may be links into a cache. One that is made later is refused until the worker starts again.
fn links(dir: &Path, levels: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten().take(LINKS_MAX) {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => found.extend(fs::canonicalize(entry.path())),
            Ok(kind) if kind.is_dir() && levels > 1 => found.extend(links(&entry.path(), levels - 1)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_models_directory_are_found_down_to_the_files_of_a_model() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let cached = fs::canonicalize(outside.path()).unwrap().join("blob");
        fs::write(&cached, "").unwrap();
        fs::create_dir_all(dir.path().join("mine/1_Pooling")).unwrap();
        assert!(links(dir.path(), LEVELS).is_empty());
        for link in ["linked", "mine/config.json", "mine/1_Pooling/config.json", "broken"] {
            let target = if link == "broken" { Path::new("/nowhere") } else { &cached };
            std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        }
        assert_eq!(links(dir.path(), LEVELS), vec![cached; 3]);
        assert!(links(Path::new("/nowhere"), LEVELS).is_empty());
    }
}
