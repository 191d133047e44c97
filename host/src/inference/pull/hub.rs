//! The Hugging Face hub, or a mirror of it, as a source.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::error::SourceError;
use super::fetch::Fetch;

/// The hub's address; a mirror is named by BIREME_HF_ENDPOINT or HF_ENDPOINT.
const ENDPOINT: &str = "https://huggingface.co";

/// The hub and how long it is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// The longest that name resolution and a connection may take each. Short, so that a machine without a way out
    /// soon goes on to the next source.
    pub connect_timeout: Duration,
    /// The longest wait for a response and for each piece of it.
    pub read_timeout: Duration,
}

impl Hub {
    /// Returns the hub that the environment names: 5 s to connect, 30 s to read.
    pub(crate) fn from_env() -> Self {
        let named = ["BIREME_HF_ENDPOINT", "HF_ENDPOINT"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let endpoint = named.unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
        }
    }

    /// Returns the hub's address without its scheme.
    pub(super) fn label(&self) -> &str {
        self.endpoint.split_once("://").map_or(&self.endpoint, |(_, rest)| rest)
    }

    /// Reads every file of the model from its repository.
    pub(super) fn fetch(&self, fetch: &mut Fetch<'_>, repository: &str) -> Result<(), SourceError> {
        let agent = self.agent();
        fetch.all(|file| {
            // The branch may move on; the pinned hash then says so.
            let url = format!("{}/{repository}/resolve/main/{}", self.endpoint, file.path);
            let response = match agent.get(&url).call() {
                Ok(response) => response,
                Err(ureq::Error::StatusCode(status)) => {
                    return Err(SourceError::Status { url, status });
                }
                Err(source) => {
                    return Err(SourceError::Unreachable { url, source: Box::new(source) });
                }
            };
            let body = response.into_body();
            match body.content_length() {
                Some(length) if length != file.bytes => {
                    Err(SourceError::Length { file: file.path, expected: file.bytes, received: length })
                }
                _ => Ok(body.into_reader()),
            }
        })
    }

    fn agent(&self) -> Agent {
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_recv_response(Some(self.read_timeout))
            .timeout_per_read(Some(self.read_timeout))
            .user_agent(concat!("bireme/", env!("CARGO_PKG_VERSION")));
        // A mirror on this machine is not behind a proxy.
        let config = if is_loopback(&self.endpoint) { config.proxy(None) } else { config };
        config.build().new_agent()
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = url::Url::parse(endpoint).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    match host {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
