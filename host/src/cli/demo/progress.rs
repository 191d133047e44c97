//! Progress bar of one stage, or a line every 5 s if stderr is not a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output;

/// Time between two lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    pub bar: ProgressBar,
    unit: &'static str,
    last_line: Instant,
}

impl Progress {
    /// A `total` of 0 means unknown.
    pub(crate) fn new(total: u64, unit: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template =
            format!("  {{bar:30}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left {{msg:.red}}");
        bar.set_style(ProgressStyle::with_template(&template).expect("the template is a constant"));
        Self { bar, unit, last_line: Instant::now() }
    }

    pub(crate) fn set(&mut self, done: u64, total: u64, failed: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if failed > 0 {
            self.bar.set_message(format!("{failed} failed"));
        }
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            output::note(&format!("  {}/{} {}", output::count(done), output::count(total), self.unit));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
