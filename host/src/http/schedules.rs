//! `/api/v1/schedules`: when functions run by themselves, what became of their runs, and what an operator does about it.

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::control::{Control, pairs};
use super::problem::Problem;
use super::routes::{Answer, json_body};
use crate::app::timetable::Timetable;
use crate::codes::Code;
use crate::dispatch::{ScheduleError, ScheduleView, Schedules, find_function};
use crate::ids::FunctionId;

/// Answers a request; `path` is what follows `/api/v1/schedules`.
pub async fn answer<B>(control: &Control, path: &[&str], request: &Request<B>) -> Answer {
    let schedules = &control.backend.schedules;
    let method = request.method();
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match path {
        [] | [_, _] if !is_read => Err(Problem::method("GET, HEAD")),
        [_, _, "pause" | "resume" | "run"] if *method != Method::POST => Err(Problem::method("POST")),
        [] => list(schedules, request.uri().query().unwrap_or_default()).await,
        [app, function] => {
            let function = find(control, app, function)?;
            one(schedules, &function).await
        }
        [app, function, what @ ("pause" | "resume")] => {
            let function = find(control, app, function)?;
            match *what {
                "pause" => schedules.pause(function.clone()).await?,
                _ => schedules.resume(function.clone()).await?,
            }
            Ok(json_body(&view(&scheduled(schedules, &function).await?)))
        }
        [app, function, "run"] => {
            let function = find(control, app, function)?;
            let call = schedules.run_now(function.clone()).await?;
            let mut response = json_body(&json!({ "app": function.app, "function": function.function, "call": call }));
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

async fn list(schedules: &Schedules, query: &str) -> Answer {
    let app = pairs(query, &["app"])?.pop().map(|(_, app)| app);
    let views = schedules.views().await?;
    let of_app = views.iter().filter(|view| app.as_ref().is_none_or(|app| view.function.app.as_str() == app));
    Ok(json_body(&json!({ "schedules": of_app.map(view).collect::<Vec<_>>() })))
}

async fn one(schedules: &Schedules, function: &FunctionId) -> Answer {
    let mut document = view(&scheduled(schedules, function).await?);
    document["history"] = json!(schedules.history(function).await?);
    Ok(json_body(&document))
}

async fn scheduled(schedules: &Schedules, function: &FunctionId) -> Result<ScheduleView, ScheduleError> {
    let view = schedules.views().await?.into_iter().find(|view| view.function == *function);
    view.ok_or_else(|| ScheduleError::NotScheduled { function: function.clone() })
}

/// Returns the function of a live app.
fn find(control: &Control, app: &str, function: &str) -> Result<FunctionId, Problem> {
    let program = control.backend.dispatcher.program(app).ok_or_else(|| control.absent(app))?;
    Ok(find_function(&program, function)?.id())
}

fn view(view: &ScheduleView) -> Value {
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

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let code = match &error {
            ScheduleError::NotScheduled { .. } => Code::NotScheduled,
            ScheduleError::Running { .. } => Code::AlreadyRunning,
            ScheduleError::Ending => Code::Unavailable,
            ScheduleError::Journal(_) => Code::Store,
        };
        Self::new(code, error.to_string())
    }
}
