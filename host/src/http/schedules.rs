//! `/api/v1/schedules`: timetables of scheduled functions, their runs, and the operator's pause, resume and run.

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::apps::Apps;
use super::handler::{HandlerResult, is_read};
use super::problem::Problem;
use super::query;
use super::respond::json_response;
use crate::app::timetable::Timetable;
use crate::dispatch::{ScheduleError, ScheduleView, Schedules};
use crate::ids::FunctionId;

/// Answers a request; `path` is the rest after `/api/v1/schedules`.
pub async fn route<B>(schedules: &Schedules, apps: &Apps, path: &[&str], request: &Request<B>) -> HandlerResult {
    let method = request.method();
    match path {
        [] | [_, _] if !is_read(method) => Err(Problem::method("GET, HEAD")),
        [_, _, "pause" | "resume" | "run"] if *method != Method::POST => Err(Problem::method("POST")),
        [] => list(schedules, query::parse_one(request.uri(), "app")?).await,
        [app, function] => get_one(schedules, &find(apps, app, function)?).await,
        [app, function, action @ ("pause" | "resume")] => {
            let function = find(apps, app, function)?;
            match *action {
                "pause" => schedules.pause(function.clone()).await?,
                _ => schedules.resume(function.clone()).await?,
            }
            Ok(json_response(&document(&view_of(schedules, &function).await?)))
        }
        [app, function, "run"] => {
            let function = find(apps, app, function)?;
            let call = schedules.run_now(function.clone()).await?;
            let run = json!({ "app": function.app, "function": function.function, "call": call });
            let mut response = json_response(&run);
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
        _ => {
            let detail = format!(
                "nothing at `{}`; a schedule is at /api/v1/schedules/APP/FUNCTION, and takes pause, resume and run below it",
                request.uri().path()
            );
            Err(Problem::not_found(detail))
        }
    }
}

async fn list(schedules: &Schedules, app: Option<String>) -> HandlerResult {
    let views = schedules.views().await?;
    let of_app = views.iter().filter(|view| app.as_ref().is_none_or(|app| view.function.app.as_str() == app));
    Ok(json_response(&json!({ "schedules": of_app.map(document).collect::<Vec<_>>() })))
}

async fn get_one(schedules: &Schedules, function: &FunctionId) -> HandlerResult {
    let mut value = document(&view_of(schedules, function).await?);
    value["history"] = json!(schedules.history(function).await?);
    Ok(json_response(&value))
}

async fn view_of(schedules: &Schedules, function: &FunctionId) -> Result<ScheduleView, ScheduleError> {
    let view = schedules.views().await?.into_iter().find(|view| view.function == *function);
    view.ok_or_else(|| ScheduleError::NotScheduled { function: function.clone() })
}

/// Returns a function of a live app.
fn find(apps: &Apps, app: &str, function: &str) -> Result<FunctionId, Problem> {
    Ok(apps.function(app, function)?.id())
}

/// Document of a scheduled function.
fn document(view: &ScheduleView) -> Value {
    let state = &view.state;
    let next = state.next.filter(|_| !state.is_paused);
    json!({
        "app": view.function.app,
        "function": view.function.function,
        "schedule": view.schedule,
        "words": Timetable::parse(&view.schedule).map(|timetable| timetable.words()).ok(),
        "paused": state.is_paused,
        "next_ms": next.map(jiff::Timestamp::as_millisecond),
        "running": view.running,
        "waiting": state.waiting.is_some(),
        "last": view.last,
    })
}
