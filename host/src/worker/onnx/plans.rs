//! The plans of one model: one for all shapes where the graph allows it, else one for each set of shapes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    InferenceFact, InferenceModel, InferenceModelExt as _, IntoRunnable as _, TVec, Tensor as Value, ToDim as _,
    TypedRunnableModel,
};
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use super::file::{Dim, Port};
use super::values;
use crate::worker::panic_message::panic_message;

/// Plans of one model for single shapes; the least recently used one is dropped.
pub(crate) const PLANS_MAX: usize = 8;
/// Bytes of one value inside a graph whose shapes are known.
const VALUE_BYTES_MAX: usize = 2 << 30;

pub(super) type Plan = Arc<TypedRunnableModel>;
type Shapes = Vec<TVec<usize>>;

pub(super) struct Plans {
    graph: InferenceModel,
    for_all: Option<Plan>,
    /// Most recently used first.
    by_shapes: VecDeque<(Shapes, Plan)>,
}

impl Plans {
    /// Makes the plan for all shapes if there can be one; a graph without free dimensions must have it.
    pub(crate) fn new(graph: InferenceModel, inputs: &[Port]) -> Result<Self, String> {
        // An error that no shape of inputs would avoid.
        graph.eval_order().map_err(|error| format!("{error:#}"))?;
        if let Some(node) = graph.nodes().iter().find(|node| node.op_is::<UnimplementedOp>()) {
            return Err(format!("node `{}`: the engine has no operator `{}`", node.name, node.op.name()));
        }
        let for_all = optimised(symbolic(&graph, inputs));
        let is_fixed = inputs.iter().flat_map(|port| &port.dims).all(|dim| matches!(dim, Dim::Fixed(_)));
        match for_all {
            Err(reason) if is_fixed => Err(reason),
            other => Ok(Self { graph, for_all: other.ok(), by_shapes: VecDeque::new() }),
        }
    }

    /// Returns a plan for values of these shapes.
    pub(crate) fn get(&mut self, inputs: &[Value]) -> Result<Plan, String> {
        if let Some(plan) = &self.for_all {
            return Ok(plan.clone());
        }
        let shapes: Shapes = inputs.iter().map(|value| value.shape().into()).collect();
        let found = match self.by_shapes.iter().position(|(known, _)| *known == shapes) {
            Some(index) => self.by_shapes.remove(index).expect("just found"),
            None => {
                let graph = fixed(&self.graph, inputs);
                let plan = catch_unwind(AssertUnwindSafe(|| optimised(graph)));
                (
                    shapes,
                    plan.unwrap_or_else(|panic| {
                        Err(format!("the engine stopped with `{}`", panic_message(panic.as_ref())))
                    })?,
                )
            }
        };
        let plan = found.1.clone();
        self.by_shapes.push_front(found);
        self.by_shapes.truncate(PLANS_MAX);
        Ok(plan)
    }

    #[cfg(test)]
    pub(crate) fn forget_the_plan_for_all(&mut self) {
        self.for_all = None;
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (usize::from(self.for_all.is_some()), self.by_shapes.len())
    }
}

/// The graph with a symbol for each dimension that is free and has no name.
fn symbolic(graph: &InferenceModel, inputs: &[Port]) -> Result<InferenceModel, String> {
    let mut graph = graph.clone();
    for (index, port) in inputs.iter().enumerate() {
        let shape: TVec<_> = port
            .dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim {
                Dim::Fixed(length) => (*length).to_dim(),
                Dim::Named(name) => graph.symbols.sym(name).to_dim(),
                Dim::Free => graph.symbols.sym(&format!("free_{index}_{axis}")).to_dim(),
            })
            .collect();
        let datum = values::datum_of(port.datatype).ok_or("a type that the engine has not")?;
        graph.set_input_fact(index, InferenceFact::dt_shape(datum, shape)).map_err(|error| format!("{error:#}"))?;
    }
    Ok(graph)
}

fn fixed(graph: &InferenceModel, inputs: &[Value]) -> Result<InferenceModel, String> {
    let mut graph = graph.clone();
    for (index, value) in inputs.iter().enumerate() {
        let fact = InferenceFact::dt_shape(value.datum_type(), value.shape());
        graph.set_input_fact(index, fact).map_err(|error| format!("{error:#}"))?;
    }
    Ok(graph)
}

fn optimised(graph: Result<InferenceModel, String>) -> Result<Plan, String> {
    let graph = graph?.into_optimized().map_err(|error| format!("{error:#}"))?;
    for node in graph.nodes() {
        for output in &node.outputs {
            let Some(shape) = output.fact.shape.as_concrete() else { continue };
            let size = output.fact.datum_type.size_of();
            let bytes = shape.iter().try_fold(size, |product, &length| product.checked_mul(length));
            if bytes.is_none_or(|bytes| bytes > VALUE_BYTES_MAX) {
                let name = &node.name;
                return Err(format!("value `{name}` of shape {shape:?} is over the limit of {VALUE_BYTES_MAX} bytes"));
            }
        }
    }
    graph.into_runnable().map_err(|error| format!("{error:#}"))
}
