//! Control API: the types of its requests, responses, events and errors, and the table of its routes.
//!
//! Plain data. `http` fills it from the host's records, the command line and tests read it, and the table becomes
//! `docs/api.md` and the OpenAPI document. Records on disk are other types (`journal`, `deploy`): a name here may
//! change while those stay.
//!
//! Times are milliseconds since 1970 and end in `_ms`. A field whose doc says "Deprecated" is an older name, answered
//! for this version of the API. Both names are optional to a reader: hosts of other versions answer one of them.

mod apps;
mod batches;
mod calls;
mod devices;
mod events;
mod key_value;
mod logs;
mod maps;
mod openapi;
mod operation;
#[cfg(test)]
mod page;
mod problem;
mod route;
mod routes;
mod schedules;
mod words;

/// Header of the answers about health: the address at which a host serves functions, `127.0.0.1:8080`.
pub(crate) const ADDRESS_HEADER: &str = "bireme-address";

pub(crate) use apps::{
    App, AppDescription, AppFunction, AppHistory, AppList, AppState, AppStopped, Deployment, DeploymentAction,
    DeploymentRecord, DeploymentWarning, DeploymentWarningKind, FunctionDescription,
};
pub(crate) use batches::{Batch, BatchCut, BatchList, BatchOutcome, BatchTotals, ModelTotals};
pub(crate) use calls::{Call, CallKind, CallList, CallOrMap, CallState, FailedAttempt, LiveCall};
pub(crate) use devices::{Device, DeviceLibrary, DeviceObstacle, DeviceReport, DeviceWorker};
pub(crate) use events::{AppChange, Event, EventsLost};
pub(crate) use key_value::{BucketList, KeyList, ValueChanged};
pub(crate) use logs::{LogEntry, LogLevel, LogLost, LogSource, LogStreamLine};
pub(crate) use maps::{
    InputsAccepted, Map, MapCounts, MapFailure, MapFailureError, MapInput, MapKind, MapOutcome, MapOutcomeState,
    MapRetried, MapState, MapStreamLine,
};
pub(crate) use openapi::DOCUMENT as OPENAPI_DOCUMENT;
pub(crate) use operation::Operation;
pub(crate) use problem::Problem;
pub(crate) use route::{Route, first_segment};
pub(crate) use routes::{RESERVED_NAMES, ROUTES, STATES, host_paths};
pub(crate) use schedules::{RunOutcome, RunStarted, Schedule, ScheduleList, ScheduleRun, SkipReason};
