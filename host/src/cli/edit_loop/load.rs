//! From a built component to a callable program, each part timed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::call::micros;
use crate::cli::exit::Exit;
use crate::cli::{output, target};
use crate::sandbox::Program;
use crate::server::Host;
use crate::tasks::blocking;

/// Names of changed files in one line.
const NAMES_MAX: usize = 2;

/// A version that can be called.
pub(crate) struct Loaded {
    pub program: Arc<Program>,
    /// Saved files that made the build necessary, relative to the crate. Empty for the first build and a forced one.
    pub changed: Vec<String>,
    pub(super) times: Times,
}

/// Time that each part took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// Cargo and rustc, from the settled save.
    pub cargo: Duration,
    /// Cranelift.
    pub compile: Duration,
    /// The component's run of `describe`, and writing its description.
    pub describe: Duration,
    /// Linking, and making the version the live one.
    pub link: Duration,
}

/// Describes, compiles and links the component, and puts it in place of the live version of its app.
pub(super) async fn load(host: &Host, component: PathBuf) -> Result<(Arc<Program>, Times), Exit> {
    let mut watch = Stopwatch(Instant::now());
    let mut times = Times::default();
    let file = blocking(move || target::of_cargo(&component)).await?;
    let compiled = host.loader.compile(file.component(), &file.stem()).await?;
    times.compile = watch.lap();
    let app = file.describe_compiled(host, &compiled).await?;
    times.describe = watch.lap();
    let program = host.loader.link(&compiled, &app, &host.config.grants)?;
    host.dispatcher.deploy(program.clone());
    times.link = watch.lap();
    Ok((program, times))
}

struct Stopwatch(Instant);

impl Stopwatch {
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

impl Loaded {
    /// Returns the version as an event for programs.
    pub(crate) fn to_json(&self) -> Value {
        let Times { cargo, compile, describe, link } = self.times;
        json!({
            "live": self.program.version(),
            "changed": self.changed,
            "build_us": micros(cargo),
            "compile_us": micros(compile),
            "describe_us": micros(describe),
            "link_us": micros(link),
            "swap_us": micros(compile + describe + link),
        })
    }

    /// Returns the version as one line; `state` says what it is now.
    pub(crate) fn to_line(&self, state: &str) -> String {
        let Times { cargo, compile, describe, link } = self.times;
        let text = |time: Duration| output::micros(micros(time));
        format!(
            "version {} {state}{}: cargo {}, compile {}, describe {}, link and swap {}",
            self.program.version(),
            names(&self.changed),
            text(cargo),
            text(compile),
            text(describe),
            text(link),
        )
    }
}

/// Returns changed files as a parenthesis, or nothing.
fn names(changed: &[String]) -> String {
    if changed.is_empty() {
        return String::new();
    }
    let shown = crate::logs::printable(&changed[..changed.len().min(NAMES_MAX)].join(", "));
    match changed.len().saturating_sub(NAMES_MAX) {
        0 => format!(" ({shown})"),
        more => format!(" ({shown} and {more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_changed_files_are_named_and_the_rest_are_counted() {
        let check = |changed: &[&str]| names(&changed.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(check(&[]), "");
        assert_eq!(check(&["src/lib.rs"]), " (src/lib.rs)");
        assert_eq!(check(&["a.rs", "b.rs"]), " (a.rs, b.rs)");
        assert_eq!(check(&["a.rs", "b.rs", "c.rs", "d.rs"]), " (a.rs, b.rs and 2 more)");
    }
}
