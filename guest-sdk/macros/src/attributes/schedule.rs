//! Schedules: `cron("0 6 * * MON", tz = "Europe/Stockholm")` and `period("15m")`, each optionally with `missed =
//! "run_once"` and `overlap = "allow"`.
//!
//! Checked here: everything that needs no calendar and no time zones. The host checks the rest.

use syn::spanned::Spanned;
use syn::{Error, Expr, ExprCall, LitStr, Meta};

use super::values::{string, value};
use super::{list, meant};
use crate::units;

const EXAMPLE: &str = "cron(\"0 6 * * MON\", tz = \"Europe/Stockholm\")";
const CRON_EXAMPLE: &str = "\"0 6 * * MON\"";

pub(super) const PARTS_OF_CRON: [&str; 3] = ["tz", "missed", "overlap"];
pub(super) const PARTS_OF_PERIOD: [&str; 2] = ["missed", "overlap"];
/// Policies for a missed run. The first is the host's default.
const MISSED: [&str; 2] = ["skip", "run_once"];
/// Policies for a run that is due while the previous one is still running. The first is the host's default.
const OVERLAP: [&str; 3] = ["skip", "allow", "queue"];

/// Times of the runs, with their policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub times: Times,
    /// `None` for the host's default.
    pub missed: Option<&'static str>,
    pub overlap: Option<&'static str>,
}

/// Due times of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Times {
    /// A cron pattern of five fields, in a time zone of the IANA database.
    Cron { cron: String, tz: String },
    /// A fixed period.
    Period { period_ms: u64 },
}

/// One field of a pattern: its name, its range, and names for its numbers.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of the month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: MONTHS },
    Field { name: "day of the week", min: 0, max: 7, names: DAYS },
];

impl Schedule {
    /// Parses either form.
    pub(crate) fn read(meta: &Meta) -> syn::Result<Self> {
        let expression = value(meta, EXAMPLE)?;
        let wrong = || Error::new(expression.span(), format!("expected `{EXAMPLE}` or `period(\"15m\")`"));
        let Expr::Call(call) = expression else { return Err(wrong()) };
        match &*call.func {
            Expr::Path(path) if path.path.is_ident("cron") => Self::cron(call),
            Expr::Path(path) if path.path.is_ident("period") => Self::period(call),
            _ => Err(wrong()),
        }
    }

    fn cron(call: &ExprCall) -> syn::Result<Self> {
        let mut arguments = call.args.iter();
        let Some(pattern) = arguments.next() else {
            return Err(Error::new(call.span(), format!("`cron` needs a pattern, such as {CRON_EXAMPLE}")));
        };
        let pattern = string(pattern, CRON_EXAMPLE)?;
        check_pattern(pattern)?;
        let parts = Parts::read("cron", &PARTS_OF_CRON, arguments)?;
        let fields: Vec<String> = pattern.value().split_ascii_whitespace().map(str::to_ascii_uppercase).collect();
        let times = Times::Cron { cron: fields.join(" "), tz: parts.tz.unwrap_or_else(|| "UTC".to_owned()) };
        Ok(Self { times, missed: parts.missed, overlap: parts.overlap })
    }

    fn period(call: &ExprCall) -> syn::Result<Self> {
        let mut arguments = call.args.iter();
        let Some(period) = arguments.next() else {
            return Err(Error::new(call.span(), "`period` needs a time, such as `period(\"15m\")`"));
        };
        let text = string(period, "\"15m\"")?;
        let period_ms = units::period_ms(&text.value()).map_err(|message| Error::new(text.span(), message))?;
        let parts = Parts::read("period", &PARTS_OF_PERIOD, arguments)?;
        Ok(Self { times: Times::Period { period_ms }, missed: parts.missed, overlap: parts.overlap })
    }
}

/// Arguments after the pattern or the period.
#[derive(Default)]
struct Parts {
    tz: Option<String>,
    missed: Option<&'static str>,
    overlap: Option<&'static str>,
}

impl Parts {
    /// Parses the arguments of `of(…)`, whose names are `known`.
    fn read<'a>(of: &str, known: &[&str], arguments: impl Iterator<Item = &'a Expr>) -> syn::Result<Self> {
        let mut parts = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for argument in arguments {
            let pair = match argument {
                Expr::Assign(pair) => Some(pair),
                _ => None,
            };
            let name = pair.and_then(|pair| match &*pair.left {
                Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
                _ => None,
            });
            let (Some(pair), Some(name)) = (pair, name) else {
                let message =
                    format!("behind the first, each part of `{of}` is `NAME = \"…\"`; there are {}", list(known));
                return Err(Error::new(argument.span(), message));
            };
            if seen.contains(&name) {
                return Err(Error::new(pair.span(), format!("`{name}` is given twice; keep one")));
            }
            match name.as_str() {
                "tz" if known.contains(&"tz") => {
                    let zone = string(&pair.right, "\"Europe/Stockholm\"")?;
                    check_zone(zone)?;
                    parts.tz = Some(zone.value());
                }
                "missed" => parts.missed = word("missed", &pair.right, &MISSED)?,
                "overlap" => parts.overlap = word("overlap", &pair.right, &OVERLAP)?,
                unknown => {
                    let message = format!(
                        "unknown part `{unknown}` of `{of}`; {}there are {}",
                        meant(unknown, known),
                        list(known)
                    );
                    return Err(Error::new(pair.left.span(), message));
                }
            }
            seen.push(name);
        }
        Ok(parts)
    }
}

/// Parses one policy; `None` for the host's default.
fn word(part: &str, expression: &Expr, known: &[&'static str]) -> syn::Result<Option<&'static str>> {
    let literal = string(expression, &format!("\"{}\"", known[1]))?;
    let typed = literal.value();
    match known.iter().position(|word| *word == typed) {
        Some(0) => Ok(None),
        Some(position) => Ok(Some(known[position])),
        None => {
            let message = format!("`{part}` is not `{typed}`; {}there are {}", meant(&typed, known), list(known));
            Err(Error::new(literal.span(), message))
        }
    }
}

fn check_pattern(literal: &LitStr) -> syn::Result<()> {
    let text = literal.value();
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let message = format!(
            "`{text}` has {} fields; a pattern has five: minute, hour, day of the month, month, day of the week",
            fields.len()
        );
        return Err(Error::new(literal.span(), message));
    }
    for (field, text) in FIELDS.iter().zip(fields) {
        for item in text.split(',') {
            field.check(item).map_err(|reason| Error::new(literal.span(), format!("{}: {reason}", field.name)))?;
        }
    }
    Ok(())
}

impl Field {
    /// Checks one item of the field's list: `*`, `3`, `1-5`, each optionally followed by `/2`.
    fn check(&self, item: &str) -> Result<(), String> {
        // The last day, the nearest weekday, the nth day of the week: left to the host.
        if item.contains(['L', 'l', 'W', 'w', '#']) && !self.names.contains(&item.to_ascii_uppercase().as_str()) {
            return Ok(());
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        if let Some(step) = step {
            match step.parse::<u32>() {
                Ok(step) if (1..=self.max).contains(&step) => {}
                _ => return Err(format!("`{item}` has a step that is not from 1 to {}", self.max)),
            }
        }
        if matches!(range, "*" | "?") {
            return Ok(());
        }
        match range.split_once('-') {
            Some((first, last)) => {
                if self.number(first)? > self.number(last)? {
                    return Err(format!("`{range}` ends before it begins"));
                }
            }
            None => {
                self.number(range)?;
            }
        }
        Ok(())
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        if let Some(position) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(u32::try_from(position).unwrap_or(0) + self.min);
        }
        match text.parse::<u32>() {
            Ok(number) if (self.min..=self.max).contains(&number) => Ok(number),
            _ if self.names.is_empty() => Err(format!("`{text}` is not from {} to {}", self.min, self.max)),
            _ => Err(format!(
                "`{text}` is neither from {} to {} nor one of {}",
                self.min,
                self.max,
                self.names.join(", ")
            )),
        }
    }
}

fn check_zone(literal: &LitStr) -> syn::Result<()> {
    let zone = literal.value();
    let is_name = !zone.is_empty()
        && zone.len() <= 64
        && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+'))
        && !zone.starts_with('/')
        && !zone.ends_with('/');
    if is_name {
        return Ok(());
    }
    let message = format!("`{zone}` is not the name of a time zone, such as `Europe/Stockholm` or `UTC`");
    Err(Error::new(literal.span(), message))
}
