//! The host's API as the client uses it: blocking, over whatever address the host has at the moment.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

/// Time that a client goes on with a host that does not answer: far more than a restart takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause before the next try.
const PAUSE: Duration = Duration::from_millis(5);

/// Address of the host; none while it is down.
pub(crate) type Address = Arc<Mutex<Option<SocketAddr>>>;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The values of a body of JSON Lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// The stable code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// No answer: the host is down, or went down before it was complete.
#[derive(Debug)]
pub(crate) struct Gone {
    #[expect(dead_code, reason = "read where it is printed for debugging")]
    why: String,
}

impl Gone {
    fn because(error: impl std::fmt::Display) -> Self {
        Self { why: error.to_string() }
    }
}

/// Token of the hosts, which outlives each of them.
pub(crate) const TOKEN: &str = "the-token-of-the-hosts";

pub(crate) struct Api {
    agent: Agent,
    address: Address,
}

impl Api {
    pub(crate) fn new(address: Address) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).proxy(None);
        Self { agent: Agent::new_with_config(config.build()), address }
    }

    /// Sends a request once.
    pub(crate) fn send(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Result<Reply, Gone> {
        let address = self
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ok_or_else(|| Gone::because("the host is down"))?;
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{address}/api/v1{path}"));
        request = request.header("authorization", format!("Bearer {TOKEN}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let sent = if method != "POST" {
            self.agent.run(request.body(()).map_err(Gone::because)?)
        } else {
            self.agent.run(request.header("content-type", "application/json").body(body).map_err(Gone::because)?)
        };
        let mut response = sent.map_err(Gone::because)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(Gone::because)?;
        Ok(Reply { status, body })
    }

    /// Sends a request until there is an answer that stands: what was lost with a host, and what a full host refuses,
    /// is sent again.
    pub(crate) fn insist(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Reply {
        let begin = Instant::now();
        loop {
            match self.send(method, path, key, body) {
                Ok(reply) if !matches!(reply.status, 429 | 503) => return reply,
                answer if begin.elapsed() > PATIENCE => panic!("{method} {path} for {PATIENCE:?}: {answer:?}"),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
}
