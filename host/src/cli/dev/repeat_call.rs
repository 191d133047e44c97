//! Key `c`: repeats the last call on the live version.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::call::{Payload, Principal, Receipt};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::dispatch::{Call, Dispatcher, find_function};
use crate::http::LastCall;
use crate::ids::FunctionName;
use crate::logs::printable;
use crate::sandbox::Program;

/// The last call, over HTTP or typed, whichever is newer.
#[derive(Default)]
pub(crate) struct RepeatCall {
    pub last: Arc<LastCall>,
    /// Calls under way; aborted on drop.
    calls: Vec<JoinHandle<()>>,
}

impl RepeatCall {
    /// Spawns the call. It prints its own outcome, so the loop stays free for the next save.
    pub(crate) fn call(
        &mut self,
        dispatcher: &Arc<Dispatcher>,
        program: &Arc<Program>,
        typed: &str,
    ) -> Result<(), Exit> {
        let (function, input) = if typed.is_empty() {
            self.last.get().ok_or_else(|| {
                let exit = Exit::usage("nothing was called yet");
                exit.hint("call a function over HTTP, or type `c FUNCTION INPUT`, with JSON as the input")
            })?
        } else {
            let (name, input) = typed.split_once(char::is_whitespace).unwrap_or((typed, "{}"));
            (find_function(program, name)?.name.clone(), Payload::json(input.trim().to_owned()))
        };
        // By name: positions differ between versions, and the function may be gone.
        let called = find_function(program, function.as_str())?;
        self.last.record(function.clone(), input.clone());

        let call = Call::new(called, input, Principal::Operator);
        let (dispatcher, version) = (dispatcher.clone(), program.version().clone());
        self.calls.retain(|call| !call.is_finished());
        self.calls.push(tokio::spawn(async move {
            let finished = dispatcher.call(call).await;
            let receipt = receipt_line(&function, &version.to_string(), &finished.receipt);
            match finished.result {
                Ok(output) => output::line(&printable(&String::from_utf8_lossy(&output.data))),
                Err(failure) => Exit::from(failure).print(),
            }
            output::note(&receipt);
        }));
        Ok(())
    }
}

impl Drop for RepeatCall {
    fn drop(&mut self) {
        self.calls.iter().for_each(JoinHandle::abort);
    }
}

/// Returns a receipt as one line.
fn receipt_line(function: &FunctionName, version: &str, receipt: &Receipt) -> String {
    let mut text = format!(
        "  {function}@{version}: {}, of it {} on the CPU and {} to instantiate; {} of memory",
        output::micros(receipt.wall_us),
        output::micros(receipt.cpu_us),
        output::micros(receipt.instantiate_us),
        output::bytes(receipt.memory_peak_bytes),
    );
    for (kind, calls) in receipt.host_calls.kinds() {
        if calls.count > 0 {
            text += &format!(", {} {kind}", output::count(calls.count));
        }
    }
    if receipt.attempts > 1 {
        text += &format!(", {} attempts", receipt.attempts);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::HostCallsOfKind;

    #[test]
    fn a_receipt_is_one_line() {
        let mut receipt = Receipt {
            attempts: 2,
            wall_us: 1_500,
            cpu_us: 300,
            instantiate_us: 40,
            memory_peak_bytes: 1 << 20,
            ..Receipt::default()
        };
        receipt.host_calls.http = HostCallsOfKind { count: 2, wall_us: 900 };
        let name: FunctionName = serde_json::from_str(r#""words""#).unwrap();
        assert_eq!(
            receipt_line(&name, "1a2b", &receipt),
            "  words@1a2b: 1.5 ms, of it 300 µs on the CPU and 40 µs to instantiate; 1.0 MiB of memory, 2 http, 2 attempts"
        );
    }
}
