//! Progress of a map on a terminal: inputs done, failed and retried, the rate of the last seconds, the time left.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::map_inputs;
use super::output;

/// Time between two looks at the counts.
pub(crate) const REFRESH: Duration = Duration::from_millis(300);
/// Time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// Inputs of a map, by their fate so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputCounts {
    pub done: u64,
    pub failed: u64,
    /// Failed attempts that were followed by another.
    pub retried: u64,
}

/// Progress bar of a map. Clones show the same bar.
#[derive(Clone)]
pub(crate) struct MapBar {
    bar: ProgressBar,
    state: Arc<Mutex<State>>,
    /// Results are printed to a terminal, too.
    shares_terminal: bool,
}

struct State {
    began: Instant,
    pace: Pace,
    total: Option<u64>,
    /// A late look at the counts must not draw the bar again.
    is_over: bool,
}

impl MapBar {
    pub(crate) fn new(is_quiet: bool) -> Self {
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(template("{spinner} {wide_msg}"));
        bar.set_message("no input is done yet");
        bar.enable_steady_tick(Duration::from_millis(200));
        let state = State { began: Instant::now(), pace: Pace::default(), total: None, is_over: false };
        let shares_terminal = !bar.is_hidden() && std::io::stdout().is_terminal();
        Self { bar, state: Arc::new(Mutex::new(state)), shares_terminal }
    }

    /// Returns true if the bar is not drawn, so that counts need not be fetched.
    pub(crate) fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Returns the bar that other output must move out of its way.
    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    pub(crate) fn set(&self, counts: InputCounts) {
        let mut state = self.state.lock();
        if state.is_over {
            return;
        }
        let (elapsed, settled) = (state.began.elapsed(), counts.done + counts.failed);
        state.pace.add(elapsed, settled);
        self.bar.set_position(settled);
        self.bar.set_message(text(counts, state.total, state.pace.per_second(), elapsed));
    }

    /// Sets the number of inputs. A smaller one than before is ignored: it is of inputs that are still being sent.
    pub(crate) fn set_total(&self, total: u64) {
        let mut state = self.state.lock();
        if state.is_over || state.total.is_some_and(|before| before >= total) {
            return;
        }
        state.total = Some(total);
        self.bar.set_length(total);
        self.bar.set_style(template("{bar:12} {wide_msg}"));
    }

    /// Counts the inputs beside the map, if they are in a regular file.
    pub(crate) fn count_inputs(&self, inputs: &str) {
        if self.is_hidden() {
            return;
        }
        let (bar, inputs) = (self.clone(), inputs.to_owned());
        // Ends with the file, or with the process. Without it, the number is known once all inputs are read.
        let _ = std::thread::Builder::new().name("count".into()).spawn(move || {
            if let Some(total) = map_inputs::count(&inputs) {
                bar.set_total(total);
            }
        });
    }

    /// Writes to standard output, with the bar out of the way where both are in one terminal.
    pub(crate) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.shares_terminal { self.bar.suspend(write) } else { write() }
    }

    /// Writes a line to standard error, above the bar.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.state.lock().is_over = true;
        self.bar.finish_and_clear();
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the template is a constant").progress_chars("━╸─")
}

/// Rate over the last seconds, from counts at their times.
#[derive(Default)]
struct Pace {
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    fn add(&mut self, at: Duration, settled: u64) {
        self.samples.push_back((at, settled));
        // The oldest sample is the last one from before the window.
        while self.samples.get(1).is_some_and(|(second, _)| *second + WINDOW <= at) {
            self.samples.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let ((first, before), (last, after)) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.saturating_sub(*first).as_secs_f64();
        (seconds > 0.0).then(|| after.saturating_sub(*before) as f64 / seconds)
    }
}

fn text(counts: InputCounts, total: Option<u64>, per_second: Option<f64>, elapsed: Duration) -> String {
    let InputCounts { done, failed, retried } = counts;
    let of = total.map(|total| format!(" of {}", output::count(total))).unwrap_or_default();
    let mut text = format!("{}{of} done", output::count(done));
    if failed > 0 {
        text += &format!(", {}", style(format!("{} failed", output::count(failed))).red().for_stderr());
    }
    if retried > 0 {
        text += &format!(", {} retried", output::count(retried));
    }
    let per_second = per_second.filter(|rate| *rate > 0.0);
    if let Some(rate) = per_second {
        text += &format!(", {}", rate_text(rate));
    }
    match (total, per_second) {
        (Some(total), Some(rate)) => {
            let left = total.saturating_sub(done + failed) as f64 / rate;
            text += &format!(", {} left", span_text(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)));
        }
        _ => text += &format!(", {}", span_text(elapsed)),
    }
    text
}

/// Formats a rate with at most two digits that matter after the thousands: `9,894/s`, `6.9/s`, `0.25/s`, `3.1/min`.
fn rate_text(per_second: f64) -> String {
    match per_second {
        rate if rate >= 9.95 => format!("{}/s", output::count(rate.round() as u64)),
        rate if rate >= 0.95 => format!("{rate:.1}/s"),
        rate if rate >= 0.1 => format!("{rate:.2}/s"),
        rate => format!("{:.1}/min", rate * 60.0),
    }
}

/// Formats a span of time in its largest unit.
fn span_text(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_no_more_digits_than_matter() {
        let texts = [9_894.488_9, 10.4, 6.916_3, 1.0, 0.251, 0.05].map(rate_text);
        assert_eq!(texts, ["9,894/s", "10/s", "6.9/s", "1.0/s", "0.25/s", "3.0/min"]);
    }

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_second(), None);
        let second = Duration::from_secs(1);
        // A hundred a second for a minute, then ten.
        (0..=60).for_each(|n| pace.add(n * second, u64::from(n) * 100));
        assert_eq!(pace.per_second(), Some(100.0));
        (1..=10).for_each(|n| pace.add((60 + n) * second, 6_000 + u64::from(n) * 10));
        assert_eq!(pace.per_second(), Some(10.0));
        assert!(pace.samples.len() <= 12, "{}", pace.samples.len());
        // A map that runs again counts from less.
        pace.add(71 * second, 0);
        assert_eq!(pace.per_second(), Some(0.0));
    }

    #[test]
    fn a_line_tells_done_from_failed_and_the_time_left_once_the_total_is_known() {
        let counts = InputCounts { done: 2_149, failed: 6, retried: 33 };
        let seconds = Duration::from_secs;
        let with = |total, rate| console::strip_ansi_codes(&text(counts, total, rate, seconds(10))).into_owned();
        assert_eq!(with(Some(4_536), Some(215.0)), "2,149 of 4,536 done, 6 failed, 33 retried, 215/s, 11 s left");
        assert_eq!(with(None, Some(215.0)), "2,149 done, 6 failed, 33 retried, 215/s, 10 s");
        assert_eq!(with(Some(4_536), None), "2,149 of 4,536 done, 6 failed, 33 retried, 10 s");
        let none = InputCounts::default();
        assert_eq!(text(none, Some(9), Some(0.0), seconds(3)), "0 of 9 done, 3 s");
    }
}
