//! Schedules of an engine in memory.

use super::super::{HISTORY_LEN, RunOutcome, ScheduleStep, ScheduledRun, StorageError, StoredSchedule};
use super::state::{StartNumber, State};
use crate::ids::FunctionId;

impl State {
    pub(crate) fn schedules(&self) -> Vec<StoredSchedule> {
        let stored = self.schedules.iter().map(|(function, state)| {
            let runs = self.runs.get(function).into_iter().flat_map(|runs| runs.values());
            // A number that is passed over leaves the run that it would have replaced.
            let runs: Vec<_> = runs.filter(|run| run.number + HISTORY_LEN > state.runs).cloned().collect();
            StoredSchedule {
                function: function.clone(),
                state: state.clone(),
                last: runs.last().cloned(),
                unfinished: runs.into_iter().filter(|run| run.outcome == RunOutcome::Running).collect(),
            }
        });
        stored.collect()
    }

    pub(crate) fn advance(&mut self, me: StartNumber, step: &ScheduleStep) -> Result<(), StorageError> {
        self.check(me)?;
        // Without a lease, nothing may be half written.
        if !step.begun.is_empty() {
            self.holder(me)?;
        }
        for (function, run) in &step.runs {
            let begins = |call| step.begun.iter().any(|(begun, _)| begun.id == call);
            let call = run.call.filter(|call| run.outcome == RunOutcome::Running && begins(*call));
            // Written before, with its call: both may have ended since.
            if call.is_some_and(|call| self.calls.contains_key(&call)) {
                continue;
            }
            let runs = self.runs.entry(function.clone()).or_default();
            runs.insert(run.number, run.clone());
            if let Some(old) = run.number.checked_sub(HISTORY_LEN) {
                runs.remove(&old);
            }
        }
        self.schedules.extend(step.states.iter().cloned());
        for call in &step.interrupted {
            if self.calls.get(&call.id).is_some_and(|present| !present.record.state.is_terminal()) {
                self.write_call(me, call.clone(), None)?;
            }
        }
        for (call, input) in &step.begun {
            self.add_call(me, call.clone(), input.clone())?;
        }
        Ok(())
    }

    pub(crate) fn runs(&self, function: &FunctionId) -> Vec<ScheduledRun> {
        let runs = self.runs.get(function).into_iter().flat_map(|runs| runs.values().rev());
        runs.take(HISTORY_LEN as usize).cloned().collect()
    }
}
