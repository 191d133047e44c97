//! One request to one model, without an app.

use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::device::OnDevice;
use super::exit::Exit;
use super::global::Global;
use crate::codes::Code;
use crate::inference::{Caller, Inference, InferenceConfig, Tenant};

/// Includes loading a large model from a cold disk.
const TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct OnModel {
    #[command(flatten)]
    on: OnDevice,
    /// Installed model; `bireme models` lists them.
    model: String,
}

impl OnModel {
    /// Returns the model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Sends the request, then ends the worker.
    pub(crate) async fn ask<T, E>(
        &self,
        global: &Global,
        ask: impl AsyncFnOnce(&Inference, &str, &Caller) -> Result<T, E>,
    ) -> Result<T, Exit>
    where
        Exit: From<E>,
    {
        // Before a worker runs that must be ended.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let inference = Inference::new(InferenceConfig { device: self.on.device, ..global.config(&[])?.inference });
        inference.check_device().await?;
        let caller = Caller::new(Tenant::way_in("cli"), Instant::now() + TIMEOUT);
        let answer = tokio::select! {
            answer = ask(&inference, &self.model, &caller) => answer?,
            _ = interrupt.recv() => return Err(Exit::new(Code::Interrupted, "interrupted")),
        };
        inference.shut_down().await;
        Ok(answer)
    }
}
