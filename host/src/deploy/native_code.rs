//! Native code of components: from the cache, or from the compiler for the parts that the cache lacks.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::app::ComponentBytes;
use crate::app::artifact::{ArtifactCache, ArtifactError};
use crate::app::compiled::Compiled;
use crate::app::footprint::{Footprint, FootprintError};
use crate::app::parts::{Part, Parts};
use crate::codes::Code;
use crate::compiler::{CompileError, Compiler};
use crate::sandbox::Sandbox;
use crate::tasks::blocking;

/// A component without native code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Footprint(#[from] FootprintError),
}

impl CodeError {
    /// Returns the error code for users.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Compile(error) => error.code(),
            // The compiler and the host differ.
            Self::Artifact(ArtifactError::Load(_)) => Code::CompilerDied,
            Self::Artifact(_) => Code::Io,
            Self::Footprint(_) => Code::BadApp,
        }
    }
}

/// Native code for one sandbox.
pub(crate) struct NativeCode {
    sandbox: Arc<Sandbox>,
    artifacts: Arc<ArtifactCache>,
    compiler: Compiler,
}

impl NativeCode {
    /// Joins a cache and a compiler.
    pub(crate) fn new(sandbox: Arc<Sandbox>, artifacts: ArtifactCache, compiler: Compiler) -> Self {
        Self { sandbox, artifacts: Arc::new(artifacts), compiler }
    }

    /// Compiles a component, called `name` in messages: the parts of it that were not compiled before. Dropping the
    /// future ends the compile.
    pub(crate) async fn compile(&self, component: &ComponentBytes, name: &str) -> Result<Compiled, CodeError> {
        let (artifacts, engine, kept) = (self.artifacts.clone(), self.sandbox.engine().clone(), component.clone());
        let (parts, loaded) = blocking(move || {
            let parts = Parts::of(&kept.code_bytes(), kept.code_digest());
            match artifacts.load(&engine, &parts) {
                Some(loaded) => Ok((parts, Some(loaded))),
                // The engine would refuse it as well, but after half a minute of Cranelift for a component of 20 MB.
                None => Footprint::of(kept.code()).check().map(|()| (parts, None)),
            }
        })
        .await?;
        if let Some(loaded) = loaded {
            return Ok(loaded);
        }
        let parts = Arc::new(parts);
        let is_missing = |part: &&Part| !self.artifacts.has(self.sandbox.engine(), part);
        let mut wanted: Vec<Part> = parts.all().filter(is_missing).cloned().collect();
        loop {
            let fresh = try_join_all(wanted.into_iter().map(|part| async move {
                Ok::<_, CodeError>((part.digest, self.compiler.compile(name, part.bytes).await?))
            }));
            let fresh = fresh.await?;
            let (artifacts, engine, kept) = (self.artifacts.clone(), self.sandbox.engine().clone(), parts.clone());
            if let Some(compiled) = blocking(move || artifacts.keep(&engine, &kept, &fresh)).await? {
                return Ok(compiled);
            }
            // A file was there and is not this install's, or has gone.
            wanted = parts.all().cloned().collect();
        }
    }
}
