//! A host of its own for one bench, with a guest that cargo builds where it is not built yet.

use std::path::Path;
use std::sync::Arc;

use bireme::app::{ComponentBytes, DescribedApp, build};
use bireme::call::{Payload, Principal};
use bireme::config::{Config, Directories};
use bireme::dispatch::{Call, find_function};
use bireme::http::Ingress;
use bireme::ids::AppName;
use bireme::logs::NoLog;
use bireme::sandbox::FunctionRef;
use bireme::sandbox::Program;
use bireme::server::{Host, ListenSettings, RunningHost};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The functions of `examples/hello`.
pub const HELLO: &str = "../examples/hello";
/// The functions of `benches/guest`.
pub const BENCH_GUEST: &str = "guest";

/// A host, one program in it, and the directories that go with it.
pub struct Served {
    pub host: Host,
    pub program: Arc<Program>,
    pub component: ComponentBytes,
    _data: TempDir,
}

/// The same, listening.
pub struct Listening {
    pub running: RunningHost,
    pub program: Arc<Program>,
    _data: TempDir,
}

impl Served {
    /// Builds the guest in `dir`, relative to this crate, and serves it. Must run within a multi-threaded runtime.
    pub async fn start(dir: &str) -> Self {
        Self::start_with(dir, |_| ()).await
    }

    /// The same on a host that is set up in another way.
    pub async fn start_with(dir: &str, set_up: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory can be made");
        let directories = Directories::resolve(Some(data.path())).expect("a given directory needs no home");
        let mut config = Config::new(directories, &[]).expect("no grant can be wrong");
        config.inference.noop_model = true;
        set_up(&mut config);
        let host = Host::build(config, Arc::new(NoLog)).expect("the host can be set up");

        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let component = tokio::task::block_in_place(|| {
            let path = build::build(&dir).expect("the guest builds");
            ComponentBytes::read(&path).expect("cargo wrote a component")
        });
        let metadata = host.describe(&component, None).await.expect("the guest describes itself");
        let app = DescribedApp { component, metadata };
        let program = host.load(&app, &host.config.grants).await.expect("the guest loads");
        Self { host, program, component: app.component, _data: data }
    }

    /// Listens for HTTP on a free port.
    pub async fn listen(self) -> Listening {
        let ingress = Ingress::bind(([127, 0, 0, 1], 0).into()).await.expect("a port is free");
        let open = self.host.open(ListenSettings::default()).await.expect("a new directory can be opened");
        let running = open.start(ingress).await.expect("a new directory can be used");
        Listening { running, program: self.program, _data: self._data }
    }

    /// Serves the same guest as another app.
    pub async fn again_as(&self, name: &str) -> Arc<Program> {
        let metadata = self.host.describe(&self.component, None).await.expect("the guest describes itself");
        let mut app = DescribedApp { component: self.component.clone(), metadata };
        app.metadata.app.name = AppName::new(name).expect("a good name");
        self.host.load(&app, &self.host.config.grants).await.expect("the guest loads")
    }

    /// Returns a call from outside.
    pub fn call(&self, function: &str, input: &'static str) -> Call {
        Call::new(self.find(function), Payload::json(input), Principal::Operator)
    }

    /// Returns a function that is there.
    pub fn find(&self, function: &str) -> FunctionRef {
        find_function(&self.program, function).expect("the guest has the function")
    }
}

/// Runs this process as the worker or the compiler of a bench, if it was started as one, and returns true. Every `main`
/// that starts a `Served` asks first.
pub fn ran_as_child() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role] if role == "worker" => bireme::worker::run(None).expect("the host ends first"),
        [role] if role == "compiler" => bireme::compiler::run().expect("the host ends first"),
        _ => return false,
    }
    true
}

/// Returns the host's runtime, on so many threads.
pub fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime can be set up")
}
