//! Operations of the routes.

/// Operation of a route. Its name is the OpenAPI document's `operationId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Health,
    Ready,
    ListAppsAtRoot,
    Metrics,
    OpenApi,
    ListApps,
    DeployApp,
    DescribeApp,
    StopApp,
    ListDeployments,
    RollBackApp,
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
    /// Returns the foreign API that the operation belongs to.
    pub fn foreign_api(self) -> Option<ForeignApi> {
        match self {
            Self::ListModels | Self::GetModel | Self::CreateEmbeddings | Self::Rerank => Some(ForeignApi::OpenAi),
            Self::GetServer
            | Self::GetServerLive
            | Self::GetServerReady
            | Self::ListRepository
            | Self::SearchRepository
            | Self::DescribeModel
            | Self::ConfigureModel
            | Self::GetModelReady
            | Self::Infer => Some(ForeignApi::OpenInference),
            _ => None,
        }
    }
}

/// API whose shapes and errors others define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignApi {
    /// OpenAI's, below `/v1`, with the reranking of Cohere and Jina.
    OpenAi,
    /// Open Inference Protocol, below `/v2`.
    OpenInference,
}
