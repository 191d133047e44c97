//! Deployments of a running host: apps deployed, replaced, rolled back, stopped, and restored after a restart.
//!
//! Not here: HTTP (`http::control`), runs of calls (`dispatch`).
//!
//! Invariants:
//! - An answered `deploy`, `rollback` or `stop` is on disk. The component is synced before the record that names it,
//!   and the record before a call reaches the new version.
//! - Changes are made one at a time; running calls keep the version that they began with.
//! - Components are compiled before a change begins, so that no change waits for a compile; a client that disconnects
//!   ends the compile, and never a change that has begun.
//! - A version's new capabilities are accepted before it is live.
//! - An app that cannot be restored stays in the history, and does not stop the host.

mod error;
mod history;
mod loader;
mod native_code;
mod warnings;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use self::error::MESSAGE_BYTES_MAX;
use self::history::History;
use crate::app::capabilities::{self, Capability};
use crate::app::compiled::Compiled;
use crate::app::metadata::{Metadata, MetadataError};
use crate::app::{ComponentBytes, DescribedApp};
use crate::clock::unix_ms;
use crate::dispatch::Dispatcher;
use crate::ids::{AppName, Version};
use crate::inference::Inference;
use crate::outbound::Grants;
use crate::sandbox::Program;
use crate::storage::{Apps, Blobs, Pushed, Storage, StorageError};
use crate::tasks::{blocking, to_the_end};

pub(crate) use error::DeployError;
pub(crate) use loader::{LoadError, Loader};
pub(crate) use native_code::{CodeError, NativeCode};
pub(crate) use warnings::{Warning, WarningKind};

pub(crate) use crate::storage::{Action, AppRecord as Record};

/// Request to deploy a component.
pub(crate) struct DeployRequest {
    pub component: ComponentBytes,
    pub accept: AcceptedCapabilities,
    /// Replaces the app's grants; `None` keeps them.
    pub grants: Option<Vec<String>>,
    pub message: Option<String>,
    /// Runs every check, and changes nothing.
    pub is_dry_run: bool,
}

/// New capabilities that the operator accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AcceptedCapabilities {
    All,
    Listed(BTreeSet<Capability>),
}

/// Result of a change.
#[derive(Debug)]
pub(crate) struct DeployOutcome {
    pub app: AppName,
    pub version: Version,
    /// The version that was live before.
    pub previous: Option<Version>,
    pub added: Vec<Capability>,
    pub removed: Vec<Capability>,
    /// False for a dry run, and if the same version was live already with the same grants.
    pub is_changed: bool,
    /// Declarations that this host does not meet yet.
    pub warnings: Vec<Warning>,
    pub metadata: Metadata,
}

/// Status of one app.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub app: AppName,
    pub state: State,
    pub version: Version,
    /// The last record; `None` for an app given on the command line.
    pub record: Option<Record>,
}

impl Status {
    /// Returns the status of an app given on the command line.
    pub(crate) fn given(program: &Program) -> Self {
        let (app, version) = (program.name().clone(), program.version().clone());
        Self { app, state: State::Live, version, record: None }
    }
}

/// Availability of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    Stopped,
    /// Was live at the end of the last run, and cannot be loaded now.
    Failed {
        reason: String,
    },
}

/// Deployed apps of one host.
pub struct Deployments {
    loader: Arc<Loader>,
    dispatcher: Arc<Dispatcher>,
    records: Arc<dyn Apps>,
    /// Components, by digest.
    components: Arc<dyn Blobs>,
    /// Grants of every app.
    grants: Grants,
    /// Models of the host, which apps may declare.
    inference: Arc<Inference>,
    apps: Mutex<BTreeMap<AppName, DeployedApp>>,
    one_at_a_time: tokio::sync::Mutex<()>,
    observer: OnceLock<Box<Observer>>,
}

/// Observer of changes to apps, each on disk.
pub(crate) type Observer = dyn Fn(&AppName, &Record) + Send + Sync;

#[derive(Default)]
struct DeployedApp {
    history: History,
    failed: Option<String>,
}

impl Deployments {
    /// Makes the deployments of a host; `restore` loads earlier ones.
    pub(crate) fn new(
        loader: Arc<Loader>,
        dispatcher: Arc<Dispatcher>,
        storage: &Storage,
        grants: Grants,
        inference: Arc<Inference>,
    ) -> Self {
        let (records, components) = (storage.apps.clone(), storage.blobs.clone());
        let (apps, one_at_a_time, observer) = Default::default();
        Self { loader, dispatcher, records, components, grants, inference, apps, one_at_a_time, observer }
    }

    /// Restores the deployed apps: makes the live ones callable. A failed one shows in its `Status`.
    pub(crate) async fn restore(&self) -> Result<(), StorageError> {
        let _one = self.one_at_a_time.lock().await;
        let mut records: BTreeMap<AppName, Vec<Record>> = BTreeMap::new();
        for (app, record) in self.records.records().await? {
            records.entry(app).or_default().push(record);
        }
        for (app, records) in records {
            let mut entry = DeployedApp { history: records.into_iter().collect(), failed: None };
            if let Some(live) = entry.history.live() {
                match self.load_version(live).await {
                    Ok((program, _)) => self.dispatcher.deploy(program),
                    Err(error) => {
                        let reason = format!("{:#}", anyhow::Error::from(error));
                        tracing::warn!(%app, version = %live.version, reason, "a deployed app cannot be restored");
                        entry.failed = Some(reason);
                    }
                }
            }
            self.apps.lock().insert(app, entry);
        }
        Ok(())
    }

    /// Deploys a component: describes and compiles it, links it, checks its new capabilities, stores it, makes it live.
    pub(crate) async fn deploy(self: &Arc<Self>, request: DeployRequest) -> Result<DeployOutcome, DeployError> {
        if let Some(bytes) = request.message.as_ref().map(String::len).filter(|bytes| *bytes > MESSAGE_BYTES_MAX) {
            return Err(DeployError::Message { bytes });
        }
        // What is wrong with the request shows before a compile.
        request.grants.iter().try_for_each(|grants| self.grants.with(grants).map(drop))?;
        let app = self.with_metadata(request.component.clone()).await?;
        let compiled = self.loader.compile_app(&app).await?;
        let deployments = self.clone();
        to_the_end(async move { deployments.swap(request, app, compiled).await }).await
    }

    /// Makes a compiled version live.
    async fn swap(
        &self,
        request: DeployRequest,
        app: DescribedApp,
        compiled: Compiled,
    ) -> Result<DeployOutcome, DeployError> {
        let _one = self.one_at_a_time.lock().await;
        let name = app.metadata.app.name.clone();
        let version = app.component.version();
        let live = self.dispatcher.program(name.as_str());
        let last = self.apps.lock().get(&name).and_then(|entry| entry.history.last().cloned());

        let declared = capabilities::of(&app.metadata);
        let before = match (&live, &last) {
            (Some(program), _) => capabilities::of(program.metadata()),
            (None, Some(record)) => record.capabilities.iter().cloned().collect(),
            (None, None) => BTreeSet::new(),
        };
        let added: Vec<Capability> = declared.difference(&before).cloned().collect();
        let removed: Vec<Capability> = before.difference(&declared).cloned().collect();
        let kept = last.as_ref().map(|record| record.grants.clone()).unwrap_or_default();
        let grants = request.grants.unwrap_or_else(|| kept.clone());
        let program = self.loader.link(&compiled, &app, &self.grants.with(&grants)?)?;
        let is_accepted = match &request.accept {
            AcceptedCapabilities::All => true,
            AcceptedCapabilities::Listed(listed) => added.iter().all(|capability| listed.contains(capability)),
        };
        if !is_accepted && !request.is_dry_run {
            return Err(DeployError::NotAccepted { app: name, version, added });
        }

        let warnings = self.warnings(&program).await;
        let previous = live.map(|program| program.version().clone());
        let is_same = previous.as_ref() == Some(&version) && last.is_some_and(|last| last.is_live()) && grants == kept;
        let is_changed = !is_same && !request.is_dry_run;
        let metadata = app.metadata.clone();
        if is_changed {
            let record = Record {
                number: 0,
                action: Action::Deploy,
                version: version.clone(),
                digest: hex::encode(app.component.digest),
                at_ms: unix_ms(),
                bytes: app.component.bytes.len() as u64,
                functions: app.metadata.functions.iter().map(|function| function.name.clone()).collect(),
                grants,
                capabilities: declared.into_iter().collect(),
                added: added.clone(),
                message: request.message,
            };
            let ComponentBytes { bytes, digest, .. } = app.component;
            self.components.put(&digest, bytes).await?;
            let record = self.record(&name, record).await?;
            self.dispatcher.deploy(program);
            self.tell(&name, &record);
            self.sweep().await;
        }
        Ok(DeployOutcome { app: name, version, previous, added, removed, is_changed, warnings, metadata })
    }

    /// Returns the declarations of a program that this host does not meet.
    async fn warnings(&self, program: &Arc<Program>) -> Vec<Warning> {
        let (catalogue, program) = (self.inference.catalogue().clone(), program.clone());
        blocking(move || warnings::of(&program, |model| catalogue.locate(model).is_ok())).await
    }

    /// Makes an earlier version live again, with its grants of then: the previous one, or the one with the prefix `to`.
    pub(crate) async fn rollback(self: &Arc<Self>, app: &str, to: Option<&str>) -> Result<DeployOutcome, DeployError> {
        // Again only if another change came in between.
        loop {
            let (name, target) = self.rollback_target(app, to)?;
            let (program, metadata) = self.load_version(&target).await?;
            let (deployments, to) = (self.clone(), to.map(str::to_owned));
            let swap = async move { deployments.swap_back(&name, to.as_deref(), target, program, metadata).await };
            if let Some(outcome) = to_the_end(swap).await? {
                return Ok(outcome);
            }
        }
    }

    fn rollback_target(&self, app: &str, to: Option<&str>) -> Result<(AppName, Record), DeployError> {
        let apps = self.apps.lock();
        let (name, entry) = find(&apps, app)?;
        let target = entry.history.rollback(to);
        let target = target.map_err(|source| DeployError::Rollback { app: name.clone(), source })?;
        Ok((name.clone(), target.clone()))
    }

    /// Makes the loaded version of a record live; `None` if the rollback now leads to another record.
    async fn swap_back(
        &self,
        app: &AppName,
        to: Option<&str>,
        target: Record,
        program: Arc<Program>,
        metadata: Metadata,
    ) -> Result<Option<DeployOutcome>, DeployError> {
        let _one = self.one_at_a_time.lock().await;
        let (name, current) = self.rollback_target(app.as_str(), to)?;
        if current.number != target.number {
            return Ok(None);
        }
        let warnings = self.warnings(&program).await;
        let live = self.dispatcher.program(app.as_str());
        let before = live.as_ref().map(|program| capabilities::of(program.metadata())).unwrap_or_default();
        let declared = capabilities::of(&metadata);
        let record = Record {
            action: Action::Rollback,
            at_ms: unix_ms(),
            added: declared.difference(&before).cloned().collect(),
            message: None,
            ..target
        };
        let (version, added) = (record.version.clone(), record.added.clone());
        let record = self.record(&name, record).await?;
        self.dispatcher.deploy(program);
        self.tell(&name, &record);
        Ok(Some(DeployOutcome {
            app: name,
            version,
            previous: live.map(|program| program.version().clone()),
            added,
            removed: before.difference(&declared).cloned().collect(),
            is_changed: true,
            warnings,
            metadata,
        }))
    }

    /// Stops an app; running calls end as they will, and its versions stay on disk. Returns the version that was live.
    pub(crate) async fn stop(&self, app: &str) -> Result<Version, DeployError> {
        let _one = self.one_at_a_time.lock().await;
        let last = {
            let apps = self.apps.lock();
            match find(&apps, app) {
                Ok((name, entry)) => entry.history.last().map(|last| (name.clone(), last.clone())),
                // Given on the command line, so there is no record to change.
                Err(error) => match self.dispatcher.program(app) {
                    Some(program) => {
                        self.dispatcher.retire(app);
                        return Ok(program.version().clone());
                    }
                    None => return Err(error),
                },
            }
        };
        let (name, last) = last.expect("an entry has a record");
        if !last.is_live() {
            return Err(DeployError::Stopped { app: name });
        }
        let version = last.version.clone();
        let record = Record { action: Action::Stop, at_ms: unix_ms(), added: Vec::new(), message: None, ..last };
        let record = self.record(&name, record).await?;
        self.dispatcher.retire(app);
        self.tell(&name, &record);
        Ok(version)
    }

    /// Returns an app's records, newest first.
    pub(crate) fn history(&self, app: &str) -> Result<Vec<Record>, DeployError> {
        let apps = self.apps.lock();
        let (_, entry) = find(&apps, app)?;
        Ok(entry.history.newest_first().cloned().collect())
    }

    /// Returns the state of an app that was deployed here; `None` for any other.
    pub(crate) fn state(&self, app: &str) -> Option<State> {
        let apps = self.apps.lock();
        let (_, entry) = find(&apps, app).ok()?;
        Some(match &entry.failed {
            _ if self.dispatcher.program(app).is_some() => State::Live,
            Some(reason) => State::Failed { reason: reason.clone() },
            None => State::Stopped,
        })
    }

    /// Returns the status of every app, by name.
    pub(crate) fn apps(&self) -> Vec<Status> {
        let mut all: BTreeMap<AppName, Status> = BTreeMap::new();
        for (app, entry) in self.apps.lock().iter() {
            let Some(record) = entry.history.last().cloned() else { continue };
            let state = match &entry.failed {
                Some(reason) => State::Failed { reason: reason.clone() },
                None => State::Stopped,
            };
            let version = record.version.clone();
            all.insert(app.clone(), Status { app: app.clone(), state, version, record: Some(record) });
        }
        for program in self.dispatcher.programs() {
            let given = Status::given(&program);
            let kept = all.remove(&given.app).and_then(|status| status.record);
            let record = kept.filter(|record| record.version == given.version);
            all.insert(given.app.clone(), Status { record, ..given });
        }
        all.into_values().collect()
    }

    /// Loads the version of a record, within its grants.
    async fn load_version(&self, record: &Record) -> Result<(Arc<Program>, Metadata), DeployError> {
        let bytes = self.components.get(&digest(record)?).await?;
        let component = ComponentBytes::new(bytes.into())?;
        let app = self.with_metadata(component).await?;
        let program = self.loader.program(&app, &self.grants.with(&record.grants)?).await?;
        Ok((program, app.metadata))
    }

    /// Returns the component with its metadata section, which is added if missing.
    async fn with_metadata(&self, component: ComponentBytes) -> Result<DescribedApp, DeployError> {
        match Metadata::read(&component.bytes) {
            Ok(metadata) => Ok(DescribedApp { component, metadata }),
            Err(MetadataError::Missing) => {
                let metadata = self.loader.describe(&component, None).await?;
                let component = component.with_metadata(&metadata)?;
                Ok(DescribedApp { component, metadata })
            }
            Err(error) => Err(LoadError::from(error).into()),
        }
    }

    /// Numbers and writes a record, and returns it; a displaced one is deleted in the same transaction.
    async fn record(&self, app: &AppName, mut record: Record) -> Result<Record, DeployError> {
        let mut history = self.apps.lock().get(app).map(|entry| entry.history.clone()).unwrap_or_default();
        record.number = history.next_number();
        let displaced: Vec<u64> = history.push(record.clone()).iter().map(|old| old.number).collect();
        if let Pushed::Conflict { .. } = self.records.push(app, &record, &displaced).await? {
            return Err(DeployError::Conflict { app: app.clone() });
        }
        self.apps.lock().insert(app.clone(), DeployedApp { history, failed: None });
        Ok(record)
    }

    /// Tells the observer of a change that is on disk and in effect.
    fn tell(&self, app: &AppName, record: &Record) {
        if let Some(observer) = self.observer.get() {
            observer(app, record);
        }
    }

    /// Tells an observer of each change from now on. Once; a second one is ignored.
    pub(crate) fn observe(&self, observer: Box<Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Removes components that no record names.
    async fn sweep(&self) {
        let kept: HashSet<[u8; 32]> = {
            let apps = self.apps.lock();
            apps.values()
                .flat_map(|entry| entry.history.newest_first())
                .filter_map(|record| digest(record).ok())
                .collect()
        };
        if let Err(error) = self.components.sweep(&kept).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "components without a record cannot be removed");
        }
    }
}

/// Reads the digest of a record.
fn digest(record: &Record) -> Result<[u8; 32], DeployError> {
    let mut digest = [0; 32];
    let malformed = |_| DeployError::Digest { digest: record.digest.chars().take(80).collect() };
    hex::decode_to_slice(&record.digest, &mut digest).map_err(malformed)?;
    Ok(digest)
}

fn find<'a>(
    apps: &'a BTreeMap<AppName, DeployedApp>,
    app: &str,
) -> Result<(&'a AppName, &'a DeployedApp), DeployError> {
    apps.get_key_value(app).ok_or_else(|| DeployError::UnknownApp { app: app.chars().take(80).collect() })
}
