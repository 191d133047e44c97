//! One function of the document: its limits, its endpoint and the checks of its attributes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::attributes::{Attributes, Retries};
use super::error::MetadataError;
use crate::app::timetable::Timetable;
use crate::ids::{AppName, FunctionName};
use crate::limits::{Ceilings, FunctionLimits, GroupLimits, RetryPolicy, SECRETS_PER_FUNCTION_MAX};
use crate::settings::is_secret_name;

/// One function of an app.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct FunctionInfo {
    pub name: FunctionName,
    #[serde(default)]
    pub doc: String,
    #[serde(default)]
    pub parameters: Vec<String>,
    pub input: Value,
    pub output: Value,
    #[serde(default)]
    pub attributes: Attributes,
}

impl FunctionInfo {
    /// Returns method and URL on a host at `base`, as `POST http://localhost:8080/app/function`.
    pub(crate) fn endpoint(&self, base: &str, app: &AppName) -> String {
        match &self.attributes.route {
            Some(route) => route.endpoint(base, app),
            None => format!("POST {base}/{app}/{}", self.name),
        }
    }

    /// Returns the function's limits: attributes over defaults; an error above a ceiling.
    pub(crate) fn limits(&self, ceilings: &Ceilings) -> Result<FunctionLimits, MetadataError> {
        let defaults = FunctionLimits::default();
        let zero = |attribute| MetadataError::Zero { function: self.name.clone(), attribute };

        let memory_bytes_max = self.attributes.memory_bytes.unwrap_or(defaults.memory_bytes_max);
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        self.within("memory", memory_bytes_max, ceilings.memory_bytes_max, mib)?;
        let timeout = self.attributes.timeout_ms.map_or(defaults.timeout, Duration::from_millis);
        self.within("timeout", timeout, ceilings.timeout_max, |timeout| format!("{timeout:?}"))?;
        if memory_bytes_max == 0 {
            return Err(zero("memory"));
        }
        if timeout.is_zero() {
            return Err(zero("timeout"));
        }
        let output_bytes_max = self.attributes.output_bytes.unwrap_or(defaults.output_bytes_max);
        self.within("output", output_bytes_max, ceilings.output_bytes_max, mib)?;
        if output_bytes_max == 0 {
            return Err(zero("output"));
        }
        let concurrency_max = self.attributes.concurrency;
        if let Some(concurrency) = concurrency_max {
            if concurrency == 0 {
                return Err(zero("concurrency"));
            }
            self.within("concurrency", concurrency, ceilings.concurrency_max, |calls| calls.to_string())?;
        }
        let (tokens_max, tokens_per_day_max) = (self.attributes.tokens, self.attributes.tokens_per_day);
        for (attribute, tokens) in [("tokens", tokens_max), ("tokens_per_day", tokens_per_day_max)] {
            if tokens == Some(0) {
                return Err(zero(attribute));
            }
        }
        let group = self.group_limits(ceilings)?;
        let retries = self.retry_policy(ceilings)?;
        Ok(FunctionLimits {
            memory_bytes_max,
            timeout,
            retries,
            concurrency_max,
            group,
            tokens_max,
            tokens_per_day_max,
            output_bytes_max,
            ..defaults
        })
    }

    fn group_limits(&self, ceilings: &Ceilings) -> Result<Option<GroupLimits>, MetadataError> {
        let Some(batched) = self.attributes.batched else { return Ok(None) };
        if batched.max_size == 0 {
            return Err(MetadataError::Zero { function: self.name.clone(), attribute: "batched.max_size" });
        }
        let wait = Duration::from_millis(batched.wait_ms);
        self.within("batched.max_size", batched.max_size, ceilings.group_size_max, |size| size.to_string())?;
        self.within("batched.wait", wait, ceilings.group_wait_max, |wait| format!("{wait:?}"))?;
        Ok(Some(GroupLimits { size_max: batched.max_size as usize, wait }))
    }

    fn retry_policy(&self, ceilings: &Ceilings) -> Result<RetryPolicy, MetadataError> {
        let mut policy = RetryPolicy::default();
        match &self.attributes.retries {
            None => {}
            Some(Retries::Count(count)) => policy.retries_max = *count,
            Some(Retries::Spaced(spaced)) => {
                policy.retries_max = spaced.max;
                policy.backoff = spaced.backoff.unwrap_or(policy.backoff);
                policy.initial = spaced.initial_ms.map_or(policy.initial, Duration::from_millis);
                policy.delay_max = spaced.max_delay_ms.map_or(policy.delay_max, Duration::from_millis);
            }
        }
        self.within("retries", policy.retries_max, ceilings.retries_max, |count| count.to_string())?;
        let delay = |delay: Duration| format!("{delay:?}");
        self.within("retries.initial", policy.initial, ceilings.retry_delay_max, delay)?;
        self.within("retries.max_delay", policy.delay_max, ceilings.retry_delay_max, delay)?;
        self.within("retries.backoff", policy.backoff, ceilings.backoff_max, |factor| factor.to_string())?;
        if !(1.0..=ceilings.backoff_max).contains(&policy.backoff) {
            return Err(self.attribute("retries", "`backoff` is below 1".to_owned()));
        }
        Ok(policy)
    }

    /// Whether its input is raw bytes rather than JSON.
    pub(crate) fn takes_bytes(&self) -> bool {
        is_binary(&self.input)
    }

    /// Whether its output is raw bytes rather than JSON.
    pub(crate) fn gives_bytes(&self) -> bool {
        is_binary(&self.output)
    }

    /// Checks names and combinations of attributes; `limits` checks their values.
    pub(crate) fn check(&self) -> Result<(), MetadataError> {
        let secrets = &self.attributes.secrets;
        if secrets.len() > SECRETS_PER_FUNCTION_MAX {
            return Err(self.attribute("secrets", format!("more than {SECRETS_PER_FUNCTION_MAX} are declared")));
        }
        if let Some(name) = secrets.iter().find(|name| !is_secret_name(name)) {
            let name: String = name.chars().take(80).collect();
            return Err(self.attribute("secrets", format!("`{name}` cannot be a secret's name")));
        }
        if self.attributes.route.is_some() && self.attributes.schedule.is_some() {
            let reason = "a web function answers requests, and a schedule calls functions by their name";
            return Err(self.attribute("schedule", reason.to_owned()));
        }
        if self.attributes.batched.is_some() {
            let reason = match self.attributes {
                Attributes { route: Some(_), .. } => Some("a web function answers one request at a time"),
                Attributes { schedule: Some(_), .. } => Some("a schedule makes one call at a time"),
                _ if self.takes_bytes() || self.gives_bytes() => Some("a group is JSON, and cannot hold bytes"),
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(self.attribute("batched", reason.to_owned()));
            }
        }
        let required = self.input.get("required").and_then(|required| required.as_array());
        if let Some(schedule) = &self.attributes.schedule {
            Timetable::parse(schedule).map_err(|reason| self.attribute("schedule", reason))?;
            if self.takes_bytes() {
                let reason = "it takes bytes, and the schedule gives no input".to_owned();
                return Err(self.attribute("schedule", reason));
            }
        }
        if self.attributes.schedule.is_some()
            && let Some(first) = required.and_then(|required| required.first())
        {
            let reason =
                format!("parameter {first} must have a value, and the schedule gives none; make it an `Option`");
            return Err(self.attribute("schedule", reason));
        }
        Ok(())
    }

    fn attribute(&self, attribute: &'static str, reason: String) -> MetadataError {
        MetadataError::Attribute { function: self.name.clone(), attribute, reason }
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        attribute: &'static str,
        asked: T,
        ceiling: T,
        text: impl Fn(T) -> String,
    ) -> Result<(), MetadataError> {
        if asked <= ceiling {
            return Ok(());
        }
        let (asked, ceiling) = (text(asked), text(ceiling));
        Err(MetadataError::Ceiling { function: self.name.clone(), attribute, asked, ceiling })
    }
}

/// True for a whole payload only: JSON cannot hold bytes.
fn is_binary(schema: &Value) -> bool {
    schema["type"] == "string" && schema["format"] == "binary"
}
