//! Problems of the errors that deployments, durable calls, maps and schedules give: one code for each variant.

use super::problem::{Member, Problem};
use crate::app::artifact::ArtifactError;
use crate::codes::Code;
use crate::deploy::{DeployError, LoadError, RollbackError};
use crate::dispatch::{DurableError, ScheduleError};
use crate::journal::JournalError;

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let code = match &error {
            DeployError::Component(_) | DeployError::Load(LoadError::Artifact(ArtifactError::Compile(_))) => {
                Code::BadComponent
            }
            DeployError::Load(LoadError::Artifact(_)) | DeployError::Files(_) => Code::Io,
            DeployError::Load(_) => Code::BadApp,
            DeployError::Grant(_) => Code::Config,
            DeployError::Message { .. } | DeployError::Rollback { source: RollbackError::Ambiguous { .. }, .. } => {
                Code::BadQuery
            }
            DeployError::NotAccepted { .. } => Code::NotAccepted,
            DeployError::UnknownApp { .. } => Code::UnknownApp,
            DeployError::Stopped { .. } => Code::AppStopped,
            DeployError::Rollback { source: RollbackError::Unknown { .. }, .. } => Code::UnknownVersion,
            DeployError::Rollback { .. } => Code::NoRollback,
            DeployError::Store(error) => error.code(),
        };
        let member = match &error {
            DeployError::NotAccepted { added, .. } => {
                Some(Member::Added(added.iter().map(ToString::to_string).collect()))
            }
            _ => None,
        };
        Self { member: member.map(Box::new), ..Self::with_causes(code, error) }
    }
}

impl From<DurableError> for Problem {
    fn from(error: DurableError) -> Self {
        let code = match &error {
            DurableError::Refused(failure) => return failure.clone().into(),
            DurableError::Journal(JournalError::Store(error)) => error.code(),
            DurableError::Journal(_) => Code::Store,
            DurableError::UnknownCall { .. } => Code::UnknownCall,
            DurableError::UnknownMap { .. } | DurableError::NoInput { .. } => Code::UnknownMap,
            DurableError::KeyReused { .. } => Code::KeyReused,
            DurableError::KeyLength { .. } => Code::BadQuery,
            DurableError::TooMany { .. } => Code::Overloaded,
            DurableError::Gap { .. } => Code::InputGap,
            DurableError::Differs { .. } => Code::InputDiffers,
            DurableError::Closed { .. } => Code::MapClosed,
            DurableError::NotEnded { .. } => Code::MapNotEnded,
        };
        let member = match &error {
            DurableError::Gap { accepted, .. } => Some(Member::Accepted(*accepted)),
            _ => None,
        };
        Self { member: member.map(Box::new), ..Self::with_causes(code, error) }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let code = match &error {
            ScheduleError::NotScheduled { .. } => Code::NotScheduled,
            ScheduleError::Running { .. } => Code::AlreadyRunning,
            ScheduleError::Ending => Code::Unavailable,
            ScheduleError::Journal(_) => Code::Store,
        };
        Self::new(code, error.to_string())
    }
}
