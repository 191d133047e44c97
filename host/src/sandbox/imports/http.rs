//! `wasi:http/outgoing-handler`: requests to what was declared and granted, through `outbound`.

use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::logs::Level;
use crate::outbound::{OutboundError, Phase, Timeouts};
use crate::sandbox::boundary::Import;
use crate::sandbox::call_context::CallContext;

/// Bytes of a request's body that wait in the host until the connection takes them.
const OUTGOING_CHUNK_BYTES: usize = 16 << 10;

/// Sends a guest's requests.
pub struct OutboundHooks {
    pub call: Arc<CallContext>,
}

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(http::Response<WasiBody>, Done), Error>;

impl WasiHttpHooks for OutboundHooks {
    fn set_host_header(&mut self) -> bool {
        // `outbound` derives it from the URL that it checked.
        false
    }

    /// A body that is written and not sent waits in the host's memory, outside of the guest's limit.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        OUTGOING_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Done,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let call = self.call.clone();
        Box::new(async move {
            let send = send(&call, request, options);
            let response =
                call.boundary.cross_async(Import::Http, send).await.map_err(|error| refusal(&call, &error))?;
            let response = response.map(|body| body.map_err(|error| to_wasi(&error)).boxed_unsync());
            let done: Done = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}

async fn send(
    call: &CallContext,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<http::Response<crate::outbound::OutboundBody>, OutboundError> {
    let defaults = Timeouts::default();
    let options = options.unwrap_or_default();
    // Nothing may wait longer than the call itself.
    let remaining = call.deadline.saturating_duration_since(Instant::now());
    let timeouts = Timeouts {
        connect: options.connect_timeout.unwrap_or(defaults.connect).min(remaining),
        first_byte: options.first_byte_timeout.unwrap_or(defaults.first_byte).min(remaining),
        between_bytes: options.between_bytes_timeout.unwrap_or(defaults.between_bytes).min(remaining),
    };
    let app = call.function.app().as_str();
    call.services.outbound.send(app, &call.function.outbound, &call.budget, request, timeouts).await
}

/// Keeps the words of a refusal for the call's failure: `wasi:http` has only a code for them.
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
