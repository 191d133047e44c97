//! Operations of the routes.

/// Operation of a route. Its name is the OpenAPI document's `operationId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Health,
    Ready,
    ListAppsAtRoot,
    Metrics,
    OpenApi,
    ListApps,
    DeployApp,
    DescribeApp,
    DescribeFunction,
    StopApp,
    ListDeployments,
    RollBackApp,
    ListBuckets,
    ListKeys,
    GetValue,
    SetValue,
    DeleteValue,
    SpawnCall,
    CreateMap,
    ListCalls,
    GetCall,
    CancelCall,
    GetCallResult,
    GetCallInput,
    GetMap,
    CancelMap,
    AppendInputs,
    GetMapInput,
    CloseMap,
    RetryFailedInputs,
    ListMapResults,
    GetMapResult,
    ListBatches,
    GetDevices,
    ReadLogs,
    ReadEvents,
    ListSchedules,
    GetSchedule,
    PauseSchedule,
    ResumeSchedule,
    RunSchedule,
    ListModels,
    GetModel,
    CreateEmbeddings,
    Rerank,
    GetServer,
    GetServerLive,
    GetServerReady,
    ListRepository,
    SearchRepository,
    DescribeModel,
    ConfigureModel,
    GetModelReady,
    Infer,
    CallFunction,
}

impl Operation {
    /// Returns true if others define the shapes and errors of the operation: OpenAI's API with the reranking of Cohere
    /// and Jina, below `/v1`, and the Open Inference Protocol, below `/v2`.
    pub(crate) fn is_foreign(self) -> bool {
        matches!(
            self,
            Self::ListModels
                | Self::GetModel
                | Self::CreateEmbeddings
                | Self::Rerank
                | Self::GetServer
                | Self::GetServerLive
                | Self::GetServerReady
                | Self::ListRepository
                | Self::SearchRepository
                | Self::DescribeModel
                | Self::ConfigureModel
                | Self::GetModelReady
                | Self::Infer
        )
    }
}
