//! ONNX models on the CPU, over named tensors.
//!
//! Not here: the requests that share an `Infer` (`inference::batcher`), the process around it. The arithmetic is
//! tract's.
//!
//! A graph whose free dimensions can stay symbols has one plan for all shapes; another has a plan for each set of input
//! shapes, of which the latest [`PLANS_MAX`] are kept. A plan may hold the weights once more, in the order its products
//! want.
//!
//! Items of equal shapes share a run if the file names a batch dimension. The name is trusted only after the first
//! shared run: if its numbers differ from single runs or nothing is gained, items stay apart.
//!
//! Invariants: a file is untrusted data, so any failure of tract on it, a panic included, is an error of this model or
//! this item; an item's result does not depend on the items beside it beyond the rounding of `f32`; there is no state
//! between items, so a model that has one takes it as an input and gives it as an output.
//!
//! Limits: those of `file`; at most [`TOGETHER_MAX`] items in one run; results of one `Infer` fit one frame. Memory
//! that a graph allocates while it computes is not bounded: then the worker dies, and the host restarts it.

mod batching;
mod file;
mod inputs;
mod plans;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use tract_onnx::prelude::{IntoTensor as _, Tensor as Value};

use self::batching::{Batching, Trust, pieces};
use self::file::{Port, read};
use self::plans::{Plan, Plans};
use super::panic_message::panic_message;
use crate::wire::{BODY_BYTES_MAX, Signature, Tensor};

pub(crate) use self::file::FileError;

/// The file that makes a directory an ONNX model.
pub(crate) const FILE: &str = "model.onnx";
/// Bytes of a frame beside the tensors' data.
const FRAME_BYTES: u64 = 1 << 20;

/// A loaded model.
pub struct OnnxModel {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    plans: Plans,
    batching: Option<Batching>,
    trust: Trust,
    weights: u64,
    threads: usize,
}

/// A model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file is unreadable, malformed or over a limit, or uses a feature that is refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The graph needs an operator that the engine lacks, or its parts contradict each other.
    #[error("no plan can be made for the graph: {reason}")]
    Plan {
        /// Message of the engine, or the node and its operator that the engine lacks.
        reason: String,
    },
    /// The engine panicked while it read the file or planned the graph.
    #[error("the graph cannot be loaded: the engine stopped with `{reason}`")]
    Panicked {
        /// Message of the panic.
        reason: String,
    },
}

/// Whether a directory holds an ONNX model. With weights beside it, it is an encoder with an ONNX export.
pub(super) fn is_model(dir: &Path) -> bool {
    dir.join(FILE).is_file() && !dir.join("model.safetensors").is_file()
}

/// One run: its items, its plan and the values that it takes.
struct Run {
    items: Vec<usize>,
    plan: Plan,
    values: Vec<Value>,
}

type Outcome = Result<Vec<Value>, String>;

impl OnnxModel {
    /// Loads the model in `dir`, to run on this many threads.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, OnnxError> {
        let load = || {
            let file = read(&dir.join(FILE))?;
            let batching = Batching::of(&file.inputs, &file.outputs);
            let plans = Plans::new(file.graph, &file.inputs).map_err(|reason| OnnxError::Plan { reason })?;
            let (inputs, outputs, weights) = (file.inputs, file.outputs, file.weights);
            let threads = threads.max(1);
            Ok(Self { inputs, outputs, plans, batching, trust: Trust::Unproven, weights, threads })
        };
        // Nothing that the closure could leave half done outlives it.
        catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|panic| Err(OnnxError::Panicked { reason: panic_message(panic.as_ref()) }))
    }

    /// Returns names, element types and shapes of the inputs and outputs.
    pub fn signature(&self) -> Signature {
        let specs = |ports: &[Port]| ports.iter().map(Port::spec).collect();
        Signature::Tensors { inputs: specs(&self.inputs), outputs: specs(&self.outputs) }
    }

    /// Bytes of the weights as they lie in the file.
    pub(crate) fn memory(&self) -> u64 {
        self.weights
    }

    /// Runs each item. Results come in the order of the items.
    pub fn infer(&mut self, items: &[Vec<Tensor>]) -> Vec<Result<Vec<Tensor>, String>> {
        let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
        let mut checked = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match inputs::ordered(&self.inputs, item) {
                Ok(item) => checked.push((index, item)),
                Err(error) => outcomes[index] = Some(Err(error.to_string())),
            }
        }
        let mut runs = Vec::new();
        for group in self.groups(&checked) {
            self.plan_group(&checked, &group, &mut runs, &mut outcomes);
        }
        for (run, outcome) in self.run_all(runs) {
            self.hand_out(&run, outcome, &mut outcomes);
        }
        let mut room = BODY_BYTES_MAX - FRAME_BYTES;
        let finish = |outcome: Option<Outcome>| {
            let values = outcome.expect("each item was refused or was in a run")?;
            let tensors = self.outputs.iter().zip(&values).map(|(port, value)| values::from_value(&port.name, value));
            let tensors: Vec<Tensor> = tensors.collect::<Result<_, _>>()?;
            let bytes = tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
            room = room.checked_sub(bytes).ok_or_else(|| {
                format!(
                    "its outputs are {bytes} bytes, and those of one batch have {BODY_BYTES_MAX}; send smaller inputs"
                )
            })?;
            Ok(tensors)
        };
        outcomes.into_iter().map(finish).collect()
    }

    /// The items that may run together: positions in `checked`.
    fn groups(&self, checked: &[(usize, Vec<&Tensor>)]) -> Vec<Vec<usize>> {
        let Some(batching) = self.batching.as_ref().filter(|_| !matches!(self.trust, Trust::Apart)) else {
            return (0..checked.len()).map(|position| vec![position]).collect();
        };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut known: HashMap<(Vec<&[u64]>, Vec<&Bytes>), usize> = HashMap::new();
        for (position, (_, item)) in checked.iter().enumerate() {
            let shapes = item.iter().map(|tensor| tensor.shape.as_slice()).collect();
            // An input without a batch dimension is shared by all items.
            let common = item.iter().zip(&batching.inputs).filter(|(_, axis)| axis.is_none());
            let key = (shapes, common.map(|(tensor, _)| &tensor.data).collect());
            let group = *known.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(position);
        }
        groups
    }

    /// Cuts a group into runs; with the first of a model, proves that its items may share one.
    fn plan_group(
        &mut self,
        checked: &[(usize, Vec<&Tensor>)],
        group: &[usize],
        runs: &mut Vec<Run>,
        outcomes: &mut [Option<Outcome>],
    ) {
        let mut rest = group;
        if matches!(self.trust, Trust::Unproven) && group.len() > 1 {
            let (first, others) = group.split_at(pieces(group.len(), 1)[0]);
            for (&position, outcome) in first.iter().zip(self.prove(checked, first)) {
                outcomes[checked[position].0] = Some(outcome);
            }
            rest = others;
        }
        let sizes = match self.trust {
            Trust::Together => pieces(rest.len(), self.threads),
            Trust::Unproven | Trust::Apart => vec![1; rest.len()],
        };
        for size in sizes {
            let (piece, others) = rest.split_at(size);
            rest = others;
            let items = piece.iter().map(|&position| checked[position].0).collect();
            match self.prepare(checked, piece) {
                Ok((plan, values)) => runs.push(Run { items, plan, values }),
                Err(reason) => items.into_iter().for_each(|item: usize| outcomes[item] = Some(Err(reason.clone()))),
            }
        }
    }

    /// Runs items one by one and as one, and decides whether they may share runs. Returns the results of the single
    /// runs.
    fn prove(&mut self, checked: &[(usize, Vec<&Tensor>)], piece: &[usize]) -> Vec<Outcome> {
        let mut apart_ns = 0;
        let outcomes: Vec<Outcome> = piece
            .iter()
            .map(|&position| {
                let (plan, values) = self.prepare(checked, &[position])?;
                let started = Instant::now();
                let outcome = run(&plan, values);
                apart_ns += started.elapsed().as_nanos();
                outcome
            })
            .collect();
        let Some(batching) = self.batching.clone() else { return outcomes };
        // Equal items would not show a mix-up.
        let is_telling = piece.iter().any(|&other| checked[other].1 != checked[piece[0]].1);
        let singles: Option<Vec<&Vec<Value>>> = outcomes.iter().map(|outcome| outcome.as_ref().ok()).collect();
        let (true, Some(singles)) = (is_telling, singles) else { return outcomes };
        let together = self.prepare(checked, piece).and_then(|(plan, values)| {
            let started = Instant::now();
            let values = run(&plan, values)?;
            Ok((batching.split(&values, piece.len())?, started.elapsed().as_nanos()))
        });
        self.trust = match together {
            Ok((split, together_ns)) if together_ns < apart_ns && batching::are_close(&split, &singles) => {
                Trust::Together
            }
            _ => Trust::Apart,
        };
        outcomes
    }

    /// Returns the plan for these items as one, and their values.
    fn prepare(&mut self, checked: &[(usize, Vec<&Tensor>)], piece: &[usize]) -> Result<(Plan, Vec<Value>), String> {
        let mut values = Vec::with_capacity(self.inputs.len());
        for input in 0..self.inputs.len() {
            let of = |&position: &usize| values::to_value(checked[position].1[input]);
            let axis = self.batching.as_ref().and_then(|batching| batching.inputs[input]);
            values.push(match (piece, axis) {
                ([_, _, ..], Some(axis)) => {
                    let parts = piece.iter().map(of).collect::<Result<Vec<_>, _>>()?;
                    Value::stack_tensors(axis, &parts).map_err(|error| format!("{error:#}"))?
                }
                _ => of(&piece[0])?,
            });
        }
        Ok((self.plans.get(&values)?, values))
    }

    /// Runs on as many threads as there are, one run on each.
    fn run_all(&self, runs: Vec<Run>) -> Vec<(Run, Outcome)> {
        let threads = self.threads.min(runs.len());
        let queue = Mutex::new(runs.into_iter());
        let work = || {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().expect("the lock is held for one `next` alone").next();
                let Some(mut next) = next else { return done };
                let outcome = run(&next.plan, std::mem::take(&mut next.values));
                done.push((next, outcome));
            }
        };
        if threads <= 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            others.into_iter().for_each(|other| done.extend(other.join().expect("a run's panic is caught within it")));
            done
        })
    }

    /// Gives each item of a run its part.
    fn hand_out(&self, run: &Run, outcome: Outcome, outcomes: &mut [Option<Outcome>]) {
        let parts = match (&self.batching, run.items.len()) {
            (Some(batching), 2..) => outcome.and_then(|values| batching.split(&values, run.items.len())),
            _ => outcome.map(|values| vec![values]),
        };
        match parts {
            Ok(parts) => {
                run.items.iter().zip(parts).for_each(|(&item, part)| outcomes[item] = Some(Ok(part)));
            }
            Err(reason) => run.items.iter().for_each(|&item| outcomes[item] = Some(Err(reason.clone()))),
        }
    }
}

/// Runs a plan once.
fn run(plan: &Plan, values: Vec<Value>) -> Outcome {
    // A run has its own state, and the plan is not changed by it.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let outputs = plan.run(values.into_iter().map(Into::into).collect()).map_err(|error| format!("{error:#}"))?;
        Ok(outputs.into_iter().map(|output| output.into_tensor()).collect())
    }));
    outcome.unwrap_or_else(|panic| Err(format!("the engine stopped with `{}`", panic_message(panic.as_ref()))))
}
