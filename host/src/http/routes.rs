//! Top-level routes of a host, with the checks that every request passes first.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::answers::charge;
use super::apps::Apps;
use super::backend::Backend;
use super::calls::Calls;
use super::csrf::{check_csrf, check_host};
use super::events::Sources;
use super::handler::HandlerResult;
use super::headers::{check_operator, input_media_type};
use super::key_value::KeyValueData;
use super::maps::Maps;
use super::oip::{self, Oip};
use super::openai::OpenAi;
use super::peer::Peer;
use super::problem::Problem;
use super::request_body::RequestBodies;
use super::respond::{
    ResponseBody, json_response, json_text_response, payload_response, set_call_headers, text_response,
};
use super::router::{self, Matched, Target};
use super::upload::ActiveUploads;
use super::{logs, metrics, schedules, web};
use crate::api::{self, ADDRESS_HEADER, Operation, first_segment};
use crate::budgets::Holder;
use crate::call::{Payload, Principal};
use crate::codes::Code;
use crate::dispatch::{Call, find_function};
use crate::failpoint;
use crate::metrics::RouteLabel;
use crate::sandbox::FunctionRef;
use crate::tasks;

/// Paths of one host.
pub(crate) struct Routes {
    backend: Backend,
    apps: Apps,
    calls: Calls,
    maps: Maps,
    key_value: KeyValueData,
    openai: OpenAi,
    oip: Oip,
    bodies: Arc<RequestBodies>,
    closing: watch::Receiver<bool>,
}

impl Routes {
    /// `closing` turns true when the server begins to shut down.
    pub(crate) fn new(backend: Backend, closing: watch::Receiver<bool>) -> Self {
        let bodies = Arc::new(RequestBodies::new(backend.budgets.bodies.clone()));
        let (dispatcher, durable) = (&backend.dispatcher, &backend.durable);
        Self {
            apps: Apps {
                dispatcher: dispatcher.clone(),
                deployments: backend.deployments.clone(),
                bodies: bodies.clone(),
                store: backend.store.clone(),
            },
            calls: Calls {
                durable: durable.clone(),
                dispatcher: dispatcher.clone(),
                bodies: bodies.clone(),
                closing: closing.clone(),
            },
            maps: Maps {
                durable: durable.clone(),
                dispatcher: dispatcher.clone(),
                bodies: bodies.clone(),
                uploads: ActiveUploads::default(),
                memory: backend.budgets.sandboxes.clone(),
                closing: closing.clone(),
            },
            key_value: KeyValueData {
                buckets: backend.key_value.clone(),
                bodies: bodies.clone(),
                memory: backend.budgets.sandboxes.clone(),
            },
            openai: OpenAi::new(backend.inference.clone(), bodies.clone()),
            oip: Oip::new(backend.inference.clone(), bodies.clone()),
            backend,
            bodies,
            closing,
        }
    }

    /// Answers one request of a peer.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        let (mut label, mut holder) = (RouteLabel::Unmatched, Holder::Host);
        let result = match check_host(&request).and_then(|()| check_csrf(&request)) {
            Ok(()) => tasks::caught(self.route(request, peer, &mut label, &mut holder)).await.unwrap_or_else(|panic| {
                tracing::error!(panic, "the host met a bug of its own while it answered a request");
                Err(Problem::new(Code::Unavailable, "the host met a bug of its own while it answered this request"))
            }),
            Err(problem) => Err(problem),
        };
        let mut response = result.unwrap_or_else(Problem::into_response);
        let holder = response.extensions_mut().remove().unwrap_or(holder);
        let mut response = charge(&self.backend.budgets.sandboxes, holder, response);
        // The media type is the function's choice; browsers must not guess another.
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.backend.metrics.http.count_request(label, response.status().as_u16());
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        label: &mut RouteLabel,
        holder: &mut Holder,
    ) -> HandlerResult {
        failpoint::panic_at("http.route");
        let path = request.uri().path().to_owned();
        let target = router::find(request.method(), request.uri())?;
        *label = target.label();
        match target {
            Target::Operation(matched) => {
                if matched.route.needs_token() {
                    check_operator(peer, request.headers(), &self.backend.token)?;
                }
                self.answer_operation(&matched, request).await
            }
            Target::App => self.route_app(first_segment(&path), request, holder).await,
            Target::Nothing => match first_segment(&path) {
                "v1" => Ok(OpenAi::unknown_path(&path)),
                "v2" => Ok(oip::unknown_path(&path)),
                _ => Err(unknown_path(&path)),
            },
            Target::Method { allow } => match first_segment(&path) {
                "v1" => Ok(OpenAi::method(request.method(), allow)),
                "v2" => Ok(oip::error_response(Problem::method(allow))),
                _ => Err(Problem::method(allow)),
            },
        }
    }

    async fn answer_operation(&self, matched: &Matched, request: Request<Incoming>) -> HandlerResult {
        let (apps, backend) = (&self.apps, &self.backend);
        let function = || apps.function(matched.path("app"), matched.path("function"));
        match matched.route.operation {
            Operation::Health | Operation::Ready => Ok(health(backend.address)),
            Operation::Metrics => Ok(metrics::response(backend, &self.bodies, request.headers()).await),
            Operation::OpenApi => Ok(json_text_response(api::OPENAPI_DOCUMENT.as_str())),
            Operation::ListAppsAtRoot | Operation::ListApps => Ok(json_response(&apps.list())),
            Operation::DeployApp => apps.deploy(matched, request).await,
            Operation::DescribeApp => Ok(json_response(&apps.describe(matched.path("app"))?)),
            Operation::DescribeFunction => {
                Ok(json_response(&apps.describe_function(matched.path("app"), matched.path("function"))?))
            }
            Operation::StopApp => apps.stop(matched.path("app")).await,
            Operation::ListDeployments => apps.history(matched.path("app")),
            Operation::RollBackApp => apps.rollback(matched).await,
            Operation::ListBuckets
            | Operation::ListKeys
            | Operation::GetValue
            | Operation::SetValue
            | Operation::DeleteValue => self.key_value.answer(apps.known(matched.path("app"))?, matched, request).await,
            Operation::SpawnCall => self.calls.spawn(function()?, matched, request).await,
            Operation::ListCalls => self.calls.list(matched).await,
            Operation::GetCall => self.calls.get(matched, request.headers()).await,
            Operation::CancelCall => self.calls.cancel(matched).await,
            Operation::GetCallResult => self.calls.result(matched, request.headers()).await,
            Operation::GetCallInput => self.calls.input(matched).await,
            Operation::CreateMap => self.maps.create(function()?, matched, request).await,
            Operation::GetMap
            | Operation::CancelMap
            | Operation::AppendInputs
            | Operation::GetMapInput
            | Operation::CloseMap
            | Operation::RetryFailedInputs
            | Operation::ListMapResults
            | Operation::GetMapResult => self.maps.answer(matched, request).await,
            Operation::ListBatches => {
                let batches = backend.inference.batches().into_iter().map(Into::into).collect();
                Ok(json_response(&api::BatchList { batches, totals: backend.inference.stats().into() }))
            }
            Operation::GetDevices => Ok(json_response(&api::DeviceReport::from(&backend.devices.report().await))),
            Operation::ReadEvents => {
                let sources = Sources {
                    durable: backend.durable.clone(),
                    schedules: backend.schedules.clone(),
                    logs: backend.logs.clone(),
                };
                backend.events.read(sources, matched, request.headers(), self.closing.clone())
            }
            Operation::ReadLogs => logs::read(&backend.logs, matched, &self.closing),
            Operation::ListSchedules => schedules::list(&backend.schedules, matched.parameter("app")).await,
            Operation::GetSchedule | Operation::PauseSchedule | Operation::ResumeSchedule | Operation::RunSchedule => {
                schedules::answer(&backend.schedules, apps, matched).await
            }
            Operation::ListModels | Operation::GetModel | Operation::CreateEmbeddings | Operation::Rerank => {
                Ok(self.openai.answer(matched, request).await)
            }
            Operation::GetServer
            | Operation::GetServerLive
            | Operation::GetServerReady
            | Operation::ListRepository
            | Operation::SearchRepository
            | Operation::DescribeModel
            | Operation::ConfigureModel
            | Operation::GetModelReady
            | Operation::Infer => Ok(self.oip.answer(matched, request).await),
            // Below an app's name, which is no route of the table.
            Operation::CallFunction => Err(unknown_path(request.uri().path())),
        }
    }

    /// Answers below `/{app}`: a function by its name, else a web function by its route.
    async fn route_app(&self, app: &str, request: Request<Incoming>, holder: &mut Holder) -> HandlerResult {
        let dispatcher = &self.backend.dispatcher;
        let program = dispatcher.program(app).ok_or_else(|| self.apps.not_deployed(app))?;
        *holder = program.name().into();
        let name = request.uri().path().trim_matches('/')[app.len()..].trim_start_matches('/').to_owned();
        let named = program.find(&name).filter(|function| function.route.is_none());
        match named {
            Some(function) if request.method() == Method::POST => self.call_function(function, request).await,
            _ if program.routes().next().is_some() => web::answer(dispatcher, program, &name, request).await,
            Some(_) => Err(Problem::method("POST")),
            None if name.is_empty() || name.contains('/') => {
                let detail = format!("nothing at `{}`; functions are at /APP/FUNCTION", request.uri().path());
                Err(Problem::not_found(detail))
            }
            None => Err(find_function(&program, &name).map(|_| ()).expect_err("nothing has the name").into()),
        }
    }

    async fn call_function(&self, function: FunctionRef, request: Request<Incoming>) -> HandlerResult {
        let bytes_max = function.limits.input_bytes_max;
        let content_type = input_media_type(request.headers(), function.takes_bytes)?;
        let body = self.bodies.read(function.app(), request, bytes_max, "the function's input limit").await?;
        let input = Payload { content_type, data: body.bytes.clone() };
        if let Some(last) = &self.backend.last_call {
            last.record(function.name.clone(), input.clone());
        }
        let version = function.version().clone();
        // Without access control, callers of functions act for the operator.
        let call = Call::new(function, input, Principal::Operator);
        let finished = self.backend.dispatcher.call(call).await;

        let mut response = match finished.result {
            Ok(output) => payload_response(output),
            Err(failure) => Problem::from(failure).into_response(),
        };
        set_call_headers(response.headers_mut(), finished.id, &version, Some(&finished.receipt));
        Ok(response)
    }
}

/// Answers that the host is well, and where: a client of the control socket knows no address of its functions.
fn health(address: SocketAddr) -> Response<ResponseBody> {
    let mut response = text_response("ok\n");
    if let Ok(address) = HeaderValue::from_str(&address.to_string()) {
        response.headers_mut().insert(ADDRESS_HEADER, address);
    }
    response
}

fn unknown_path(path: &str) -> Problem {
    Problem::not_found(format!("no `{path}` on this host; its paths are in /api/v1/openapi.json and docs/api.md"))
}
