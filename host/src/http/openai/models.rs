//! Installed models, `GET /v1/models`.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::endpoint::{Endpoint, EndpointResult, respond};
use super::error::ApiError;
use crate::inference::catalogue::{CatalogueError, LocatedModel};
use crate::tasks::blocking;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// Time of installation, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

/// Lists the installed models.
pub(crate) async fn list(endpoint: &Endpoint) -> EndpointResult {
    let catalogue = endpoint.inference.catalogue().clone();
    let listed = blocking(move || {
        catalogue.located().map(|(models, _)| models.into_iter().map(Model::from).collect::<Vec<_>>())
    });
    let data = listed.await.map_err(unreadable)?;
    let about_bytes = 128 * data.len();
    Ok(respond(List { object: "list", data }, about_bytes).await)
}

/// Returns one installed model.
pub(crate) async fn get_one(endpoint: &Endpoint, name: &str) -> EndpointResult {
    let (catalogue, name) = (endpoint.inference.catalogue().clone(), name.to_owned());
    let found = blocking(move || catalogue.locate(&name).map(Model::from)).await;
    let model = found.map_err(|error| match error {
        CatalogueError::UnknownModel { .. } | CatalogueError::Name { .. } => ApiError::unknown_model(error.to_string()),
        other => unreadable(other),
    })?;
    Ok(respond(model, 128).await)
}

impl From<LocatedModel> for Model {
    fn from(model: LocatedModel) -> Self {
        let changed = std::fs::metadata(&model.path).and_then(|metadata| metadata.modified()).ok();
        let since = changed.and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
        Self { id: model.name, object: "model", created: since.map_or(0, |since| since.as_secs()), owned_by: "bireme" }
    }
}

/// Logs the error: it names files of this host, which clients must not see.
fn unreadable(error: CatalogueError) -> ApiError {
    tracing::error!(%error, "the models cannot be read");
    ApiError::models_unreadable()
}
