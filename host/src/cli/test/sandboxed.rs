//! Tests in the sandbox: the app's test programs, compiled to WebAssembly, each test in an instance of its own.
//!
//! A panic ends a WebAssembly instance, because it cannot unwind there. So the programs list their tests, and each test
//! is a run of its program with that one name: a panic costs its own test, and no test sees the state of another.

use std::time::Duration;

use crate::app::ComponentBytes;
use crate::app::build::TestProgram;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::codes::Code;
use crate::logs::printable;
use crate::sandbox::{Command, CommandEnd, CommandLimits, CommandOutput};
use crate::server::Host;

/// Limits of one test: the memory of a function by default, and time for a test that computes.
const LIMITS: CommandLimits =
    CommandLimits { timeout: Duration::from_secs(60), memory_bytes_max: 128 << 20, output_bytes_max: 1 << 20 };
/// Bytes of a program's list of tests.
const LIST_BYTES_MAX: usize = 4 << 20;
/// End of a line of the list.
const IS_TEST: &str = ": test";
/// Begin of the last line that libtest prints, behind an empty one.
const SUMMARY: &str = "\ntest result: ";

/// Numbers of tests by their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

enum Verdict {
    Passed,
    Ignored,
    Failed(String),
}

/// Runs the tests that `args`, the arguments of a native test program, select.
pub(crate) async fn run(
    programs: &[TestProgram],
    args: &[String],
    host: &Host,
    print: fn(&str),
) -> Result<Counts, Exit> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for program in programs {
        let command = open(program, host).await?;
        let names = list(&command, &args, host).await?;
        print(&format!("\nrunning {} of {} in the sandbox", output::counted(names.len(), "test"), program.name));
        for name in names {
            let ran = run_one(&command, &name, &args, host).await;
            let verdict = judge(&ran);
            let said = said(&ran.text, ran.dropped_bytes);
            if args.contains(&"--nocapture") || args.contains(&"--no-capture") {
                said.iter().for_each(|line| print(line));
            }
            let shown = printable(&name);
            match verdict {
                Verdict::Passed => {
                    counts.passed += 1;
                    print(&format!("test {shown} ... ok"));
                }
                Verdict::Ignored => {
                    counts.ignored += 1;
                    print(&format!("test {shown} ... ignored"));
                }
                Verdict::Failed(reason) => {
                    counts.failed += 1;
                    print(&format!("test {shown} ... FAILED"));
                    failures.push((shown, said, reason));
                }
            }
        }
    }
    for (name, said, reason) in &failures {
        print(&format!("\n---- {name}"));
        said.iter().for_each(|line| print(line));
        print(reason);
    }
    let Counts { passed, failed, ignored } = counts;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    print(&format!("\ntest result in the sandbox: {word}. {passed} passed; {failed} failed; {ignored} ignored"));
    Ok(counts)
}

async fn open(program: &TestProgram, host: &Host) -> Result<Command, Exit> {
    let component = ComponentBytes::read(&program.path)?;
    let compiled = host.loader.compile(&component, &program.name).await?;
    host.sandbox.command(&compiled).map_err(|reason| {
        let exit =
            Exit::new(Code::TestsFailed, format!("the tests of `{}` do not run in a sandbox: {reason}", program.name));
        exit.hint("a test program imports WASI only: the SDK's `testing` takes the place of the host")
    })
}

/// Returns the names of the tests that the arguments select.
async fn list(command: &Command, args: &[&str], host: &Host) -> Result<Vec<String>, Exit> {
    let words = [&["test"], args, &["--list", "--format", "terse"]].concat();
    let limits = CommandLimits { output_bytes_max: LIST_BYTES_MAX, ..LIMITS };
    let listed = host.sandbox.run_command(command, &words, limits).await;
    if listed.end != (CommandEnd::Exited { is_success: true }) {
        let said = said(&listed.text, listed.dropped_bytes).join("\n");
        return Err(Exit::usage(format!("the test program does not list its tests: {said}")));
    }
    Ok(listed.text.lines().filter_map(|line| line.strip_suffix(IS_TEST)).map(str::to_owned).collect())
}

async fn run_one(command: &Command, name: &str, args: &[&str], host: &Host) -> CommandOutput {
    // Captured output is lost with a panic, so libtest captures none, and it is kept here.
    let mut words = vec!["test", name, "--exact", "--quiet", "--nocapture"];
    words.extend(args.iter().filter(|arg| ["--ignored", "--include-ignored"].contains(arg)));
    host.sandbox.run_command(command, &words, LIMITS).await
}

fn judge(ran: &CommandOutput) -> Verdict {
    match &ran.end {
        CommandEnd::Exited { is_success: true } => {
            let summary = ran.text.rsplit_once(SUMMARY).map(|(_, summary)| summary);
            let is_ignored = summary.is_some_and(|summary| summary.contains("; 1 ignored;"));
            if is_ignored { Verdict::Ignored } else { Verdict::Passed }
        }
        CommandEnd::Exited { is_success: false } => Verdict::Failed("it failed".to_owned()),
        CommandEnd::Timeout => Verdict::Failed(format!("it did not end within {:?}", LIMITS.timeout)),
        CommandEnd::MemoryLimit { asked_bytes } => Verdict::Failed(format!(
            "it asked for {} MiB of memory, over the limit of {} MiB",
            asked_bytes.div_ceil(1 << 20),
            LIMITS.memory_bytes_max >> 20
        )),
        CommandEnd::Trapped { .. } if ran.text.contains("panicked at ") => {
            Verdict::Failed("it panicked, which ended its sandbox".to_owned())
        }
        CommandEnd::Trapped { reason } => Verdict::Failed(format!("it crashed: {}", printable(reason))),
    }
}

/// Returns the test's own output in printable lines, without what libtest printed around it.
fn said(text: &str, dropped_bytes: usize) -> Vec<String> {
    let own = text.strip_prefix("\nrunning 1 test\n").unwrap_or(text);
    // A mark for the one test stands behind its output.
    let own = own.rsplit_once(SUMMARY).map_or(own, |(own, _)| {
        let own = own.trim_end();
        own.strip_suffix(['.', 'F', 'i']).unwrap_or(own)
    });
    let mut lines: Vec<String> = own.trim_end().lines().map(printable).collect();
    if dropped_bytes > 0 {
        lines.push(format!("… {dropped_bytes} bytes more were dropped"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(end: CommandEnd, text: &str) -> CommandOutput {
        CommandOutput { end, text: text.to_owned(), dropped_bytes: 0 }
    }

    #[test]
    fn what_libtest_prints_around_a_test_is_left_out() {
        let passed = "\nrunning 1 test\none\ntwo\x1b[2J\n.\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; …\n\n";
        assert_eq!(said(passed, 0), ["one", "two\\u{1b}[2J"]);
        assert_eq!(said("\nrunning 1 test\n\nthread 'main' panicked at x\n", 7).len(), 3);
    }

    #[test]
    fn a_test_is_ignored_failed_or_passed_by_its_end() {
        let is_success = true;
        let ignored = "\nrunning 1 test\ni\n\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured\n";
        assert!(matches!(judge(&ran(CommandEnd::Exited { is_success }, ignored)), Verdict::Ignored));
        assert!(matches!(judge(&ran(CommandEnd::Exited { is_success }, "; 1 ignored;")), Verdict::Passed));
        let reason = |end, text: &str| match judge(&ran(end, text)) {
            Verdict::Failed(reason) => reason,
            Verdict::Passed | Verdict::Ignored => panic!("{text} did not fail"),
        };
        let trapped = || CommandEnd::Trapped { reason: "unreachable".to_owned() };
        assert_eq!(reason(trapped(), "thread 'main' panicked at a.rs:1"), "it panicked, which ended its sandbox");
        assert_eq!(reason(trapped(), ""), "it crashed: unreachable");
        assert_eq!(reason(CommandEnd::Timeout, ""), "it did not end within 60s");
        assert!(reason(CommandEnd::MemoryLimit { asked_bytes: 129 << 20 }, "").contains("129 MiB"));
    }
}
