use bireme_sdk::prelude::*;

#[function(schedule = "daily")]
fn a_word() {}

#[function(schedule = cron("0 6 * *"))]
fn four_fields() {}

#[function(schedule = cron("0 24 * * *"))]
fn no_such_hour() {}

#[function(schedule = cron("0 6 * * FUN"))]
fn no_such_day() {}

#[function(schedule = cron("0 6 * * MON", tz = "Stock holm"))]
fn no_zone() {}

#[function(schedule = cron("0 6 * * MON", zone = "UTC"))]
fn no_such_argument() {}

#[function(schedule = period("15m", missed = "run-once"))]
fn no_such_word() {}

#[function(schedule = period("15m", overlaps = "allow"))]
fn no_such_part() {}

fn main() {}
