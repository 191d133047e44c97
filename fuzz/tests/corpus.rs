//! The corpora, and the loop itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bireme_fuzz::{TARGETS, execute, runner, targets};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");

/// One test for all, since memory is counted for the process.
#[test]
#[expect(clippy::print_stderr, reason = "the last line names the input that ends the process")]
fn no_input_of_a_corpus_breaks_a_promise() {
    for target in &TARGETS {
        let inputs = runner::corpus(Path::new(CORPUS), target).unwrap();
        let mut accepted = 0;
        for (path, input) in &inputs {
            eprintln!("{}", path.display());
            accepted += u32::from(execute(target, input).outcome.is_ok());
        }
        assert!(accepted > 0, "no input of `{}` is accepted, of {}", target.name, inputs.len());
    }
}

#[test]
fn each_target_has_a_file_for_cargo_fuzz_and_each_corpus_a_target() {
    let names = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = entries.map(|entry| stem(&entry.unwrap().path())).collect();
        names.sort();
        names
    };
    let expected: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names("fuzz_targets"), expected);
    assert_eq!(names("corpus"), expected);
}

fn canary(dir: &Path, seed: &str) -> Output {
    fs::create_dir_all(dir.join("corpus/canary")).unwrap();
    fs::write(dir.join("corpus/canary/one"), "a").unwrap();
    Command::new(env!("CARGO_BIN_EXE_bireme-fuzz"))
        .args(["run", "--executions", "20000", "--seed", seed, "canary", "--corpus"])
        .arg(dir.join("corpus"))
        .arg("--artifacts")
        .arg(dir.join("artifacts"))
        .output()
        .unwrap()
}

#[test]
fn the_loop_finds_what_is_broken_and_keeps_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let found = canary(dir.path(), "1");
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(!found.status.success() && text.contains("replay canary"), "{text}");
    let artifacts: Vec<_> = fs::read_dir(dir.path().join("artifacts/canary")).unwrap().collect();
    let [Ok(artifact)] = &artifacts[..] else { panic!("{artifacts:?}") };
    let input = fs::read(artifact.path()).unwrap();
    assert!(input == targets::CANARY_INPUT || input == b"grow", "{input:?}");
    let replayed = Command::new(env!("CARGO_BIN_EXE_bireme-fuzz"))
        .args(["replay", "canary"])
        .arg(artifact.path())
        .output()
        .unwrap();
    let reason = String::from_utf8(replayed.stderr).unwrap();
    assert!(!replayed.status.success() && (reason.contains("sings") || reason.contains("of memory")), "{reason}");
}

#[test]
fn memory_and_reasons_are_held_to_their_bounds() {
    let caught = |input: &'static [u8]| {
        let panic = std::panic::catch_unwind(|| execute(&targets::CANARY, input)).unwrap_err();
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    };
    assert!(caught(b"grow").unwrap().contains("bytes of memory, over 1088"));
    assert!(caught(targets::CANARY_INPUT).unwrap().contains("sings"));
    assert_eq!(execute(&targets::CANARY, b"else").outcome, Ok(()));
}
