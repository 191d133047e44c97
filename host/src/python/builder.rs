//! Builds of Python apps, on a thread of its own: it prepares the base once, and then serves build after build.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::base::{Base, write};
use super::error::PythonError;
use super::project::Project;
use super::requirements::Packages;
use super::source::Files;
use crate::app::artifact::ArtifactCache;
use crate::app::metadata::Metadata;
use crate::app::{ComponentBytes, DescribedApp};
use crate::compiler::{Compiler, CompilerConfig};
use crate::deploy::{CodeError, NativeCode};
use crate::limits::{PRELOAD_MEMORY_BYTES_MAX, PRELOAD_OUTPUT_BYTES_MAX, PRELOAD_TIMEOUT};
use crate::sandbox::{EngineConfig, InstrumentedBase, LinkedBase, PreloadLimits, Sandbox, instrument};
use crate::spawner::Spawner;

/// Name of the base in messages of the compiler.
const NAME: &str = "python";

/// Limits of one run.
const LIMITS: PreloadLimits = PreloadLimits {
    timeout: PRELOAD_TIMEOUT,
    memory_bytes_max: PRELOAD_MEMORY_BYTES_MAX,
    output_bytes_max: PRELOAD_OUTPUT_BYTES_MAX,
};

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

/// Serves builds until nobody can ask for one.
async fn serve(data: PathBuf, artifacts: PathBuf, compiler: CompilerConfig, mut requests: mpsc::Receiver<Request>) {
    let mut next = requests.recv().await;
    let mut workshop = None;
    while let Some(request) = next {
        let ready = match workshop.take() {
            Some(ready) => Ok(ready),
            None => Workshop::open(&data, &artifacts, compiler.clone()),
        };
        next = match ready {
            Ok(ready) => workshop.insert(ready).serve(request, &mut requests).await,
            Err(error) => refuse(request, error, &mut requests).await,
        };
    }
}

/// Answers with an error; returns the next request.
async fn refuse(request: Request, error: PythonError, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
    // A client that has gone needs no reply.
    let _ = request.reply.send(Err(error));
    requests.recv().await
}

/// What builds need beside an app: the base, and a sandbox of its own to run it in.
struct Workshop {
    data: PathBuf,
    base: Base,
    sandbox: Arc<Sandbox>,
    code: NativeCode,
}

impl Workshop {
    fn open(data: &Path, artifacts: &Path, compiler: CompilerConfig) -> Result<Self, PythonError> {
        let base = Base::find(data)?;
        let engine = EngineConfig { instances_max: 1, ..EngineConfig::default() };
        let sandbox = Arc::new(Sandbox::new(&engine)?);
        let cache = ArtifactCache::open(artifacts).map_err(CodeError::from)?;
        let code =
            NativeCode::new(sandbox.clone(), cache, Compiler::new(compiler, Spawner::in_process(Path::new("."))));
        Ok(Self { data: data.to_owned(), base, sandbox, code })
    }

    /// Serves builds with the requirements of the first one. Returns the first request with others.
    async fn serve(&self, request: Request, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let packages = match self.packages(&request.project).await {
            Ok(packages) => packages,
            Err(error) => return refuse(request, error, requests).await,
        };
        let base = match self.base_with(&packages).await {
            Ok(base) => base,
            Err(error) => return refuse(request, error, requests).await,
        };
        let (instrumented, linked) = match self.link(&base).await {
            Ok(ready) => ready,
            Err(error) => return refuse(request, error, requests).await,
        };
        let mut next = Some(request);
        while let Some(Request { project, reply }) = next {
            match self.packages(&project).await {
                Ok(others) if others != packages => return Some(Request { project, reply }),
                Ok(_) => {
                    let _ = reply.send(self.build(&project, &packages, &instrumented, &linked).await);
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            }
            next = requests.recv().await;
        }
        None
    }

    async fn packages(&self, project: &Project) -> Result<Packages, PythonError> {
        Packages::of(project, &self.data, &self.base.component.digest).await
    }

    /// Returns the base with the modules of the requirements imported, so that a build imports those of the app alone.
    async fn base_with(&self, packages: &Packages) -> Result<Bytes, PythonError> {
        let plain = self.base.component.bytes.clone();
        let Some(path) = packages.base() else { return Ok(plain) };
        if let Ok(kept) = fs::read(&path) {
            return Ok(kept.into());
        }
        let (instrumented, linked) = self.link(&plain).await?;
        let files = Files::open(None, packages.dir.as_deref(), self.base.library.clone())?;
        let modules = packages.modules();
        let preloaded = self.sandbox.preload_modules(&instrumented, &linked, Arc::new(files), &modules, LIMITS).await;
        let base = match preloaded {
            Ok(base) => base,
            Err(error) => {
                // The app may need none of the modules that made this fail.
                tracing::warn!(%error, "the requirements are imported with the app, which takes longer");
                return Ok(plain);
            }
        };
        write(&path, &base).map_err(|source| PythonError::Write { path, source })?;
        Ok(base.into())
    }

    /// Instruments, compiles and links a base for the runs of a build.
    async fn link<'a>(&self, base: &'a [u8]) -> Result<(InstrumentedBase<'a>, LinkedBase), PythonError> {
        let (instrumented, component) = instrument(base)?;
        let compiled = self.code.compile(&ComponentBytes::new(component)?, NAME).await?;
        Ok((instrumented, self.sandbox.link_base(&compiled)?))
    }

    async fn build(
        &self,
        project: &Project,
        packages: &Packages,
        base: &InstrumentedBase<'_>,
        linked: &LinkedBase,
    ) -> Result<Built, PythonError> {
        let files = Files::open(Some(&project.dir), packages.dir.as_deref(), self.base.library.clone())?;
        let entry = (project.entry.as_str(), &project.app);
        let preloaded = self.sandbox.preload_app(base, linked, Arc::new(files), entry, LIMITS).await;
        let preloaded = preloaded.map_err(|error| packages.reason(error))?;
        let metadata = Metadata::parse(preloaded.document.as_bytes())?;
        let component = ComponentBytes::new(preloaded.component)?.with_metadata(&metadata)?;
        let app = DescribedApp { component, metadata };
        Ok(Built { app, output: preloaded.output })
    }
}
