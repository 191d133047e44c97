use super::*;

fn errors(text: &str) -> Vec<String> {
    syn::parse_str::<Attributes>(text)
        .expect_err("the attributes are wrong")
        .into_iter()
        .map(|error| error.to_string())
        .collect()
}

fn read(text: &str) -> Attributes {
    syn::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_attribute_is_read() {
    let attributes = read(
        r#"timeout = "10s", memory = "64MiB", retries = 2, concurrency = 4, batched(max_size = 64, wait = "10ms"), schedule = period("15m"),
           outbound = ["$site", "https://example.com"], models = ["m"], tokens = 100_000, tokens_per_day = 5_000_000_000,
           secrets = ["API_KEY"],"#,
    );
    assert_eq!(attributes.timeout_ms, Some(10_000));
    assert_eq!(attributes.memory_bytes, Some(64 << 20));
    assert_eq!(attributes.retries, Some(Retries::Count(2)));
    assert_eq!(attributes.concurrency, Some(4));
    assert_eq!(attributes.batched.map(|batched| (batched.max_size, batched.wait_ms)), Some((64, 10)));
    let schedule = attributes.schedule.unwrap();
    assert_eq!(schedule, Schedule { times: Times::Period { period_ms: 900_000 }, missed: None, overlap: None });
    assert_eq!(attributes.outbound, ["$site", "https://example.com"]);
    assert_eq!(attributes.models, ["m"]);
    assert_eq!((attributes.tokens, attributes.tokens_per_day), (Some(100_000), Some(5_000_000_000)));
    assert_eq!(attributes.secrets, ["API_KEY"]);
}

#[test]
fn every_mistake_is_reported_in_one_go() {
    let there_are = "there are `timeout`, `memory`, `retries`, `concurrency`, `batched`, `schedule`, `outbound`, `models`, `tokens`, \
                     `tokens_per_day`, `secrets`";
    assert_eq!(
        errors(r#"memroy = "64MiB", gpu = 1, retries = -1, timeout"#),
        [
            format!("unknown attribute `memroy`; did you mean `memory`? {there_are}"),
            format!("unknown attribute `gpu`; {there_are}"),
            "expected a whole number, such as 2".to_owned(),
            "`timeout` takes a value: `timeout = \"10s\"`".to_owned(),
        ]
    );
}

#[test]
fn retries_can_have_a_spacing_of_their_own() {
    assert_eq!(
        read(r#"retries(max = 3, backoff = 1.5, initial = "100ms", max_delay = "10s")"#).retries,
        Some(Retries::Spaced { max: 3, backoff: Some(1.5), initial_ms: Some(100), max_delay_ms: Some(10_000) })
    );
    assert_eq!(
        read("retries(max = 3)").retries,
        Some(Retries::Spaced { max: 3, backoff: None, initial_ms: None, max_delay_ms: None })
    );
    assert_eq!(
        errors("retries(max = 3, backof = 2)"),
        [
            "unknown part `backof` of `retries`; did you mean `backoff`? there are `max`, `backoff`, `initial`, `max_delay`"
        ]
    );
    assert_eq!(errors("retries(max = 3, backoff = 0.5)"), ["`0.5` is out of range: `backoff` goes from 1 to 10"]);
    assert_eq!(errors(r#"retries(max = 3, initial = "2h")"#), ["`2h` is out of range: a delay goes from 0s to 1h"]);
    assert_eq!(errors("retries(max = 1, max = 2)"), ["`max` is given twice; keep one"]);
    assert!(errors("retries(backoff = 2.0)")[0].starts_with("`retries` needs `max`"));
    assert_eq!(
        errors(r#"retries(max = 1, initial = "2s", max_delay = "1s")"#),
        ["`initial` is longer than `max_delay`"]
    );
}

#[test]
fn a_schedule_is_a_pattern_or_a_period() {
    let cron = |text: &str| match read(&format!("schedule = {text}")).schedule.unwrap().times {
        Times::Cron { cron, tz } => (cron, tz),
        other => panic!("{other:?}"),
    };
    assert_eq!(cron(r#"cron("0 6 * * mon")"#), ("0 6 * * MON".to_owned(), "UTC".to_owned()));
    assert_eq!(
        cron(r#"cron("*/15  8-18 1,15 JAN-JUN 1-5", tz = "Europe/Stockholm")"#),
        ("*/15 8-18 1,15 JAN-JUN 1-5".to_owned(), "Europe/Stockholm".to_owned())
    );
    assert_eq!(cron(r#"cron("0 0 L * FRI#2")"#).0, "0 0 L * FRI#2");
}

#[test]
fn a_wrong_schedule_is_told_by_field() {
    let check = |text: &str, words: &str| {
        let errors = errors(&format!("schedule = {text}"));
        assert!(errors.len() == 1 && errors[0].contains(words), "{errors:?}");
    };
    check(r#""daily""#, "expected `cron(");
    check("hourly()", "expected `cron(");
    check(r#"cron("0 6 * *")"#, "has 4 fields; a pattern has five");
    check(r#"cron("@daily")"#, "has 1 fields");
    check(r#"cron("60 * * * *")"#, "minute: `60` is not from 0 to 59");
    check(r#"cron("* 18-8 * * *")"#, "hour: `18-8` ends before it begins");
    check(r#"cron("* * * * FUN")"#, "day of the week: `FUN` is neither from 0 to 7 nor one of SUN, MON");
    check(r#"cron("*/0 * * * *")"#, "minute: `*/0` has a step");
    check(r#"cron("* * 0 * *")"#, "day of the month: `0` is not from 1 to 31");
    check(r#"cron("* * * * *", tz = "here and there")"#, "is not the name of a time zone");
    check(r#"cron("* * * * *", zone = "UTC")"#, "unknown part `zone` of `cron`; there are `tz`, `missed`, `overlap`");
    check(r#"cron("* * * * *", "UTC")"#, "each part of `cron` is `NAME = \"…\"`");
    check(r#"cron("* * * * *", tz = "UTC", tz = "UTC")"#, "`tz` is given twice; keep one");
    check("period()", "`period` needs a time");
    check(r#"period("15m", tz = "UTC")"#, "unknown part `tz` of `period`; there are `missed`, `overlap`");
    check(r#"period("1 fortnight")"#, "has the unit ` fortnight`");
    check(r#"period("10ms")"#, "a period goes from 1s to 720h");
}

#[test]
fn a_schedule_says_what_becomes_of_runs_that_were_missed_or_meet() {
    let policies = |text: &str| {
        let schedule = read(&format!("schedule = {text}")).schedule.unwrap();
        (schedule.missed, schedule.overlap)
    };
    let cron = r#"cron("0 6 * * *", tz = "UTC", missed = "run_once", overlap = "allow")"#;
    assert_eq!(policies(cron), (Some("run_once"), Some("allow")));
    assert_eq!(policies(r#"period("15m", overlap = "queue")"#), (None, Some("queue")));
    // Defaults are not written, so that older hosts can read the rest.
    assert_eq!(policies(r#"period("15m", missed = "skip", overlap = "skip")"#), (None, None));
    let wrong = |text: &str| errors(&format!("schedule = {text}"));
    assert_eq!(
        wrong(r#"period("15m", missed = "run-once")"#),
        ["`missed` is not `run-once`; did you mean `run_once`? there are `skip`, `run_once`"]
    );
    assert_eq!(
        wrong(r#"period("15m", overlap = "alow")"#),
        ["`overlap` is not `alow`; did you mean `allow`? there are `skip`, `allow`, `queue`"]
    );
    assert_eq!(
        wrong(r#"cron("0 6 * * *", mised = "skip")"#),
        ["unknown part `mised` of `cron`; did you mean `missed`? there are `tz`, `missed`, `overlap`"]
    );
    assert_eq!(wrong(r#"period("15m", overlap = true)"#), ["expected a string literal, such as \"allow\""]);
}

#[test]
fn a_secret_is_named_as_an_environment_variable() {
    assert!(errors(r#"secrets = ["API-KEY"]"#)[0].contains("is not a secret's name"));
    assert!(errors(r#"secrets = ["1ST"]"#)[0].contains("no digit first"));
    assert_eq!(errors(r#"secrets = ["A", "A"]"#), ["`A` is listed twice; keep one"]);
}

#[test]
fn an_ill_typed_value_says_what_was_expected() {
    assert_eq!(errors("timeout = 10"), ["expected a string literal, such as \"10s\""]);
    assert_eq!(errors("retries = 101"), ["`101` is out of range: `retries` goes from 0 to 100"]);
    assert_eq!(errors("concurrency = 0"), ["`0` is out of range: `concurrency` goes from 1 to 1000"]);
    assert_eq!(errors("tokens = 0"), ["`0` is out of range: `tokens` goes from 1 to 1000000000000"]);
    assert_eq!(errors(r#"tokens_per_day = "5M""#), ["expected a whole number, such as 5_000_000"]);
    assert_eq!(errors(r#"models = "m""#), ["expected a list of string literals, such as [\"all-minilm-l6-v2\"]"]);
    assert_eq!(errors("retries = 1, retries = 2"), ["`retries` is given twice; keep one"]);
}

#[test]
fn an_origin_has_no_path_and_needs_a_scheme() {
    assert!(errors(r#"outbound = ["example.com"]"#)[0].contains("write `https://example.com`"));
    assert!(errors(r#"outbound = ["https://example.com/a"]"#)[0].contains("is not an origin"));
    assert!(errors(r#"outbound = ["$"]"#)[0].contains("is not a name"));
}

/// The docs of `#[function]` are the reference (`docs/reference/attributes.md`).
#[test]
fn the_docs_have_every_key_with_an_example_that_is_read() {
    let bullets = include_str!("../lib.rs").lines().filter_map(|line| line.strip_prefix("/// - `"));
    let examples: Vec<&str> = bullets.filter_map(|line| line.split_once("`: ").map(|(example, _)| example)).collect();
    let is_of = |example: &str, key: &str| example.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '(']));
    for key in KNOWN {
        let example = examples.iter().find(|example| is_of(example, key));
        read(example.unwrap_or_else(|| panic!("no example of `{key}` in {examples:?}")));
    }
    let parts = [retries::KNOWN.as_slice(), &batched::KNOWN, &schedule::PARTS_OF_CRON, &schedule::PARTS_OF_PERIOD];
    for part in parts.concat() {
        let example = examples.iter().find(|example| example.contains(&format!("{part} = ")));
        read(example.unwrap_or_else(|| panic!("no example of the part `{part}` in {examples:?}")));
    }
}
