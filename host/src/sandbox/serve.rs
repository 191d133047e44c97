//! One web request in a fresh instance, through `wasi:http/incoming-handler`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::call_context::CallContext;
use super::exchange::Exchange;
use super::invoke::{Attempt, Sandbox, Took, to_its_end};
use super::meter::metered;
use crate::call::{Failure, FailureCode};

impl Sandbox {
    /// Runs one web request. The answer leaves while the guest runs; the attempt ends when the guest does. Dropping the future
    /// ends the guest and frees its slot.
    pub async fn serve(&self, call: &Arc<CallContext>, exchange: Exchange) -> Attempt<()> {
        let mut store = self.store(call);
        let mut took = Took::default();
        let answered = Arc::new(AtomicBool::new(false));
        let guest = async {
            let web =
                call.function.program().web_pre.as_ref().expect("a program of web functions exports their handler");
            let begun = Instant::now();
            let web = web.instantiate_async(&mut store).await;
            took.instantiate = begun.elapsed();
            let web = web?;
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(Scheme::Http, exchange.request)?;
            let (head, flag) = (exchange.head, answered.clone());
            let answer = http.new_response_outparam_from_callback(move |response| {
                flag.store(true, Ordering::Relaxed);
                // A client that is gone misses nothing.
                let _ = head.send(response);
            })?;
            metered(web.wasi_http_incoming_handler().call_handle(&mut store, request, answer), &mut took.cpu).await
        };
        let result = to_its_end(call, guest).await.and_then(|()| {
            if answered.load(Ordering::Relaxed) {
                return Ok(());
            }
            let message = format!("function `{}` ended without an answer; it must set a response", call.function.name);
            Err(Failure::new(FailureCode::Crashed, message))
        });
        Attempt::new(call, &store, &took, result)
    }
}
