//! Targets `APP` and `APP::FUNCTION`: a crate directory or a `.wasm` file, built and described as needed.

use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::output;
use crate::app::build::BuildDirs;
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, DescribedApp, build};
use crate::codes::Code;
use crate::server::Host;
use crate::tasks::blocking;

/// Smallest component whose compilation is announced: it takes about a second.
const ANNOUNCED_BYTES_MIN: usize = 2 << 20;

/// Note to a build that takes longer than the next one will.
pub(crate) const FIRST_BUILD: &str = "the first build compiles the SDK, once for all apps: about half a minute";

/// A component on disk. A freshly built one has no metadata yet.
pub(crate) struct AppFile {
    pub path: PathBuf,
    component: ComponentBytes,
    metadata: Option<Metadata>,
}

/// Splits `APP::FUNCTION`.
pub(crate) fn split(target: &str) -> Result<(&str, &str), Exit> {
    match target.rsplit_once("::") {
        Some((app, function)) if !app.is_empty() && !function.is_empty() => Ok((app, function)),
        _ => Err(Exit::usage(format!("`{target}` is not APP::FUNCTION; for example `examples/hello::greet`"))),
    }
}

/// Opens `app`; builds it if it is a crate directory.
pub(crate) async fn locate(app: &str, dirs: &BuildDirs) -> Result<AppFile, Exit> {
    let path = Path::new(app);
    if path.is_dir() {
        return built(path, dirs).await;
    }
    if !path.is_file() {
        let exit =
            Exit::new(Code::UnknownApp, format!("no app at `{app}`: neither a crate directory nor a component file"));
        return Err(exit.hint("give the directory of a crate, or the path of a `.wasm` file"));
    }
    let component = ComponentBytes::read(path).map_err(|error| Exit::from(error).about(app))?;
    let metadata = match Metadata::read(&component.bytes) {
        Ok(metadata) => Some(metadata),
        Err(MetadataError::Missing) => None,
        Err(error) => return Err(Exit::from(error).about(app)),
    };
    Ok(AppFile { path: path.to_owned(), component, metadata })
}

/// Opens a component that cargo built, with the metadata of an earlier run if the component is unchanged.
pub(crate) fn of_cargo(cargo: &Path) -> Result<AppFile, Exit> {
    let component = ComponentBytes::read(cargo)?;
    let path = cargo.with_extension("bireme.wasm");
    // The `.bireme.wasm` file is the component's bytes followed by its metadata.
    if let Ok(kept) = ComponentBytes::read(&path)
        && Metadata::strip(&kept.bytes) == &*component.bytes
        && let Ok(metadata) = Metadata::read(&kept.bytes)
    {
        return Ok(AppFile { path, component: kept, metadata: Some(metadata) });
    }
    Ok(AppFile { path, component, metadata: None })
}

async fn built(dir: &Path, dirs: &BuildDirs) -> Result<AppFile, Exit> {
    if dirs.is_first_build() {
        output::note(FIRST_BUILD);
    }
    let (dir, dirs) = (dir.to_owned(), dirs.clone());
    of_cargo(&blocking(move || build::build_in(&dir, &dirs)).await?)
}

impl AppFile {
    /// Returns the app if its metadata are there, so that nothing needs to run.
    pub(crate) fn described(&self) -> Option<(PathBuf, DescribedApp)> {
        let metadata = self.metadata.clone()?;
        Some((self.path.clone(), DescribedApp { component: self.component.clone(), metadata }))
    }

    /// Prints a note to stderr if compilation will take a while.
    pub(crate) async fn announce_compile(&self, host: &Host) {
        let bytes = self.component.bytes.len();
        if bytes >= ANNOUNCED_BYTES_MIN && !host.loader.is_compiled(&self.component).await {
            output::note(&format!("compiling `{}` ({})…", self.path.display(), output::bytes(bytes as u64)));
        }
    }

    /// Returns the app. Missing metadata are produced by running the component, and saved beside cargo's output.
    pub(crate) async fn describe(self, host: &Host) -> Result<(PathBuf, DescribedApp), Exit> {
        if let Some(app) = self.described() {
            return Ok(app);
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".wasm").unwrap_or(&name);
        let stem = stem.strip_suffix(".bireme").unwrap_or(stem);
        let shown = self.path.display().to_string();
        let described = host.describe(&self.component, Some(stem)).await;
        let metadata = described.map_err(|error| Exit::from(error).about(&shown))?;
        let component = ComponentBytes::new(metadata.attach(&self.component.bytes))?;
        if self.path.to_string_lossy().ends_with(".bireme.wasm") {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            // Permissions as of cargo's own output: 0666 less the umask.
            let file = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
            std::fs::write(file.path(), &component.bytes)?;
            file.persist(&self.path).map_err(|error| error.error)?;
        }
        Ok((self.path, DescribedApp { component, metadata }))
    }
}

/// Opens, builds and describes `app`.
pub(crate) async fn resolve(app: &str, host: &Host) -> Result<DescribedApp, Exit> {
    let located = locate(app, &host.config.directories.builds()).await?;
    located.announce_compile(host).await;
    Ok(located.describe(host).await?.1)
}
