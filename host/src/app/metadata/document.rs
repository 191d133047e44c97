//! The document itself: parsed, checked, read from a component and attached to one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasm_encoder::{ComponentSection, CustomSection, Encode};
use wasmparser::Payload as WasmPayload;

use super::attributes::Attributes;
use super::error::{FORMAT, MetadataError, SECTION};
use super::function::FunctionInfo;
use crate::app::route::Route;
use crate::app::sections::TopLevel;
use crate::ids::{AppName, FunctionName};
use crate::limits::METADATA_BYTES_MAX;

/// Name of a stock component's only function.
const STOCK_FUNCTION: &str = "web";

/// Everything known about an app without running it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct Metadata {
    /// Version of the document's format; a host refuses one newer than its own.
    pub format: u32,
    /// Name, version and description of the app.
    pub app: AppInfo,
    /// Functions of the app, under different names.
    pub functions: Vec<FunctionInfo>,
}

/// The app itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct AppInfo {
    pub name: AppName,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub description: String,
}

impl Metadata {
    /// Parses and checks a document of at most `METADATA_BYTES_MAX` bytes.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, MetadataError> {
        if json.len() > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLarge { bytes: json.len() });
        }
        #[derive(Deserialize)]
        struct DocumentHead {
            format: u32,
            /// Mistakes that the SDK found in the app, and could report only here.
            #[serde(default)]
            errors: Vec<String>,
        }
        let head: DocumentHead = serde_json::from_slice(json).map_err(MetadataError::Shape)?;
        if head.format > FORMAT {
            return Err(MetadataError::Newer { found: head.format });
        }
        if let Some(reason) = head.errors.into_iter().next() {
            return Err(match reason.chars().any(char::is_alphanumeric) {
                true => MetadataError::App { reason },
                false => MetadataError::UnnamedError,
            });
        }
        let metadata: Metadata = serde_json::from_slice(json).map_err(MetadataError::Shape)?;
        for (i, function) in metadata.functions.iter().enumerate() {
            if metadata.functions[..i].iter().any(|other| other.name == function.name) {
                return Err(MetadataError::Duplicate { name: function.name.clone() });
            }
            function.check()?;
        }
        metadata.check_routes()?;
        Ok(metadata)
    }

    /// Describes a stock component, one without metadata that serves `wasi:http`: one web function for every request,
    /// with the host's default limits and without capabilities.
    pub(crate) fn of_stock_component(name: AppName) -> Self {
        let function = FunctionInfo {
            name: FunctionName::new(STOCK_FUNCTION).expect("it is a name"),
            doc: String::new(),
            parameters: Vec::new(),
            input: Value::Bool(true),
            output: Value::Bool(true),
            attributes: Attributes { route: Some(Route::everything()), ..Attributes::default() },
        };
        let app = AppInfo { name, version: String::new(), description: String::new() };
        Self { format: FORMAT, app, functions: vec![function] }
    }

    /// Whether this describes a stock component, one without metadata of its own. A manifest adds attributes alone.
    pub(crate) fn is_stock(&self) -> bool {
        let mut stock = Self::of_stock_component(self.app.name.clone());
        if let ([stock], [function]) = (&mut *stock.functions, &*self.functions) {
            let route = stock.attributes.route.take();
            stock.attributes = Attributes { route, ..function.attributes.clone() };
        }
        *self == stock
    }

    /// Returns the place of the functions' attributes, for messages.
    pub(crate) fn attributes_place(&self) -> &'static str {
        if self.is_stock() { "the app's bireme.toml" } else { "the function's attributes" }
    }

    fn check_routes(&self) -> Result<(), MetadataError> {
        let mut routed: Vec<(&FunctionName, &Route)> = Vec::new();
        for function in &self.functions {
            let Some(route) = &function.attributes.route else { continue };
            if let Some((other, _)) = routed.iter().find(|(_, other)| other.conflicts(route)) {
                let (one, other) = ((*other).clone(), function.name.clone());
                return Err(MetadataError::Routes { one, other, route: route.clone() });
            }
            routed.push((&function.name, route));
        }
        Ok(())
    }

    /// Reads the document of a component without running it.
    pub fn read(component: &[u8]) -> Result<Self, MetadataError> {
        let mut found = Vec::new();
        // Only at the top level: sections of nested modules are the author's own.
        for payload in TopLevel::of(component) {
            if let WasmPayload::CustomSection(section) = payload?
                && section.name() == SECTION
            {
                found.push(section.data());
            }
        }
        match found.as_slice() {
            [] => Err(MetadataError::Missing),
            [json] => Self::parse(json),
            more => Err(MetadataError::Repeated { count: more.len() }),
        }
    }

    /// Returns `component` without the section that `attach` appended, if it ends with one.
    pub fn strip(component: &[u8]) -> &[u8] {
        for payload in TopLevel::of(component).map_while(Result::ok) {
            if let WasmPayload::CustomSection(section) = payload
                && section.name() == SECTION
            {
                let contents = section.range();
                // A section starts with its id, 0, and its length in LEB128.
                let mut length = Vec::new();
                contents.len().encode(&mut length);
                let start = contents.start.saturating_sub(1 + length.len());
                if contents.end == component.len() && component.get(start) == Some(&0) {
                    return &component[..start];
                }
            }
        }
        component
    }

    /// Returns `component` with the document appended as a section.
    pub fn attach(&self, component: &[u8]) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("metadata has string keys only");
        let section = CustomSection { name: SECTION.into(), data: json.as_slice().into() };
        let mut out = component.to_vec();
        out.push(ComponentSection::id(&section));
        section.encode(&mut out);
        out
    }

    /// Returns the function `name`.
    pub(crate) fn function(&self, name: &str) -> Option<&FunctionInfo> {
        self.functions.iter().find(|function| function.name.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::app::metadata::{
        Batching, CronSchedule, Missed, Overlap, PeriodSchedule, Retries, Schedule, SpacedRetries,
    };
    use crate::limits::{Ceilings, FunctionLimits, RetryPolicy};

    /// The smallest component: a header alone.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn document(functions: &str) -> Result<Metadata, MetadataError> {
        Metadata::parse(format!(r#"{{"format":1,"app":{{"name":"a"}},"functions":[{functions}]}}"#).as_bytes())
    }

    #[test]
    fn a_document_survives_the_component() {
        let metadata = document(r#"{"name":"f","input":{},"output":{},"attributes":{"retries":2}}"#).unwrap();
        let attached = metadata.attach(COMPONENT);
        assert_eq!(Metadata::read(&attached).unwrap(), metadata);
        assert_eq!(Metadata::strip(&attached), COMPONENT);
        assert_eq!(Metadata::strip(COMPONENT), COMPONENT);
    }

    #[test]
    fn a_second_section_is_refused() {
        let metadata = document("").unwrap();
        let twice = metadata.attach(&metadata.attach(COMPONENT));
        assert!(matches!(Metadata::read(&twice), Err(MetadataError::Repeated { count: 2 })));
    }

    #[test]
    fn a_component_cut_anywhere_is_an_error_and_no_panic() {
        let whole = document(r#"{"name":"f","input":{},"output":{}}"#).unwrap().attach(COMPONENT);
        for len in 0..whole.len() {
            assert!(Metadata::read(&whole[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn unknown_attributes_and_newer_formats_are_refused() {
        let unknown = document(r#"{"name":"f","input":{},"output":{},"attributes":{"gpus":1}}"#);
        assert!(matches!(unknown, Err(MetadataError::Shape(_))));
        let newer = Metadata::parse(br#"{"format":2,"whatever":true}"#);
        assert!(matches!(newer, Err(MetadataError::Newer { found: 2 })));
    }

    #[test]
    fn what_the_sdk_found_wrong_is_said() {
        let wrong = Metadata::parse(
            br#"{"format":1,"errors":["two functions are named `f`"],"app":{"name":"a"},"functions":[]}"#,
        );
        assert_eq!(wrong.unwrap_err().to_string(), "two functions are named `f`");
        let unnamed = Metadata::parse(br#"{"format":1,"errors":[" "],"app":{"name":"a"},"functions":[]}"#);
        assert!(matches!(unnamed, Err(MetadataError::UnnamedError)), "{unnamed:?}");
    }

    #[test]
    fn names_are_checked_and_unique() {
        assert!(matches!(document(r#"{"name":"../f","input":{},"output":{}}"#), Err(MetadataError::Shape(_))));
        let f = r#"{"name":"f","input":{},"output":{}}"#;
        assert!(matches!(document(&format!("{f},{f}")), Err(MetadataError::Duplicate { .. })));
    }

    #[test]
    fn two_web_functions_of_one_route_are_refused() {
        let function = |name: &str, route: &str| {
            format!(r#"{{"name":"{name}","input":{{}},"output":{{}},"attributes":{{"route":"{route}"}}}}"#)
        };
        let two = |a: &str, b: &str| document(&format!("{},{}", function("f", a), function("g", b)));
        let error = two("GET /a/{b}", "GET /a/{c}").unwrap_err().to_string();
        assert!(error.contains("`f` and `g`") && error.contains("`GET /a/{c}`"), "{error}");
        assert!(two("GET /a/{b}", "POST /a/{c}").is_ok());
        assert!(matches!(document(&function("f", "GET")), Err(MetadataError::Shape(_))));
        let scheduled = function("f", "GET /").replace(r#"/"}"#, r#"/","schedule":{"period_ms":60000}}"#);
        assert!(matches!(document(&scheduled), Err(MetadataError::Attribute { attribute: "schedule", .. })));
        let stock = Metadata::of_stock_component(AppName::new("s").unwrap());
        assert_eq!(Metadata::parse(&serde_json::to_vec(&stock).unwrap()).unwrap(), stock);
    }

    #[test]
    fn attributes_stay_within_the_ceilings() {
        let check = |attributes: &str| {
            let text = format!(r#"{{"name":"f","input":{{}},"output":{{}},"attributes":{{{attributes}}}}}"#);
            document(&text).unwrap().functions[0].limits(&Ceilings::default())
        };
        assert_eq!(check(r#""timeout_ms":500"#).unwrap().timeout, Duration::from_millis(500));
        assert_eq!(check("").unwrap(), FunctionLimits::default());
        for over in [
            r#""memory_bytes":99999999999"#,
            r#""timeout_ms":99999999999"#,
            r#""retries":11"#,
            r#""concurrency":1001"#,
            r#""retries":{"max":11}"#,
            r#""batched":{"max_size":1001,"wait_ms":0}"#,
            r#""batched":{"max_size":1,"wait_ms":10001}"#,
            r#""retries":{"max":1,"initial_ms":3600001}"#,
            r#""retries":{"max":1,"backoff":11}"#,
        ] {
            assert!(matches!(check(over), Err(MetadataError::Ceiling { .. })), "{over}");
        }
        for zero in [
            r#""memory_bytes":0"#,
            r#""timeout_ms":0"#,
            r#""concurrency":0"#,
            r#""batched":{"max_size":0,"wait_ms":1}"#,
        ] {
            assert!(matches!(check(zero), Err(MetadataError::Zero { .. })), "{zero}");
        }
    }

    #[test]
    fn a_batched_function_takes_and_gives_json_and_is_called_by_its_name() {
        let batched = r#""batched":{"max_size":64,"wait_ms":10}"#;
        let check = |input: &str, output: &str, more: &str| {
            document(&format!(r#"{{"name":"f","input":{input},"output":{output},"attributes":{{{batched}{more}}}}}"#))
        };
        let group = check("{}", "{}", "").unwrap().functions[0].limits(&Ceilings::default()).unwrap().group.unwrap();
        assert_eq!((group.size_max, group.wait), (64, Duration::from_millis(10)));
        let bytes = r#"{"type":"string","format":"binary"}"#;
        for (input, output, more) in [
            (bytes, "{}", ""),
            ("{}", bytes, ""),
            ("{}", "{}", r#","route":"GET /""#),
            ("{}", "{}", r#","schedule":{"period_ms":60000}"#),
        ] {
            let refused = check(input, output, more);
            assert!(matches!(refused, Err(MetadataError::Attribute { attribute: "batched", .. })), "{refused:?}");
        }
        assert!(matches!(
            document(r#"{"name":"f","input":{},"output":{},"attributes":{"batched":{"max_size":1}}}"#),
            Err(MetadataError::Shape(_))
        ));
    }

    #[test]
    fn retries_are_a_number_or_have_a_spacing_of_their_own() {
        let check = |retries: &str| {
            let text = format!(r#"{{"name":"f","input":{{}},"output":{{}},"attributes":{{"retries":{retries}}}}}"#);
            document(&text)
                .and_then(|document| document.functions[0].limits(&Ceilings::default()))
                .map(|limits| limits.retries)
        };
        assert_eq!(check("3").unwrap(), RetryPolicy { retries_max: 3, ..RetryPolicy::default() });
        let (initial, delay_max) = (Duration::from_millis(100), Duration::from_secs(10));
        assert_eq!(
            check(r#"{"max":3,"backoff":1.5,"initial_ms":100,"max_delay_ms":10000}"#).unwrap(),
            RetryPolicy { retries_max: 3, initial, backoff: 1.5, delay_max }
        );
        assert!(matches!(check(r#"{"max":3,"backof":1.5}"#), Err(MetadataError::Shape(_))));
        assert!(matches!(check(r#"{"max":3,"backoff":0.5}"#), Err(MetadataError::Attribute { .. })));
    }

    #[test]
    fn a_secrets_name_is_one_and_a_schedule_gives_no_input() {
        let check = |input: &str, attributes: &str| {
            document(&format!(r#"{{"name":"f","input":{input},"output":{{}},"attributes":{{{attributes}}}}}"#))
        };
        assert!(check("{}", r#""secrets":["API_KEY"]"#).is_ok());
        assert!(matches!(check("{}", r#""secrets":["A=B"]"#), Err(MetadataError::Attribute { .. })));
        let schedule = r#""schedule":{"cron":"0 6 * * MON","tz":"Europe/Stockholm"}"#;
        assert!(check(r#"{"required":[]}"#, schedule).is_ok());
        assert!(check("{}", r#""schedule":{"period_ms":900000}"#).is_ok());
        let error = check(r#"{"required":["url"]}"#, schedule).unwrap_err().to_string();
        assert!(error.contains(r#"parameter "url" must have a value"#), "{error}");
        assert!(matches!(check("{}", r#""schedule":"daily""#), Err(MetadataError::Shape(_))));
    }

    /// Pins the format of documents in users' components and data directories.
    #[test]
    fn a_document_is_written_as_it_was() {
        let function = |name: &str, attributes: Attributes| FunctionInfo {
            name: name.parse().unwrap(),
            doc: "What it does.".to_owned(),
            parameters: vec!["limit".to_owned()],
            input: json!({ "type": "object" }),
            output: json!({ "type": "integer" }),
            attributes,
        };
        let names = |name: &str| vec![name.to_owned()];
        let spaced = SpacedRetries { max: 3, backoff: Some(1.5), initial_ms: Some(1_000), max_delay_ms: Some(60_000) };
        let (missed, overlap) = (Missed::RunOnce, Overlap::Queue);
        let cron = CronSchedule { cron: "0 6 * * MON".to_owned(), tz: "UTC".to_owned(), missed, overlap };
        let (missed, overlap) = (Missed::Skip, Overlap::Allow);
        let functions = vec![
            function(
                "all",
                Attributes {
                    timeout_ms: Some(1_000),
                    memory_bytes: Some(1 << 20),
                    retries: Some(Retries::Spaced(spaced)),
                    concurrency: Some(2),
                    schedule: Some(Schedule::Cron(cron)),
                    outbound: names("$site"),
                    models: names("a-model"),
                    tokens: Some(10),
                    tokens_per_day: Some(20),
                    secrets: names("A_SECRET"),
                    ..Attributes::default()
                },
            ),
            function(
                "ticks",
                Attributes {
                    retries: Some(Retries::Count(3)),
                    schedule: Some(Schedule::Period(PeriodSchedule { period_ms: 1_000, missed, overlap })),
                    ..Attributes::default()
                },
            ),
            function(
                "batched",
                Attributes { batched: Some(Batching { max_size: 8, wait_ms: 10 }), ..Attributes::default() },
            ),
            function("web", Attributes { route: Some("GET /a/{b}/{*c}".parse().unwrap()), ..Attributes::default() }),
        ];
        let app = AppInfo {
            name: "app".parse().unwrap(),
            version: "0.1.0".to_owned(),
            description: "A description".to_owned(),
        };
        let metadata = Metadata { format: FORMAT, app, functions };
        let text = serde_json::to_string_pretty(&metadata).unwrap();
        expect![[r#"
            {
              "format": 1,
              "app": {
                "name": "app",
                "version": "0.1.0",
                "description": "A description"
              },
              "functions": [
                {
                  "name": "all",
                  "doc": "What it does.",
                  "parameters": [
                    "limit"
                  ],
                  "input": {
                    "type": "object"
                  },
                  "output": {
                    "type": "integer"
                  },
                  "attributes": {
                    "timeout_ms": 1000,
                    "memory_bytes": 1048576,
                    "retries": {
                      "max": 3,
                      "backoff": 1.5,
                      "initial_ms": 1000,
                      "max_delay_ms": 60000
                    },
                    "concurrency": 2,
                    "schedule": {
                      "cron": "0 6 * * MON",
                      "tz": "UTC",
                      "missed": "run_once",
                      "overlap": "queue"
                    },
                    "outbound": [
                      "$site"
                    ],
                    "models": [
                      "a-model"
                    ],
                    "tokens": 10,
                    "tokens_per_day": 20,
                    "secrets": [
                      "A_SECRET"
                    ]
                  }
                },
                {
                  "name": "ticks",
                  "doc": "What it does.",
                  "parameters": [
                    "limit"
                  ],
                  "input": {
                    "type": "object"
                  },
                  "output": {
                    "type": "integer"
                  },
                  "attributes": {
                    "retries": 3,
                    "schedule": {
                      "period_ms": 1000,
                      "overlap": "allow"
                    }
                  }
                },
                {
                  "name": "batched",
                  "doc": "What it does.",
                  "parameters": [
                    "limit"
                  ],
                  "input": {
                    "type": "object"
                  },
                  "output": {
                    "type": "integer"
                  },
                  "attributes": {
                    "batched": {
                      "max_size": 8,
                      "wait_ms": 10
                    }
                  }
                },
                {
                  "name": "web",
                  "doc": "What it does.",
                  "parameters": [
                    "limit"
                  ],
                  "input": {
                    "type": "object"
                  },
                  "output": {
                    "type": "integer"
                  },
                  "attributes": {
                    "route": "GET /a/{b}/{*c}"
                  }
                }
              ]
            }"#]]
        .assert_eq(&text);
        assert_eq!(Metadata::parse(text.as_bytes()).unwrap(), metadata);
        let section = metadata.attach(COMPONENT);
        assert!(section.windows(SECTION.len()).any(|bytes| bytes == b"bireme:metadata"));
    }
}
