//! Sections of a component's top level: nested modules are stepped over, so the cost does not grow with the code.

use wasmparser::{BinaryReaderError, Chunk, Parser, Payload};

/// Iterator over the payloads of the top level.
pub(super) struct TopLevel<'a> {
    component: &'a [u8],
    parser: Parser,
    /// The bytes that are not read yet; `None` after the end or an error.
    rest: Option<&'a [u8]>,
}

impl<'a> TopLevel<'a> {
    pub(super) fn of(component: &'a [u8]) -> Self {
        Self { component, parser: Parser::new(0), rest: Some(component) }
    }

    fn step(&mut self, rest: &'a [u8]) -> Result<(Payload<'a>, Option<&'a [u8]>), BinaryReaderError> {
        let (consumed, payload) = match self.parser.parse(rest, true)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            // Not before the end of the data, which was announced.
            Chunk::NeedMoreData(_) => (rest.len(), Payload::End(self.component.len())),
        };
        let nested_bytes = match &payload {
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                unchecked_range.len()
            }
            _ => 0,
        };
        let next = match &payload {
            Payload::End(_) => None,
            _ => Some(rest.get(consumed + nested_bytes..)),
        };
        match next {
            // A nested module is cut off: the whole parser has the words for it.
            Some(None) => {
                Parser::new(0).parse_all(self.component).try_for_each(|payload| payload.map(drop))?;
                Ok((payload, None))
            }
            Some(next) => Ok((payload, next)),
            None => Ok((payload, None)),
        }
    }
}

impl<'a> Iterator for TopLevel<'a> {
    type Item = Result<Payload<'a>, BinaryReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        match self.step(rest) {
            Ok((payload, rest)) => {
                self.rest = rest;
                Some(Ok(payload))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(component: &[u8]) -> Vec<String> {
        let sections = TopLevel::of(component).filter_map(|payload| match payload.unwrap() {
            Payload::CustomSection(section) => Some(section.name().to_owned()),
            _ => None,
        });
        sections.collect()
    }

    #[test]
    fn nested_sections_are_stepped_over() {
        let component = wat::parse_str(
            r#"(component (@custom "before" "") (core module (@custom "within" "") (func)) (component)
                (@custom "after" ""))"#,
        )
        .unwrap();
        let names = names(&component);
        assert_eq!(names.iter().filter(|name| *name == "within").count(), 0, "{names:?}");
        assert!(names.contains(&"before".to_owned()) && names.contains(&"after".to_owned()), "{names:?}");
    }

    #[test]
    fn a_component_cut_anywhere_is_an_error_or_shorter() {
        let component = wat::parse_str(r#"(component (core module (func)) (@custom "after" "text"))"#).unwrap();
        let whole = TopLevel::of(&component).count();
        for len in 0..component.len() {
            let payloads: Vec<_> = TopLevel::of(&component[..len]).collect();
            assert!(payloads.len() < whole || payloads.iter().any(Result::is_err), "cut at {len}");
        }
    }
}
