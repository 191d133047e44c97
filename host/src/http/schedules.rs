//! `/api/v1/schedules`: timetables of scheduled functions, their runs, and the operator's pause, resume and run.

use http::StatusCode;

use super::apps::Apps;
use super::handler::HandlerResult;
use super::problem::Problem;
use super::respond::{json_response, json_response_as};
use super::router::Matched;
use crate::api::{self, Operation};
use crate::dispatch::{ScheduleError, ScheduleView, Schedules};
use crate::ids::FunctionId;

/// Answers the list of schedules.
pub(crate) async fn list(schedules: &Schedules, app: Option<&str>) -> HandlerResult {
    let views = schedules.views().await?;
    let of_app = views.iter().filter(|view| app.is_none_or(|app| view.function.app.as_str() == app));
    Ok(json_response(&api::ScheduleList { schedules: of_app.map(Into::into).collect() }))
}

/// Answers a request for one schedule.
pub(crate) async fn answer(schedules: &Schedules, apps: &Apps, matched: &Matched) -> HandlerResult {
    let function = apps.function(matched.path("app"), matched.path("function"))?.id();
    match matched.route.operation {
        Operation::PauseSchedule => schedules.pause(function.clone()).await?,
        Operation::ResumeSchedule => schedules.resume(function.clone()).await?,
        Operation::RunSchedule => {
            let call = schedules.run_now(function.clone()).await?;
            let FunctionId { app, function } = function;
            return Ok(json_response_as(StatusCode::ACCEPTED, &api::RunStarted { app, function, call }));
        }
        _ => {
            let mut schedule = find(schedules, &function).await?;
            schedule.history = Some(schedules.history(&function).await?.iter().map(Into::into).collect());
            return Ok(json_response(&schedule));
        }
    }
    Ok(json_response(&find(schedules, &function).await?))
}

async fn find(schedules: &Schedules, function: &FunctionId) -> Result<api::Schedule, Problem> {
    let views: Vec<ScheduleView> = schedules.views().await?;
    let view = views.iter().find(|view| view.function == *function).map(Into::into);
    Ok(view.ok_or_else(|| ScheduleError::NotScheduled { function: function.clone() })?)
}
