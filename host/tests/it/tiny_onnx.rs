//! A small random ONNX graph that tells files apart, spelt as protobuf by hand, and its scores in the plainest
//! arithmetic.

pub(crate) const INPUTS: usize = 2048;
const KINDS: usize = 5;

// Parts of an ONNX file: (field << 3 | wire type), then the value.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn message(field: u64, body: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(body.len() as u64), body].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

const FLOAT: u64 = 1;
const INT32: u64 = 6;

fn port(name: &str, datatype: u64, columns: usize) -> Vec<u8> {
    let shape = [message(1, &text(2, "batch")), message(1, &number(1, columns as u64))].concat();
    let tensor = [number(1, datatype), message(2, &shape)].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    [&inputs, &*text(2, output), &text(3, output), &text(4, op), attributes].concat()
}

/// Scores of a file's features: the softmax of their products with random weights.
pub(crate) struct Kinds(Vec<f32>);

impl Kinds {
    pub(crate) fn new() -> Self {
        let mut state = 1_u32;
        let mut weight = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // A file's features are up to 256, and a softmax over more than a few says one or nothing.
            ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) / 10_000.0
        };
        Self((0..INPUTS * KINDS).map(|_| weight()).collect())
    }

    /// The file of the graph, which takes `bytes` and gives `scores`.
    pub(crate) fn onnx(&self) -> Vec<u8> {
        // The type of the cast, and the axis of the softmax: a number each.
        let cast_to = message(5, &[text(1, "to"), number(3, FLOAT), number(20, 2)].concat());
        let axis = message(5, &[text(1, "axis"), number(3, 1), number(20, 2)].concat());
        let nodes = [
            node("Cast", &["bytes"], "floats", &cast_to),
            node("MatMul", &["floats", "weights"], "products", &[]),
            node("Softmax", &["products"], "scores", &axis),
        ];
        let raw: Vec<u8> = self.0.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let weights =
            [number(1, INPUTS as u64), number(1, KINDS as u64), number(2, FLOAT), text(8, "weights"), message(9, &raw)];
        let mut graph: Vec<u8> = nodes.iter().flat_map(|node| message(1, node)).collect();
        graph.extend(message(5, &weights.concat()));
        graph.extend(message(11, &port("bytes", INT32, INPUTS)));
        graph.extend(message(12, &port("scores", FLOAT, KINDS)));
        [number(1, 8), message(7, &graph), message(8, &[text(1, ""), number(2, 15)].concat())].concat()
    }

    pub(crate) fn scores(&self, features: &[i32]) -> Vec<f64> {
        let product = |kind: usize| -> f64 {
            let column = self.0.iter().skip(kind).step_by(KINDS);
            features.iter().zip(column).map(|(feature, weight)| f64::from(*feature) * f64::from(*weight)).sum()
        };
        let exponents: Vec<f64> = (0..KINDS).map(|kind| product(kind).exp()).collect();
        let sum: f64 = exponents.iter().sum();
        exponents.iter().map(|exponent| exponent / sum).collect()
    }
}
