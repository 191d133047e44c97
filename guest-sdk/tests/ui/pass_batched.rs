use std::num::ParseIntError;

use bireme_sdk::prelude::*;

/// Never fails.
#[function(batched(max_size = 64, wait = "10ms"))]
fn lengths(texts: Vec<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

/// Single inputs fail, with an error of their own type.
#[function(batched(max_size = 1, wait = "0ms"), concurrency = 1, retries = 1)]
fn numbers(texts: std::vec::Vec<String>) -> Vec<std::result::Result<u32, ParseIntError>> {
    texts.iter().map(|text| text.parse()).collect()
}

/// The group fails.
#[function(batched(wait = "10s", max_size = 1_000,))]
fn together(pairs: Vec<(u32, Option<u32>)>) -> Result<Vec<u32>> {
    pairs.into_iter().map(|(a, b)| Ok(a + b.context("no second")?)).collect()
}

/// Both do.
#[function(batched(max_size = 2, wait = "1s"))]
fn either(texts: Vec<String>) -> Result<Vec<Result<()>>> {
    Ok(texts.iter().map(|_| Ok(())).collect())
}

fn main() -> Result<()> {
    assert_eq!(lengths(vec!["a".to_owned(), "bc".to_owned()]), [1, 2]);
    assert_eq!(lengths::call("abc".to_owned())?, 3);
    assert_eq!(lengths::map(["a".to_owned(), "bc".to_owned()]).collect::<Result<Vec<usize>>>()?, [1, 2]);
    lengths::for_each(["a".to_owned()])?;
    let mut parsed = numbers::map(["1", "x", "3"].map(str::to_owned)).keep_going();
    assert_eq!(parsed.by_ref().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(together::call((1, Some(2)))?, 3);
    either::call("x".to_owned())
}
