//! Pool of idle connections, and count of all open ones.
//!
//! Not here: the choice among idle connections (`idle`), opening one (`connector`).
//!
//! Invariants: a connection serves one app, one origin and one scope of addresses; it is idle only after its response
//! was read to the end and its request sent to the end; an idle one never makes a request wait, because the oldest is
//! closed when the host's connections run out.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::connector::Connection;
use super::error::OutboundError;
use super::idle::IdleConnections;
use super::limits::OutboundLimits;
use super::origin::Origin;
use super::policy::{Permit, Scope};
use super::shares::{Share, Shares};

/// Key of a connection: the requests that it may serve.
///
/// With the scope, so that a connection to a private address is not reused after its grant is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    app: Arc<str>,
    origin: Origin,
    scope: Scope,
}

impl PoolKey {
    /// Returns the app whose requests it may serve.
    pub(super) fn app(&self) -> &Arc<str> {
        &self.app
    }

    /// Makes the key of a connection for `app` under a permit.
    pub(super) fn new(app: &str, permit: &Permit) -> Self {
        Self { app: app.into(), origin: permit.origin().clone(), scope: permit.scope() }
    }
}

/// Idle connections of the host.
pub(super) struct Pool {
    idle_set: Mutex<IdleSet>,
    connections: Arc<Shares>,
    connections_max: usize,
    runtime: Handle,
}

struct IdleSet {
    idle: IdleConnections<PoolKey, Connection>,
    /// Closes expired connections; runs only while some are idle.
    sweeper: Option<AbortOnDropHandle<()>>,
}

impl Pool {
    /// Makes an empty pool.
    pub(super) fn new(limits: &OutboundLimits, runtime: Handle) -> Self {
        Self {
            idle_set: Mutex::new(IdleSet {
                idle: IdleConnections::new(limits.idle_per_origin_max, limits.idle_total_max, limits.idle_max),
                sweeper: None,
            }),
            connections: Shares::new(limits.connections_max),
            connections_max: limits.connections_max,
            runtime,
        }
    }

    /// Returns an idle connection for `key`.
    pub(super) fn take(&self, key: &PoolKey) -> Option<Connection> {
        self.idle_set.lock().idle.take(key, Instant::now())
    }

    /// Keeps a connection for the next request with `key`.
    pub(super) fn put(self: &Arc<Self>, key: PoolKey, connection: Connection) {
        let mut idle_set = self.idle_set.lock();
        let displaced = idle_set.idle.put(key, connection, Instant::now());
        if idle_set.sweeper.is_none() && idle_set.idle.next_expiry().is_some() {
            let sweep = sweep(Arc::downgrade(self));
            idle_set.sweeper = Some(AbortOnDropHandle::new(self.runtime.spawn(sweep)));
        }
        drop(idle_set);
        drop(displaced);
    }

    /// Takes one of the host's connections for an app, closing the oldest idle one if none is free: of any app, or of
    /// this one if it holds its share already.
    pub(super) fn host_share(&self, app: &Arc<str>) -> Result<Share, OutboundError> {
        loop {
            if let Some(share) = self.connections.try_take(app) {
                return Ok(share);
            }
            let own = self.connections.is_over_share(app).then_some(app);
            let evicted = self.idle_set.lock().idle.evict_oldest_where(|key| own.is_none_or(|app| key.app == *app));
            if evicted.is_none() {
                return Err(OutboundError::HostConnections { limit: self.connections_max });
            }
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(strong) = pool.upgrade() else {
            return;
        };
        let (expired, next) = {
            let mut idle_set = strong.idle_set.lock();
            let expired = idle_set.idle.expire(Instant::now());
            let next = idle_set.idle.next_expiry();
            if next.is_none() {
                // This drops the sweeper's own handle; the abort that follows has no effect any more.
                idle_set.sweeper = None;
            }
            (expired, next)
        };
        drop(expired);
        drop(strong);
        match next {
            Some(next) => tokio::time::sleep_until(next.into()).await,
            None => return,
        }
    }
}
