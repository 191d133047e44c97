//! `--keep`: retention of durable calls and maps on disk.

use std::time::Duration;

use super::exit::Exit;
use crate::dispatch::Retention;
use crate::ids::AppName;

/// Parses `7d` (default of all apps) and `APP=30d`. The last one for each wins.
pub(crate) fn parse(texts: &[String]) -> Result<Retention, Exit> {
    let mut retention = Retention::default();
    for text in texts {
        match text.split_once('=') {
            Some((app, time)) => {
                let app = AppName::new(app).map_err(|error| Exit::usage(format!("`--keep {text}`: {error}")))?;
                retention.by_app.insert(app, duration_of(time)?);
            }
            None => retention.keep = duration_of(text)?,
        }
    }
    Ok(retention)
}

fn duration_of(text: &str) -> Result<Duration, Exit> {
    parse_duration(text).map_err(|why| Exit::usage(format!("`--keep {text}`: {why}")))
}

/// Parses a number of seconds, minutes, hours or days: `90s`, `30m`, `12h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; give 90s, 30m, 12h or 7d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_holds_for_all_apps_or_for_one() {
        let parse = |texts: &[&str]| parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let retention = parse(&["12h", "docs=30d"]).unwrap();
        assert_eq!(retention.keep, Duration::from_secs(12 * 3_600));
        assert_eq!(retention.by_app[&AppName::new("docs").unwrap()], Duration::from_secs(30 * 86_400));
        assert_eq!(parse(&[]).unwrap(), Retention::default());
        for bad in ["7", "d", "7 d", "-1d", "7w", "a/b=1d", "99999999999999999999d"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
