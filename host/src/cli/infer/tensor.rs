//! Tensors as typed on the command line: `NAME=VALUES`, with type and shape of the model's declaration.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::file::read;
use crate::cli::exit::Exit;
use crate::codes::Code;
use crate::http::oip::{InferRequest, read_elements};
use crate::limits::TENSORS_BODY_BYTES_MAX;
use crate::suggest::did_you_mean;
use crate::wire::{Datatype, Tensor, TensorSpec};

/// Returns the request of these words for a model with these inputs.
pub(super) fn request(model: &str, specs: &[TensorSpec], words: &[String]) -> Result<InferRequest, Exit> {
    let mut inputs: Vec<Tensor> = Vec::new();
    for word in words {
        let tensor = tensor(model, specs, word)?;
        if inputs.iter().any(|input| input.name == tensor.name) {
            return Err(Exit::usage(format!("input `{}` is given twice", tensor.name)));
        }
        inputs.push(tensor);
    }
    let missing = specs.iter().filter(|spec| !inputs.iter().any(|input| input.name == spec.name));
    let missing: Vec<_> = missing.map(|spec| spec.name.as_str()).collect();
    if !missing.is_empty() {
        let message = format!("model `{model}` takes {}; missing: `{}`", listed(specs), missing.join("`, `"));
        return Err(Exit::usage(message).hint("give each as `--tensor NAME=VALUES`"));
    }
    Ok(InferRequest::of(inputs))
}

fn tensor(model: &str, specs: &[TensorSpec], word: &str) -> Result<Tensor, Exit> {
    let Some((name, text)) = word.split_once('=') else {
        return Err(Exit::usage(format!("`{word}` is no tensor; write `--tensor NAME=VALUES`")));
    };
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
        let exit = Exit::usage(format!("model `{model}` has no input `{name}`; it takes {}", listed(specs)));
        let near = did_you_mean(name, specs.iter().map(|spec| spec.name.as_str()));
        return Err(match near {
            Some(near) => exit.hint(near),
            None => exit,
        });
    };
    let unfit = |reason: String| Exit::new(Code::InvalidInput, format!("input `{name}`: {reason}"));
    let (shape, data) = match text.strip_prefix('@') {
        Some(path) => raw(spec, read(path, TENSORS_BODY_BYTES_MAX)?),
        None => values(spec, text),
    }
    .map_err(unfit)?;
    let tensor = Tensor { name: name.to_owned(), datatype: spec.datatype, shape, data };
    tensor.check().map_err(|error| unfit(error.to_string()))?;
    Ok(tensor)
}

/// Shape and data of a tensor, or the reason against them.
type Shaped = Result<(Vec<u64>, Bytes), String>;

/// Takes the bytes of a file as elements.
fn raw(spec: &TensorSpec, bytes: Bytes) -> Shaped {
    let Some(size) = spec.datatype.size() else {
        return Err(format!("{} has no raw elements; give its strings as JSON", spec.datatype));
    };
    if !bytes.len().is_multiple_of(size) {
        return Err(format!("{} bytes are no whole number of {}", bytes.len(), spec.datatype));
    }
    Ok((fit(&spec.shape, (bytes.len() / size) as u64)?, bytes))
}

/// Parses elements: nested arrays of any shape, a flat array of the declared one, or one value for all.
fn values(spec: &TensorSpec, text: &str) -> Shaped {
    // A shell takes the quotes of a string away.
    let quoted;
    let text = match spec.datatype {
        Datatype::Bytes if !text.trim_start().starts_with(['[', '"']) => {
            quoted = Value::from(text).to_string();
            &quoted
        }
        _ => text,
    };
    let json: Value = serde_json::from_str(text).map_err(|error| format!("`{text}` is not JSON: {error}"))?;
    let elements = |text: &str, shape: &[u64]| {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read_elements(raw, spec.datatype, shape).map_err(|error| error.to_string())
    };
    if !json.is_array() {
        let shape: Vec<u64> = spec.shape.iter().map(|&length| u64::try_from(length).unwrap_or(1)).collect();
        let element = elements(&format!("[{text}]"), &[1])?;
        let count = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length));
        let bytes = count.and_then(|count| count.checked_mul(element.len() as u64));
        return match (count, bytes) {
            (Some(count), Some(bytes)) if bytes <= TENSORS_BODY_BYTES_MAX => {
                Ok((shape, element.repeat(count as usize).into()))
            }
            _ => Err(format!("shape {shape:?} is too large to be filled")),
        };
    }
    let mut nested = Vec::new();
    let mut level = Some(&json);
    while let Some(Value::Array(array)) = level {
        nested.push(array.len() as u64);
        level = array.first();
    }
    let shape = if nested.len() == 1 { fit(&spec.shape, nested[0])? } else { nested };
    let data = elements(text, &shape)?;
    Ok((shape, data))
}

/// Returns the declared shape with `count` elements: the last dimension of any length takes the rest, others are 1.
fn fit(declared: &[i64], count: u64) -> Result<Vec<u64>, String> {
    let known = declared.iter().filter_map(|&length| u64::try_from(length).ok());
    let known = known.fold(1u64, u64::saturating_mul);
    let open = declared.iter().rposition(|&length| length < 0);
    let rest = match open {
        Some(_) if known > 0 && count.is_multiple_of(known) => count / known,
        None if known == count => 1,
        _ => return Err(format!("{count} elements do not fit the shape {declared:?}; -1 stands for any length")),
    };
    let length = |(at, &length): (usize, &i64)| match u64::try_from(length) {
        Ok(length) => length,
        Err(_) if Some(at) == open => rest,
        Err(_) => 1,
    };
    Ok(declared.iter().enumerate().map(length).collect())
}

fn listed(specs: &[TensorSpec]) -> String {
    let specs: Vec<_> =
        specs.iter().map(|spec| format!("`{}` ({} {:?})", spec.name, spec.datatype, spec.shape)).collect();
    specs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let spec =
            |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
        vec![
            spec("input", Datatype::Fp32, &[-1, -1]),
            spec("state", Datatype::Fp32, &[2, -1, 3]),
            spec("sr", Datatype::Int64, &[]),
            spec("text", Datatype::Bytes, &[-1]),
        ]
    }

    fn check(word: &str, shape: &[u64], bytes: usize) {
        let tensor = tensor("m", &specs(), word).unwrap_or_else(|exit| panic!("{word}: {}", exit.message));
        assert_eq!((tensor.shape.as_slice(), tensor.data.len()), (shape, bytes), "{word}");
    }

    fn check_refused(word: &str, message: &str) {
        let exit = tensor("m", &specs(), word).unwrap_err();
        assert!(exit.message.contains(message), "no `{message}` in `{}`", exit.message);
    }

    #[test]
    fn shapes_are_those_of_the_values_or_of_the_model() {
        check("input=[[1, 2, 3]]", &[1, 3], 12);
        check("input=[1, 2, 3, 4]", &[1, 4], 16);
        check("state=0", &[2, 1, 3], 24);
        check("sr=16000", &[], 8);
        check("state=[1,2,3,4,5,6]", &[2, 1, 3], 24);
        check("text=a text", &[1], 10);
        check(r#"text=["a", "b"]"#, &[2], 10);
    }

    #[test]
    fn values_that_do_not_fit_say_why() {
        check_refused("input", "is no tensor");
        check_refused("inptu=1", "no input `inptu`; it takes `input` (FP32 [-1, -1]), `state`");
        check_refused("state=[1,2,3]", "3 elements do not fit the shape [2, -1, 3]");
        check_refused("sr=1.5", "1.5 is no INT64");
        check_refused("input=[[1,2],[3]]", "an array of 1, where shape [2, 2] has 2");
        check_refused("input=abc", "`abc` is not JSON");
        check_refused("input=@/no/such/file", "cannot read `/no/such/file`");
    }

    #[test]
    fn a_request_needs_every_input_once() {
        let all = ["input=1", "state=0", "sr=1", "text=a"].map(str::to_owned);
        assert_eq!(request("m", &specs(), &all).unwrap().inputs.len(), 4);
        let exit = request("m", &specs(), &all[..3]).unwrap_err();
        assert!(exit.message.ends_with("missing: `text`"), "{}", exit.message);
        let twice = [&all[..], &all[..1]].concat();
        assert!(request("m", &specs(), &twice).unwrap_err().message.contains("`input` is given twice"));
    }
}
