//! `wasi:http/outgoing-handler`: requests to declared and granted origins, through `outbound`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::boundary::Import;
use super::call_context::CallContext;
use crate::logs::Level;
use crate::outbound::{OutboundBody, OutboundError, Phase, Timeouts};

/// Bytes of a request's body that wait in the host for the connection.
const OUTGOING_CHUNK_BYTES: usize = 16 << 10;

/// Hooks that send a guest's requests through `outbound`.
pub(crate) struct OutboundHooks {
    pub call: Arc<CallContext>,
}

type Completion = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, Completion), Error>;

impl WasiHttpHooks for OutboundHooks {
    fn set_host_header(&mut self) -> bool {
        // `outbound` derives the header from the URL that it checked.
        false
    }

    /// Bounds the written and unsent body, which is host memory outside the guest's limit.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        OUTGOING_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Completion,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let call = self.call.clone();
        Box::new(async move {
            let send = send(&call, request, options);
            let response =
                call.boundary.cross_async(Import::Http, send).await.map_err(|error| refusal(&call, &error))?;
            let response = response.map(|body| {
                let body = TimedBody { body, call, is_awaited: false };
                body.map_err(|error| to_wasi(&error)).boxed_unsync()
            });
            let completion: Completion = Box::new(async { Ok(()) });
            Ok((response, completion))
        })
    }
}

/// Body of a response, which counts the waits for its parts.
struct TimedBody {
    body: OutboundBody,
    call: Arc<CallContext>,
    is_awaited: bool,
}

impl TimedBody {
    fn set_awaited(&mut self, is_awaited: bool) {
        if std::mem::replace(&mut self.is_awaited, is_awaited) != is_awaited {
            self.call.boundary.set_awaits_body(is_awaited);
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.set_awaited(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        self.set_awaited(false);
    }
}

async fn send(
    call: &CallContext,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<http::Response<OutboundBody>, OutboundError> {
    let defaults = Timeouts::default();
    let options = options.unwrap_or_default();
    // No wait outlasts the call itself.
    let remaining = call.deadline.saturating_duration_since(Instant::now());
    let timeouts = Timeouts {
        connect: options.connect_timeout.unwrap_or(defaults.connect).min(remaining),
        first_byte: options.first_byte_timeout.unwrap_or(defaults.first_byte).min(remaining),
        between_bytes: options.between_bytes_timeout.unwrap_or(defaults.between_bytes).min(remaining),
    };
    let app = call.function.app().as_str();
    call.services.outbound.send(app, &call.function.outbound, &call.budget, request, timeouts).await
}

/// Keeps a refusal's text for the call's failure: `wasi:http` has only a code for it.
fn refusal(call: &CallContext, error: &OutboundError) -> Error {
    let wasi = to_wasi(error);
    if matches!(wasi, Error::HttpRequestDenied | Error::DestinationIpProhibited) {
        let message = error.to_string();
        call.log.log(Level::Warn, &message, &[]);
        call.note_denial(message);
    }
    wasi
}

fn to_wasi(error: &OutboundError) -> Error {
    match error {
        OutboundError::Url { .. } => Error::HttpRequestUriInvalid,
        OutboundError::NotDeclared { .. } | OutboundError::NotGranted { .. } | OutboundError::OwnListener { .. } => {
            Error::HttpRequestDenied
        }
        OutboundError::NotPublic { .. } => Error::DestinationIpProhibited,
        OutboundError::Method { .. } => Error::HttpRequestMethodInvalid,
        OutboundError::Resolve { source, .. } => Error::DnsError { rcode: Some(source.to_string()), info_code: None },
        OutboundError::Timeout { phase, .. } => match phase {
            Phase::Connect => Error::ConnectionTimeout,
            Phase::FirstByte => Error::HttpResponseTimeout,
            _ => Error::ConnectionReadTimeout,
        },
        other => Error::InternalError(Some(other.to_string())),
    }
}
