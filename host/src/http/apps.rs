//! `/api/v1/apps`: apps of a host, their versions, deployments and rollbacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::handler::HandlerResult;
use super::problem::Problem;
use super::query::{self, bad_query};
use super::request_body::RequestBodies;
use super::respond::json_response;
use crate::app::ComponentBytes;
use crate::app::capabilities::{self, Capability};
use crate::app::metadata::FunctionInfo;
use crate::codes::Code;
use crate::deploy::{AcceptedCapabilities, DeployError, DeployOutcome, DeployRequest, Deployments, State, Status};
use crate::dispatch::{Dispatcher, closest, find_function};
use crate::limits;
use crate::sandbox::FunctionRef;
use crate::tasks::to_the_end;

/// Apps of one host.
pub struct Apps {
    pub dispatcher: Arc<Dispatcher>,
    /// None on a host whose apps come from elsewhere (`bireme dev`).
    pub deployments: Option<Arc<Deployments>>,
    pub bodies: Arc<RequestBodies>,
}

impl Apps {
    /// Returns a function of a deployed app.
    pub fn function(&self, app: &str, function: &str) -> Result<FunctionRef, Problem> {
        let program = self.dispatcher.program(app).ok_or_else(|| self.not_deployed(app))?;
        Ok(find_function(&program, function)?)
    }

    /// Returns the document of all apps, with their states.
    pub fn list(&self) -> Value {
        let statuses = match &self.deployments {
            Some(deployments) => deployments.apps(),
            None => self.dispatcher.programs().iter().map(|program| Status::given(program)).collect(),
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
        if let Some(program) = self.dispatcher.program(app.as_str()) {
            let document = |function: &FunctionInfo| {
                let route = function.endpoint("", program.name());
                json!({ "name": function.name, "doc": function.doc, "route": route })
            };
            let functions: Vec<Value> = program.metadata().functions.iter().map(document).collect();
            value["functions"] = json!(functions);
        }
        value
    }

    pub fn describe(&self, app: &str) -> Result<Value, Problem> {
        let Some(program) = self.dispatcher.program(app) else {
            return Err(self.not_deployed(app));
        };
        let metadata = program.metadata();
        Ok(json!({
            "name": app,
            "version": program.version(),
            "capabilities": capabilities::of(metadata),
            "metadata": metadata,
        }))
    }

    /// Problem of an app that cannot be called, with its state or the nearest name.
    pub fn not_deployed(&self, app: &str) -> Problem {
        let deployments = self.deployments.as_ref();
        let state = deployments.and_then(|deployments| deployments.state(app));
        if let Some(state) = state {
            let detail = match state {
                State::Failed { reason } => format!("`{app}` could not be restored when this host started: {reason}"),
                _ => format!("`{app}` is stopped; `bireme rollback {app}` starts it again"),
            };
            return Problem::new(Code::UnknownApp, detail);
        }
        let programs = self.dispatcher.programs();
        let names: Vec<&str> = programs.iter().map(|program| program.name().as_str()).collect();
        let hint = match closest(app, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "none is; `bireme deploy APP` deploys one".to_owned(),
            None => format!("deployed: {}", names.join(", ")),
        };
        Problem::new(Code::UnknownApp, format!("no app `{app}` is deployed; {hint}"))
    }

    pub fn history(&self, app: &str) -> HandlerResult {
        let records = self.deployments()?.history(app)?;
        Ok(json_response(&json!({ "app": app, "records": records })))
    }

    pub async fn deploy(&self, request: Request<Incoming>) -> HandlerResult {
        let deployments = self.deployments()?.clone();
        let query = DeployQuery::parse(request.uri())?;
        let body = self.bodies.read(request, limits::COMPONENT_BYTES_MAX, "the limit of a component").await?;
        let component = ComponentBytes::new(body.bytes.to_vec()).map_err(DeployError::from)?;
        drop(body);
        let DeployQuery { accept, grants, message, is_dry_run } = query;
        let deploy = DeployRequest { component, accept, grants, message, is_dry_run };
        // Detached: a client that disconnects must not leave a change half made.
        let deployed = to_the_end(async move { deployments.deploy(deploy).await }).await?;
        let mut response = json_response(&deployment_document(&deployed));
        if deployed.is_changed {
            *response.status_mut() = StatusCode::CREATED;
        }
        Ok(response)
    }

    pub async fn rollback(&self, app: &str, request: &Request<Incoming>) -> HandlerResult {
        let (deployments, app) = (self.deployments()?.clone(), app.to_owned());
        let to = query::parse_one(request.uri(), "to")?;
        let deployed = to_the_end(async move { deployments.rollback(&app, to.as_deref()).await }).await?;
        Ok(json_response(&deployment_document(&deployed)))
    }

    pub async fn stop(&self, app: &str) -> HandlerResult {
        let (deployments, name) = (self.deployments()?.clone(), app.to_owned());
        let version = to_the_end(async move { deployments.stop(&name).await }).await?;
        Ok(json_response(&json!({ "app": app, "stopped": version })))
    }

    fn deployments(&self) -> Result<&Arc<Deployments>, Problem> {
        self.deployments.as_ref().ok_or_else(|| {
            let detail =
                "this host serves the app that it was started with and takes no other; deploy to a `bireme serve`";
            Problem::new(Code::TakesNoDeployments, detail)
        })
    }
}

/// Query of a deployment.
struct DeployQuery {
    accept: AcceptedCapabilities,
    grants: Option<Vec<String>>,
    message: Option<String>,
    is_dry_run: bool,
}

impl DeployQuery {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut capabilities = BTreeSet::new();
        let mut parsed = Self { accept: AcceptedCapabilities::All, grants: None, message: None, is_dry_run: false };
        let mut accepts_all = false;
        for (name, value) in query::parse(uri, &["accept", "grant", "message", "dry_run"])? {
            match name.as_str() {
                "accept" if value == "all" => accepts_all = true,
                "accept" => {
                    let capability: Capability =
                        value.parse().map_err(|error| bad_query(format!("{error}, or `all`")))?;
                    capabilities.insert(capability);
                }
                // `grant=` revokes all grants.
                "grant" => parsed.grants.get_or_insert_default().extend((!value.is_empty()).then_some(value)),
                "message" => parsed.message = Some(value),
                _ => parsed.is_dry_run = query::flag(&value),
            }
        }
        if !accepts_all {
            parsed.accept = AcceptedCapabilities::Listed(capabilities);
        }
        Ok(parsed)
    }
}

/// Document of a deployment or a rollback.
fn deployment_document(deployed: &DeployOutcome) -> Value {
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
