//! `bireme inspect`: functions, limits and capabilities of an app, read from its metadata.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::compile_max::CompileArgs;
use super::exit::Exit;
use super::global::Global;
use super::{output, schema_text, table, target};
use crate::app::DescribedApp;
use crate::app::metadata::{FunctionInfo, Missed, Overlap, Schedule};
use crate::app::timetable::Timetable;
use crate::ids::AppName;
use crate::limits::{Ceilings, RetryPolicy};
use crate::logs::{NoLog, printable};
use crate::server::Host;

/// Show an app's functions, schemas, limits and capabilities, without running it.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme inspect examples/hello --json")]
pub(crate) struct Inspect {
    /// A crate's directory, a `.wasm` file, or a directory with a `bireme.toml`.
    app: String,
    #[command(flatten)]
    compile: CompileArgs,
}

impl Inspect {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let located = target::locate(&self.app, &global.directories()?).await?;
        let app = match located.described() {
            Some((_, app)) => app,
            // Only a component without metadata needs an engine.
            None => {
                let mut config = global.config(&[])?;
                self.compile.apply(&mut config);
                let host = Host::build(config, std::sync::Arc::new(NoLog))?;
                located.describe(&host).await?.1
            }
        };
        if global.json {
            let functions: Vec<_> = app
                .metadata
                .functions
                .iter()
                .map(|function| {
                    json!({
                        "name": function.name,
                        "doc": function.doc,
                        "parameters": function.parameters,
                        "input": function.input,
                        "output": function.output,
                        "attributes": function.attributes,
                    })
                })
                .collect();
            output::line(
                &json!({
                    "app": app.metadata.app,
                    "version": app.component.version(),
                    "bytes": app.component.bytes.len(),
                    "functions": functions,
                })
                .to_string(),
            );
            return Ok(());
        }
        output::line(&describe(&app));
        Ok(())
    }
}

/// Returns the app as text for people.
pub(crate) fn describe(app: &DescribedApp) -> String {
    let info = &app.metadata.app;
    let mut text = format!("{} {} (version {})", info.name, info.version, app.component.version());
    if !info.description.is_empty() {
        text += &format!("\n{}", info.description);
    }
    for function in &app.metadata.functions {
        text += &format!("\n\n{}", describe_function(&info.name, function));
    }
    // Metadata are text of the app: escape control characters.
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn describe_function(app: &AppName, function: &FunctionInfo) -> String {
    let mut text = function.name.to_string();
    if let Some(first) = function.doc.lines().next() {
        text += &format!("  {first}");
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    if let Some(route) = &function.attributes.route {
        rows.push(vec!["  answers".to_owned(), route.endpoint("", app)]);
    }
    rows.extend([
        vec!["  takes".to_owned(), schema_text::of_input(function)],
        vec!["  gives".to_owned(), schema_text::of_output(function)],
    ]);
    if let Ok(limits) = function.limits(&Ceilings::default()) {
        let mut parts = vec![
            format!("{} memory", output::bytes(limits.memory_bytes_max)),
            format!("{} timeout", duration(limits.timeout)),
        ];
        parts.extend(retries(&limits.retries));
        parts.extend(limits.concurrency_max.map(|calls_max| format!("{calls_max} at a time")));
        parts.extend(
            limits.group.map(|group| {
                format!("groups of up to {} inputs after at most {}", group.size_max, duration(group.wait))
            }),
        );
        parts.extend(limits.tokens_max.map(|tokens| format!("{tokens} tokens a call")));
        parts.extend(limits.tokens_per_day_max.map(|tokens| format!("{tokens} tokens a day")));
        rows.push(vec!["  limits".to_owned(), parts.join(", ")]);
    }
    let attributes = &function.attributes;
    if let Some(schedule) = &attributes.schedule {
        rows.push(vec!["  runs".to_owned(), schedule_text(schedule)]);
    }
    let mut may = Vec::new();
    if !attributes.outbound.is_empty() {
        may.push(format!("reach {}", attributes.outbound.join(", ")));
    }
    if !attributes.models.is_empty() {
        may.push(format!("use the models {}", attributes.models.join(", ")));
    }
    if !attributes.secrets.is_empty() {
        may.push(format!("read the secrets {}", attributes.secrets.join(", ")));
    }
    if !may.is_empty() {
        rows.push(vec!["  may".to_owned(), may.join("; ")]);
    }
    text + "\n" + &table::plain(rows)
}

/// Describes a schedule: times, next time, missed and overlapping runs.
fn schedule_text(schedule: &Schedule) -> String {
    let now = Timestamp::now();
    let next = Timetable::parse(schedule).ok().and_then(|table| Some(table.written(table.next_after(now, now)?)));
    let mut text = match (schedule, next) {
        (Schedule::Cron(cron), Some(next)) => format!("at `{}` ({}), next {next}", cron.cron, cron.tz),
        (Schedule::Cron(cron), None) => format!("at `{}` ({})", cron.cron, cron.tz),
        (Schedule::Period(period), _) => {
            format!("every {}, from its first deployment", duration(Duration::from_millis(period.period_ms)))
        }
    };
    if schedule.missed() == Missed::RunOnce {
        text += "; runs once for all that were missed";
    }
    text += match schedule.overlap() {
        Overlap::Skip => "",
        Overlap::Allow => "; runs may meet",
        Overlap::Queue => "; one run waits for the one before it",
    };
    text
}

fn retries(policy: &RetryPolicy) -> Option<String> {
    let count = policy.retries_max;
    let plural = if count == 1 { "retry" } else { "retries" };
    let usual = RetryPolicy { retries_max: count, ..RetryPolicy::default() };
    match count {
        0 => None,
        _ if *policy == usual => Some(format!("{count} {plural}")),
        _ => Some(format!(
            "{count} {plural} after {}, then {} times as long, up to {}",
            duration(policy.initial),
            policy.backoff,
            duration(policy.delay_max)
        )),
    }
}

fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}
