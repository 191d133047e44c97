//! Durable calls and maps.

use std::time::Duration;

use super::wasm::bindings::bireme::host::functions as wit;
use super::{Order, Outcome, Payload};
use crate::failure::{Failure, Result};
use crate::spawn_map::Progress;

pub(crate) fn spawn(function: &str, input: &Payload) -> Result<String> {
    wit::spawn(function, input).map_err(Failure::from_wit)
}

pub(crate) fn get(call: &str, wait: Duration) -> Result<Option<Result<Payload>>> {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let ended = wit::get(call, wait_ms).map_err(Failure::from_wit)?;
    Ok(ended.map(|result| result.map_err(Failure::from_wit)))
}

pub(crate) fn cancel(call: &str) -> Result<bool> {
    wit::cancel(call).map_err(Failure::from_wit)
}

/// A durable map.
#[derive(Debug)]
pub(crate) struct SpawnedMap(wit::SpawnedMap);

impl SpawnedMap {
    pub(crate) fn start(function: &str) -> Result<Self> {
        wit::SpawnedMap::start(function).map(Self).map_err(Failure::from_wit)
    }

    pub(crate) fn open(id: &str) -> Result<Self> {
        wit::SpawnedMap::open(id).map(Self).map_err(Failure::from_wit)
    }

    pub(crate) fn id(&self) -> String {
        self.0.id()
    }

    pub(crate) fn push(&self, inputs: &[Payload]) -> Result<u64> {
        self.0.push(inputs).map_err(Failure::from_wit)
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.0.close().map_err(Failure::from_wit)
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        self.0.progress().map(progress).map_err(Failure::from_wit)
    }

    pub(crate) fn outcome(&self, index: u64) -> Result<Option<Result<Payload>>> {
        let outcome = self.0.outcome(index).map_err(Failure::from_wit)?;
        Ok(outcome.map(|result| result.map_err(Failure::from_wit)))
    }

    pub(crate) fn outcomes(&self, order: Order, start: u64) -> Result<OutcomeReader> {
        let order = match order {
            Order::Input => wit::Order::Input,
            Order::Completion => wit::Order::Completion,
        };
        self.0.outcomes(order, start).map(OutcomeReader).map_err(Failure::from_wit)
    }

    pub(crate) fn cancel(&self) -> Result<Progress> {
        self.0.cancel().map(progress).map_err(Failure::from_wit)
    }
}

fn progress(of: wit::MapProgress) -> Progress {
    let wit::MapProgress { inputs, done, failed, cancelled, is_closed, is_ended } = of;
    Progress { inputs, done, failed, cancelled, is_closed, is_ended }
}

/// Reader of outcomes.
#[derive(Debug)]
pub(crate) struct OutcomeReader(wit::OutcomeReader);

impl OutcomeReader {
    pub(crate) fn next(&mut self, max: u32) -> Result<Vec<Outcome>> {
        let outcomes = self.0.next(max).map_err(Failure::from_wit)?.into_iter();
        let outcomes =
            outcomes.map(|outcome| Outcome { index: outcome.index, result: outcome.result.map_err(Failure::from_wit) });
        Ok(outcomes.collect())
    }
}
