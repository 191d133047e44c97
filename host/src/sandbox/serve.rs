//! One web request in a fresh instance, through `wasi:http/incoming-handler`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::call_context::CallContext;
use super::exchange::Exchange;
use super::invoke::{Attempt, AttemptTimes, Sandbox, run_to_end};
use super::linked_code::LinkedCode;
use super::meter::metered;
use crate::call::{Failure, FailureCode};

impl Sandbox {
    /// Runs one web request. The response leaves while the guest runs; the attempt ends with the guest. Dropping the
    /// future ends the guest and frees its slot.
    pub(crate) async fn serve(&self, call: &Arc<CallContext>, exchange: Exchange) -> Attempt<()> {
        let mut store = self.store(call);
        let mut times = AttemptTimes::default();
        let answered = Arc::new(AtomicBool::new(false));
        let guest = async {
            let begun = Instant::now();
            let web = LinkedCode::web_of(call.function.program()).instantiate_async(&mut store).await;
            times.instantiate = begun.elapsed();
            let web = web?;
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(Scheme::Http, exchange.request)?;
            let (head, flag) = (exchange.head, answered.clone());
            let answer = http.new_response_outparam_from_callback(move |response| {
                flag.store(true, Ordering::Relaxed);
                // The client may be gone.
                let _ = head.send(response);
            })?;
            let guest = web.wasi_http_incoming_handler().call_handle(&mut store, request, answer);
            metered(guest, &call.boundary, &call.clone().into(), &mut times.cpu).await
        };
        let result = run_to_end(call, guest).await.and_then(|()| {
            if answered.load(Ordering::Relaxed) {
                return Ok(());
            }
            let message = format!("function `{}` ended without an answer; it must set a response", call.function.name);
            Err(Failure::new(FailureCode::Crashed, message))
        });
        Attempt::new(call, &store, &times, result)
    }
}
