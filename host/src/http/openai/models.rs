//! `GET /v1/models`: what is installed.

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::error::ApiError;
use super::{Answer, OpenAi, json};
use crate::inference::catalogue::{CatalogueError, InstalledModel};
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
    /// When it was installed, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

impl OpenAi {
    pub(super) async fn models(&self) -> Answer {
        let catalogue = self.inference.catalogue().clone();
        let listed = blocking(move || {
            catalogue.list().map(|listing| listing.installed.into_iter().map(Model::from).collect::<Vec<_>>())
        });
        let data = listed.await.map_err(unreadable)?;
        let about_bytes = 128 * data.len();
        Ok(json(List { object: "list", data }, about_bytes).await)
    }

    pub(super) async fn one_model(&self, name: &str) -> Answer {
        let (catalogue, name) = (self.inference.catalogue().clone(), name.to_owned());
        let found = blocking(move || catalogue.get(&name).map(Model::from)).await;
        let model = found.map_err(|error| match error {
            CatalogueError::UnknownModel { .. } | CatalogueError::Name { .. } => {
                ApiError::unknown_model(error.to_string())
            }
            other => unreadable(other),
        })?;
        Ok(json(model, 128).await)
    }
}

impl From<InstalledModel> for Model {
    fn from(model: InstalledModel) -> Self {
        let changed = std::fs::metadata(&model.path).and_then(|metadata| metadata.modified()).ok();
        let since = changed.and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
        Self { id: model.name, object: "model", created: since.map_or(0, |since| since.as_secs()), owned_by: "bireme" }
    }
}

/// The error names files; where the host keeps them is the operator's to know.
fn unreadable(error: CatalogueError) -> ApiError {
    tracing::error!(%error, "the models cannot be read");
    ApiError::models_unreadable()
}
