//! Small graphs, spelt as protobuf by hand, and files that mean harm.

use proptest::prelude::*;
use tempfile::TempDir;

use super::plans::PLANS_MAX;
use super::*;
use crate::wire::{Datatype, TensorSpec};

// ---- The parts of an ONNX file that the tests need: (field << 3 | wire type), then the value ----

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn message(field: u64, body: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(body.len() as u64), body].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

const FLOAT: i64 = 1;
const INT64: i64 = 7;

fn port(name: &str, datatype: i64, dims: &[&str]) -> Vec<u8> {
    let dims = dims.iter().map(|dim| {
        let dim = dim.parse().map_or_else(|_| text(2, dim), |length| number(1, length));
        message(1, &dim)
    });
    let tensor = [number(1, datatype), message(2, &dims.collect::<Vec<_>>().concat())].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    tensor(name, FLOAT, dims, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn tensor(name: &str, datatype: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&length| number(1, length)).collect();
    [dims, number(2, datatype), text(8, name), message(9, raw)].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| message(5, attribute)).collect();
    [inputs, text(2, output), text(3, output), text(4, op), attributes].concat()
}

#[derive(Clone, Default)]
struct Graph {
    nodes: Vec<Vec<u8>>,
    weights: Vec<Vec<u8>>,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Graph {
    fn bytes(&self) -> Vec<u8> {
        let parts = [(1, &self.nodes), (5, &self.weights), (11, &self.inputs), (12, &self.outputs)];
        let body: Vec<u8> =
            parts.iter().flat_map(|(field, all)| all.iter().flat_map(|part| message(*field, part))).collect();
        let opset = [text(1, ""), number(2, 15)].concat();
        [number(1, 8), message(7, &body), message(8, &opset)].concat()
    }

    fn load(&self) -> Result<OnnxModel, OnnxError> {
        load(&self.bytes())
    }

    fn refused(&self) -> String {
        let error = self.load().err().expect("refused");
        format!("{:#}", anyhow::Error::from(error))
    }
}

fn load(bytes: &[u8]) -> Result<OnnxModel, OnnxError> {
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join(FILE), bytes).expect("written");
    OnnxModel::load(dir.path(), 2)
}

/// `y = x · w + b` over a batch of rows of three.
fn affine(batch: &str) -> Graph {
    Graph {
        nodes: vec![node("MatMul", &["x", "w"], "xw", &[]), node("Add", &["xw", "b"], "y", &[])],
        weights: vec![floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), floats("b", &[2], &[0.5, -0.5])],
        inputs: vec![port("x", FLOAT, &[batch, "3"])],
        outputs: vec![port("y", FLOAT, &[batch, "2"])],
    }
}

/// `y = x` less the mean of all rows: a batch that is called so and is none.
fn centred() -> Graph {
    let axes = [text(1, "axes"), number(8, 0), number(20, 7)].concat();
    Graph {
        nodes: vec![node("ReduceMean", &["x"], "mean", &[axes]), node("Sub", &["x", "mean"], "y", &[])],
        weights: vec![],
        inputs: vec![port("x", FLOAT, &["batch", "3"])],
        outputs: vec![port("y", FLOAT, &["batch", "3"])],
    }
}

fn rows(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    Tensor { name: name.into(), datatype: Datatype::Fp32, shape: shape.to_vec(), data: data.into() }
}

fn x(count: u64, start: f32) -> Vec<Tensor> {
    let values: Vec<f32> = (0..count * 3).map(|index| start + index as f32).collect();
    vec![rows("x", &[count, 3], &values)]
}

#[track_caller]
fn values(outcome: &Result<Vec<Tensor>, String>) -> Vec<f32> {
    let tensors = outcome.as_ref().unwrap_or_else(|error| panic!("{error}"));
    tensors[0].data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
}

#[test]
fn a_model_says_what_it_takes_and_gives_it() {
    let mut model = affine("batch").load().expect("loads");
    let spec = |name: &str, width| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: vec![-1, width] };
    assert_eq!(model.signature(), Signature::Tensors { inputs: vec![spec("x", 3)], outputs: vec![spec("y", 2)] });
    assert_eq!((model.memory(), model.plans.counts()), (32, (1, 0)));
    let outcomes = model.infer(&[x(2, 1.0)]);
    assert_eq!(values(&outcomes[0]), [22.5, 27.5, 49.5, 63.5]);
    let answer = &outcomes[0].as_ref().expect("well")[0];
    assert_eq!((answer.name.as_str(), answer.shape.as_slice()), ("y", &[2, 2][..]));
}

#[test]
fn items_that_run_together_get_what_they_get_alone() {
    for batch in ["batch", "unk__17", "N"] {
        let items: Vec<_> = (0..23).map(|index| x(index % 3 + 1, index as f32)).collect();
        let mut apart = affine(batch).load().expect("loads");
        apart.trust = Trust::Apart;
        let mut together = affine(batch).load().expect("loads");
        assert!(together.batching.is_some());
        together.trust = Trust::Together;
        for (one, other) in together.infer(&items).iter().zip(&apart.infer(&items)) {
            assert_eq!(values(one), values(other));
            assert_eq!(one.as_ref().expect("well")[0].shape, other.as_ref().expect("well")[0].shape);
        }
    }
    assert!(affine("time").load().expect("loads").batching.is_none());
}

#[test]
fn a_model_that_mixes_its_rows_is_found_out() {
    let mut model = centred().load().expect("loads");
    assert!(model.batching.is_some());
    // Equal items would look well together.
    model.infer(&[x(2, 1.0), x(2, 1.0)]);
    assert_eq!(model.trust, Trust::Unproven);
    for _ in 0..2 {
        let outcomes = model.infer(&[x(1, 1.0), x(1, 100.0), x(1, 7.0)]);
        assert!(outcomes.iter().all(|outcome| values(outcome) == [0.0; 3]), "{outcomes:?}");
        assert_eq!(model.trust, Trust::Apart);
    }
}

#[test]
fn one_bad_item_does_not_touch_the_others() {
    let mut model = affine("batch").load().expect("loads");
    model.trust = Trust::Together;
    let other = |tensor: Tensor| vec![tensor];
    let mut int = x(1, 0.0).remove(0);
    int.datatype = Datatype::Int32;
    let mut short = x(1, 0.0).remove(0);
    short.data = short.data.slice(..8);
    let items = [
        x(1, 1.0),
        vec![],
        other(rows("z", &[1, 3], &[0.0; 3])),
        [x(1, 0.0), x(1, 0.0)].concat(),
        other(int),
        other(rows("x", &[1, 4], &[0.0; 4])),
        other(rows("x", &[3], &[0.0; 3])),
        other(rows("x", &[0, 3], &[])),
        other(short),
        [x(1, 0.0), vec![rows("z", &[1], &[0.0])]].concat(),
        x(1, 1.0),
    ];
    let outcomes = model.infer(&items);
    assert_eq!(outcomes.len(), items.len());
    assert_eq!(values(&outcomes[0]), [22.5, 27.5]);
    assert_eq!(values(&outcomes[10]), [22.5, 27.5]);
    let messages: Vec<_> =
        outcomes[1..10].iter().map(|outcome| outcome.as_ref().expect_err("refused").as_str()).collect();
    assert_eq!(
        messages,
        [
            "input `x` (FP32 of shape [-1, 3]) is missing",
            "the model has no input `z`; it takes `x`",
            "input `x` is there twice",
            "input `x` is INT32, not FP32",
            "input `x` has shape [1, 4], not [-1, 3] (-1 is any length)",
            "input `x` has shape [3], not [-1, 3] (-1 is any length)",
            "input `x` has an empty dimension in its shape [0, 3]",
            "tensor `x` of shape [1, 3] and type FP32 has 8 bytes, not 12",
            "the model has no input `z`; it takes `x`",
        ]
    );
}

#[test]
fn dimensions_of_one_name_have_one_length() {
    let mut graph = affine("batch");
    graph.inputs.push(port("bias", FLOAT, &["batch", "2"]));
    graph.nodes[1] = node("Add", &["xw", "bias"], "y", &[]);
    let mut model = graph.load().expect("loads");
    let item = |count: u64| [x(2, 0.0), vec![rows("bias", &[count, 2], &vec![1.0; count as usize * 2])]].concat();
    assert!(model.infer(&[item(2)])[0].is_ok());
    let error = model.infer(&[item(1)]).remove(0).expect_err("refused");
    assert_eq!(error, "input `bias` has 1 along `batch`, and input `x` has 2");
}

#[test]
fn a_graph_without_a_plan_for_all_shapes_keeps_a_few() {
    // The rank of `y` follows from the shape only once that is known.
    let mut graph = affine("batch");
    graph.nodes = vec![
        node("Shape", &["x"], "shape", &[]),
        node("Expand", &["b", "shape"], "wide", &[]),
        node("Add", &["x", "wide"], "y", &[]),
    ];
    graph.weights = vec![floats("b", &[1], &[1.0])];
    graph.outputs = vec![port("y", FLOAT, &["batch", "3"])];
    let mut model = graph.load().expect("loads");
    model.plans.forget_the_plan_for_all();
    for count in (1..=20).chain([20, 19]) {
        let outcome = &model.infer(&[x(count, 0.0)])[0];
        assert_eq!(values(outcome)[count as usize * 3 - 1], count as f32 * 3.0);
    }
    assert_eq!(model.plans.counts(), (0, PLANS_MAX));
}

#[test]
fn files_that_mean_harm_are_errors_that_name_what_is_wrong() {
    let check = |change: &dyn Fn(&mut Graph), expected: &str| {
        let mut graph = affine("batch");
        change(&mut graph);
        let message = graph.refused();
        assert!(message.contains(expected), "{message}");
    };
    let huge = i64::MAX;
    check(
        &|g| g.weights[0] = tensor("w", FLOAT, &[huge, huge], &[0; 4]),
        "tensor `w` has a shape that cannot be counted",
    );
    check(&|g| g.weights[0] = tensor("w", FLOAT, &[-3, 2], &[0; 24]), "tensor `w` has a shape that cannot be counted");
    check(&|g| g.weights[0] = tensor("w", FLOAT, &[1 << 40], &[0; 4]), "Raw tensor data length (4)");
    check(&|g| g.weights[0] = tensor("w", FLOAT, &[1; 17], &[0; 4]), "tensor `w` has 17 dimensions");
    check(&|g| drop(g.weights.remove(0)), "value `w` is used and nothing gives it");
    check(&|g| g.nodes[0] = node("MatMul", &["y", "w"], "xw", &[]), "Loop detected");
    check(&|g| g.nodes[0] = node("Sorcery", &["x", "w"], "xw", &[]), "Sorcery");
    check(&|g| g.outputs = vec![port("nowhere", FLOAT, &["batch", "2"])], "the engine stopped with");
    check(&|g| g.outputs.clear(), "the graph has 1 inputs and 0 outputs");
    check(&|g| g.inputs[0] = port("x", 8, &["batch"]), "input `x` has a type that cannot be sent");
    check(&|g| g.inputs[0] = port("x", FLOAT, &[&"(".repeat(100)]), "value `x` has a dimension with too long a name");
    check(
        &|g| {
            let location = [text(1, "location"), text(2, "../../secret")].concat();
            g.weights[0] = [tensor("w", FLOAT, &[3, 2], &[]), number(14, 1), message(13, &location)].concat();
        },
        "tensor `w` keeps its data in another file; save the model as one file",
    );
    check(
        &|g| {
            let shape: Vec<u8> = [1i64 << 20, 1 << 20].iter().flat_map(|length| length.to_le_bytes()).collect();
            g.weights.push(tensor("shape", INT64, &[2], &shape));
            g.nodes.insert(0, node("ConstantOfShape", &["shape"], "zeros", &[]));
        },
        "node `zeros` fills a tensor of shape [1048576, 1048576]",
    );
    assert!(matches!(load(b""), Err(OnnxError::File(FileError::Malformed { .. }))));
    let missing = OnnxModel::load(TempDir::new().expect("a directory").path(), 1);
    assert!(matches!(missing, Err(OnnxError::File(FileError::Unreadable { .. }))));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_an_error() {
    let bytes = affine("batch").bytes();
    // Without the last field, the operators' version, the rest is a file of its own.
    let opset = message(8, &[text(1, ""), number(2, 15)].concat()).len();
    for length in (0..bytes.len()).filter(|length| *length != bytes.len() - opset) {
        assert!(load(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_file_is_refused_or_runs(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = affine("batch").bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(mut model) = load(&bytes) {
            let outcomes = model.infer(&[x(1, 0.0), x(2, 1.0), x(2, 2.0)]);
            prop_assert_eq!(outcomes.len(), 3);
        }
    }
}
