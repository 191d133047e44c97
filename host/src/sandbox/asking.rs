//! A call's request to a model: what must hold before, and what is charged after.
//!
//! Not here: the interfaces by which guests ask (`imports::inference`, `imports::nn`), what a model answers (`inference`).

use jiff::Timestamp;

use super::boundary::Import;
use super::call_context::CallContext;
use super::tokens::Spent;
use crate::call::InferenceReceipt;
use crate::inference::{Caller, Classified, Description, Embedded, Inference, InferenceError, Inferred, Scored};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "function `{function}` does not declare model `{model}`; add `models = [\"{model}\"]` to its `#[function]`"
    )]
    NotDeclared { function: String, model: String },
    #[error("model `{model}` is not granted to `{app}`; deploy it with `--grant model:{model}`")]
    NotGranted { app: String, model: String },
    #[error(transparent)]
    Spent(#[from] Spent),
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// An answer that says what it cost.
pub trait Answer {
    fn receipt(&self) -> Option<&InferenceReceipt>;
}

macro_rules! answers {
    ($($answer:ident)*) => {$(
        impl Answer for $answer {
            fn receipt(&self) -> Option<&InferenceReceipt> {
                Some(&self.receipt)
            }
        }
    )*};
}

answers! { Embedded Scored Classified Inferred }

impl Answer for Description {
    /// Nobody pays for a model that is loaded.
    fn receipt(&self) -> Option<&InferenceReceipt> {
        None
    }
}

impl CallContext {
    /// Refuses a model that the call may not use.
    pub(super) fn check_model(&self, model: &str) -> Result<(), Refused> {
        if self.function.models.iter().any(|may| may == model) {
            return Ok(());
        }
        let model = model.to_owned();
        Err(if self.function.program().metadata().is_stock() {
            Refused::NotGranted { app: self.function.app().to_string(), model }
        } else {
            Refused::NotDeclared { function: self.function.name.to_string(), model }
        })
    }

    /// Refuses a call whose function has used up its tokens.
    fn check_tokens(&self) -> Result<(), Spent> {
        let limits = &self.function.limits;
        if let Some(max) = limits.tokens_max {
            let used = self.tokens_used();
            if used >= max {
                return Err(Spent::Call { function: self.function.id(), used, max });
            }
        }
        match limits.tokens_per_day_max {
            Some(max) => self.services.tokens.check(&self.function.id(), max, Timestamp::now()),
            None => Ok(()),
        }
    }

    /// Makes one request to `model`, on the call's behalf.
    pub(super) async fn request<'a, T, F>(
        &'a self,
        model: &str,
        request: impl FnOnce(&'a Inference, Caller) -> F,
    ) -> Result<T, Refused>
    where
        T: Answer,
        F: Future<Output = Result<T, InferenceError>>,
    {
        self.check_model(model)?;
        self.check_tokens()?;
        let (_asking, following) = self.ask();
        let caller =
            Caller { tenant: self.function.app().into(), priority: self.priority, deadline: self.deadline, following };
        let answer = request(&self.services.inference, caller);
        let answer = self.boundary.cross_async(Import::Inference, answer).await?;
        if let Some(receipt) = answer.receipt() {
            self.add_inference(receipt);
            if self.function.limits.tokens_per_day_max.is_some() {
                self.services.tokens.add(&self.function.id(), receipt.tokens, Timestamp::now());
            }
        }
        Ok(answer)
    }
}
