//! Host of a unit test: a dispatcher with a real sandbox and one guest, over an engine in memory, on time that a test
//! may pause.
//!
//! The guest is WebAssembly text, so that no toolchain is needed; `guest.wat` says what it does. Deadlines of calls are
//! of the machine's clock, which does not follow tokio's: a paused hour would pass each of them. So the guest has a
//! year.

mod properties;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Call, Dispatcher, Durable, Finished, Options, Retention};
use crate::app::ComponentBytes;
use crate::app::artifact::ArtifactCache;
use crate::app::compiled::Compiled;
use crate::app::metadata::{AppInfo, Attributes, FORMAT, FunctionInfo, Metadata, Retries, SpacedRetries};
use crate::app::parts::Parts;
use crate::budgets::{Budgets, MemoryPlan};
use crate::call::{FailureCode, Payload, Principal};
use crate::inference::{Inference, InferenceConfig};
use crate::kv::Buckets;
use crate::limits::Ceilings;
use crate::logs::NoLog;
use crate::outbound::{Grants, Outbound, OutboundLimits, OwnListeners};
use crate::sandbox::{
    CodeGenerator, EngineConfig, FunctionCache, FunctionRef, Program, Sandbox, SandboxError, Services,
};
use crate::settings::Settings;
use crate::spawner::Spawner;
use crate::storage::memory::{Faults, Memory};
use crate::storage::{CallRecord, State, Storage};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Further attempts of the guest's function.
const RETRIES: u32 = 3;
/// Requests of one call whose answers are lost.
const ASKED_MAX: usize = 50;
const RETRY_WAIT: Duration = Duration::from_secs(60);

/// Compiled guest, and the sandbox that it runs in; several hosts may share them.
pub(crate) struct Guest {
    sandbox: Arc<Sandbox>,
    program: Arc<Program>,
    dir: tempfile::TempDir,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ceilings = Ceilings { timeout_max: YEAR, ..Ceilings::default() };
        let config = EngineConfig { instances_max: 16, ceilings, ..EngineConfig::default() };
        let sandbox = Arc::new(Sandbox::new(&config).unwrap());
        let program = Arc::new(program(&sandbox, dir.path()));
        Self { sandbox, program, dir }
    }
}

/// One start of a host with the guest deployed.
pub(crate) struct Host {
    pub dispatcher: Arc<Dispatcher>,
    pub durable: Arc<Durable>,
    program: Arc<Program>,
}

impl Host {
    /// Makes a host whose durable work does not begin before `Durable::start`. Must run within a tokio runtime.
    pub(crate) fn new(guest: &Guest, storage: &Storage) -> Self {
        let inference = Arc::new(Inference::new(inference(guest.dir.path())));
        let outbound = Outbound::new(OutboundLimits::default(), OwnListeners::default());
        let budgets = Budgets::new(MemoryPlan::new(12 << 30));
        let services = Services::new(inference, Arc::new(Buckets::new(storage.key_value.clone())), outbound, budgets);
        let dispatcher = Dispatcher::new(guest.sandbox.clone(), Arc::new(services), Arc::new(NoLog), Arc::default());
        let program = guest.program.clone();
        dispatcher.deploy(program.clone());
        let durable = dispatcher.durable(storage);
        Self { dispatcher, durable, program }
    }

    /// Returns the guest's function.
    pub(crate) fn function(&self) -> FunctionRef {
        self.program.find("f").expect("the guest has it")
    }

    /// Runs one call that is not kept to its end, with its retries.
    pub(crate) async fn call(&self, digit: u8) -> Finished {
        self.dispatcher.call(Call::new(self.function(), input(digit), Principal::Operator)).await
    }

    /// Keeps a call under a key of its own, and waits for its end. Asks again where the answer was lost, as a client
    /// does.
    pub(crate) async fn durable_call(&self, digit: u8) -> CallRecord {
        let options = Options { key: Some(digit.to_string()), ..Options::default() };
        for _ in 0..ASKED_MAX {
            let Ok(call) = self.durable.spawn(&self.function(), input(digit), options.clone()).await else { continue };
            return self.durable.get(call.id, YEAR).await.unwrap();
        }
        panic!("{ASKED_MAX} answers in a row were lost");
    }
}

/// Returns the input with which as many attempts fail as the digit says; all, and for good, with 9.
pub(crate) fn input(digit: u8) -> Payload {
    Payload::json(digit.to_string())
}

fn inference(models: &Path) -> InferenceConfig {
    InferenceConfig {
        models_dir: models.to_owned(),
        spawner: Spawner::in_process(models),
        device: Default::default(),
        batch_limits: Default::default(),
        model_memory_max: None,
        weights: Default::default(),
        noop_model: false,
        requests_bytes_max: 1 << 30,
    }
}

fn compiled(sandbox: &Sandbox, dir: &Path, text: &str) -> (ComponentBytes, Compiled) {
    let component = ComponentBytes::new(wat::parse_str(text).unwrap()).unwrap();
    let cache = ArtifactCache::open(&dir.join("artifacts")).unwrap();
    let native = CodeGenerator::new(Arc::new(FunctionCache::default())).unwrap().compile(component.code()).unwrap();
    let parts = Parts::of(&component.code_bytes(), component.code_digest());
    let compiled = cache.keep(sandbox.engine(), &parts, &[(parts.rest.digest, native)]).unwrap().unwrap();
    (component, compiled)
}

fn program(sandbox: &Sandbox, dir: &Path) -> Program {
    let (component, compiled) = compiled(sandbox, dir, include_str!("guest.wat"));
    let initial_ms = Some(RETRY_WAIT.as_millis() as u64);
    let retries = SpacedRetries { max: RETRIES, backoff: None, initial_ms, max_delay_ms: None };
    let (timeout_ms, retries) = (Some(YEAR.as_millis() as u64), Some(Retries::Spaced(retries)));
    let function = FunctionInfo {
        name: "f".parse().unwrap(),
        doc: String::new(),
        parameters: Vec::new(),
        input: true.into(),
        output: true.into(),
        attributes: Attributes { timeout_ms, retries, ..Attributes::default() },
    };
    let app = AppInfo { name: "sim".parse().unwrap(), version: String::new(), description: String::new() };
    let metadata = Metadata { format: FORMAT, app, functions: vec![function] };
    sandbox.program(&compiled, component.version(), metadata, &Grants::default(), &Settings::default()).unwrap()
}

#[tokio::test]
async fn a_component_is_described_in_a_slot_as_calls_run_in_one() {
    let guest = Guest::new();
    let host = Host::new(&guest, &Memory::new().host("host"));
    let dispatcher = &host.dispatcher;
    let component = compiled(&guest.sandbox, guest.dir.path(), "(component)").1;
    assert!(matches!(dispatcher.describe(&component).await, Ok(Err(SandboxError::NoDescribe))));
    assert_eq!(dispatcher.load(), (0, 0));
    dispatcher.close();
    assert_eq!(dispatcher.describe(&component).await.unwrap_err().code, FailureCode::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn calls_and_their_retries_pass_in_paused_time() {
    let host = Host::new(&Guest::new(), &Memory::new().host("host"));
    let begun = tokio::time::Instant::now();
    let done = host.call(0).await;
    assert_eq!((done.result, done.receipt.attempts), (Ok(input(0)), 1));
    let terminal = host.call(9).await;
    assert_eq!((terminal.result.unwrap_err().code, terminal.receipt.attempts), (FailureCode::Terminal, 1));
    assert!(begun.elapsed() < RETRY_WAIT, "nothing waited");
    let late = host.call(2).await;
    assert_eq!((late.result, late.receipt.attempts), (Ok(input(2)), 3));
    assert!(begun.elapsed() > RETRY_WAIT, "it waited {:?}", begun.elapsed());
    let dead = host.call(8).await;
    assert_eq!((dead.result.unwrap_err().code, dead.receipt.attempts), (FailureCode::Failed, 1 + RETRIES));
}

/// Ends of durable calls, whatever the engine does.
async fn check_durable_calls(memory: Memory) {
    let host = Host::new(&Guest::new(), &memory.host("host"));
    host.durable.start(Retention::default()).await.unwrap();
    for (digit, state, attempts) in
        [(0, State::Done, 1), (9, State::Failed, 1), (2, State::Done, 3), (8, State::Dead, 4)]
    {
        let ended = host.durable_call(digit).await;
        assert_eq!((ended.state, ended.attempts, ended.lost), (state, attempts, 0), "{}", memory.log());
        let output = host.durable.output(ended.id).await.unwrap();
        assert_eq!(output, (state == State::Done).then(|| input(digit)));
    }
    host.dispatcher.close();
    host.durable.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn durable_calls_end_as_their_inputs_say() {
    check_durable_calls(Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn durable_calls_end_so_over_an_engine_that_delays_and_loses_answers() {
    let faults = Faults {
        delay: 0.5,
        delay_max: Duration::from_secs(2),
        lose_answers: 0.2,
        lose_requests: 0.1,
        ..Faults::default()
    };
    for seed in 0..4 {
        let memory = Memory::with_faults(Faults::default(), seed);
        memory.set_faults(faults);
        check_durable_calls(memory).await;
    }
}
