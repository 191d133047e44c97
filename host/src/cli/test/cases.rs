//! Replay of an app's cases: each kept call is made again, in the sandbox, as `bireme run` makes it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::call::Principal;
use crate::cli::case_file::{CASES, Case};
use crate::cli::exit::Exit;
use crate::cli::target;
use crate::codes::Code;
use crate::config::ConfigError;
use crate::dispatch::{Call, find_function};
use crate::logs::printable;
use crate::server::Host;

/// Options of a test program that take the next word as their value.
const WITH_VALUE: [&str; 5] = ["--skip", "--test-threads", "--format", "--color", "--logfile"];

/// Numbers of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct CaseCounts {
    pub passed: usize,
    pub failed: usize,
}

/// Returns the files of the app's cases whose names have one of the words among `args`, as tests are selected; all of
/// them if there is no word.
pub(crate) fn files(app: &Path, args: &[String]) -> Result<Vec<PathBuf>, Exit> {
    let dir = app.join(CASES);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let words = words(args);
    files.retain(|file| {
        let name = name(file);
        let is_selected = words.is_empty() || words.iter().any(|word| name.contains(word));
        file.extension().is_some_and(|extension| extension == "json") && is_selected
    });
    files.sort();
    Ok(files)
}

/// Returns the words by which the arguments of a test program select tests.
fn words(args: &[String]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if WITH_VALUE.contains(&arg) {
            args.next();
        } else if !arg.starts_with('-') {
            words.push(arg);
        }
    }
    words
}

fn name(file: &Path) -> String {
    printable(&file.file_stem().unwrap_or_default().to_string_lossy())
}

/// Builds the app in `dir` and makes the calls of the cases again.
pub(crate) async fn replay(dir: &Path, files: &[PathBuf], host: &Host, print: fn(&str)) -> Result<CaseCounts, Exit> {
    let (app, grants) = target::resolve(&dir.to_string_lossy(), host).await?;
    let grants = host.config.grants.with(&grants).map_err(ConfigError::from)?;
    host.load(&app, &grants).await?;
    let mut counts = CaseCounts::default();
    for file in files {
        match replay_one(app.metadata.app.name.as_str(), file, host).await {
            Ok(()) => {
                counts.passed += 1;
                print(&format!("case {} ... ok", name(file)));
            }
            Err(reason) => {
                counts.failed += 1;
                print(&format!("case {} ... FAILED\n  {}", name(file), printable(&reason)));
            }
        }
    }
    let word = if counts.failed == 0 { "ok" } else { "FAILED" };
    print(&format!("\ncases: {word}. {} passed; {} failed", counts.passed, counts.failed));
    Ok(counts)
}

async fn replay_one(app: &str, file: &Path, host: &Host) -> Result<(), String> {
    let path = file.to_owned();
    let case = crate::tasks::blocking(move || Case::read(&path)).await?;
    let input = case.input()?;
    let program = host.dispatcher.program(app).ok_or("the app is gone")?;
    let function = match find_function(&program, &case.function) {
        Ok(function) => function,
        Err(failure) => return case.compare(Err((Code::UnknownFunction, failure.message.as_str()))),
    };
    let finished = host.dispatcher.call(Call::new(function, input, Principal::Operator)).await;
    match &finished.result {
        Ok(output) => case.compare(Ok(output)),
        Err(failure) => case.compare(Err((failure.code.code(), failure.message.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_select_tests_select_cases() {
        let check = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            words(&args).join(" ")
        };
        assert_eq!(check(&[]), "");
        assert_eq!(check(&["words", "--nocapture", "--test-threads", "1", "--skip=x", "total"]), "words total");
    }
}
