//! `/api/v1/apps/{app}/kv`: buckets, keys and values of an app, for its operator.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;

use super::answers::no_room;
use super::handler::HandlerResult;
use super::problem::Problem;
use super::query::{bad_query, number};
use super::request_body::RequestBodies;
use super::respond::{OCTET_STREAM, json_response, payload_response};
use super::router::Matched;
use crate::api::{self, Operation};
use crate::budgets::ByteBudget;
use crate::call::Payload;
use crate::codes::Code;
use crate::ids::AppName;
use crate::kv::{Bucket, Buckets, KeyValueError};
use crate::limits::{KV_LIST_KEYS_MAX, KV_VALUE_BYTES_MAX};
use crate::suggest::did_you_mean;

/// Key-value data of all apps.
pub(crate) struct KeyValueData {
    pub buckets: Arc<Buckets>,
    pub bodies: Arc<RequestBodies>,
    /// Memory for answers.
    pub memory: ByteBudget,
}

impl KeyValueData {
    /// Answers a request about the data of `app`.
    pub(crate) async fn answer(&self, app: AppName, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let kv = &self.buckets;
        if matched.route.operation == Operation::ListBuckets {
            let page = kv.buckets(&app, matched.parameter("after")).await?;
            return Ok(json_response(&api::BucketList { buckets: page.keys, next: page.next }));
        }
        let name = required(matched, "bucket")?;
        let bucket = kv.bucket(&app, name)?;
        if matched.route.operation == Operation::ListKeys {
            let (prefix, after) = (matched.parameter("prefix").unwrap_or_default(), matched.parameter("after"));
            let page = kv.page(&bucket, prefix, after, limit(matched)?).await?;
            return Ok(json_response(&api::KeyList { keys: page.keys, next: page.next }));
        }
        let key = required(matched, "key")?;
        let changed = |bytes| api::ValueChanged { bucket: name.to_owned(), key: key.to_owned(), bytes };
        match matched.route.operation {
            Operation::SetValue => {
                let ttl = matched.parameter("ttl").map(seconds).transpose()?;
                let bytes_max = KV_VALUE_BYTES_MAX as u64;
                let body = self.bodies.read(&app, request, bytes_max, "the limit of a value").await?;
                kv.set(&bucket, key, body.bytes.to_vec(), ttl).await?;
                Ok(json_response(&changed(Some(body.bytes.len() as u64))))
            }
            Operation::DeleteValue => {
                if !kv.exists(&bucket, key).await? {
                    return Err(self.unknown_key(&app, &bucket, name, key).await?);
                }
                kv.delete(&bucket, key).await?;
                Ok(json_response(&changed(None)))
            }
            _ => {
                // Its length is known once it is in memory; the answer is charged by that.
                let mut reserved = self.memory.reservation((&app).into());
                if !reserved.try_set(KV_VALUE_BYTES_MAX as u64) {
                    return Err(no_room(KV_VALUE_BYTES_MAX as u64));
                }
                match kv.get(&bucket, key).await? {
                    Some(data) => Ok(payload_response(Payload { content_type: OCTET_STREAM.to_owned(), data })),
                    None => Err(self.unknown_key(&app, &bucket, name, key).await?),
                }
            }
        }
    }

    /// Problem of a key that is not there, with the nearest key, or the nearest bucket where this one has none.
    async fn unknown_key(&self, app: &AppName, bucket: &Bucket, name: &str, key: &str) -> Result<Problem, Problem> {
        let keys = self.buckets.page(bucket, "", None, KV_LIST_KEYS_MAX).await?.keys;
        let detail = if keys.is_empty() {
            let buckets = self.buckets.buckets(app, None).await?.keys;
            format!("`{app}` has no bucket `{name}`; {}", hint(name, &buckets, &format!("bireme kv ls {app}")))
        } else {
            let list = format!("bireme kv ls {app} {name}");
            format!("no key `{key}` in bucket `{name}` of `{app}`; {}", hint(key, &keys, &list))
        };
        Ok(Problem::new(Code::UnknownKey, detail))
    }
}

fn hint(name: &str, known: &[String], list: &str) -> String {
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => near,
        None if known.is_empty() => "it has none".to_owned(),
        None => format!("`{list}` lists them"),
    }
}

fn required<'a>(matched: &'a Matched, name: &str) -> Result<&'a str, Problem> {
    matched.parameter(name).ok_or_else(|| bad_query(format!("the query parameter `{name}` is missing")))
}

fn limit(matched: &Matched) -> Result<usize, Problem> {
    let Some(text) = matched.parameter("limit") else { return Ok(KV_LIST_KEYS_MAX) };
    let limit = number("limit", text)?;
    if (1..=KV_LIST_KEYS_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(bad_query(format!("`limit` is from 1 to {KV_LIST_KEYS_MAX}, not {limit}")))
}

fn seconds(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| bad_query(format!("`ttl` is a number of seconds, not `{text}`")))
}

impl From<KeyValueError> for Problem {
    fn from(error: KeyValueError) -> Self {
        let code = match &error {
            KeyValueError::Storage(storage) => storage.code(),
            KeyValueError::ValueTooLarge { .. } => Code::InputTooLarge,
            _ => Code::BadQuery,
        };
        Self::with_causes(code, error)
    }
}
