//! Functions that run on groups: good ones, those whose inputs make trouble, and those that answer as no SDK would.

use bireme_sdk::__private::{App, Attributes, Batched, Entry, Payload, Schemas, SchemasBuilder, inventory};
use bireme_sdk::prelude::*;

/// Returns the size of the group that each input was in. A group that is not filled would take longer than any test.
#[function(batched(max_size = 8, wait = "10s"))]
fn group_sizes(inputs: Vec<u32>) -> Vec<usize> {
    vec![inputs.len(); inputs.len()]
}

/// The same, one group at a time.
#[function(batched(max_size = 8, wait = "10s"), concurrency = 1)]
fn group_sizes_one_at_a_time(inputs: Vec<u32>) -> Vec<usize> {
    group_sizes(inputs)
}

/// The same with short waits.
#[function(batched(max_size = 1_000, wait = "10ms"))]
fn group_sizes_soon(inputs: Vec<Option<u32>>) -> Vec<usize> {
    vec![inputs.len(); inputs.len()]
}

/// Returns the size of the group, and that no input waits for long though two do not fit.
#[function(batched(max_size = 8, wait = "1s"))]
fn group_sizes_of_texts(texts: Vec<String>) -> Vec<usize> {
    vec![texts.len(); texts.len()]
}

/// Maps `group_sizes` from within, or calls it `calls` times.
#[function]
fn maps_in_groups(inputs: u32) -> Result<Vec<usize>> {
    group_sizes::map(0..inputs).collect()
}

/// Waits for company that does not come in time.
#[function(timeout = "300ms")]
fn waits_in_vain() -> Result<usize> {
    group_sizes::call(1)
}

/// Panics for 13, and returns the size of the group.
#[function(batched(max_size = 8, wait = "10s"))]
fn group_panics_at_13(inputs: Vec<u32>) -> Vec<usize> {
    assert!(!inputs.contains(&13), "13 brings ill luck");
    group_sizes(inputs)
}

/// Does not end for 13.
#[function(batched(max_size = 8, wait = "10s"), timeout = "500ms")]
fn group_hangs_at_13(inputs: Vec<u32>) -> Vec<usize> {
    while std::hint::black_box(inputs.contains(&13)) {}
    group_sizes(inputs)
}

/// Fails for 13 alone and for good, and the first time for each odd number.
#[function(batched(max_size = 8, wait = "100ms"), retries(max = 1, initial = "0s"))]
fn group_fails_by_input(inputs: Vec<u32>) -> Result<Vec<Result<u32>>> {
    let tried = kv::open("tried")?;
    let one = |input: u32| {
        if input == 13 {
            return Err(Failure::terminal("13 brings ill luck").because("everybody knows"));
        }
        if input % 2 == 1 && tried.get(&input.to_string())?.is_none() {
            tried.set(&input.to_string(), "")?;
            bail!("{input} was not tried before");
        }
        Ok(input)
    };
    Ok(inputs.into_iter().map(one).collect())
}

/// Fails as a whole: for good where there is a 13.
#[function(batched(max_size = 2, wait = "10s"))]
fn group_fails_together(inputs: Vec<u32>) -> Result<Vec<u32>> {
    if inputs.contains(&13) {
        return Err(Failure::terminal("13 brings ill luck"));
    }
    Ok(inputs)
}

/// Leaves one out.
#[function(batched(max_size = 2, wait = "10s"))]
fn group_forgets_one(inputs: Vec<u32>) -> Vec<u32> {
    inputs.into_iter().skip(1).collect()
}

/// Returns so many bytes for each input.
#[function(batched(max_size = 4, wait = "10s"))]
fn group_repeats(inputs: Vec<usize>) -> Vec<String> {
    inputs.into_iter().map(|bytes| "x".repeat(bytes)).collect()
}

/// Declares a function that answers groups with these bytes.
macro_rules! answers {
    ($name:literal, $content_type:literal, $answer:literal) => {
        const _: () = {
            fn run(_: Payload) -> Result<Payload> {
                Ok(Payload { content_type: $content_type.to_owned(), data: $answer.into() })
            }

            fn schemas() -> Schemas {
                SchemasBuilder::new().finish(true.into())
            }

            inventory::submit! {
                Entry {
                    app: App { name: "hostile", version: "0.1.0", description: "" },
                    name: $name,
                    source: concat!(file!(), ":", $name),
                    doc: "",
                    parameters: &["input"],
                    attributes: Attributes {
                        route: None,
                        timeout_ms: None,
                        memory_bytes: None,
                        retries: None,
                        concurrency: None,
                        batched: Some(Batched { max_size: 2, wait_ms: 10_000 }),
                        schedule: None,
                        outbound: &[],
                        models: &[],
                        tokens: None,
                        tokens_per_day: None,
                        secrets: &[],
                    },
                    run,
                    schemas,
                }
            }
        };
    };
}

answers!("answers_one_of_two", "application/vnd.bireme.batch+json", r#"[{"ok":1}]"#);
answers!("answers_three_of_two", "application/vnd.bireme.batch+json", r#"[{"ok":1},{"ok":2},{"ok":3}]"#);
answers!("answers_one_for_both", "application/json", r#"[1,2]"#);
answers!("answers_no_json", "application/vnd.bireme.batch+json", r#"[{"ok":1},{"ok":}]"#);
answers!(
    "answers_code_of_its_own",
    "application/vnd.bireme.batch+json",
    r#"[{"ok":1},{"err":{"code":"bored","message":""}}]"#
);
