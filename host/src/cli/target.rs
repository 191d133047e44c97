//! What `APP` and `APP::FUNCTION` mean: a crate directory or a `.wasm` file, built and described as far as needed.

use std::path::{Path, PathBuf};

use super::exit::Exit;
use crate::app::ComponentBytes;
use crate::app::build;
use crate::app::metadata::{Metadata, MetadataError};
use crate::sandbox::Sandbox;

/// A component with its metadata inside, and where it lies.
pub struct BuiltApp {
    pub path: PathBuf,
    pub component: ComponentBytes,
    pub metadata: Metadata,
}

/// Splits `APP::FUNCTION`.
pub fn split(target: &str) -> Result<(&str, &str), Exit> {
    match target.rsplit_once("::") {
        Some((app, function)) if !app.is_empty() && !function.is_empty() => Ok((app, function)),
        _ => Err(Exit::usage(format!("`{target}` is not APP::FUNCTION; for example `examples/hello::greet`"))),
    }
}

/// Builds `app` if it is a crate directory; describes it if its component carries no metadata.
pub async fn resolve(app: &str, sandbox: &Sandbox) -> Result<BuiltApp, Exit> {
    let path = Path::new(app);
    if path.is_dir() {
        return built(path, sandbox).await;
    }
    if !path.is_file() {
        let exit =
            Exit::new(4, "unknown-app", format!("no app at `{app}`: neither a crate directory nor a component file"));
        return Err(exit.hint("give the directory of a crate, or the path of a `.wasm` file"));
    }
    let component = ComponentBytes::read(path)?;
    match Metadata::read(&component.bytes) {
        Ok(metadata) => Ok(BuiltApp { path: path.to_owned(), component, metadata }),
        Err(MetadataError::Missing) => {
            let metadata = sandbox.describe(&component.bytes).await?;
            let component = ComponentBytes::new(metadata.attach(&component.bytes))?;
            Ok(BuiltApp { path: path.to_owned(), component, metadata })
        }
        Err(error) => Err(error.into()),
    }
}

async fn built(dir: &Path, sandbox: &Sandbox) -> Result<BuiltApp, Exit> {
    let cargo = tokio::task::block_in_place(|| build::build(dir))?;
    let bare = ComponentBytes::read(&cargo)?;
    let path = cargo.with_extension("bireme.wasm");
    // An unchanged component was described before: what follows its bytes in our file is the section and nothing else.
    if let Ok(kept) = ComponentBytes::read(&path)
        && kept.bytes.starts_with(&bare.bytes)
        && let Ok(metadata) = Metadata::read(&kept.bytes)
        && metadata.attach(&bare.bytes) == *kept.bytes
    {
        return Ok(BuiltApp { path, component: kept, metadata });
    }
    let metadata = sandbox.describe(&bare.bytes).await?;
    let component = ComponentBytes::new(metadata.attach(&bare.bytes))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(file.path(), &component.bytes)?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(BuiltApp { path, component, metadata })
}
