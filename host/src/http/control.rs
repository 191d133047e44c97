//! Control API, `/api/v1`: routes to apps, calls, maps, batches, devices, logs and schedules.

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use super::apps::Apps;
use super::backend::Backend;
use super::calls::Calls;
use super::handler::{HandlerResult, read_only};
use super::logs;
use super::maps::Maps;
use super::problem::Problem;
use super::request_body::RequestBodies;
use super::respond::json_response;
use super::schedules;
use super::upload::ActiveUploads;

/// Control API of one host.
pub struct Control {
    backend: Backend,
    apps: Arc<Apps>,
    calls: Calls,
    maps: Maps,
    closing: watch::Receiver<bool>,
}

impl Control {
    pub fn new(backend: Backend, apps: Arc<Apps>, bodies: Arc<RequestBodies>, closing: watch::Receiver<bool>) -> Self {
        let calls = Calls {
            durable: backend.durable.clone(),
            dispatcher: backend.dispatcher.clone(),
            bodies: bodies.clone(),
            closing: closing.clone(),
        };
        let maps = Maps {
            durable: backend.durable.clone(),
            dispatcher: backend.dispatcher.clone(),
            bodies,
            uploads: ActiveUploads::default(),
            closing: closing.clone(),
        };
        Self { backend, apps, calls, maps, closing }
    }

    /// Answers a request; `path` is the rest after `/api/v1`.
    pub async fn route(&self, path: &[&str], request: Request<Incoming>) -> HandlerResult {
        match (path, request.method()) {
            (["apps", rest @ ..], _) => self.route_apps(rest, request).await,
            (["calls"], &Method::GET | &Method::HEAD) => self.calls.list(request.uri()).await,
            (["calls"], _) => Err(Problem::method("GET, HEAD")),
            (["calls", id, rest @ ..], _) => self.calls.route(id, rest, &request).await,
            (["maps", id, rest @ ..], _) => self.maps.route(id, rest, request).await,
            (["devices"], &Method::GET | &Method::HEAD) => {
                Ok(json_response(&self.backend.devices.report().await.to_json()))
            }
            (["devices"], _) => Err(Problem::method("GET, HEAD")),
            (["batches"], _) => read_only(&request, || {
                let batches = self.backend.inference.batches();
                Ok(json_response(&json!({ "batches": batches, "totals": self.backend.inference.stats() })))
            }),
            (["logs"], _) => read_only(&request, || logs::read(&self.backend.logs, request.uri(), &self.closing)),
            (["schedules", rest @ ..], _) => {
                schedules::route(&self.backend.schedules, &self.apps, rest, &request).await
            }
            _ => Err(unknown_path(&request)),
        }
    }

    /// Answers below `/api/v1/apps`.
    async fn route_apps(&self, path: &[&str], request: Request<Incoming>) -> HandlerResult {
        let apps = &self.apps;
        match (path, request.method()) {
            ([], &Method::POST) => apps.deploy(request).await,
            ([], &Method::GET | &Method::HEAD) => Ok(json_response(&apps.list())),
            ([], _) => Err(Problem::method("GET, HEAD, POST")),
            ([app], &Method::DELETE) => apps.stop(app).await,
            ([app], &Method::GET | &Method::HEAD) => Ok(json_response(&apps.describe(app)?)),
            ([_], _) => Err(Problem::method("GET, HEAD, DELETE")),
            ([app, "history"], _) => read_only(&request, || apps.history(app)),
            ([app, "rollback"], &Method::POST) => apps.rollback(app, &request).await,
            ([_, "rollback"], _) => Err(Problem::method("POST")),
            ([app, "functions", function, "calls"], &Method::POST) => {
                self.calls.spawn(apps.function(app, function)?, request).await
            }
            ([app, "functions", function, "maps"], &Method::POST) => {
                self.maps.create(apps.function(app, function)?, request).await
            }
            ([_, "functions", _, "calls" | "maps"], _) => Err(Problem::method("POST")),
            _ => Err(unknown_path(&request)),
        }
    }
}

fn unknown_path(request: &Request<Incoming>) -> Problem {
    Problem::not_found(format!(
        "no `{}` in the control API; it has apps, batches, calls, devices, logs, maps and schedules under /api/v1",
        request.uri().path()
    ))
}
