//! `/api/v1`: apps and their versions, calls under way, batches, devices, logs; schedules (`schedules`).

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Backend;
use super::body::RequestBodies;
use super::calls;
use super::lines;
use super::maps::Maps;
use super::problem::Problem;
use super::routes::{Answer, get, json_body};
use super::schedules;
use super::upload::Feeds;
use crate::app::ComponentBytes;
use crate::app::capabilities::{self, Capability};
use crate::codes::Code;
use crate::deploy::{Accept, Deploy, DeployError, Deployed, Deployments, LoadError, RollbackError, State, Status};
use crate::dispatch::{FunctionRef, closest, find_function};
use crate::limits;
use crate::tasks::to_the_end;

/// The control API of one host.
pub struct Control {
    pub(super) backend: Backend,
    maps: Maps,
    bodies: Arc<RequestBodies>,
    closing: watch::Receiver<bool>,
}

impl Control {
    pub fn new(backend: Backend, bodies: Arc<RequestBodies>, closing: watch::Receiver<bool>) -> Self {
        let maps = Maps {
            durable: backend.durable.clone(),
            dispatcher: backend.dispatcher.clone(),
            bodies: bodies.clone(),
            feeds: Feeds::default(),
            closing: closing.clone(),
        };
        Self { backend, maps, bodies, closing }
    }

    /// Answers a request; `path` is what follows `/api/v1`.
    pub async fn answer(&self, path: &[&str], request: Request<Incoming>) -> Answer {
        let method = request.method().clone();
        match (path, &method) {
            (["apps"], &Method::POST) => self.deploy(request).await,
            (["apps"], &Method::GET | &Method::HEAD) => Ok(json_body(&self.apps())),
            (["apps"], _) => Err(Problem::method("GET, HEAD, POST")),
            (["apps", app], &Method::DELETE) => self.stop(app).await,
            (["apps", app], &Method::GET | &Method::HEAD) => Ok(json_body(&self.app(app)?)),
            (["apps", _], _) => Err(Problem::method("GET, HEAD, DELETE")),
            (["apps", app, "history"], _) => get(&request, || self.history(app)),
            (["apps", app, "rollback"], &Method::POST) => self.rollback(app, &request).await,
            (["apps", _, "rollback"], _) => Err(Problem::method("POST")),
            (["apps", app, "functions", function, "calls"], &Method::POST) => {
                let function = self.function(app, function)?;
                calls::spawn(&self.backend.durable, &self.bodies, &self.closing, function, request).await
            }
            (["apps", app, "functions", function, "maps"], &Method::POST) => {
                let function = self.function(app, function)?;
                self.maps.create(function, request).await
            }
            (["apps", _, "functions", _, "calls" | "maps"], _) => Err(Problem::method("POST")),
            (["calls"], &Method::GET | &Method::HEAD) => {
                let query = request.uri().query().unwrap_or_default();
                calls::list(&self.backend.durable, &self.backend.dispatcher, query).await
            }
            (["calls"], _) => Err(Problem::method("GET, HEAD")),
            (["calls", id, rest @ ..], _) => calls::one(&self.backend.durable, &self.closing, id, rest, &request).await,
            (["maps", id, rest @ ..], _) => self.maps.one(id, rest, request).await,
            (["devices"], &Method::GET | &Method::HEAD) => {
                Ok(json_body(&self.backend.devices.report().await.to_json()))
            }
            (["devices"], _) => Err(Problem::method("GET, HEAD")),
            (["batches"], _) => get(&request, || {
                let batches = self.backend.inference.batches();
                Ok(json_body(&json!({ "batches": batches, "totals": self.backend.inference.stats() })))
            }),
            (["logs"], _) => get(&request, || lines::answer(&self.backend.logs, request.uri(), &self.closing)),
            (["schedules", rest @ ..], _) => schedules::answer(self, rest, &request).await,
            _ => {
                let path = request.uri().path();
                let detail = format!(
                    "no `{path}` in the control API; it has apps, batches, calls, devices, logs, maps and schedules under /api/v1"
                );
                Err(Problem::not_found(detail))
            }
        }
    }

    /// Returns a function of a deployed app.
    fn function(&self, app: &str, function: &str) -> Result<FunctionRef, Problem> {
        let program = self.backend.dispatcher.program(app).ok_or_else(|| self.absent(app))?;
        Ok(find_function(&program, function)?)
    }

    /// Every app and its state.
    pub fn apps(&self) -> Value {
        let statuses = match &self.backend.deployments {
            Some(deployments) => deployments.apps(),
            None => self.backend.dispatcher.programs().iter().map(|program| Status::given(program)).collect(),
        };
        let apps: Vec<Value> = statuses.iter().map(|status| self.status(status)).collect();
        json!({ "apps": apps })
    }

    fn status(&self, status: &Status) -> Value {
        let app = &status.app;
        let mut value = json!({ "name": app, "version": status.version });
        let state = match &status.state {
            State::Live => "live",
            State::Stopped => "stopped",
            State::Failed { reason } => {
                value["reason"] = json!(reason);
                "failed"
            }
        };
        value["state"] = json!(state);
        if let Some(record) = &status.record {
            value["deployed_at_ms"] = json!(record.at_ms);
            value["message"] = json!(record.message);
            value["grants"] = json!(record.grants);
        }
        if let Some(program) = self.backend.dispatcher.program(app.as_str()) {
            let functions = program.metadata().functions.iter();
            let functions: Vec<Value> = functions
                .map(|function| json!({ "name": function.name, "doc": function.doc, "route": function.endpoint("", program.name()) }))
                .collect();
            value["functions"] = json!(functions);
        }
        value
    }

    fn app(&self, app: &str) -> Result<Value, Problem> {
        let Some(program) = self.backend.dispatcher.program(app) else {
            return Err(self.absent(app));
        };
        let metadata = program.metadata();
        Ok(json!({
            "name": app,
            "version": program.version(),
            "capabilities": capabilities::of(metadata),
            "metadata": metadata,
        }))
    }

    /// Says why no such app can be called, and what may be meant.
    pub fn absent(&self, app: &str) -> Problem {
        let deployments = self.backend.deployments.as_ref();
        let state = deployments.and_then(|deployments| deployments.state(app));
        if let Some(state) = state {
            let detail = match state {
                State::Failed { reason } => format!("`{app}` could not be restored when this host started: {reason}"),
                _ => format!("`{app}` is stopped; `bireme rollback {app}` starts it again"),
            };
            return Problem::new(Code::UnknownApp, detail);
        }
        let programs = self.backend.dispatcher.programs();
        let names: Vec<&str> = programs.iter().map(|program| program.name().as_str()).collect();
        let hint = match closest(app, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "none is; `bireme deploy APP` deploys one".to_owned(),
            None => format!("deployed: {}", names.join(", ")),
        };
        Problem::new(Code::UnknownApp, format!("no app `{app}` is deployed; {hint}"))
    }

    fn history(&self, app: &str) -> Answer {
        let records = self.deployments()?.history(app)?;
        Ok(json_body(&json!({ "app": app, "records": records })))
    }

    async fn deploy(&self, request: Request<Incoming>) -> Answer {
        let deployments = self.deployments()?.clone();
        let query = DeployQuery::read(request.uri().query().unwrap_or_default())?;
        let held = self.bodies.read(request, limits::COMPONENT_BYTES_MAX, "the limit of a component").await?;
        let component = ComponentBytes::new(held.bytes.to_vec()).map_err(DeployError::from)?;
        drop(held);
        let DeployQuery { accept, grants, message, is_dry_run } = query;
        let deploy = Deploy { component, accept, grants, message, is_dry_run };
        // In a task of its own: a client that goes away must not leave a change half made.
        let deployed = to_the_end(async move { deployments.deploy(deploy).await }).await?;
        let mut response = json_body(&outcome(&deployed));
        if deployed.is_changed {
            *response.status_mut() = StatusCode::CREATED;
        }
        Ok(response)
    }

    async fn rollback(&self, app: &str, request: &Request<Incoming>) -> Answer {
        let (deployments, app) = (self.deployments()?.clone(), app.to_owned());
        let to = pairs(request.uri().query().unwrap_or_default(), &["to"])?.pop().map(|(_, to)| to);
        let deployed = to_the_end(async move { deployments.rollback(&app, to.as_deref()).await }).await?;
        Ok(json_body(&outcome(&deployed)))
    }

    async fn stop(&self, app: &str) -> Answer {
        let (deployments, name) = (self.deployments()?.clone(), app.to_owned());
        let version = to_the_end(async move { deployments.stop(&name).await }).await?;
        Ok(json_body(&json!({ "app": app, "stopped": version })))
    }

    fn deployments(&self) -> Result<&Arc<Deployments>, Problem> {
        self.backend.deployments.as_ref().ok_or_else(|| {
            let detail =
                "this host serves the app that it was started with and takes no other; deploy to a `bireme serve`";
            Problem::new(Code::TakesNoDeployments, detail)
        })
    }
}

/// What the query of a deployment says.
struct DeployQuery {
    accept: Accept,
    grants: Option<Vec<String>>,
    message: Option<String>,
    is_dry_run: bool,
}

impl DeployQuery {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut these = BTreeSet::new();
        let mut read = Self { accept: Accept::All, grants: None, message: None, is_dry_run: false };
        let mut accepts_all = false;
        for (name, value) in pairs(query, &["accept", "grant", "message", "dry_run"])? {
            match name.as_str() {
                "accept" if value == "all" => accepts_all = true,
                "accept" => {
                    let capability: Capability =
                        value.parse().map_err(|error| bad_query(format!("{error}, or `all`")))?;
                    these.insert(capability);
                }
                // `grant=` takes back what was granted.
                "grant" => read.grants.get_or_insert_default().extend((!value.is_empty()).then_some(value)),
                "message" => read.message = Some(value),
                _ => read.is_dry_run = value != "false",
            }
        }
        if !accepts_all {
            read.accept = Accept::These(these);
        }
        Ok(read)
    }
}

/// Reads a query whose names are among `known`.
pub fn pairs(query: &str, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(pairs),
        Some((name, _)) => {
            let hint = match closest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            Err(bad_query(format!("no query parameter `{name}` here; {hint}")))
        }
    }
}

/// A query that cannot be read.
pub fn bad_query(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadQuery, detail)
}

fn outcome(deployed: &Deployed) -> Value {
    let app = &deployed.app;
    let routes: Vec<String> = deployed.metadata.functions.iter().map(|function| function.endpoint("", app)).collect();
    json!({
        "app": app,
        "version": deployed.version,
        "previous": deployed.previous,
        "changed": deployed.is_changed,
        "added": deployed.added,
        "removed": deployed.removed,
        "routes": routes,
    })
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        use crate::app::artifact::ArtifactError;
        let code = match &error {
            DeployError::Component(_) | DeployError::Load(LoadError::Artifact(ArtifactError::Compile(_))) => {
                Code::BadComponent
            }
            DeployError::Load(LoadError::Artifact(_)) | DeployError::Files(_) => Code::Io,
            DeployError::Load(_) => Code::BadApp,
            DeployError::Grant(_) => Code::Config,
            DeployError::Message { .. } | DeployError::Rollback { source: RollbackError::Ambiguous { .. }, .. } => {
                Code::BadQuery
            }
            DeployError::NotAccepted { .. } => Code::NotAccepted,
            DeployError::UnknownApp { .. } => Code::UnknownApp,
            DeployError::Stopped { .. } => Code::AppStopped,
            DeployError::Rollback { source: RollbackError::Unknown { .. }, .. } => Code::UnknownVersion,
            DeployError::Rollback { .. } => Code::NoRollback,
            DeployError::Store(error) => error.code(),
        };
        let member = match &error {
            DeployError::NotAccepted { added, .. } => Some(("added", json!(added))),
            _ => None,
        };
        let causes = anyhow::Error::from(error);
        let detail = causes.to_string();
        let causes = causes.chain().skip(1).map(ToString::to_string).filter(|cause| *cause != detail).collect();
        Self { causes, member: member.map(Box::new), ..Self::new(code, detail) }
    }
}
