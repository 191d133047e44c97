//! `/api/v1/apps`: apps of a host, their versions, deployments and rollbacks.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::handler::HandlerResult;
use super::problem::Problem;
use super::query::bad_query;
use super::request_body::RequestBodies;
use super::respond::{json_response, json_response_as};
use super::router::Matched;
use crate::api;
use crate::app::ComponentBytes;
use crate::app::capabilities::{self, Capability};
use crate::app::metadata::FunctionInfo;
use crate::budgets::Holder;
use crate::codes::Code;
use crate::deploy::{AcceptedCapabilities, DeployError, DeployRequest, Deployments, State, Status};
use crate::dispatch::{Dispatcher, find_function};
use crate::ids::AppName;
use crate::limits;
use crate::sandbox::FunctionRef;
use crate::store::StoreDir;
use crate::suggest::did_you_mean;
use crate::tasks::to_the_end;

/// Apps of one host.
pub(crate) struct Apps {
    pub dispatcher: Arc<Dispatcher>,
    /// None on a host whose apps come from elsewhere (`bireme dev`).
    pub deployments: Option<Arc<Deployments>>,
    pub bodies: Arc<RequestBodies>,
    /// Tells what each app keeps on disk.
    pub store: Arc<StoreDir>,
}

impl Apps {
    /// Returns a function of a deployed app.
    pub(crate) fn function(&self, app: &str, function: &str) -> Result<FunctionRef, Problem> {
        let program = self.dispatcher.program(app).ok_or_else(|| self.not_deployed(app))?;
        Ok(find_function(&program, function)?)
    }

    /// Returns all apps, with their states.
    pub(crate) fn list(&self) -> api::AppList {
        let statuses = match &self.deployments {
            Some(deployments) => deployments.apps(),
            None => self.dispatcher.programs().iter().map(|program| Status::given(program)).collect(),
        };
        api::AppList { apps: statuses.into_iter().map(|status| self.app(status)).collect() }
    }

    fn app(&self, status: Status) -> api::App {
        let (state, reason) = match status.state {
            State::Live => (api::AppState::Live, None),
            State::Stopped => (api::AppState::Stopped, None),
            State::Failed { reason } => (api::AppState::Failed, Some(reason)),
        };
        let functions = self.dispatcher.program(status.app.as_str()).map(|program| {
            let function = |function: &FunctionInfo| api::AppFunction {
                name: function.name.clone(),
                doc: function.doc.clone(),
                route: function.endpoint("", program.name()),
            };
            program.metadata().functions.iter().map(function).collect()
        });
        let (created_ms, message, grants) = match status.record {
            Some(record) => (Some(record.at_ms), record.message, Some(record.grants)),
            None => (None, None, None),
        };
        let deployed_at_ms = created_ms;
        let (name, version) = (status.app, status.version);
        let disk_used_bytes = self.store.app_usage(name.as_str()).map(|usage| usage.bytes);
        let disk_quota_bytes = self.store.app_disk_max();
        api::App {
            name,
            version,
            state,
            reason,
            created_ms,
            deployed_at_ms,
            message,
            grants,
            disk_used_bytes,
            disk_quota_bytes,
            functions,
        }
    }

    pub(crate) fn describe(&self, app: &str) -> Result<api::AppDescription, Problem> {
        let program = self.dispatcher.program(app).ok_or_else(|| self.not_deployed(app))?;
        let metadata = program.metadata();
        Ok(api::AppDescription {
            name: program.name().clone(),
            version: program.version().clone(),
            capabilities: capabilities::of(metadata).into_iter().collect(),
            metadata: metadata.clone(),
        })
    }

    pub(crate) fn describe_function(&self, app: &str, name: &str) -> Result<api::FunctionDescription, Problem> {
        let program = self.dispatcher.program(app).ok_or_else(|| self.not_deployed(app))?;
        let mut functions = program.metadata().functions.iter();
        let Some(function) = functions.find(|function| function.name.as_str() == name) else {
            // Its error has the nearest name.
            find_function(&program, name)?;
            return Err(Problem::not_found(format!("`{app}` does not describe `{name}`")));
        };
        Ok(api::FunctionDescription {
            app: program.name().clone(),
            version: program.version().clone(),
            route: function.endpoint("", program.name()),
            function: function.clone(),
        })
    }

    /// Returns the name of an app that is deployed, stopped or failed: its data stays.
    pub(crate) fn known(&self, app: &str) -> Result<AppName, Problem> {
        let is_kept = || self.deployments.as_ref().is_some_and(|deployments| deployments.state(app).is_some());
        if self.dispatcher.program(app).is_none() && !is_kept() {
            return Err(self.not_deployed(app));
        }
        AppName::new(app).map_err(|error| bad_query(error.to_string()))
    }

    /// Problem of an app that cannot be called, with its state or the nearest name.
    pub(crate) fn not_deployed(&self, app: &str) -> Problem {
        let deployments = self.deployments.as_ref();
        let state = deployments.and_then(|deployments| deployments.state(app));
        if let Some(state) = state {
            let detail = match state {
                State::Failed { reason } => format!("`{app}` could not be restored when this host started: {reason}"),
                _ => format!("`{app}` is stopped; `bireme start {app}` starts it again"),
            };
            return Problem::new(Code::UnknownApp, detail);
        }
        let programs = self.dispatcher.programs();
        let names: Vec<&str> = programs.iter().map(|program| program.name().as_str()).collect();
        // `bireme dev` listens before its first build has ended.
        if names.is_empty() && deployments.is_none() {
            let detail = format!("`{app}` is not built yet; the terminal of `bireme dev` shows the build");
            return Problem::new(Code::Unavailable, detail);
        }
        let hint = match did_you_mean(app, names.iter().copied()) {
            Some(near) => near,
            None if names.is_empty() => "none is; `bireme deploy APP` deploys one".to_owned(),
            None => format!("deployed: {}", names.join(", ")),
        };
        Problem::new(Code::UnknownApp, format!("no app `{app}` is deployed; {hint}"))
    }

    pub(crate) fn history(&self, app: &str) -> HandlerResult {
        let records = self.deployments()?.history(app)?;
        let app = AppName::new(app).map_err(|error| bad_query(error.to_string()))?;
        Ok(json_response(&api::AppHistory { app, records: records.iter().map(Into::into).collect() }))
    }

    pub(crate) async fn deploy(&self, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let deployments = self.deployments()?.clone();
        let query = DeployQuery::parse(matched)?;
        let body =
            self.bodies.read(Holder::Host, request, limits::COMPONENT_BYTES_MAX, "the limit of a component").await?;
        let component = ComponentBytes::new(body.bytes.to_vec()).map_err(DeployError::from)?;
        drop(body);
        let DeployQuery { accept, grants, message, is_dry_run } = query;
        let deploy = DeployRequest { component, accept, grants, message, is_dry_run };
        let deployed = deployments.deploy(deploy).await?;
        let status = if deployed.is_changed { StatusCode::CREATED } else { StatusCode::OK };
        Ok(json_response_as(status, &api::Deployment::from(deployed)))
    }

    pub(crate) async fn rollback(&self, matched: &Matched) -> HandlerResult {
        let deployed = self.deployments()?.rollback(matched.path("app"), matched.parameter("to")).await?;
        Ok(json_response(&api::Deployment::from(deployed)))
    }

    pub(crate) async fn stop(&self, app: &str) -> HandlerResult {
        let (deployments, name) = (self.deployments()?.clone(), app.to_owned());
        // Detached: a client that disconnects must not leave a change half made.
        let stopped = to_the_end(async move { deployments.stop(&name).await }).await?;
        let app = AppName::new(app).map_err(|error| bad_query(error.to_string()))?;
        Ok(json_response(&api::AppStopped { app, stopped }))
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
    fn parse(matched: &Matched) -> Result<Self, Problem> {
        let mut capabilities = BTreeSet::new();
        let mut accepts_all = false;
        let mut grants: Option<Vec<String>> = None;
        for (name, value) in matched.query() {
            match name {
                "accept" if value == "all" => accepts_all = true,
                "accept" => {
                    let capability: Capability =
                        value.parse().map_err(|error| bad_query(format!("{error}, or `all`")))?;
                    capabilities.insert(capability);
                }
                // `grant=` revokes all grants.
                "grant" => grants.get_or_insert_default().extend((!value.is_empty()).then(|| value.to_owned())),
                _ => {}
            }
        }
        Ok(Self {
            accept: if accepts_all { AcceptedCapabilities::All } else { AcceptedCapabilities::Listed(capabilities) },
            grants,
            message: matched.parameter("message").map(str::to_owned),
            is_dry_run: matched.flag("dry_run"),
        })
    }
}
