//! Table of the routes that the host owns. `http` routes by it; `docs/api.md` and the OpenAPI document are made of it.

use std::sync::LazyLock;

use http::Method;

use super::operation::Operation;
use super::route::{Content, Parameter, ParameterKind, ParameterPlace, Response, Route, Scope, first_segment};
use super::{
    AppDescription, AppHistory, AppList, AppStopped, BatchList, BucketList, Call, CallList, Deployment, DeviceReport,
    Event, FunctionDescription, InputsAccepted, KeyList, LogStreamLine, Map, MapInput, MapOutcome, MapRetried,
    MapStreamLine, RunStarted, Schedule, ScheduleList, ValueChanged,
};
use crate::codes::Code;

/// First segments of paths that are kept for later parts of the host.
const RESERVED: [&str; 2] = ["mcp", "ui"];

/// First segments of the host's own paths, sorted. No app has one of these names.
pub(crate) static RESERVED_NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut names: Vec<&str> = host_paths().map(first_segment).chain(RESERVED).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
});

/// Returns the path patterns of the host's own routes, one for each route.
pub(crate) fn host_paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().filter(|route| route.operation != Operation::CallFunction).map(|route| route.path)
}

/// Table of all routes.
pub(crate) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    [meta(), apps(), key_value(), calls(), maps(), schedules(), observation(), functions_and_models()]
        .into_iter()
        .flatten()
        .collect()
});

const ORDERS: ParameterKind = ParameterKind::Word(&["input", "completion"]);
const PRIORITIES: ParameterKind = ParameterKind::Word(&["high", "normal", "low"]);
/// States of calls and maps, and `live` for those that have not ended.
pub(crate) const STATES: &[&str] =
    &["accepted", "leased", "waiting", "done", "failed", "dead", "cancelled", "open", "running", "live"];

const APP: Parameter = path("app", ParameterKind::Text, "Name of an app");
const FUNCTION: Parameter = path("function", ParameterKind::Text, "Name of a function of the app");
const CALL_ID: Parameter = path("id", ParameterKind::Id, "Id of a durable call, or its first digits");
const MAP_ID: Parameter = path("id", ParameterKind::Id, "Id of a durable map, or its first digits");
const INDEX: Parameter = path("index", ParameterKind::Number, "Index of an input, from 0");
const PRIORITY: Parameter = query("priority", PRIORITIES, "Priority among the app's calls");
const WAIT: Parameter =
    query("wait", ParameterKind::Seconds, "Wait this many seconds for the end, at most 60; as `prefer: wait`");
const PREFER: Parameter = header("prefer", "`wait=SECONDS`: wait for the end, at most 60 seconds");
const KEY: Parameter =
    header("idempotency-key", "Text of the client's choice: a second request with it returns what the first made");
const CONTENT_TYPE: Parameter = header("content-type", "Media type of the input");

fn meta() -> Vec<Route> {
    use Operation::*;
    vec![
        get(Health, "/healthz", Scope::None, "Whether the process answers").text(),
        get(Ready, "/readyz", Scope::None, "Whether the host takes calls").text(),
        get(ListAppsAtRoot, "/", Scope::Read, "Apps of the host; as `/api/v1/apps`").json::<AppList>(),
        get(Metrics, "/metrics", Scope::Read, "Metrics in Prometheus' text format").gives(
            200,
            "The metrics; with `accept`, as OpenMetrics 1.0",
            Content::Text("text/plain; version=0.0.4; charset=utf-8"),
        ),
        get(OpenApi, "/api/v1/openapi.json", Scope::None, "OpenAPI 3.1 document of this table")
            .json::<serde_json::Map<String, serde_json::Value>>(),
    ]
}

fn apps() -> Vec<Route> {
    use Operation::*;
    vec![
        get(ListApps, "/api/v1/apps", Scope::Read, "Apps with their versions, states and functions").json::<AppList>(),
        post(DeployApp, "/api/v1/apps", Scope::Deploy, "Deploy the component in the body, of at most 64 MiB")
            .with(&[
                list("accept", "Capability to accept, or `all`"),
                list("grant", "Grant of the app; empty takes all back; without one the app keeps those it has"),
                query("message", ParameterKind::Text, "What changed, in at most 1,000 bytes"),
                query("dry_run", ParameterKind::Flag, "Change nothing"),
            ])
            .takes(Content::Bytes("application/wasm"))
            .gives(201, "The version is live now", Content::json::<Deployment>())
            .gives(200, "Nothing changed", Content::json::<Deployment>())
            .fails(&[
                Code::BadComponent,
                Code::BadApp,
                Code::Config,
                Code::NotAccepted,
                Code::TakesNoDeployments,
                Code::DiskFull,
            ])
            .reads_body(),
        get(
            DescribeApp,
            "/api/v1/apps/{app}",
            Scope::Read,
            "Description of a live app: functions, schemas, capabilities",
        )
        .with(&[APP])
        .json::<AppDescription>()
        .fails(&[Code::UnknownApp]),
        get(
            DescribeFunction,
            "/api/v1/apps/{app}/functions/{function}",
            Scope::Read,
            "Description of one function: parameters, schemas, attributes",
        )
        .with(&[APP, FUNCTION])
        .json::<FunctionDescription>()
        .fails(&[Code::UnknownApp, Code::UnknownFunction]),
        delete(StopApp, "/api/v1/apps/{app}", Scope::Deploy, "Stop an app; its versions and data stay")
            .with(&[APP])
            .json::<AppStopped>()
            .fails(&[Code::UnknownApp, Code::AppStopped, Code::TakesNoDeployments, Code::DiskFull]),
        get(ListDeployments, "/api/v1/apps/{app}/history", Scope::Read, "Kept deployments of an app, newest first")
            .with(&[APP])
            .json::<AppHistory>()
            .fails(&[Code::UnknownApp, Code::TakesNoDeployments]),
        post(RollBackApp, "/api/v1/apps/{app}/rollback", Scope::Deploy, "Make an earlier version live")
            .with(&[APP, query("to", ParameterKind::Text, "Version or its first digits; the one before by default")])
            .json::<Deployment>()
            .fails(&[
                Code::UnknownApp,
                Code::UnknownVersion,
                Code::NoRollback,
                Code::TakesNoDeployments,
                Code::BadApp,
                Code::BadComponent,
                Code::DiskFull,
            ]),
    ]
}

fn key_value() -> Vec<Route> {
    use Operation::*;
    const BUCKET: Parameter = query("bucket", ParameterKind::Text, "Name of the bucket; required");
    const KEY: Parameter = query("key", ParameterKind::Text, "Key within the bucket; required");
    const AFTER: Parameter = query("after", ParameterKind::Text, "Cursor: `next` of the page before");
    const VALUE: &str = "/api/v1/apps/{app}/kv/value";
    let bytes = Content::Bytes("application/octet-stream");
    vec![
        get(ListBuckets, "/api/v1/apps/{app}/kv/buckets", Scope::Read, "Buckets of an app that have a key")
            .with(&[APP, AFTER])
            .json::<BucketList>()
            .fails(&[Code::UnknownApp]),
        get(ListKeys, "/api/v1/apps/{app}/kv/keys", Scope::Read, "Keys of a bucket")
            .with(&[
                APP,
                BUCKET,
                query("prefix", ParameterKind::Text, "Only keys that begin with this"),
                AFTER,
                query("limit", ParameterKind::Number, "Keys of the page, from 1 to 1,000; 1,000 by default"),
            ])
            .json::<KeyList>()
            .fails(&[Code::UnknownApp]),
        get(GetValue, VALUE, Scope::Read, "A value, as raw bytes")
            .with(&[APP, BUCKET, KEY])
            .gives(200, "The value", bytes)
            .fails(&[Code::UnknownApp, Code::UnknownKey]),
        route(SetValue, Method::PUT, VALUE, Scope::Admin, "Set a value to the bytes of the body, at most 8 MiB")
            .with(&[
                APP,
                BUCKET,
                KEY,
                query("ttl", ParameterKind::Seconds, "Seconds until it expires; never by default"),
            ])
            .takes(bytes)
            .json::<ValueChanged>()
            .fails(&[Code::UnknownApp, Code::DiskFull, Code::DiskQuota])
            .reads_body(),
        delete(DeleteValue, VALUE, Scope::Admin, "Delete a value")
            .with(&[APP, BUCKET, KEY])
            .json::<ValueChanged>()
            .fails(&[Code::UnknownApp, Code::UnknownKey, Code::Overloaded, Code::DiskFull]),
    ]
}

fn calls() -> Vec<Route> {
    use Operation::*;
    let not_found = [Code::UnknownCall];
    vec![
        post(
            SpawnCall,
            "/api/v1/apps/{app}/functions/{function}/calls",
            Scope::Invoke,
            "Spawn a durable call with the body as its input",
        )
        .with(&[APP, FUNCTION, PRIORITY, WAIT, PREFER, KEY, CONTENT_TYPE])
        .takes(Content::Payload)
        .gives(202, "The call is on disk; its `location` is in the header", Content::json::<Call>())
        .gives(200, "The call has ended within the wait", Content::json::<Call>())
        .fails(&[
            Code::UnknownApp,
            Code::UnknownFunction,
            Code::KeyReused,
            Code::Overloaded,
            Code::DiskFull,
            Code::DiskQuota,
        ])
        .reads_body(),
        get(ListCalls, "/api/v1/calls", Scope::Read, "Durable calls and maps, newest first, and calls under way")
            .with(&[
                query("app", ParameterKind::Text, "Only of this app"),
                query("function", ParameterKind::Text, "Only of this function, as APP::FUNCTION or beside `app`"),
                query("state", ParameterKind::Word(STATES), "Only in this state; `live` is each that has not ended"),
                query("kind", ParameterKind::Word(&["call", "map"]), "Only calls or only maps"),
                query("limit", ParameterKind::Number, "Entries of the page, from 1 to 1,000; 50 by default"),
                query("before", ParameterKind::Id, "Cursor: `next` of the page before"),
            ])
            .json::<CallList>(),
        get(GetCall, "/api/v1/calls/{id}", Scope::Read, "State of a durable call, and its output once it is done")
            .with(&[CALL_ID, WAIT, PREFER])
            .json::<Call>()
            .fails(&not_found)
            .fails(&[Code::Unavailable]),
        delete(CancelCall, "/api/v1/calls/{id}", Scope::Invoke, "Cancel a call and the calls and maps that it spawned")
            .with(&[CALL_ID])
            .json::<Call>()
            .fails(&not_found)
            .fails(&[Code::DiskFull]),
        get(GetCallResult, "/api/v1/calls/{id}/result", Scope::Read, "Output of a call, with its own media type")
            .with(&[CALL_ID, WAIT, PREFER])
            .gives(200, "The output", Content::Payload)
            .gives(202, "There is no output yet", Content::json::<Call>())
            .fails(&not_found)
            .fails_like_a_call(),
        get(GetCallInput, "/api/v1/calls/{id}/input", Scope::Read, "Input of a call, with its own media type")
            .with(&[CALL_ID])
            .gives(200, "The input", Content::Payload)
            .fails(&not_found)
            .fails(&[Code::NotFound]),
    ]
}

fn maps() -> Vec<Route> {
    use Operation::*;
    let not_found = [Code::UnknownMap];
    vec![
        post(
            CreateMap,
            "/api/v1/apps/{app}/functions/{function}/maps",
            Scope::Invoke,
            "Create a durable map; a body of JSON Lines has its inputs, and its outcomes stream back",
        )
        .with(&[APP, FUNCTION, PRIORITY, query("order", ORDERS, "Order of the outcomes"), KEY])
        .takes(Content::json_lines::<serde_json::Value>())
        .gives(201, "The map (no body), or the stream of its outcomes", Content::json::<Map>())
        .gives(201, "The map (no body), or the stream of its outcomes", Content::json_lines::<MapStreamLine>())
        .fails(&[
            Code::UnknownApp,
            Code::UnknownFunction,
            Code::InvalidInput,
            Code::KeyReused,
            Code::Overloaded,
            Code::DiskFull,
            Code::DiskQuota,
        ])
        .reads_body(),
        get(GetMap, "/api/v1/maps/{id}", Scope::Read, "State of a map, its counts and the sum of its receipts")
            .with(&[MAP_ID, WAIT, PREFER])
            .json::<Map>()
            .fails(&not_found),
        delete(CancelMap, "/api/v1/maps/{id}", Scope::Invoke, "Cancel a map and the calls and maps that it spawned")
            .with(&[MAP_ID])
            .json::<Map>()
            .fails(&not_found)
            .fails(&[Code::Unavailable, Code::DiskFull]),
        post(AppendInputs, "/api/v1/maps/{id}/inputs", Scope::Invoke, "Append the lines of the body as inputs")
            .with(&[
                MAP_ID,
                query("from", ParameterKind::Number, "Index of the first; those that the map has are compared"),
            ])
            .takes(Content::json_lines::<serde_json::Value>())
            .json::<InputsAccepted>()
            .fails(&not_found)
            .fails(&[
                Code::UnknownApp,
                Code::UnknownFunction,
                Code::InvalidInput,
                Code::InputGap,
                Code::InputDiffers,
                Code::MapClosed,
                Code::Unavailable,
                Code::DiskFull,
                Code::DiskQuota,
            ])
            .reads_body(),
        get(GetMapInput, "/api/v1/maps/{id}/inputs/{index}", Scope::Read, "One input of a map")
            .with(&[MAP_ID, INDEX])
            .json::<MapInput>()
            .fails(&not_found),
        post(CloseMap, "/api/v1/maps/{id}/close", Scope::Invoke, "End the inputs of a map")
            .with(&[MAP_ID])
            .json::<Map>()
            .fails(&not_found)
            .fails(&[Code::Unavailable, Code::DiskFull]),
        post(
            RetryFailedInputs,
            "/api/v1/maps/{id}/retry-failed",
            Scope::Invoke,
            "Run the failed and cancelled inputs of an ended map again",
        )
        .with(&[MAP_ID])
        .json::<MapRetried>()
        .fails(&not_found)
        .fails(&[Code::MapNotEnded, Code::Overloaded, Code::DiskFull]),
        get(ListMapResults, "/api/v1/maps/{id}/results", Scope::Read, "Outcomes of a map, then its `summary`")
            .with(&[
                MAP_ID,
                query("from", ParameterKind::Number, "Index of the first input"),
                query("order", ORDERS, "Order of the outcomes"),
                query("follow", ParameterKind::Flag, "Wait for the outcomes to come, until the map has ended"),
                query("failed", ParameterKind::Flag, "Only failures"),
            ])
            .gives(200, "The outcomes", Content::json_lines::<MapStreamLine>())
            .fails(&not_found),
        get(GetMapResult, "/api/v1/maps/{id}/results/{index}", Scope::Read, "Outcome of one input")
            .with(&[MAP_ID, INDEX])
            .json::<MapOutcome>()
            .gives(202, "There is no outcome yet", Content::json::<MapOutcome>())
            .fails(&not_found),
    ]
}

fn schedules() -> Vec<Route> {
    use Operation::*;
    let errors = [Code::UnknownApp, Code::UnknownFunction, Code::NotScheduled, Code::Unavailable];
    let one = [APP, FUNCTION];
    vec![
        get(ListSchedules, "/api/v1/schedules", Scope::Read, "Scheduled functions: timetable, next time, last run")
            .with(&[query("app", ParameterKind::Text, "Only of this app")])
            .json::<ScheduleList>()
            .fails(&[Code::Unavailable]),
        get(GetSchedule, "/api/v1/schedules/{app}/{function}", Scope::Read, "One schedule and its last 100 runs")
            .with(&one)
            .json::<Schedule>()
            .fails(&errors),
        post(PauseSchedule, "/api/v1/schedules/{app}/{function}/pause", Scope::Admin, "Pause a schedule")
            .with(&one)
            .json::<Schedule>()
            .fails(&errors),
        post(
            ResumeSchedule,
            "/api/v1/schedules/{app}/{function}/resume",
            Scope::Admin,
            "Resume a schedule, from its next time on",
        )
        .with(&one)
        .json::<Schedule>()
        .fails(&errors),
        post(RunSchedule, "/api/v1/schedules/{app}/{function}/run", Scope::Invoke, "Run a scheduled function at once")
            .with(&one)
            .gives(202, "The run began", Content::json::<RunStarted>())
            .fails(&errors)
            .fails(&[Code::AlreadyRunning]),
    ]
}

fn observation() -> Vec<Route> {
    use Operation::*;
    vec![
        get(ListBatches, "/api/v1/batches", Scope::Read, "The last 256 batches of inference, newest first")
            .json::<BatchList>(),
        get(GetDevices, "/api/v1/devices", Scope::Read, "Devices that models can run on, and the one in use")
            .json::<DeviceReport>(),
        get(ReadLogs, "/api/v1/logs", Scope::Read, "Log lines of functions")
            .with(&[
                query("app", ParameterKind::Text, "Only of this app"),
                query("function", ParameterKind::Text, "Only of this function"),
                query("call", ParameterKind::Text, "Only of this call; the first digits suffice"),
                query("version", ParameterKind::Text, "Only of this version; the first digits suffice"),
                query("source", ParameterKind::Word(&["log", "stdout", "stderr", "system"]), "Only from this source"),
                query(
                    "level",
                    ParameterKind::Word(&["trace", "debug", "info", "warn", "error"]),
                    "Only of this level or a higher one",
                ),
                query("search", ParameterKind::Text, "Only with this text in the message or a field, in any case"),
                query("since_ms", ParameterKind::Number, "Only from this time on"),
                query("until_ms", ParameterKind::Number, "Only before this time"),
                query("tail", ParameterKind::Number, "Of the kept lines, the last so many"),
                query("follow", ParameterKind::Flag, "Go on with new lines, until the host ends"),
            ])
            .gives(200, "The lines", Content::json_lines::<LogStreamLine>()),
        get(ReadEvents, "/api/v1/events", Scope::Read, "Changes of calls, maps, deployments, schedules, and log lines")
            .with(&[
                list("kind", "Only events of this kind: call, map, app, schedule or log"),
                query("app", ParameterKind::Text, "Only of this app"),
                header("last-event-id", "Id of the last event that the client has; the stream goes on behind it"),
            ])
            .gives(200, "The events", Content::events::<Event>()),
    ]
}

/// Functions, and the APIs that others define.
fn functions_and_models() -> Vec<Route> {
    use Operation::*;
    const MODEL: Parameter = path("model", ParameterKind::Text, "Name of a model");
    const VERSION: Parameter = path("version", ParameterKind::Text, "Version of the model: `1`");
    let any = Content::json::<serde_json::Value>;
    let one = |operation, path: &'static str, summary| {
        let route = get(operation, path, Scope::Invoke, summary).gives(200, "", any());
        let parameters = [MODEL, VERSION].into_iter();
        let declared: Vec<_> = parameters.filter(|p| path.contains(&format!("{{{}}}", p.name))).collect();
        route.with(&declared)
    };
    let mut routes = vec![
        one(ListModels, "/v1/models", "Models, as OpenAI's API lists them"),
        one(GetModel, "/v1/models/{model}", "One model, as OpenAI's API describes it"),
        post(CreateEmbeddings, "/v1/embeddings", Scope::Invoke, "Embeddings of texts, as OpenAI's API")
            .takes(any())
            .gives(200, "", any())
            .reads_body(),
        post(Rerank, "/v1/rerank", Scope::Invoke, "Relevance of documents to a query, as Cohere's and Jina's APIs")
            .takes(any())
            .gives(200, "", any())
            .reads_body(),
        one(GetServer, "/v2", "Name, version and extensions of the server (Open Inference Protocol)"),
        one(GetServerLive, "/v2/health/live", "Whether the server answers"),
        one(GetServerReady, "/v2/health/ready", "Whether the server takes requests"),
        one(ListRepository, "/v2/repository/index", "Models and their states"),
        post(SearchRepository, "/v2/repository/index", Scope::Invoke, "Models and their states")
            .takes(any())
            .gives(200, "", any())
            .reads_body(),
    ];
    for (describe, configure, ready, infer) in [
        ("/v2/models/{model}", "/v2/models/{model}/config", "/v2/models/{model}/ready", "/v2/models/{model}/infer"),
        (
            "/v2/models/{model}/versions/{version}",
            "/v2/models/{model}/versions/{version}/config",
            "/v2/models/{model}/versions/{version}/ready",
            "/v2/models/{model}/versions/{version}/infer",
        ),
    ] {
        let infers = one(Infer, infer, "Run a model over tensors");
        routes.extend([
            one(DescribeModel, describe, "Inputs and outputs of a model"),
            one(ConfigureModel, configure, "Configuration of a model, as Triton has it"),
            one(GetModelReady, ready, "Whether a model is installed"),
            Route { method: Method::POST, responses: Vec::new(), ..infers }
                .takes(Content::Payload)
                .gives(200, "", Content::Payload)
                .reads_body(),
        ]);
    }
    for route in &mut routes {
        route.problems.extend([Code::UnknownModel, Code::InvalidInput, Code::Overloaded, Code::DeviceLost]);
    }
    routes.push(
        post(CallFunction, "/{app}/{function}", Scope::Invoke, "Call a function with the body as its input")
            .with(&[APP, FUNCTION, CONTENT_TYPE])
            .takes(Content::Payload)
            .gives(200, "The output; headers have the call, its version and its receipt", Content::Payload)
            .fails(&[Code::UnknownApp])
            .fails_like_a_call()
            .reads_body(),
    );
    routes
}

const fn path(name: &'static str, kind: ParameterKind, doc: &'static str) -> Parameter {
    Parameter { name, place: ParameterPlace::Path, kind, doc }
}

const fn query(name: &'static str, kind: ParameterKind, doc: &'static str) -> Parameter {
    Parameter { name, place: ParameterPlace::Query, kind, doc }
}

const fn list(name: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, place: ParameterPlace::QueryList, kind: ParameterKind::Text, doc }
}

const fn header(name: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, place: ParameterPlace::Header, kind: ParameterKind::Text, doc }
}

fn get(operation: Operation, path: &'static str, scope: Scope, summary: &'static str) -> Route {
    route(operation, Method::GET, path, scope, summary)
}

fn post(operation: Operation, path: &'static str, scope: Scope, summary: &'static str) -> Route {
    route(operation, Method::POST, path, scope, summary)
}

fn delete(operation: Operation, path: &'static str, scope: Scope, summary: &'static str) -> Route {
    route(operation, Method::DELETE, path, scope, summary)
}

fn route(operation: Operation, method: Method, path: &'static str, scope: Scope, summary: &'static str) -> Route {
    let (parameters, responses, problems) = (Vec::new(), Vec::new(), Vec::new());
    Route { operation, method, path, summary, scope, parameters, request: None, responses, problems }
}

impl Route {
    fn with(mut self, parameters: &[Parameter]) -> Self {
        self.parameters.extend_from_slice(parameters);
        self
    }

    fn takes(mut self, content: Content) -> Self {
        self.request = Some(content);
        self
    }

    fn gives(mut self, status: u16, doc: &'static str, content: Content) -> Self {
        self.responses.push(Response { status, doc, content });
        self
    }

    fn json<T: schemars::JsonSchema>(self) -> Self {
        self.gives(200, "", Content::json::<T>())
    }

    fn text(self) -> Self {
        self.gives(200, "", Content::Text("text/plain"))
    }

    fn fails(mut self, codes: &[Code]) -> Self {
        self.problems.extend_from_slice(codes);
        self
    }

    /// Adds the errors of a body that is read.
    fn reads_body(self) -> Self {
        self.fails(&[
            Code::BodyTimeout,
            Code::BodyUnreadable,
            Code::InputTooLarge,
            Code::UnsupportedMediaType,
            Code::Overloaded,
        ])
    }

    /// Adds the errors of a failed call.
    fn fails_like_a_call(self) -> Self {
        self.fails(&[
            Code::Failed,
            Code::Terminal,
            Code::InvalidInput,
            Code::UnknownFunction,
            Code::Timeout,
            Code::MemoryLimit,
            Code::Crashed,
            Code::InputTooLarge,
            Code::OutputTooLarge,
            Code::Overloaded,
            Code::DepthExceeded,
            Code::Cancelled,
            Code::Unavailable,
        ])
    }
}
