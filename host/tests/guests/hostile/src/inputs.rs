//! Failures of a function, and inputs that do not fit.

use std::collections::BTreeMap;

use bireme_sdk::prelude::*;

/// Fails in a way that another attempt may mend; it never does.
#[function(retries = 2)]
fn fails() -> Result<()> {
    let cause = "x".parse::<u32>().map(drop);
    cause.context("it failed, as it always does")
}

/// Fails in a way that no further attempt can mend.
#[function(retries = 2)]
fn fails_terminal() -> Result<()> {
    Err(Failure::terminal("it cannot be done"))
}

/// Fails before attempt `n`, then returns the attempt.
#[function(retries = 3)]
fn fails_until_attempt(n: u32) -> Result<u32> {
    let attempt = context::current().attempt;
    if attempt < n {
        bail!("attempt {attempt} comes before {n}");
    }
    Ok(attempt)
}

/// Crashes before attempt `n`, then returns the attempt.
#[function(retries = 3)]
fn panics_until_attempt(n: u32) -> u32 {
    let attempt = context::current().attempt;
    assert!(attempt >= n, "attempt {attempt} comes before {n}");
    attempt
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Point {
    x: f64,
    y: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    Dot(Point),
    Path { points: Vec<Point> },
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Drawing {
    title: String,
    shapes: Vec<Shape>,
    #[serde(default)]
    tags: BTreeMap<String, u8>,
}

/// Takes a nested record and counts its points.
#[function]
fn typed(drawing: Drawing, scale: Option<f64>) -> Result<f64> {
    if drawing.title.is_empty() {
        return Err(Failure::terminal("a drawing needs a title"));
    }
    let points: usize = drawing
        .shapes
        .iter()
        .map(|shape| match shape {
            Shape::Dot(_) => 1,
            Shape::Path { points } => points.len(),
        })
        .sum();
    Ok(points as f64 * scale.unwrap_or(1.0))
}
