//! `bireme-survive`: the host is killed while a client works with it.

use std::process::Command;

fn survive(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bireme-survive")).args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    (output.status.success(), text)
}

#[test]
fn what_was_acknowledged_survives_kills_at_random_times_and_at_fail_points() {
    let (is_good, text) = survive(&["--kills", "16", "--inputs", "100", "--seed", "1"]);
    assert!(is_good && text.ends_with("violations: 0\n"), "{text}");
}

#[test]
fn calls_can_be_cancelled_wherever_they_are() {
    let (is_good, text) = survive(&["--kills", "0", "--cancels", "120", "--seed", "1"]);
    assert!(is_good && text.ends_with("violations: 0\n"), "{text}");
}

#[test]
fn an_option_that_is_none_is_refused() {
    let (is_good, text) = survive(&["--kill", "12"]);
    assert!(!is_good && text.contains("`--kill` is no option"), "{text}");
}
