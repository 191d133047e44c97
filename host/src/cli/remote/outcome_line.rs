//! Line of a stream of outcomes, borrowed from the buffer that it was read into.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Map, MapFailureError, MapOutcomeState};
use crate::call::{Failure, Receipt};

/// Line of a stream: an `api::MapStreamLine` whose larger parts are read when they are needed.
///
/// A map has hundreds of thousands of outcomes, and most lines are printed as they came: reading an output into a tree
/// of values and writing it again would take several times as long, and would change its numbers.
#[derive(Deserialize)]
pub(crate) struct OutcomeLine<'a> {
    /// Present of an outcome.
    pub index: Option<u64>,
    pub state: Option<MapOutcomeState>,
    pub attempt: Option<u32>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    receipt: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
}

impl<'a> OutcomeLine<'a> {
    /// Returns the output as JSON text.
    pub(crate) fn output(&self) -> Option<&'a str> {
        // An output of `null` reads as none.
        let null = (self.state == Some(MapOutcomeState::Done)).then_some("null");
        self.output.map(RawValue::get).or(null)
    }

    /// Returns the failure of an outcome.
    pub(crate) fn failure(&self) -> serde_json::Result<Option<Failure>> {
        parse(self.error)
    }

    /// Returns the error of the stream, of a line that is no outcome.
    pub(crate) fn stream_error(&self) -> serde_json::Result<Option<MapFailureError>> {
        parse(self.error.filter(|_| self.index.is_none()))
    }

    pub(crate) fn receipt(&self) -> serde_json::Result<Option<Receipt>> {
        parse(self.receipt)
    }

    /// Returns the map at its end, of the last line.
    pub(crate) fn summary(&self) -> serde_json::Result<Option<Map>> {
        parse(self.summary)
    }
}

fn parse<'a, T: Deserialize<'a>>(part: Option<&'a RawValue>) -> serde_json::Result<Option<T>> {
    part.map(|part| serde_json::from_str(part.get())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_its_text_and_may_be_null() {
        let output = |text: &str| serde_json::from_str::<OutcomeLine<'_>>(text).unwrap().output().map(str::to_owned);
        assert_eq!(output(r#"{"index":0,"state":"done","output":1.50e3}"#).as_deref(), Some("1.50e3"));
        assert_eq!(output(r#"{"index":0,"state":"done","output":null}"#).as_deref(), Some("null"));
        assert_eq!(output(r#"{"index":0,"state":"dead","error":{}}"#), None);
    }

    #[test]
    fn an_error_is_of_an_input_or_of_the_stream() {
        let text = r#"{"index":4,"state":"dead","attempt":4,"error":{"code":"failed","message":"no"}}"#;
        let of_input: OutcomeLine<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(of_input.failure().unwrap().unwrap().message, "no");
        assert_eq!(of_input.stream_error().unwrap(), None);
        let text = r#"{"error":{"code":"disk-full","message":"no room"}}"#;
        let of_stream: OutcomeLine<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(of_stream.stream_error().unwrap().unwrap().code, "disk-full");
    }
}
