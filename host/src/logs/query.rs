//! Filter of log lines.

use super::line::{Level, Source};
use super::record::LogRecord;
use crate::ids::AppName;

/// A filter; an absent field lets every line pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub app: Option<AppName>,
    pub function: Option<String>,
    /// A call's id, or a prefix of one.
    pub call: Option<String>,
    /// A version, or a prefix of one.
    pub version: Option<String>,
    pub source: Option<Source>,
    /// Minimum level.
    pub level: Option<Level>,
    /// Text within the message or a field's value; case-insensitive.
    pub search: Option<String>,
    /// Milliseconds since 1970, inclusive.
    pub since_ms: Option<u64>,
    /// Milliseconds since 1970, exclusive.
    pub until_ms: Option<u64>,
    /// Number of newest matching lines to read.
    pub tail: Option<usize>,
}

impl Query {
    /// Whether the line passes; ignores `tail`.
    pub(crate) fn matches(&self, line: &LogRecord) -> bool {
        let begins =
            |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| text.starts_with(wanted));
        self.app.as_ref().is_none_or(|app| *app == line.app)
            && self.function.as_ref().is_none_or(|function| function == line.function.as_str())
            && self.source.is_none_or(|source| source == line.source)
            && self.level.is_none_or(|level| level <= line.level)
            && self.since_ms.is_none_or(|since| line.at_ms >= since)
            && self.until_ms.is_none_or(|until| line.at_ms < until)
            && begins(&self.version, line.version.as_str())
            && (self.call.is_none() || begins(&self.call, &line.call.to_string()))
            && self.search.as_ref().is_none_or(|text| holds(line, text))
    }
}

fn holds(line: &LogRecord, text: &str) -> bool {
    let text = text.to_lowercase();
    let mut texts = std::iter::once(&line.message).chain(line.fields.iter().map(|(_, value)| value));
    texts.any(|within| within.to_lowercase().contains(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{CallId, FunctionName, Version};

    #[test]
    fn each_part_narrows() {
        let line = LogRecord {
            number: 1,
            at_ms: 1_000,
            app: AppName::new("shop").unwrap(),
            function: FunctionName::new("buy").unwrap(),
            version: Version::of_digest(&[0xab; 32]),
            call: CallId::generate(),
            source: Source::Stdout,
            level: Level::Warn,
            message: "Sold OUT".to_owned(),
            fields: vec![("item".to_owned(), "Oar".to_owned())],
        };
        let call = line.call.to_string()[..8].to_owned();
        let text = |text: &str| Some(text.to_owned());
        let passing = [
            Query::default(),
            Query { app: AppName::new("shop").ok(), function: text("buy"), ..Query::default() },
            Query { call: Some(call), version: text("abab"), ..Query::default() },
            Query { source: Some(Source::Stdout), level: Some(Level::Info), ..Query::default() },
            Query { search: text("sold out"), since_ms: Some(1_000), until_ms: Some(1_001), ..Query::default() },
            Query { search: text("oar"), ..Query::default() },
        ];
        for query in passing {
            assert!(query.matches(&line), "{query:?}");
        }
        let narrower = [
            Query { app: AppName::new("sho").ok(), ..Query::default() },
            Query { function: text("bu"), ..Query::default() },
            Query { call: text("zz"), ..Query::default() },
            Query { version: text("ac"), ..Query::default() },
            Query { source: Some(Source::Stderr), ..Query::default() },
            Query { level: Some(Level::Error), ..Query::default() },
            Query { search: text("item"), ..Query::default() },
            Query { since_ms: Some(1_001), ..Query::default() },
            Query { until_ms: Some(1_000), ..Query::default() },
        ];
        for query in narrower {
            assert!(!query.matches(&line), "{query:?}");
        }
    }
}
