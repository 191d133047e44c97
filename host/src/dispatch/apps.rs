//! Deployed apps: one program for each name, and a signal when one comes or goes.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::watch;

use crate::budgets::HolderCount;
use crate::call::{Failure, FailureCode};
use crate::ids::{AppName, FunctionId, NAME_LEN_MAX};
use crate::limits::RetryPolicy;
use crate::metrics::CallCounters;
use crate::sandbox::{FunctionRef, Program};
use crate::suggest::did_you_mean;

/// The programs that can be called.
pub(super) struct Apps {
    programs: DashMap<AppName, Arc<Program>>,
    changes: watch::Sender<()>,
    counters: Arc<CallCounters>,
    /// Follows the number of apps.
    holders: HolderCount,
}

impl Apps {
    pub(crate) fn new(counters: Arc<CallCounters>, holders: HolderCount) -> Self {
        Self { programs: DashMap::new(), changes: watch::Sender::new(()), counters, holders }
    }

    /// Returns the counters of calls.
    pub(crate) fn counters(&self) -> &CallCounters {
        &self.counters
    }

    /// Makes a program callable under its name; calls that run keep the version they began with.
    pub(crate) fn deploy(&self, program: Arc<Program>) {
        let counters = self.counters.deploy(program.name(), program.functions().iter().map(|function| &function.name));
        for (function, counters) in program.functions().iter().zip(counters) {
            function.plug_counters(counters);
        }
        self.programs.insert(program.name().clone(), program);
        self.holders.set_apps(self.programs.len());
        self.changes.send_replace(());
    }

    /// Takes an app away; its calls under way go on.
    pub(crate) fn retire(&self, name: &str) {
        self.programs.remove(name);
        self.holders.set_apps(self.programs.len());
        self.counters.retire(name);
        self.changes.send_replace(());
    }

    /// Returns the receiver of a signal for each app that comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Program>> {
        self.programs.get(name).map(|program| program.clone())
    }

    /// Returns all programs, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Program>> {
        let mut programs: Vec<_> = self.programs.iter().map(|entry| entry.value().clone()).collect();
        programs.sort_by(|a, b| a.name().cmp(b.name()));
        programs
    }

    /// Returns a function of a live version.
    pub(crate) fn function(&self, id: &FunctionId) -> Option<FunctionRef> {
        self.get(id.app.as_str())?.find(id.function.as_str())
    }

    /// Returns the retry policy of a function's live version.
    pub(crate) fn retries(&self, id: &FunctionId) -> RetryPolicy {
        self.function(id).map(|function| function.limits.retries).unwrap_or_default()
    }
}

/// Returns a function of a program, or a failure that names the nearest one.
pub fn find_function(program: &Arc<Program>, name: &str) -> Result<FunctionRef, Failure> {
    program.find(name).ok_or_else(|| {
        let names: Vec<&str> = program.functions().iter().map(|f| f.name.as_str()).collect();
        // Guests choose the name; it goes into the message.
        let shown: String = name.chars().take(NAME_LEN_MAX).collect();
        let near = did_you_mean(name, names.iter().copied());
        let hint = near.unwrap_or_else(|| format!("it has {}", names.join(", ")));
        let message = format!("`{}` has no function `{shown}`; {hint}", program.name());
        Failure::new(FailureCode::UnknownFunction, message)
    })
}
