//! Top-level routes of a host, with the checks that every request passes first.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::apps::Apps;
use super::backend::Backend;
use super::control::Control;
use super::csrf::{check_csrf, check_host};
use super::handler::{HandlerResult, read_only};
use super::headers::input_media_type;
use super::last_call::LastCall;
use super::metrics;
use super::oip::Oip;
use super::openai::OpenAi;
use super::problem::Problem;
use super::request_body::RequestBodies;
use super::respond::{ResponseBody, json_response, payload_response, set_call_headers, text_response};
use super::web;
use crate::call::{Payload, Principal};
use crate::codes::Code;
use crate::dispatch::{Call, Dispatcher, Durable, find_function};
use crate::failpoint;
use crate::inference::Inference;
use crate::sandbox::FunctionRef;
use crate::tasks;

/// Paths of one host.
pub struct Routes {
    dispatcher: Arc<Dispatcher>,
    apps: Arc<Apps>,
    control: Control,
    inference: Arc<Inference>,
    durable: Arc<Durable>,
    openai: OpenAi,
    oip: Oip,
    bodies: Arc<RequestBodies>,
    last_call: Option<Arc<LastCall>>,
}

impl Routes {
    /// `closing` turns true when the server begins to shut down.
    pub fn new(backend: Backend, closing: watch::Receiver<bool>) -> Self {
        let bodies = Arc::new(RequestBodies::new());
        let (dispatcher, last_call) = (backend.dispatcher.clone(), backend.last_call.clone());
        let (inference, durable) = (backend.inference.clone(), backend.durable.clone());
        let deployments = backend.deployments.clone();
        let apps = Arc::new(Apps { dispatcher: dispatcher.clone(), deployments, bodies: bodies.clone() });
        let openai = OpenAi::new(inference.clone(), bodies.clone());
        let oip = Oip::new(inference.clone(), bodies.clone());
        let control = Control::new(backend, apps.clone(), bodies.clone(), closing);
        Self { dispatcher, last_call, apps, control, inference, durable, openai, oip, bodies }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let result = match check_host(&request).and_then(|()| check_csrf(&request)) {
            Ok(()) => tasks::caught(self.route(request)).await.unwrap_or_else(|panic| {
                tracing::error!(panic, "the host met a bug of its own while it answered a request");
                Err(Problem::new(Code::Unavailable, "the host met a bug of its own while it answered this request"))
            }),
            Err(problem) => Err(problem),
        };
        let mut response = result.unwrap_or_else(Problem::into_response);
        // The media type is the function's choice; browsers must not guess another.
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn route(&self, request: Request<Incoming>) -> HandlerResult {
        failpoint::panic_at("http.route");
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["healthz" | "readyz"] => read_only(&request, || Ok(text_response("ok\n"))),
            [""] => read_only(&request, || Ok(json_response(&self.apps.list()))),
            ["metrics"] => read_only(&request, || {
                let (stats, durable) = (self.inference.stats(), &self.durable);
                Ok(metrics::response(&stats, durable.load(), durable.quarantined()))
            }),
            ["v1", rest @ ..] => Ok(self.openai.route(rest, request).await),
            ["api", "v1", rest @ ..] => self.control.route(rest, request).await,
            ["v2", rest @ ..] => Ok(self.oip.route(rest, request).await),
            [app, ..] => self.route_app(app, request).await,
            [] => unreachable!("splitting yields one part at least"),
        }
    }

    /// Answers below `/{app}`: a function by its name, else a web function by its route.
    async fn route_app(&self, app: &str, request: Request<Incoming>) -> HandlerResult {
        let dispatcher = &self.dispatcher;
        let program = dispatcher.program(app).ok_or_else(|| self.apps.not_deployed(app))?;
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
        let body = self.bodies.read(request, bytes_max, "the function's input limit").await?;
        let input = Payload { content_type, data: body.bytes.clone() };
        if let Some(last) = &self.last_call {
            last.record(function.name.clone(), input.clone());
        }
        let version = function.version().clone();
        // Without access control, callers of functions act for the operator.
        let call = Call::new(function, input, Principal::Operator);
        let finished = self.dispatcher.call(call).await;

        let mut response = match finished.result {
            Ok(output) => payload_response(output),
            Err(failure) => Problem::from(failure).into_response(),
        };
        set_call_headers(response.headers_mut(), finished.id, &version, Some(&finished.receipt));
        Ok(response)
    }
}
