//! Documents of the control API, from the records of the host.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api;
use crate::call::Payload;
use crate::deploy::{Action, DeployOutcome, Record, Warning, WarningKind};
use crate::devices::{Gpu, Obstacle, Report};
use crate::dispatch::{LiveCall, ScheduleView};
use crate::ids::CallId;
use crate::inference::{BatchRecord, DeviceStats, LimitReason, Outcome};
use crate::logs::{Level, LogRecord, Source};
use crate::storage::{CallRecord, FailedAttempt, MapRecord, MapState, RunOutcome, ScheduledRun, SkipReason, State};

impl From<&CallRecord> for api::Call {
    /// Without the output.
    fn from(record: &CallRecord) -> Self {
        let CallRecord { accepted_ms, .. } = *record;
        Self {
            id: record.id,
            kind: api::CallKind::Call,
            app: record.app.clone(),
            function: record.function_id().to_string(),
            state: record.state.into(),
            principal: record.principal.clone(),
            priority: record.priority,
            created_ms: accepted_ms,
            accepted_ms,
            ended_ms: record.ended_ms,
            attempts: record.attempts,
            lost: record.lost,
            next_ms: record.next_ms,
            version: record.version.clone(),
            failure: record.failure.clone(),
            failed_attempts: record.failed_attempts.iter().map(Into::into).collect(),
            parent: record.parent,
            depth: record.depth,
            run: record.run,
            idempotency_key: record.idempotency_key.clone(),
            receipt: record.receipt.clone(),
            output: None,
        }
    }
}

impl From<State> for api::CallState {
    fn from(state: State) -> Self {
        match state {
            State::Accepted => Self::Accepted,
            State::Leased => Self::Leased,
            State::Waiting => Self::Waiting,
            State::Done => Self::Done,
            State::Failed => Self::Failed,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl From<&FailedAttempt> for api::FailedAttempt {
    fn from(failed: &FailedAttempt) -> Self {
        let FailedAttempt { attempt, at_ms, ref failure } = *failed;
        Self { attempt, ended_ms: at_ms, at_ms, failure: failure.clone() }
    }
}

impl From<&MapRecord> for api::Map {
    fn from(record: &MapRecord) -> Self {
        let MapRecord { header, progress } = record;
        Self {
            id: header.id,
            kind: api::MapKind::Map,
            app: header.app.clone(),
            function: header.function_id().to_string(),
            state: record.state().into(),
            principal: header.principal.clone(),
            priority: header.priority,
            created_ms: header.created_ms,
            ended_ms: progress.ended_ms,
            closed: header.is_closed,
            counts: api::MapCounts {
                accepted: header.accepted,
                done: progress.done,
                failed: progress.failed,
                dead: progress.dead,
                cancelled: record.cancelled(),
                retried: progress.retried,
            },
            parent: header.parent,
            idempotency_key: header.idempotency_key.clone(),
            receipt: progress.receipt.clone(),
        }
    }
}

impl From<MapState> for api::MapState {
    fn from(state: MapState) -> Self {
        match state {
            MapState::Open => Self::Open,
            MapState::Running => Self::Running,
            MapState::Done => Self::Done,
            MapState::Cancelled => Self::Cancelled,
        }
    }
}

/// Returns the document of a call under way.
pub(crate) fn live_call(id: CallId, call: &LiveCall) -> api::LiveCall {
    api::LiveCall {
        id,
        function: call.function.to_string(),
        principal: call.principal.clone(),
        depth: call.depth,
        since_ms: u64::try_from(call.since.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

impl From<&Record> for api::DeploymentRecord {
    fn from(record: &Record) -> Self {
        Self {
            number: record.number,
            action: match record.action {
                Action::Deploy => api::DeploymentAction::Deploy,
                Action::Rollback => api::DeploymentAction::Rollback,
                Action::Stop => api::DeploymentAction::Stop,
            },
            version: record.version.clone(),
            digest: record.digest.clone(),
            created_ms: record.at_ms,
            at_ms: record.at_ms,
            bytes: record.bytes,
            functions: record.functions.clone(),
            grants: record.grants.clone(),
            capabilities: record.capabilities.clone(),
            added: record.added.clone(),
            message: record.message.clone(),
        }
    }
}

impl From<DeployOutcome> for api::Deployment {
    fn from(outcome: DeployOutcome) -> Self {
        let functions = outcome.metadata.functions.iter();
        let routes = functions.map(|function| function.endpoint("", &outcome.app)).collect();
        Self {
            app: outcome.app,
            version: outcome.version,
            previous: outcome.previous,
            changed: outcome.is_changed,
            added: outcome.added,
            removed: outcome.removed,
            routes,
            warnings: outcome.warnings.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Warning> for api::DeploymentWarning {
    fn from(warning: Warning) -> Self {
        let kind = match warning.kind {
            WarningKind::Grant => api::DeploymentWarningKind::Grant,
            WarningKind::Model => api::DeploymentWarningKind::Model,
            WarningKind::Secret => api::DeploymentWarningKind::Secret,
            WarningKind::Config => api::DeploymentWarningKind::Config,
        };
        Self { kind, name: warning.name, message: warning.message }
    }
}

impl From<&ScheduleView> for api::Schedule {
    /// Without the history.
    fn from(view: &ScheduleView) -> Self {
        let ScheduleView { function, schedule, state, running, last } = view;
        let next = state.next.filter(|_| !state.is_paused);
        Self {
            app: function.app.clone(),
            function: function.function.clone(),
            schedule: schedule.clone(),
            words: crate::app::timetable::Timetable::parse(schedule).map(|timetable| timetable.words()).ok(),
            paused: state.is_paused,
            next_ms: next.map(jiff::Timestamp::as_millisecond),
            running: *running,
            waiting: state.waiting.is_some(),
            last: last.as_ref().map(Into::into),
            history: None,
        }
    }
}

impl From<&ScheduledRun> for api::ScheduleRun {
    fn from(run: &ScheduledRun) -> Self {
        let (outcome, code, why) = match &run.outcome {
            RunOutcome::Running => (api::RunOutcome::Running, None, None),
            RunOutcome::Done => (api::RunOutcome::Done, None, None),
            RunOutcome::Failed { code } => (api::RunOutcome::Failed, Some(code.clone()), None),
            RunOutcome::Interrupted => (api::RunOutcome::Interrupted, None, None),
            RunOutcome::Skipped { reason } => (api::RunOutcome::Skipped, None, Some((*reason).into())),
        };
        let owed = run.owed.as_ref();
        Self {
            number: run.number,
            from_ms: owed.map(|owed| owed.from.as_millisecond()),
            due_ms: owed.map(|owed| owed.due.as_millisecond()),
            times: owed.map(|owed| owed.times),
            interruptions: owed.map(|owed| owed.interruptions),
            started_ms: run.started.map(jiff::Timestamp::as_millisecond),
            ended_ms: run.ended.map(jiff::Timestamp::as_millisecond),
            call: run.call,
            version: run.version.clone(),
            outcome,
            code,
            why,
        }
    }
}

impl From<SkipReason> for api::SkipReason {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::Missed => Self::Missed,
            SkipReason::Overlap => Self::Overlap,
            SkipReason::Paused => Self::Paused,
            SkipReason::Stopped => Self::Stopped,
        }
    }
}

impl From<&LogRecord> for api::LogEntry {
    fn from(record: &LogRecord) -> Self {
        Self {
            number: record.number,
            created_ms: record.at_ms,
            at_ms: record.at_ms,
            app: record.app.clone(),
            function: record.function.clone(),
            version: record.version.clone(),
            call: record.call,
            source: match record.source {
                Source::Log => api::LogSource::Log,
                Source::Stdout => api::LogSource::Stdout,
                Source::Stderr => api::LogSource::Stderr,
                Source::System => api::LogSource::System,
            },
            level: match record.level {
                Level::Trace => api::LogLevel::Trace,
                Level::Debug => api::LogLevel::Debug,
                Level::Info => api::LogLevel::Info,
                Level::Warn => api::LogLevel::Warn,
                Level::Error => api::LogLevel::Error,
            },
            message: record.message.clone(),
            fields: record.fields.iter().cloned().collect(),
        }
    }
}

impl From<&Report> for api::DeviceReport {
    fn from(report: &Report) -> Self {
        let (used, obstacle) = match &report.chosen {
            Ok(chosen) => (Some(chosen.device.to_string()), chosen.obstacle.as_ref()),
            Err(refused) => (None, Some(&refused.obstacle)),
        };
        let cpu = api::Device { device: "cpu".to_owned(), is_usable: true, ..api::Device::default() };
        let library = report.probe.cublaslt.as_ref();
        Self {
            asked: report.asked.to_string(),
            used,
            obstacle: obstacle.map(Into::into),
            devices: std::iter::once(cpu).chain(report.probe.gpus.iter().map(Into::into)).collect(),
            driver: report.probe.driver.map(|version| version.to_string()),
            cublaslt: library
                .map(|library| api::DeviceLibrary { version: library.version.clone(), path: library.path.clone() }),
            worker: report.worker.as_ref().map(|worker| api::DeviceWorker {
                pid: worker.pid,
                device: worker.device.clone(),
                models: worker.models.clone(),
            }),
        }
    }
}

impl From<&Gpu> for api::Device {
    fn from(gpu: &Gpu) -> Self {
        let (major, minor) = gpu.compute_capability;
        Self {
            device: format!("cuda:{}", gpu.ordinal),
            name: Some(gpu.name.clone()),
            uuid: gpu.uuid.clone(),
            compute_capability: Some(format!("{major}.{minor}")),
            memory_bytes: Some(gpu.memory_bytes),
            memory_free_bytes: gpu.memory_free_bytes,
            is_usable: gpu.obstacle.is_none(),
            obstacle: gpu.obstacle.as_ref().map(Into::into),
        }
    }
}

impl From<&Obstacle> for api::DeviceObstacle {
    fn from(obstacle: &Obstacle) -> Self {
        Self { reason: obstacle.reason().to_owned(), detail: obstacle.to_string(), fix: obstacle.next_step() }
    }
}

impl From<BatchRecord> for api::Batch {
    fn from(record: BatchRecord) -> Self {
        Self {
            id: record.id,
            model: record.model.to_string(),
            device: record.device.map(|device| device.to_string()),
            worker_pid: record.worker_pid,
            outcome: match record.outcome {
                Outcome::Done => api::BatchOutcome::Done,
                Outcome::Failed => api::BatchOutcome::Failed,
                Outcome::Lost => api::BatchOutcome::Lost,
            },
            requests: record.requests,
            tenants: record.tenants.iter().map(ToString::to_string).collect(),
            rows: record.rows,
            tokens: record.tokens,
            cut: match record.cut {
                LimitReason::Drained => api::BatchCut::Drained,
                LimitReason::Rows => api::BatchCut::Rows,
                LimitReason::Tokens => api::BatchCut::Tokens,
                LimitReason::Enough => api::BatchCut::Enough,
                LimitReason::Delay => api::BatchCut::Delay,
                LimitReason::Retry => api::BatchCut::Retry,
            },
            losses: record.losses,
            wait_us: record.wait_us,
            wall_us: record.wall_us,
            device_us: record.device_us,
            ended_ms: record.ended_ms,
        }
    }
}

impl From<DeviceStats> for api::BatchTotals {
    fn from(stats: DeviceStats) -> Self {
        let models = stats.models.into_iter().map(|model| api::ModelTotals {
            name: model.name,
            waiting_rows: model.waiting_rows,
            loaded: model.loaded,
            memory_bytes: model.memory_bytes,
            keep: model.keep,
        });
        Self {
            device: stats.device,
            worker_pid: stats.worker_pid,
            worker_starts: stats.worker_starts,
            worker_deaths: stats.worker_deaths,
            batches: stats.batches,
            rows: stats.rows,
            tokens: stats.tokens,
            device_us: stats.device_us,
            cut_drained: stats.cut_drained,
            cut_rows: stats.cut_rows,
            cut_tokens: stats.cut_tokens,
            cut_enough: stats.cut_enough,
            cut_delay: stats.cut_delay,
            cut_retry: stats.cut_retry,
            batches_failed: stats.batches_failed,
            refused: stats.refused,
            expired: stats.expired,
            rejected: stats.rejected,
            loads: stats.loads,
            unloads: stats.unloads,
            checks: stats.checks,
            queue_bytes: stats.queue_bytes,
            models: models.collect(),
        }
    }
}

/// Output as JSON text: JSON unchanged, else an object with the media type and the bytes in Base64.
pub(crate) fn output(payload: &Payload) -> Box<RawValue> {
    let json = payload.is_json().then(|| serde_json::from_slice::<Box<RawValue>>(&payload.data).ok()).flatten();
    json.unwrap_or_else(|| {
        let object = json!({ "content_type": payload.content_type, "base64": BASE64.encode(&payload.data) });
        serde_json::value::to_raw_value(&object).expect("string keys only")
    })
}

/// Output within a document. JSON that `serde_json` cannot hold (huge numbers, deep nesting) becomes its text.
pub(crate) fn output_value(payload: &Payload) -> Value {
    let raw = output(payload);
    serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(raw.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_no_document_holds_is_its_text() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in ["1e999", &deep] {
            assert_eq!(output_value(&Payload::json(text.to_owned())), Value::from(text));
        }
        assert_eq!(output_value(&Payload::json("[1]")), json!([1]));
    }

    #[test]
    fn a_call_shows_its_principal_and_priority_though_its_record_leaves_defaults_out() {
        let document = |principal: Value| {
            let id = "01a20e64-a124-707d-9175-a92a41304ffb";
            let mut record = json!({
                "id": id, "app": "blog", "function": "refresh", "state": "accepted", "accepted_ms": 1,
            });
            if !principal.is_null() {
                record["principal"] = principal;
            }
            let record: CallRecord = serde_json::from_value(record).unwrap();
            json!(api::Call::from(&record))
        };
        assert_eq!(document(Value::Null)["principal"], "operator");
        assert_eq!(document(Value::Null)["priority"], "normal");
        assert_eq!(document(json!("app:blog"))["principal"], "app:blog");
        assert_eq!(
            (document(Value::Null)["created_ms"].as_u64(), document(Value::Null)["accepted_ms"].as_u64()),
            (Some(1), Some(1))
        );
    }
}
