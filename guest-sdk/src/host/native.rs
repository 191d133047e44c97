//! Stand-in for the host in the author's native tests.
//!
//! Calls and maps run in process, each through its JSON as on a host. HTTP, models and key-value data come from the
//! fakes of this thread (`testing`); without one they fail, naming the fake.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use super::{Order, Outcome, SwapError};
use crate::context::Call;
use crate::failure::{Code, Failure, Result};
use crate::http::{self, Request, Response, Url};
use crate::log::Level;
use crate::model::Tensor;
use crate::{entry, kv, model};

/// Inputs that a map takes before it yields; few, so that tests meet a full map.
const MAP_LEN_MAX: usize = 16;
/// Deepest nesting of calls, as on a host.
const DEPTH_MAX: usize = 4;
/// Keys of one page of a listing; few, so that tests meet a second page.
const KEYS_LEN_MAX: usize = 100;

/// Bytes with their media type.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Media type of the bytes.
    pub content_type: String,
    /// Bytes as they travel.
    pub data: Vec<u8>,
}

/// No server: a native test calls its routes in process.
pub(crate) type Serve = ();
pub(crate) const SERVE: Serve = ();

pub(crate) type Http = Rc<dyn Fn(&Request) -> Result<Response, http::Error>>;
pub(crate) type Embed = Rc<dyn Fn(&str) -> Vec<f32>>;
pub(crate) type Rerank = Rc<dyn Fn(&str, &str) -> f32>;
pub(crate) type Infer = Rc<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, model::Error>>;
pub(crate) type Buckets = Rc<RefCell<BTreeMap<String, BTreeMap<String, Value>>>>;

/// Value of a fake bucket.
pub(crate) struct Value {
    bytes: Vec<u8>,
    /// Time of the fake clock at which it expires.
    expires: Option<Duration>,
}

/// One log line: level, message, fields.
pub type LogLine = (Level, String, Vec<(String, String)>);

/// Fakes of this thread, and the calls that it is in.
#[derive(Default)]
pub(crate) struct Fakes {
    pub http: Option<Http>,
    pub models: BTreeMap<String, (usize, Embed)>,
    pub rerankers: BTreeMap<String, Rerank>,
    /// Labels, and scores of a text.
    pub classifiers: BTreeMap<String, (Vec<String>, Embed)>,
    pub inferrers: BTreeMap<String, Infer>,
    pub kv: Option<Buckets>,
    pub config: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
    pub logs: Option<Vec<LogLine>>,
    /// Clock of values that expire; only a test moves it.
    pub clock: Duration,
    calls: Vec<Call>,
}

thread_local! {
    pub(crate) static FAKES: RefCell<Fakes> = RefCell::default();
}

fn with<T>(read: impl FnOnce(&mut Fakes) -> T) -> T {
    FAKES.with_borrow_mut(read)
}

/// A call that this thread is in, until it is dropped, by a panic too.
pub(super) struct InCall(&'static entry::Entry);

impl InCall {
    pub(super) fn run(&self, input: &Payload) -> Result<Payload> {
        (self.0.run)(input.clone())
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        with(|fakes| fakes.calls.pop());
    }
}

pub(crate) fn call(function: &str, input: &Payload) -> Result<Payload> {
    enter(function)?.run(input)
}

/// Enters a call, unless it is nested too deep.
pub(super) fn enter(function: &str) -> Result<InCall> {
    let entry = entry::find(function)?;
    with(|fakes| {
        if fakes.calls.len() >= DEPTH_MAX {
            return Err(Failure::new(
                Code::DepthExceeded,
                format!("`{function}` would be nested deeper than {DEPTH_MAX} calls"),
            ));
        }
        fakes.calls.push(Call { app: entry.app.name.to_owned(), function: function.to_owned(), ..outside() });
        Ok(())
    })?;
    Ok(InCall(entry))
}

fn outside() -> Call {
    Call {
        app: "native".to_owned(),
        function: String::new(),
        version: "native".to_owned(),
        call_id: "native".to_owned(),
        attempt: 1,
    }
}

/// A map in process: makes one call for each outcome read.
#[derive(Debug)]
pub(crate) struct MapRun {
    function: String,
    inputs: VecDeque<Payload>,
    index: u64,
}

impl MapRun {
    pub(crate) fn start(function: &str, _: Order) -> Result<Self> {
        entry::find(function)?;
        Ok(Self { function: function.to_owned(), inputs: VecDeque::new(), index: 0 })
    }

    #[expect(clippy::unnecessary_wraps, reason = "a host may refuse")]
    pub(crate) fn push(&mut self, inputs: &[Payload]) -> Result<usize> {
        let taken = inputs.len().min(MAP_LEN_MAX - self.inputs.len());
        self.inputs.extend(inputs[..taken].iter().cloned());
        Ok(taken)
    }

    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "a host needs to be told")]
    pub(crate) fn finish(&mut self) {}

    pub(crate) fn next(&mut self, _: u32) -> Vec<Outcome> {
        let Some(input) = self.inputs.pop_front() else {
            return Vec::new();
        };
        let index = self.index;
        self.index += 1;
        vec![Outcome { index, result: call(&self.function, &input) }]
    }
}

pub(crate) fn send(request: &Request, _: &Url) -> Result<Response, http::Error> {
    let http = with(|fakes| fakes.http.clone()).ok_or_else(|| http::Error::NoFake { url: request.url.clone() })?;
    let response = http(request)?;
    if response.body.len() > request.body_bytes_max {
        return Err(http::Error::BodyTooLarge { url: request.url.clone(), limit_bytes: request.body_bytes_max as u64 });
    }
    Ok(response)
}

/// Returns the fake of that name, or an error that explains how to make one.
fn fake<T: Clone>(model: &str, what: &'static str, of: impl Fn(&Fakes) -> Option<&T>) -> Result<T, model::Error> {
    with(|fakes| of(fakes).cloned()).ok_or_else(|| model::Error::NoFake { model: model.to_owned(), what })
}

pub(crate) fn embed(model: &str, texts: &[String], _: bool) -> Result<(usize, Vec<f32>), model::Error> {
    let (dimension, embed) = fake(model, "model", |fakes| fakes.models.get(model))?;
    Ok((dimension, texts.iter().flat_map(|text| embed(text)).collect()))
}

pub(crate) fn rerank(model: &str, query: &str, documents: &[String], _: bool) -> Result<Vec<f32>, model::Error> {
    let rerank = fake(model, "reranker", |fakes| fakes.rerankers.get(model))?;
    Ok(documents.iter().map(|document| rerank(query, document)).collect())
}

pub(crate) fn classify(model: &str, texts: &[String], _: bool) -> Result<(Vec<String>, Vec<f32>), model::Error> {
    let (labels, classify) = fake(model, "classifier", |fakes| fakes.classifiers.get(model))?;
    Ok((labels, texts.iter().flat_map(|text| classify(text)).collect()))
}

pub(crate) fn infer(model: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, model::Error> {
    fake(model, "infer", |fakes| fakes.inferrers.get(model))?(inputs)
}

/// A bucket in memory.
pub(crate) struct Bucket {
    name: String,
    buckets: Buckets,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, kv::Fault> {
        let buckets = with(|fakes| fakes.kv.clone()).ok_or(kv::Fault::NoFake)?;
        buckets.borrow_mut().entry(name.to_owned()).or_default();
        Ok(Self { name: name.to_owned(), buckets })
    }

    /// Reads or changes the values that have not expired.
    fn within<T>(&self, read: impl FnOnce(&mut BTreeMap<String, Value>) -> T) -> T {
        let now = with(|fakes| fakes.clock);
        let mut buckets = self.buckets.borrow_mut();
        let bucket = buckets.entry(self.name.clone()).or_default();
        bucket.retain(|_, value| value.expires.is_none_or(|expires| expires > now));
        read(bucket)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, kv::Fault> {
        Ok(self.within(|bucket| bucket.get(key).map(|value| value.bytes.clone())))
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, kv::Fault> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), kv::Fault> {
        self.within(|bucket| bucket.insert(key.to_owned(), Value { bytes: value.to_vec(), expires: None }));
        Ok(())
    }

    pub(crate) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Result<(), kv::Fault> {
        values.iter().try_for_each(|(key, value)| self.set(key, value))
    }

    pub(crate) fn set_expiring(&self, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), kv::Fault> {
        if ttl_ms == 0 {
            return Err(kv::Fault::Other(format!("a time to live is at least a millisecond; for `{key}` it is 0")));
        }
        let expires = with(|fakes| fakes.clock).saturating_add(Duration::from_millis(ttl_ms));
        self.within(|bucket| bucket.insert(key.to_owned(), Value { bytes: value.to_vec(), expires: Some(expires) }));
        Ok(())
    }

    /// Changes a value, whose time to live goes on.
    fn change(&self, key: &str, bytes: &[u8]) {
        self.within(|bucket| {
            let expires = bucket.get(key).and_then(|value| value.expires);
            bucket.insert(key.to_owned(), Value { bytes: bytes.to_vec(), expires });
        });
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), kv::Fault> {
        self.within(|bucket| bucket.remove(key));
        Ok(())
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), kv::Fault> {
        keys.iter().try_for_each(|key| self.delete(key))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, kv::Fault> {
        Ok(self.within(|bucket| bucket.contains_key(key)))
    }

    pub(crate) fn list_keys(&self, prefix: &str, cursor: Option<&str>) -> Result<kv::KeyPage, kv::Fault> {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let keys: Vec<String> = self.within(|bucket| {
            let keys = bucket.range::<str, _>((start, Bound::Unbounded)).map(|(key, _)| key);
            keys.filter(|key| key.starts_with(prefix)).take(KEYS_LEN_MAX).cloned().collect()
        });
        let cursor = keys.last().filter(|_| keys.len() == KEYS_LEN_MAX).cloned();
        Ok((keys, cursor))
    }

    pub(crate) fn list_keys_with_prefix(&self, prefix: &str, cursor: Option<&str>) -> Result<kv::KeyPage, kv::Fault> {
        self.list_keys(prefix, cursor)
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, kv::Fault> {
        let value = self.get(key)?.map_or(Some(0), |value| kv::number(&value));
        let sum = value.and_then(|value| i64::try_from(value.checked_add(delta.into())?).ok());
        let sum = sum.ok_or_else(|| kv::Fault::Other(format!("`{key}` cannot be added to")))?;
        self.change(key, sum.to_string().as_bytes());
        Ok(sum)
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas, kv::Fault> {
        let bucket = Self { name: self.name.clone(), buckets: self.buckets.clone() };
        Ok(Cas { current: bucket.get(key)?, key: key.to_owned(), bucket })
    }
}

/// A key's value at one moment.
#[derive(Debug)]
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    current: Option<Vec<u8>>,
}

impl Cas {
    #[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
    pub(crate) fn current(&self) -> Result<Option<Vec<u8>>, kv::Fault> {
        Ok(self.current.clone())
    }

    pub(crate) fn swap(self, value: &[u8]) -> Result<(), SwapError> {
        let current = self.bucket.get(&self.key).map_err(SwapError::Fault)?;
        if current != self.current {
            return Err(SwapError::Lost(Self { current, ..self }));
        }
        self.bucket.change(&self.key, value);
        Ok(())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a host may fail")]
pub(crate) fn config(key: &str) -> Result<Option<String>, String> {
    Ok(with(|fakes| fakes.config.get(key).cloned()))
}

/// Returns a fake, or a variable of the test's own environment.
pub(crate) fn secret(name: &str) -> Option<String> {
    with(|fakes| fakes.secrets.get(name).cloned()).or_else(|| std::env::var(name).ok())
}

pub(crate) fn current() -> Call {
    with(|fakes| fakes.calls.last().cloned()).unwrap_or_else(outside)
}

pub(crate) fn remaining() -> Duration {
    Duration::MAX
}

/// Does nothing: a test does not wait.
pub(crate) fn sleep(_: Duration) {}

/// Collects the line if a test asks for it, else writes it to stderr, which the test harness captures.
#[expect(clippy::print_stderr, reason = "a native test has no other log")]
pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let is_kept =
        with(|fakes| fakes.logs.as_mut().map(|logs| logs.push((level, message.to_owned(), fields.to_vec()))).is_some());
    if !is_kept {
        let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        eprintln!("{level:?} {message}{fields}");
    }
}
