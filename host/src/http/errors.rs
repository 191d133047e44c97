//! Problems of the errors that deployments, durable calls, maps and schedules give.

use super::problem::{Member, Problem};
use crate::deploy::DeployError;
use crate::dispatch::{DurableError, ScheduleError};

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let member = match &error {
            DeployError::NotAccepted { added, .. } => {
                Some(Member::Added(added.iter().map(ToString::to_string).collect()))
            }
            _ => None,
        };
        Self { member: member.map(Box::new), ..Self::with_causes(error.code(), error) }
    }
}

impl From<DurableError> for Problem {
    fn from(error: DurableError) -> Self {
        let member = match error {
            DurableError::Refused(failure) => return failure.into(),
            DurableError::Gap { accepted, .. } => Some(Member::Accepted(accepted)),
            _ => None,
        };
        Self { member: member.map(Box::new), ..Self::with_causes(error.code(), error) }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
