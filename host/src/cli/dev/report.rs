//! Versions of a dev session on the terminal: addresses of the first one, failures of those that cannot be loaded.

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::{output, secrets_note};
use crate::sandbox::Program;

/// Prints the addresses of the functions if the version is the first, and the secrets that it misses.
pub(super) fn print_functions(program: &Program, base: &str, is_first: bool) {
    if is_first {
        for function in &program.metadata().functions {
            output::note(&format!("  {}", function.endpoint(base, program.name())));
        }
    }
    secrets_note::print(program);
}

/// Reports a version that cannot be loaded; the `live` one keeps serving.
pub(super) fn report_failure(exit: &Exit, live: Option<&Program>, is_json: bool) {
    exit.print();
    let version = live.map(Program::version);
    if is_json {
        let error = json!({ "code": exit.code, "message": exit.message });
        output::line(&json!({ "error": error, "live": version }).to_string());
    }
    output::note(&match version {
        Some(version) => format!("version {version} keeps serving"),
        None => "waiting for a change".to_owned(),
    });
}
