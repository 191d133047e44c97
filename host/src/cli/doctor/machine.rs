//! Machine checks for running functions: directories, kernel features and limits.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, getrlimit};

use super::check::Check;
use crate::cli::output;
use crate::config::Directories;
use crate::limits;
use crate::sandbox::{EngineConfig, PoolMode, Sandbox, mappings_for, mappings_max};

/// Files of a busy host: every client's connection, and what is kept back for the rest.
const FILES: u64 = (limits::HTTP_CONNECTIONS_MAX + limits::DESCRIPTORS_RESERVED) as u64;

pub(crate) fn checks(directories: &Directories) -> Vec<Check> {
    let mut checks = vec![
        writable("data directory", &directories.data, "--data DIR"),
        writable("cache directory", &directories.artifacts, "--data DIR"),
    ];
    match Sandbox::new(&EngineConfig::default()) {
        Ok(sandbox) => {
            checks.push(pool(sandbox.pool_mode()));
            checks.push(instances(sandbox.instances_max(), mappings_max()));
        }
        Err(error) => {
            let mut detail = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                detail += &format!(": {cause}");
            }
            checks.push(Check::missing("sandbox", detail, "ulimit -v unlimited"));
        }
    }
    checks.extend(CONFINEMENTS.iter().map(|confined| confinement(confined, lacking(confined.word))));
    let files = getrlimit(Resource::Nofile);
    checks.push(file_descriptors(files.maximum));
    checks
}

/// Processes that confine themselves.
struct Confined {
    name: &'static str,
    /// Word that makes a worker try it.
    word: &'static str,
    whole: &'static str,
    less: &'static str,
}

const CONFINEMENTS: [Confined; 2] = [
    Confined {
        name: "confinement",
        word: "--confine",
        whole: "workers on the CPU read their models and do nothing else",
        less: "workers that read models are less confined",
    },
    Confined {
        name: "second layer",
        word: "--confine-host",
        whole: "`serve` keeps its data and the network, and starts no program",
        less: "a hole in the sandbox would give more of this machine away",
    },
];

/// Asks a process that confines itself for the mechanisms that it lacks here; `None` if it does not answer.
fn lacking(word: &str) -> Option<Vec<String>> {
    let worker = Command::new("/proc/self/exe").args(["worker", word]).stdin(Stdio::null()).output().ok()?;
    serde_json::from_slice(&worker.stdout).ok()
}

fn confinement(confined: &Confined, lacking: Option<Vec<String>>) -> Check {
    let Confined { name, word, whole, less } = confined;
    let Some(lacking) = lacking else {
        return Check::warning(name, "a process that confines itself does not answer", format!("bireme worker {word}"));
    };
    if lacking.is_empty() {
        return Check::ok(name, *whole);
    }
    let detail = format!("{less}: no {}", lacking.join(", no "));
    Check::warning(name, detail, "boot Linux 6.12 or newer with Landlock (`lsm=landlock,…`) and seccomp")
}

/// Leaves nothing behind: a directory that does not exist yet can be created where its parent is writable.
fn writable(name: &'static str, dir: &Path, option: &str) -> Check {
    let shown = dir.display();
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let Some(nearest) = whole.ancestors().find(|path| path.exists()) else {
        return Check::missing(name, format!("{shown} cannot be created"), format!("give another with `{option}`"));
    };
    // Asked by a file without a name that is gone at once: permissions alone say nothing of a full or read-only disk.
    let refusal = tempfile::tempfile_in(nearest).err();
    match refusal {
        None if nearest == whole => Check::ok(name, shown.to_string()),
        None => Check::ok(name, format!("{shown} (made when it is first used)")),
        Some(reason) => {
            let detail = format!("{shown} cannot be written: `{}`: {reason}", nearest.display());
            Check::missing(name, detail, format!("give another with `{option}`"))
        }
    }
}

fn pool(mode: PoolMode) -> Check {
    const NAME: &str = "kernel";
    match mode {
        PoolMode::PagemapScan => Check::ok(NAME, format!("Linux {}, with pagemap_scan", release())),
        PoolMode::Decommit => {
            let detail = format!("Linux {}, without pagemap_scan: a call costs about twice as much", release());
            Check::warning(NAME, detail, "boot Linux 6.7 or newer")
        }
    }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn instances(carried: u32, mappings_max: Option<u64>) -> Check {
    const NAME: &str = "instances";
    let Some(mappings) = mappings_max else {
        return Check::ok(NAME, format!("{} at a time", output::count(carried.into())));
    };
    let detail =
        format!("{} at a time under vm.max_map_count = {}", output::count(carried.into()), output::count(mappings));
    if carried >= limits::INSTANCES_DEFAULT {
        return Check::ok(NAME, detail);
    }
    let wanted = mappings_for(limits::INSTANCES_DEFAULT);
    let detail = format!("{detail}; a host takes up to {}", output::count(limits::INSTANCES_DEFAULT.into()));
    Check::warning(NAME, detail, format!("sudo sysctl -w vm.max_map_count={wanted}"))
}

/// A host raises its soft limit to the hard one by itself. `None` means no limit.
fn file_descriptors(hard: Option<u64>) -> Check {
    const NAME: &str = "file descriptors";
    let Some(hard) = hard else {
        return Check::ok(NAME, "no limit");
    };
    if hard >= FILES {
        return Check::ok(NAME, output::count(hard));
    }
    let connections = limits::http_connections_max(Some(hard)) as u64;
    let (files, connections, wanted) = (output::count(hard), output::count(connections), FILES.next_power_of_two());
    let most = output::count(limits::HTTP_CONNECTIONS_MAX as u64);
    let detail = format!("{files}, so that a host takes {connections} connections rather than {most}");
    Check::warning(NAME, detail, format!("raise the hard limit, in systemd with LimitNOFILE={wanted}"))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_fine_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("a/b");
        assert_eq!(writable("data directory", &absent, "--data DIR").status, Status::Ok);
        assert!(!absent.exists());
        assert_eq!(writable("data directory", dir.path(), "--data DIR").status, Status::Ok);
    }

    #[test]
    fn what_takes_no_file_is_no_data_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), file.path().join("data"), "/proc/data".into()] {
            let check = writable("data directory", &path, "--data DIR");
            assert_eq!(check.status, Status::Missing, "{}", check.detail);
        }
    }

    #[test]
    fn a_low_limit_comes_with_the_command_that_raises_it() {
        assert_eq!(instances(1_000, Some(65_530)).status, Status::Ok);
        let low = instances(100, Some(9_000));
        assert_eq!(low.fix.as_deref(), Some("sudo sysctl -w vm.max_map_count=16192"));
        assert_eq!(file_descriptors(None).status, Status::Ok);
        assert_eq!(file_descriptors(Some(1 << 20)).status, Status::Ok);
        let low = file_descriptors(Some(1_024));
        assert!(low.detail.contains("takes 512 connections") && low.fix.unwrap().contains("LimitNOFILE=8192"));
    }

    #[test]
    fn a_mechanism_that_the_kernel_lacks_is_named() {
        for confined in &CONFINEMENTS {
            assert_eq!(confinement(confined, Some(vec![])).status, Status::Ok);
            let check = confinement(confined, Some(vec!["landlock".to_owned(), "seccomp".to_owned()]));
            assert_eq!(check.status, Status::Warning);
            assert!(check.detail.ends_with(": no landlock, no seccomp"), "{}", check.detail);
            assert_eq!(confinement(confined, None).status, Status::Warning);
        }
    }

    #[test]
    fn an_old_kernel_is_slower_and_no_more() {
        assert_eq!(pool(PoolMode::Decommit).status, Status::Warning);
        assert_eq!(pool(PoolMode::PagemapScan).status, Status::Ok);
    }
}
