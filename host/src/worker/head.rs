//! What a classifier makes of a text's first row: a dense layer with `tanh`, then a score for each label.
//!
//! It runs on the CPU whatever the device: one row a text, less than a thousandth of the layers below it.

use bireme_kernels::ShapeError;
use bireme_kernels::cpu::{Activation, Linear, Parallelism};

use super::encoder::LoadError;
use super::weights::Weights;

/// The pooler and classifier of a BERT for sequence classification: rerankers have one label.
pub(super) struct Head {
    pooler: Linear,
    classifier: Linear,
}

impl Head {
    pub(super) fn load(weights: &Weights, hidden: usize, labels: usize) -> Result<Self, LoadError> {
        let identity = Activation::Identity;
        let weight = weights.tensor("pooler.dense.weight", &[hidden, hidden])?;
        let bias = weights.tensor("pooler.dense.bias", &[hidden])?;
        let pooler = Linear::new(&weight, bias, hidden, identity)?;
        // The classifier stands beside the model, not within it.
        let weight = weights.tensor_beside("classifier.weight", &[labels, hidden])?;
        let bias = weights.tensor_beside("classifier.bias", &[labels])?;
        Ok(Self { pooler, classifier: Linear::new(&weight, bias, hidden, identity)? })
    }

    pub(super) fn labels(&self) -> usize {
        self.classifier.outputs()
    }

    /// Makes `[texts, labels]` of `[texts, hidden]`: raw scores, whose meaning (softmax, sigmoid) is the caller's.
    pub(super) fn run(&self, rows: &[f32]) -> Result<Vec<f32>, ShapeError> {
        let texts = rows.len() / self.pooler.inputs();
        let mut pooled = vec![0.0; rows.len()];
        self.pooler.run(rows, &mut pooled, Parallelism::SINGLE)?;
        pooled.iter_mut().for_each(|value| *value = value.tanh());
        let mut scores = vec![0.0; texts * self.labels()];
        self.classifier.run(&pooled, &mut scores, Parallelism::SINGLE)?;
        Ok(scores)
    }
}
