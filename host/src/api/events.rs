//! Events: changes of calls, maps, deployments and schedules, and log lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apps::DeploymentRecord;
use super::calls::Call;
use super::logs::LogEntry;
use super::maps::Map;
use super::schedules::Schedule;

/// One event. Its id, in the `id` line of the stream, is where a client goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "data", rename_all = "lowercase")]
pub(crate) enum Event {
    /// A durable call was accepted, began, waits for a retry, or ended. Without its output.
    Call(Box<Call>),
    /// A durable map was created or changed. Changes within a moment are one event.
    Map(Box<Map>),
    /// A version was deployed, rolled back to, or stopped.
    App(Box<AppChange>),
    /// A schedule was paused, resumed, or has a run that began or ended.
    Schedule(Box<Schedule>),
    Log(Box<LogEntry>),
    /// Events were lost: the client was too slow, or came back too late. What it knows is to be read again.
    Lost(EventsLost),
}

/// Change of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AppChange {
    pub app: crate::ids::AppName,
    pub record: DeploymentRecord,
}

/// Gap in a stream of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EventsLost {
    /// Id of the first event behind the gap.
    pub next: String,
}
