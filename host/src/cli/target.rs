//! Targets `APP` and `APP::FUNCTION`: a crate directory, a `.wasm` file, or a directory with a `bireme.toml`; built and
//! described as needed.

use std::path::{Path, PathBuf};

use super::compile_max::print_progress;
use super::exit::Exit;
use super::output;
use crate::app::build::BuildDirs;
use crate::app::compiled::Compiled;
use crate::app::manifest::Manifest;
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, DescribedApp, build};
use crate::codes::Code;
use crate::compiler::CompilerConfig;
use crate::config::Directories;
use crate::deploy::LoadError;
use crate::ids::AppName;
use crate::python::{Builder, Project};
use crate::server::Host;
use crate::tasks::blocking;

/// Note to a build that takes longer than the next one will.
pub(crate) const FIRST_BUILD: &str = "the first build compiles the SDK, once for all apps: about half a minute";

/// A component on disk. A freshly built one has no metadata yet.
pub(crate) struct AppFile {
    pub path: PathBuf,
    component: ComponentBytes,
    metadata: Option<Metadata>,
    manifest: Option<Manifest>,
}

/// Directory of a Python app's component, beneath the app's.
const BUILD_DIR: &str = ".bireme";

/// Splits `APP::FUNCTION`.
pub(crate) fn split(target: &str) -> Result<(&str, &str), Exit> {
    match target.rsplit_once("::") {
        Some((app, function)) if !app.is_empty() && !function.is_empty() => Ok((app, function)),
        _ => Err(Exit::usage(format!("`{target}` is not APP::FUNCTION; for example `examples/hello::greet`"))),
    }
}

/// Component and manifest of a target that cargo does not build.
pub(crate) struct ComponentFile {
    pub path: PathBuf,
    pub manifest: Option<Manifest>,
}

impl ComponentFile {
    /// Finds the component of `app`; `None` for a crate's directory.
    pub(crate) fn find(app: &Path) -> Result<Option<Self>, Exit> {
        if !app.is_dir() {
            let manifest = Manifest::of_component(app)?;
            return Ok(Some(Self { path: app.to_owned(), manifest }));
        }
        let is_crate = app.join("Cargo.toml").is_file();
        let manifest = Manifest::in_dir(app)?.filter(|manifest| manifest.names_component() || !is_crate);
        let Some(manifest) = manifest else { return Ok(None) };
        Ok(Some(Self { path: manifest.component()?, manifest: Some(manifest) }))
    }

    /// Reads the component.
    pub(crate) fn open(self) -> Result<AppFile, Exit> {
        let Self { path, manifest } = self;
        let shown = path.display().to_string();
        let component = ComponentBytes::read(&path).map_err(|error| Exit::from(error).about(&shown))?;
        let metadata = match Metadata::read(&component.bytes) {
            Ok(metadata) => Some(metadata),
            Err(MetadataError::Missing) => None,
            Err(error) => return Err(Exit::from(error).about(&shown)),
        };
        let file = AppFile { path, component, metadata, manifest };
        file.check_manifest()?;
        Ok(file)
    }
}

/// Opens `app`; builds it if it is a crate directory.
pub(crate) async fn locate(app: &str, dirs: &Directories) -> Result<AppFile, Exit> {
    let path = Path::new(app);
    if !path.exists() {
        let exit = Exit::new(Code::UnknownApp, format!("no app at `{app}`: neither a directory nor a file"));
        return Err(
            exit.hint("give the directory of a crate or of a Python app, or the path of a `.wasm` or `.py` file")
        );
    }
    if let Some(project) = Project::find(path)? {
        let compiler = CompilerConfig { progress: print_progress, ..CompilerConfig::default() };
        return of_python(&Builder::new(&dirs.data, &dirs.artifacts, compiler), project).await;
    }
    match ComponentFile::find(path)? {
        Some(file) => file.open(),
        None => {
            let manifest = of_crate(path)?;
            Ok(AppFile { manifest, ..built(path, &dirs.builds()).await? })
        }
    }
}

/// Builds a Python app.
pub(crate) async fn of_python(builder: &Builder, project: Project) -> Result<AppFile, Exit> {
    let (dir, entry) = (project.dir.clone(), project.entry.clone());
    let manifest = of_crate(&dir)?;
    let built = builder.build(project).await.inspect_err(|error| {
        error.traceback().lines().for_each(|line| output::note(&crate::logs::printable(line)));
    })?;
    for line in built.output.lines() {
        output::note(&crate::logs::printable(line));
    }
    let written = blocking(move || {
        let out = dir.join(BUILD_DIR);
        std::fs::create_dir_all(&out)?;
        // Ignores itself, so that no project has to know of it.
        std::fs::write(out.join(".gitignore"), "*\n")?;
        let path = out.join(format!("{entry}.bireme.wasm"));
        let file = tempfile::NamedTempFile::new_in(&out)?;
        std::fs::write(file.path(), &built.app.component.bytes)?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok::<_, Exit>((path, built.app))
    });
    let (path, DescribedApp { component, metadata }) = written.await?;
    Ok(AppFile { path, component, metadata: Some(metadata), manifest })
}

/// Reads the manifest of a crate: grants for commands on this machine, since attributes are in the code.
fn of_crate(dir: &Path) -> Result<Option<Manifest>, Exit> {
    let manifest = Manifest::in_dir(dir)?;
    manifest.iter().try_for_each(Manifest::check_empty)?;
    Ok(manifest)
}

/// Returns the grants of a crate's manifest.
pub(crate) fn grants_of_crate(dir: &Path) -> Result<Vec<String>, Exit> {
    Ok(of_crate(dir)?.as_ref().map(Manifest::grants).unwrap_or_default())
}

/// Opens a component that cargo built, with the metadata of an earlier run if the component is unchanged.
pub(crate) fn of_cargo(cargo: &Path) -> Result<AppFile, Exit> {
    let component = ComponentBytes::read(cargo)?;
    let path = cargo.with_extension("bireme.wasm");
    // The `.bireme.wasm` file is the component's bytes followed by its metadata.
    if let Ok(kept) = ComponentBytes::read(&path)
        && kept.code_digest() == component.digest
        && let Ok(metadata) = Metadata::read(&kept.bytes)
    {
        return Ok(AppFile { path, component: kept, metadata: Some(metadata), manifest: None });
    }
    Ok(AppFile { path, component, metadata: None, manifest: None })
}

async fn built(dir: &Path, dirs: &BuildDirs) -> Result<AppFile, Exit> {
    if dirs.is_first_build() {
        output::note(FIRST_BUILD);
    }
    let (dir, dirs) = (dir.to_owned(), dirs.clone());
    of_cargo(&blocking(move || build::build_in(&dir, &dirs)).await?)
}

impl AppFile {
    /// Refuses a manifest that sets attributes of a component with metadata.
    fn check_manifest(&self) -> Result<(), Exit> {
        match (&self.manifest, &self.metadata) {
            (Some(manifest), Some(_)) => Ok(manifest.check_empty()?),
            _ => Ok(()),
        }
    }

    /// Returns the grants of the manifest, for commands on this machine.
    pub(crate) fn grants(&self) -> Vec<String> {
        self.manifest.as_ref().map(Manifest::grants).unwrap_or_default()
    }

    /// Returns the app if its metadata are there, so that nothing needs to run.
    pub(crate) fn described(&self) -> Option<(PathBuf, DescribedApp)> {
        let metadata = self.metadata.clone()?;
        Some((self.path.clone(), DescribedApp { component: self.component.clone(), metadata }))
    }

    pub(crate) fn component(&self) -> &ComponentBytes {
        &self.component
    }

    /// Returns the app. Missing metadata are produced by running the component, and saved beside cargo's output.
    pub(crate) async fn describe(self, host: &Host) -> Result<(PathBuf, DescribedApp), Exit> {
        if let Some(app) = self.described() {
            return Ok(app);
        }
        let described = host.describe(&self.component, Some(&self.stem())).await;
        self.with(described)
    }

    /// Returns the app as `describe` does, without saving the metadata: a confined host writes into its data only.
    pub(crate) async fn describe_unsaved(self, host: &Host) -> Result<DescribedApp, Exit> {
        if let Some((_, app)) = self.described() {
            return Ok(app);
        }
        let described = host.describe(&self.component, Some(&self.stem())).await;
        Ok(self.complete(described)?.1)
    }

    /// Returns the app as `describe` does; `compiled` is its component.
    pub(crate) async fn describe_compiled(self, host: &Host, compiled: &Compiled) -> Result<DescribedApp, Exit> {
        if let Some((_, app)) = self.described() {
            return Ok(app);
        }
        let described = host.loader.describe_compiled(&self.component, compiled, Some(&self.stem())).await;
        Ok(self.with(described)?.1)
    }

    /// Returns the app's name: that of the manifest, or the file's without its endings.
    pub(crate) fn stem(&self) -> String {
        if let Some(given) = self.manifest.as_ref().and_then(Manifest::name).map(AppName::as_str) {
            return given.to_owned();
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".wasm").unwrap_or(&name);
        stem.strip_suffix(".bireme").unwrap_or(stem).to_owned()
    }

    /// Attaches new metadata, completed by the manifest, in the file too if that is one of ours.
    fn with(self, described: Result<Metadata, LoadError>) -> Result<(PathBuf, DescribedApp), Exit> {
        let (path, app) = self.complete(described)?;
        if path.to_string_lossy().ends_with(".bireme.wasm") {
            let folder = path.parent().unwrap_or(Path::new("."));
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            // Permissions as of cargo's own output: 0666 less the umask.
            let file = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
            std::fs::write(file.path(), &app.component.bytes)?;
            file.persist(&path).map_err(|error| error.error)?;
        }
        Ok((path, app))
    }

    /// Attaches new metadata, completed by the manifest.
    fn complete(self, described: Result<Metadata, LoadError>) -> Result<(PathBuf, DescribedApp), Exit> {
        let mut metadata = described.map_err(|error| Exit::from(error).about(&self.path.display().to_string()))?;
        match &self.manifest {
            Some(manifest) if metadata.is_stock() => manifest.complete(&mut metadata)?,
            Some(manifest) => manifest.check_empty()?,
            None => {}
        }
        let component = self.component.with_metadata(&metadata)?;
        Ok((self.path, DescribedApp { component, metadata }))
    }
}

/// Opens, builds and describes `app`. Also returns the grants that its manifest has for commands on this machine.
pub(crate) async fn resolve(app: &str, host: &Host) -> Result<(DescribedApp, Vec<String>), Exit> {
    let located = locate(app, &host.config.directories).await?;
    let grants = located.grants();
    Ok((located.describe(host).await?.1, grants))
}
