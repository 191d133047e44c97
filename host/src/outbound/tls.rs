//! TLS settings of all outbound connections.
//!
//! Invariants: certificates are always verified, against the system's roots; ALPN offers `http/1.1` alone; the roots
//! are read once, by the first connection that needs them.
//!
//! Not here: the handshake (`connector`).

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

/// Source of trusted certificates.
#[derive(Clone, Debug)]
pub(crate) enum Roots {
    /// The operating system's store, or that of SSL_CERT_FILE and SSL_CERT_DIR.
    System,
    /// These and no others.
    #[cfg(test)]
    Fixed(Arc<RootCertStore>),
}

/// No trusted root certificate was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoots;

/// The settings, made on first use.
#[derive(Debug)]
pub(super) struct Tls {
    roots: Roots,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Makes settings for these roots, which are read at the first use.
    pub(super) fn new(roots: Roots) -> Self {
        Self { roots, config: OnceCell::new() }
    }

    /// Returns the settings. A failure is not cached: the next connection tries again, so that installing certificates
    /// needs no restart.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, NoRoots> {
        self.config
            .get_or_try_init(|| async {
                let roots = match &self.roots {
                    #[cfg(test)]
                    Roots::Fixed(roots) => Arc::clone(roots),
                    Roots::System => tokio::task::spawn_blocking(system_roots).await.map_err(|_| NoRoots)?,
                };
                if roots.is_empty() {
                    return Err(NoRoots);
                }
                Ok(Arc::new(client_config(roots)))
            })
            .await
            .cloned()
    }
}

fn system_roots() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some trusted certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
}

fn client_config(roots: Arc<RootCertStore>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}
