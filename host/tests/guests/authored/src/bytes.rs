//! Raw bytes in and out.

use bireme_sdk::prelude::*;

/// Reverses bytes, whatever they are.
#[function]
fn reverse(data: Bytes) -> Bytes {
    Bytes::new(data.content_type(), data.iter().rev().copied().collect::<Vec<u8>>())
}

/// Counts bytes.
#[function]
fn weigh(data: Bytes) -> usize {
    data.len()
}

/// Draws a line of `width` dots.
#[function]
fn draw(width: usize) -> Bytes {
    ".".repeat(width).into()
}

/// Reverses lines of bytes, each in a call of its own, and joins them.
#[function]
fn reverse_all(lines: Vec<String>) -> Result<String> {
    let reversed: Result<Vec<Bytes>> = reverse::map(lines.into_iter().map(Bytes::from)).collect();
    let texts: Result<Vec<String>, _> = reversed?.iter().map(|bytes| bytes.text().map(str::to_owned)).collect();
    Ok(texts?.join(" "))
}

/// Multiplies.
#[function]
fn times(a: u32, b: u32) -> u32 {
    a * b
}

/// Multiplies by `map` and by `starmap`, and checks that both agree.
#[function]
fn scalar(left: Vec<u32>, right: Vec<u32>) -> Result<u32> {
    times::for_each(left.clone(), right.clone())?;
    let mapped: u32 = times::map(left.clone(), right.clone()).sum::<Result<u32>>()?;
    let starmapped: u32 = times::starmap(left.into_iter().zip(right)).sum::<Result<u32>>()?;
    if mapped == starmapped { Ok(mapped) } else { bail!("{mapped} is not {starmapped}") }
}
