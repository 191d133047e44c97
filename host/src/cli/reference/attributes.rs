//! Attributes of the SDK: the docs of its macros, and the host's own defaults and maxima.
//!
//! A test of the macros holds their docs to the keys that they parse.

use std::fmt::Write;
use std::time::Duration;

use expect_test::expect_file;

use crate::limits::{Ceilings, FunctionLimits};

const MACROS: &str = include_str!("../../../../guest-sdk/macros/src/lib.rs");

#[test]
fn the_page_of_the_attributes_is_up_to_date() {
    let mut text = "# Attributes\n\nThe attributes of the SDK, with their keys, values and defaults. Written by \
        `UPDATE_EXPECT=1 cargo test -p bireme --lib\ncli::reference` from the docs of `guest-sdk/macros` and from \
        `host/src/limits.rs`.\n\n"
        .to_owned();
    let _ = write!(text, "## Defaults and maxima of a host\n\n{}", table());
    for name in ["function", "web"] {
        let _ = write!(text, "\n## `#[{name}(…)]`\n\n{}", docs(name));
    }
    expect_file!["../../../../docs/reference/attributes.md"].assert_eq(&text);
}

/// Returns the docs of a macro, with its headings below that of the page's section.
fn docs(name: &str) -> String {
    let end = MACROS.find(&format!("\n#[proc_macro_attribute]\npub fn {name}(")).expect("the macro is there");
    let docs: Vec<&str> = MACROS[..end].lines().rev().map_while(|line| line.strip_prefix("///")).collect();
    let lines = docs.iter().rev().map(|line| line.strip_prefix(' ').unwrap_or(line));
    let lines = lines.map(|line| if line.starts_with("# ") { format!("##{line}\n") } else { format!("{line}\n") });
    lines.collect()
}

fn table() -> String {
    let (limits, ceilings) = (FunctionLimits::default(), Ceilings::default());
    let retries = limits.retries;
    let size = |bytes: u64| match bytes >> 20 {
        mib if mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    };
    let rows = [
        ("timeout", time(limits.timeout), time(ceilings.timeout_max), "`timeout`"),
        ("memory", size(limits.memory_bytes_max), size(ceilings.memory_bytes_max), "`memory-limit`"),
        ("retries", retries.retries_max.to_string(), ceilings.retries_max.to_string(), ""),
        ("retries(initial)", time(retries.initial), time(ceilings.retry_delay_max), ""),
        ("retries(backoff)", retries.backoff.to_string(), ceilings.backoff_max.to_string(), ""),
        ("retries(max_delay)", time(retries.delay_max), time(ceilings.retry_delay_max), ""),
        ("concurrency", "the host's slots".to_owned(), ceilings.concurrency_max.to_string(), "calls wait"),
        ("batched(max_size)", "1 input a run".to_owned(), ceilings.group_size_max.to_string(), ""),
        ("batched(wait)", String::new(), time(ceilings.group_wait_max), ""),
        ("tokens", "no limit".to_owned(), String::new(), "`terminal`"),
        ("tokens_per_day", "no limit".to_owned(), String::new(), "`terminal`"),
        ("outbound", "nothing".to_owned(), String::new(), "`terminal`"),
        ("models", "nothing".to_owned(), String::new(), "`terminal`"),
        (
            "secrets",
            "nothing".to_owned(),
            format!("{} names", crate::limits::SECRETS_PER_FUNCTION_MAX),
            "the variable is absent",
        ),
    ];
    let mut text = "| key | default | maximum | beyond it |\n|---|---|---|---|\n".to_owned();
    for (key, default, maximum, beyond) in rows {
        let _ = writeln!(text, "| `{key}` | {default} | {maximum} | {beyond} |");
    }
    text + "\nA host refuses an app with a value over its maximum. `timeout` covers everything that one attempt does: \
        computing, host calls, waiting.\n"
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 3_600 && seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds => format!("{seconds} s"),
    }
}
