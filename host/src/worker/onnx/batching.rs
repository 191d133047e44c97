//! Batching: the batch dimension of a model's inputs and outputs, and the runs that items share.

use tract_onnx::prelude::Tensor as Value;
use tract_onnx::tract_core::internal::Approximation;

use super::file::{Dim, Port};

/// Items in one run: more gain little, and each number of items that is a power of two can have a plan of its own.
pub(crate) const TOGETHER_MAX: usize = 16;

/// The batch dimensions of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// Dimension of each input; an input without one must be equal for all items of a run.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
}

/// The decision whether items run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Unproven,
    Together,
    Apart,
}

impl Batching {
    /// Finds the batch dimension: one with a name for it that is in each output; without such a name the first
    /// dimension, if it is free in all inputs and outputs. A free dimension of another name may be time, and the rows
    /// of one text must not mix with those of another.
    pub(crate) fn of(inputs: &[Port], outputs: &[Port]) -> Option<Self> {
        let names = inputs.iter().flat_map(|port| &port.dims).filter_map(Dim::name).filter(|name| is_batch(name));
        for name in names {
            let place = |port: &Port| {
                let mut places = (0..port.dims.len()).filter(|&axis| port.dims[axis].name() == Some(name));
                (places.next(), places.next().is_none())
            };
            let (ins, outs): (Vec<_>, Vec<_>) =
                (inputs.iter().map(place).collect(), outputs.iter().map(place).collect());
            let is_single = ins.iter().chain(&outs).all(|(_, is_single)| *is_single);
            let outs: Option<Vec<usize>> = outs.into_iter().map(|(axis, _)| axis).collect();
            if let (true, Some(outputs)) = (is_single, outs) {
                return Some(Self { inputs: ins.into_iter().map(|(axis, _)| axis).collect(), outputs });
            }
        }
        let is_free = |port: &Port| port.dims.first() == Some(&Dim::Free);
        let is_possible = !inputs.is_empty() && inputs.iter().chain(outputs).all(is_free);
        is_possible.then(|| Self { inputs: vec![Some(0); inputs.len()], outputs: vec![0; outputs.len()] })
    }

    /// Splits the outputs of a run of `items` equal items.
    pub(crate) fn split(&self, outputs: &[Value], items: usize) -> Result<Vec<Vec<Value>>, String> {
        let part = |item: usize| {
            let outputs = outputs.iter().zip(&self.outputs).map(|(value, &axis)| {
                let length = value.shape().get(axis).copied().unwrap_or(0);
                if length == 0 || length % items != 0 {
                    return Err(format!("an output of shape {:?} is not that of {items} items", value.shape()));
                }
                let rows = length / items;
                value.slice(axis, item * rows, (item + 1) * rows).map_err(|error| format!("{error:#}"))
            });
            outputs.collect()
        };
        (0..items).map(part).collect()
    }
}

/// Whether exporters give this name to the dimension of independent items.
fn is_batch(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("batch") || matches!(name.as_str(), "n" | "b" | "bs")
}

/// Returns the sizes of the runs: powers of two, so that plans are few, and enough of them for the threads.
pub(super) fn pieces(items: usize, threads: usize) -> Vec<usize> {
    let most = items.div_ceil(threads.max(1)).min(TOGETHER_MAX);
    let mut rest = items;
    let mut sizes = Vec::new();
    while rest > 0 {
        let size = 1 << rest.min(most).ilog2();
        sizes.push(size);
        rest -= size;
    }
    sizes
}

/// Whether the results of a shared run equal those of single runs.
pub(super) fn are_close(split: &[Vec<Value>], singles: &[&Vec<Value>]) -> bool {
    let mut pairs = split.iter().flatten().zip(singles.iter().copied().flatten());
    pairs.all(|(one, other)| one.shape() == other.shape() && one.close_enough(other, Approximation::Close).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Datatype;

    fn port(dims: &[Dim]) -> Port {
        Port { name: "x".into(), datatype: Datatype::Fp32, dims: dims.to_vec() }
    }

    fn named(name: &str) -> Dim {
        Dim::Named(name.into())
    }

    #[test]
    fn the_batch_is_where_the_names_say() {
        let state = port(&[Dim::Fixed(2), named("batch"), Dim::Fixed(128)]);
        let inputs = [port(&[named("batch"), named("sequence")]), state.clone(), port(&[])];
        let found = Batching::of(&inputs, &[port(&[named("batch"), Dim::Fixed(1)]), state.clone()]);
        assert_eq!(found, Some(Batching { inputs: vec![Some(0), Some(1), None], outputs: vec![0, 1] }));
        // An output without it cannot be taken apart.
        assert_eq!(Batching::of(&inputs, &[port(&[Dim::Fixed(1)])]), None);
        // Twice in one input, it is no batch.
        assert_eq!(Batching::of(&[port(&[named("N"), named("N")])], &[port(&[named("N")])]), None);
    }

    #[test]
    fn a_first_dimension_without_a_name_may_be_one_and_a_time_never_is() {
        let free = port(&[Dim::Free, Dim::Fixed(3)]);
        let found = Batching::of(std::slice::from_ref(&free), std::slice::from_ref(&free));
        assert_eq!(found, Some(Batching { inputs: vec![Some(0)], outputs: vec![0] }));
        let time = port(&[named("sequence_length"), Dim::Fixed(3)]);
        assert_eq!(Batching::of(std::slice::from_ref(&time), std::slice::from_ref(&time)), None);
        assert_eq!(Batching::of(&[free.clone(), port(&[Dim::Fixed(2)])], &[free]), None);
    }

    #[test]
    fn runs_are_powers_of_two_and_enough_for_the_threads() {
        assert_eq!(pieces(13, 1), [8, 4, 1]);
        assert_eq!(pieces(13, 2), [4, 4, 4, 1]);
        assert_eq!(pieces(40, 1), [16, 16, 8]);
        assert_eq!(pieces(3, 8), [1, 1, 1]);
        assert_eq!(pieces(0, 2), [0; 0]);
    }
}
