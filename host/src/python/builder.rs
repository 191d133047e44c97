//! Builds of Python apps, on a thread of its own: it prepares the base once, and then serves build after build.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::base::Base;
use super::error::PythonError;
use super::project::Project;
use super::requirements::Packages;
use super::source::Files;
use crate::app::artifact::ArtifactCache;
use crate::app::metadata::Metadata;
use crate::app::{ComponentBytes, DescribedApp};
use crate::compiler::{Compiler, CompilerConfig};
use crate::deploy::NativeCode;
use crate::limits::{PRELOAD_MEMORY_BYTES_MAX, PRELOAD_OUTPUT_BYTES_MAX, PRELOAD_TIMEOUT};
use crate::sandbox::{EngineConfig, PreloadLimits, Sandbox, instrument};

/// Name of the base in messages of the compiler.
const NAME: &str = "python";

/// Builder of Python apps. Cheap until its first build.
pub(crate) struct Builder {
    data: PathBuf,
    artifacts: PathBuf,
    compiler: CompilerConfig,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
}

/// A component that was built.
pub(crate) struct Built {
    /// The component with its metadata.
    pub app: DescribedApp,
    /// Output of the modules while they were imported.
    pub output: String,
    /// Time for the modules and the snapshot, without the base.
    pub took: Duration,
}

struct Request {
    project: Project,
    reply: oneshot::Sender<Result<Built, PythonError>>,
}

impl Builder {
    /// Makes a builder with the base in `data` and native code in `artifacts`; starts nothing.
    pub(crate) fn new(data: &Path, artifacts: &Path, compiler: CompilerConfig) -> Self {
        Self { data: data.to_owned(), artifacts: artifacts.to_owned(), compiler, requests: Mutex::default() }
    }

    /// Builds an app. Must run within a tokio runtime.
    pub(crate) async fn build(&self, project: Project) -> Result<Built, PythonError> {
        let (reply, built) = oneshot::channel();
        let requests = self.requests()?;
        let stopped = |_| PythonError::Stopped("it panicked".to_owned());
        if requests.send(Request { project, reply }).await.is_err() {
            *self.requests.lock() = None;
        }
        built.await.map_err(stopped)?
    }

    fn requests(&self) -> Result<mpsc::Sender<Request>, PythonError> {
        let mut running = self.requests.lock();
        if let Some(requests) = running.as_ref().filter(|requests| !requests.is_closed()) {
            return Ok(requests.clone());
        }
        let (requests, received) = mpsc::channel(1);
        let (data, artifacts) = (self.data.clone(), self.artifacts.clone());
        let (compiler, runtime) = (self.compiler.clone(), tokio::runtime::Handle::current());
        let serve = move || runtime.block_on(serve(data, artifacts, compiler, received));
        let started = std::thread::Builder::new().name("python".into()).spawn(serve);
        started.map_err(|error| PythonError::Stopped(error.to_string()))?;
        *running = Some(requests.clone());
        Ok(requests)
    }
}

/// Serves builds; an error of the base answers the one that waits, and ends this.
async fn serve(data: PathBuf, artifacts: PathBuf, compiler: CompilerConfig, mut requests: mpsc::Receiver<Request>) {
    let Some(first) = requests.recv().await else { return };
    if let Err((error, request)) = serve_with(&data, &artifacts, compiler, first, &mut requests).await {
        let _ = request.reply.send(Err(error));
    }
}

async fn serve_with(
    data: &Path,
    artifacts: &Path,
    compiler: CompilerConfig,
    first: Request,
    requests: &mut mpsc::Receiver<Request>,
) -> Result<(), (PythonError, Request)> {
    let prepare = || -> Result<_, PythonError> {
        let base = Base::find(data)?;
        let engine = EngineConfig { instances_max: 1, ..EngineConfig::default() };
        let sandbox = Arc::new(Sandbox::new(&engine)?);
        let cache = ArtifactCache::open(artifacts).map_err(crate::deploy::CodeError::from)?;
        Ok((base, sandbox, cache))
    };
    let (base, sandbox, cache) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return Err((error, first)),
    };
    let code = NativeCode::new(sandbox.clone(), cache, Compiler::new(compiler));
    let link = async {
        let (instrumented, component) = instrument(&base.component.bytes)?;
        let compiled = code.compile(&ComponentBytes::new(component)?, NAME).await?;
        Ok::<_, PythonError>((instrumented, sandbox.link_base(&compiled)?))
    };
    let (instrumented, linked) = match link.await {
        Ok(linked) => linked,
        Err(error) => return Err((error, first)),
    };
    let limits = PreloadLimits {
        timeout: PRELOAD_TIMEOUT,
        memory_bytes_max: PRELOAD_MEMORY_BYTES_MAX,
        output_bytes_max: PRELOAD_OUTPUT_BYTES_MAX,
    };
    let mut next = Some(first);
    while let Some(Request { project, reply }) = next {
        let begun = Instant::now();
        let build = async {
            let packages = Packages::of(&project, data, &base.component.digest).await?;
            let files = Files::open(&project.dir, packages.dir.as_deref(), base.library.clone())?;
            let entry = (project.entry.as_str(), &project.app);
            let preloaded = sandbox.preload(&instrumented, &linked, Arc::new(files), entry, limits).await;
            let preloaded = preloaded.map_err(|error| PythonError::of_preload(error, &packages))?;
            let metadata = Metadata::parse(preloaded.document.as_bytes())?;
            let component = ComponentBytes::new(preloaded.component)?.with_metadata(&metadata)?;
            let app = DescribedApp { component, metadata };
            Ok(Built { app, output: preloaded.output, took: begun.elapsed() })
        };
        // A client that has gone needs no reply.
        let _ = reply.send(build.await);
        next = requests.recv().await;
    }
    Ok(())
}
