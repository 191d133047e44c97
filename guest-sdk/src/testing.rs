//! Fakes for an author's tests.
//!
//! A test has no host: `call` and `map` run in process. HTTP, models and key-value data need a fake on this
//! thread, and fail by name without one; configuration values come from here, secrets from here or from the test's own
//! environment. Each function here installs a fake and returns a guard; dropping the guard restores the earlier one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

mod request;

pub use self::request::{WebRequest, web};
pub use crate::host::native::LogLine;
use crate::host::native::{Embed, FAKES, Fakes, Infer, Rerank};
use crate::http::{Error, Request, Response};
use crate::model::{self, Tensor};

/// Keeps a fake installed until it is dropped. Belongs to its thread.
///
/// ```
/// use bireme_sdk::{kv, testing};
///
/// let guard = testing::with_kv();
/// kv::open("seen")?.set("a", "1")?;
/// drop(guard);
/// assert!(kv::open("seen").and_then(|seen| seen.get("a")).is_err());
/// # Ok::<(), kv::Error>(())
/// ```
#[must_use = "the fake goes with its guard; bind it to a name"]
pub struct Guard {
    restore: Option<Restore>,
}

type Restore = Box<dyn FnOnce(&mut Fakes)>;

impl Guard {
    fn new(restore: impl FnOnce(&mut Fakes) + 'static) -> Self {
        Self { restore: Some(Box::new(restore)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(restore) = self.restore.take() {
            FAKES.with_borrow_mut(restore);
        }
    }
}

/// Answers this thread's HTTP requests. Redirects are followed as on a host, with a request for each hop.
///
/// ```
/// use bireme_sdk::{http, testing};
///
/// let _http = testing::with_http(|request| match request.url() {
///     "https://example.com/" => Ok(http::Response::new(200, "<h1>hello</h1>")),
///     url => Err(http::Error::Denied { url: url.to_owned() }),
/// });
/// assert_eq!(http::get("https://example.com/").send()?.status, 200);
/// # Ok::<(), http::Error>(())
/// ```
pub fn with_http(answer: impl Fn(&Request) -> Result<Response, Error> + 'static) -> Guard {
    let before = FAKES.with_borrow_mut(|fakes| fakes.http.replace(Rc::new(answer)));
    Guard::new(move |fakes| fakes.http = before)
}

/// Fakes one embedding model on this thread.
///
/// ```
/// use bireme_sdk::{model::model, testing};
///
/// let _model = testing::with_model("letters", 1, |text| vec![text.len() as f32]);
/// assert_eq!(model("letters").embed_flat(&["a", "bc"])?.values, [1.0, 2.0]);
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
///
/// # Panics
/// When a vector has another length than `dimension`.
pub fn with_model(name: impl Into<String>, dimension: usize, embed: impl Fn(&str) -> Vec<f32> + 'static) -> Guard {
    let checked = move |text: &str| {
        let vector = embed(text);
        assert_eq!(vector.len(), dimension, "the fake model returns vectors of its dimension");
        vector
    };
    let checked: Embed = Rc::new(checked);
    put(name.into(), (dimension, checked), |fakes| &mut fakes.models)
}

/// Fakes one reranker on this thread: scores a document for a query.
///
/// ```
/// use bireme_sdk::{model::model, testing};
///
/// let _model = testing::with_reranker("letters", |query, document| document.matches(query).count() as f32);
/// assert_eq!(model("letters").rerank("a", &["oar", "banana"])?, [1.0, 3.0]);
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
pub fn with_reranker(name: impl Into<String>, rerank: impl Fn(&str, &str) -> f32 + 'static) -> Guard {
    let rerank: Rerank = Rc::new(rerank);
    put(name.into(), rerank, |fakes| &mut fakes.rerankers)
}

/// Fakes one classifier on this thread: gives a text one score for each label.
///
/// ```
/// use bireme_sdk::{model::model, testing};
///
/// let _model = testing::with_classifier("length", &["short", "long"], |text| vec![4.0, text.len() as f32]);
/// assert_eq!(model("length").classify(&["a quinquereme"])?.best().next(), Some(("long", 13.0)));
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
///
/// # Panics
/// When a text gets another number of scores than there are labels.
pub fn with_classifier(
    name: impl Into<String>,
    labels: &[&str],
    classify: impl Fn(&str) -> Vec<f32> + 'static,
) -> Guard {
    let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
    let labels_len = labels.len();
    let checked = move |text: &str| {
        let scores = classify(text);
        assert_eq!(scores.len(), labels_len, "the fake classifier returns one score for each label");
        scores
    };
    let checked: Embed = Rc::new(checked);
    put(name.into(), (labels, checked), |fakes| &mut fakes.classifiers)
}

/// Fakes one model of named tensors on this thread.
///
/// ```
/// use bireme_sdk::{Tensor, model::model, testing};
///
/// let _model = testing::with_infer("sum", |inputs| {
///     Ok(vec![Tensor::scalar("sum", inputs[0].values::<i64>()?.iter().sum::<i64>())])
/// });
/// let outputs = model("sum").infer(&[Tensor::new("terms", &[3], &[1i64, 2, 3])?])?;
/// assert_eq!(outputs.get("sum")?.values::<i64>()?, [6]);
/// # Ok::<(), bireme_sdk::model::Error>(())
/// ```
pub fn with_infer(
    name: impl Into<String>,
    infer: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, model::Error> + 'static,
) -> Guard {
    let infer: Infer = Rc::new(infer);
    put(name.into(), infer, |fakes| &mut fakes.inferrers)
}

/// Installs a fake until the guard is dropped.
fn put<T: 'static>(name: String, fake: T, of: fn(&mut Fakes) -> &mut BTreeMap<String, T>) -> Guard {
    let before = FAKES.with_borrow_mut(|fakes| of(fakes).insert(name.clone(), fake));
    Guard::new(move |fakes| {
        match before {
            Some(fake) => of(fakes).insert(name, fake),
            None => of(fakes).remove(&name),
        };
    })
}

/// Fakes key-value buckets in memory on this thread; all are empty at first, and any name can be opened.
///
/// ```
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// kv::open("pages")?.set("a", "1")?;
/// assert_eq!(kv::open("pages")?.get("a")?, Some(b"1".to_vec()));
/// # Ok::<(), kv::Error>(())
/// ```
pub fn with_kv() -> Guard {
    let before = FAKES.with_borrow_mut(|fakes| fakes.kv.replace(Rc::new(RefCell::new(BTreeMap::new()))));
    Guard::new(move |fakes| fakes.kv = before)
}

/// Moves the clock of this thread's key-value buckets, which stands still otherwise.
///
/// ```
/// use std::time::Duration;
///
/// use bireme_sdk::{kv, testing};
///
/// let _kv = testing::with_kv();
/// let pages = kv::open("pages")?;
/// pages.set_with_ttl("a", "1", Duration::from_secs(60))?;
/// testing::advance(Duration::from_secs(60));
/// assert_eq!(pages.get("a")?, None);
/// # Ok::<(), kv::Error>(())
/// ```
pub fn advance(time: Duration) {
    FAKES.with_borrow_mut(|fakes| fakes.clock = fakes.clock.saturating_add(time));
}

/// Adds configuration values on this thread.
///
/// ```
/// use bireme_sdk::{config, testing};
///
/// let _config = testing::with_config([("depth", "2")]);
/// assert_eq!(config::get::<u32>("depth"), Ok(2));
/// ```
pub fn with_config<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) -> Guard {
    let values = values.into_iter().map(|(key, value)| (key.into(), value.into()));
    let before = FAKES.with_borrow_mut(|fakes| {
        let before = fakes.config.clone();
        fakes.config.extend(values);
        before
    });
    Guard::new(move |fakes| fakes.config = before)
}

/// Sets one secret on this thread.
///
/// ```
/// use bireme_sdk::{secret, testing};
///
/// let _secret = testing::with_secret("API_KEY", "abc");
/// assert_eq!(secret("API_KEY").as_deref(), Ok("abc"));
/// assert!(secret("ANOTHER_KEY").is_err());
/// ```
pub fn with_secret(name: impl Into<String>, value: impl Into<String>) -> Guard {
    let (name, value) = (name.into(), value.into());
    let before = FAKES.with_borrow_mut(|fakes| fakes.secrets.insert(name.clone(), value));
    Guard::new(move |fakes| {
        match before {
            Some(value) => fakes.secrets.insert(name, value),
            None => fakes.secrets.remove(&name),
        };
    })
}

/// Runs `work`, and returns its result and the lines that it logged on this thread.
///
/// ```
/// use bireme_sdk::{log, testing};
///
/// let (_, lines) = testing::logs(|| log::info!(count = 3; "fetched"));
/// assert_eq!(lines[0].1, "fetched");
/// assert_eq!(lines[0].2, [("count".to_owned(), "3".to_owned())]);
/// ```
pub fn logs<T>(work: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
    let before = FAKES.with_borrow_mut(|fakes| fakes.logs.replace(Vec::new()));
    let result = work();
    let lines = FAKES.with_borrow_mut(|fakes| std::mem::replace(&mut fakes.logs, before));
    (result, lines.unwrap_or_default())
}
