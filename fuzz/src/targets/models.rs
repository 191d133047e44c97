//! Files of models, as a worker reads them, and the table that a host takes from it.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bireme::fuzzing::worker;
use bireme::tokenizer::{Overflow, Tokenizer};
use bireme::wire::{Frame, HEADER_BYTES, Manifest, Signature};
use bireme::worker::onnx::{OnnxError, OnnxModel};

/// Variable with a directory for models, which the runner removes.
pub(crate) const SCRATCH_VARIABLE: &str = "BIREME_FUZZ_SCRATCH";

/// Separator of the files of one input.
pub(crate) const SEPARATOR: &str = "\n---\n";

/// Kind of the frame that has a model's manifest.
const DESCRIBED: u32 = 13;

static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os(SCRATCH_VARIABLE) {
    Some(dir) => dir.into(),
    None => tempfile::tempdir().expect("a temporary directory can be made").keep(),
});

/// A safetensors file.
pub(super) fn safetensors(input: &[u8]) -> Result<(), String> {
    let path = SCRATCH.join("weights.safetensors");
    fs::write(&path, input).expect("the directory can be written");
    let bytes = worker::weights(&path)?;
    // Four bits are the smallest type.
    assert!(bytes <= 8 * input.len() as u64, "{bytes} bytes of weights from {}", input.len());
    Ok(())
}

/// The files `config.json`, `tokenizer.json` and `serving.json`. The host takes what a worker has read.
pub(super) fn manifest(input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.split(SEPARATOR);
    for name in ["config.json", "tokenizer.json", "serving.json"] {
        let path = SCRATCH.join(name);
        match parts.next() {
            Some(part) => fs::write(path, part).expect("the directory can be written"),
            None => drop(fs::remove_file(path)),
        }
    }
    let manifest = worker::manifest(&SCRATCH)?;
    taken(&manifest, "a short text, with [MASK] and \u{4e2d}\u{6587}");
    Ok(())
}

/// A byte with the length of a text, the text, and the body of a frame with a manifest.
pub(super) fn table(input: &[u8]) -> Result<(), String> {
    let (len, rest) = input.split_first().ok_or("no length")?;
    let (text, body) = rest.split_at_checked(usize::from(*len)).ok_or("a short text")?;
    let Frame::Described { manifest } = Frame::decode(DESCRIBED, body).map_err(|error| error.to_string())? else {
        return Err("another frame".to_owned());
    };
    if let Some(table) = &manifest.tokenizer {
        Tokenizer::new(table.clone()).map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    }
    taken(&manifest, &String::from_utf8_lossy(text));
    Ok(())
}

/// The manifest travels unchanged, and its tokenizer keeps its limit.
fn taken(manifest: &Manifest, text: &str) {
    let mut bytes = Vec::new();
    Frame::Described { manifest: Box::new(manifest.clone()) }.encode(1, &mut bytes);
    match Frame::decode(DESCRIBED, &bytes[HEADER_BYTES..]) {
        Ok(Frame::Described { manifest: again }) => assert_eq!(*again, *manifest),
        other => panic!("a manifest that was read is not taken: {other:?}"),
    }
    let Some(table) = &manifest.tokenizer else { return };
    let tokenizer = Tokenizer::new(table.clone()).expect("a table that was checked makes a tokenizer");
    if let Ok(ids) = tokenizer.encode(text, Overflow::Truncate) {
        assert!(ids.len() <= tokenizer.max_tokens(), "{} tokens of {}", ids.len(), tokenizer.max_tokens());
        let whole = tokenizer.encode(text, Overflow::Reject);
        assert!(whole.is_err() || whole.is_ok_and(|whole| whole == ids), "a text that fits is cut");
    }
}

/// An ONNX file, up to its plan. A panic of the engine is an error of the model, as in the worker.
pub(super) fn onnx(input: &[u8]) -> Result<(), String> {
    fs::write(SCRATCH.join("model.onnx"), input).expect("the directory can be written");
    let model = OnnxModel::load(&SCRATCH, 1).map_err(|error| match error {
        OnnxError::Panicked { reason } => {
            format!("the engine panicked: {}", reason.chars().take(200).collect::<String>())
        }
        error => format!("{:#}", anyhow::Error::from(error)).chars().take(400).collect(),
    })?;
    let Signature::Tensors { inputs, outputs } = model.signature() else { panic!("a model of tensors") };
    assert!((1..=256).contains(&inputs.len()) && (1..=256).contains(&outputs.len()), "a model without ports");
    // The host takes the answer.
    let mut bytes = Vec::new();
    let signature = Signature::Tensors { inputs, outputs };
    let model = bireme::wire::ModelId(1);
    Frame::Loaded { model, signature, memory: 0, device: "cpu".to_owned() }.encode(1, &mut bytes);
    let head = bytes.first_chunk::<HEADER_BYTES>().expect("a frame has a header");
    let kind = bireme::wire::Header::parse(head).expect("its own header is read").kind;
    Frame::decode(kind, &bytes[HEADER_BYTES..]).expect("a signature that was read is taken");
    Ok(())
}
