"""Asks a host at ADDRESS through NVIDIA's own client, and holds the vectors against REFERENCE.

Usage: triton_client.py ADDRESS MODEL REFERENCE VOCABULARY
"""

import json
import sys

import numpy as np
from tritonclient import http
from tritonclient.utils import InferenceServerException

address, model, reference, vocabulary = sys.argv[1:]
items = json.load(open(reference, encoding="utf-8"))["items"]
vocabulary = json.load(open(vocabulary, encoding="utf-8"))["model"]["vocab"]
client = http.InferenceServerClient(address, concurrency=4)


def hold(vectors, items):
    expected = np.array([item["vector"] for item in items])
    assert vectors.dtype == np.float32 and vectors.shape == expected.shape, (vectors.dtype, vectors.shape)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (vectors * expected).sum(axis=1) / lengths
    assert cosines.min() > 0.9999, cosines
    return float(cosines.min())


def tensor(name, array, datatype, binary):
    return http.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


def texts(items, binary):
    return [tensor("text", np.array([item["text"].encode() for item in items], dtype=object), "BYTES", binary)]


def ids(items, binary):
    """Token ids of items whose words are all in the vocabulary, padded, as the usual tokenizers give them."""
    rows = [[vocabulary[word] for word in ["[CLS]", *words(item), "[SEP]"]] for item in items]
    length = max(map(len, rows)) + 2
    padded = np.array([row + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    return [
        tensor("input_ids", padded, "INT64", binary),
        tensor("attention_mask", mask, "INT64", binary),
        tensor("token_type_ids", np.zeros_like(padded), "INT64", binary),
    ]


def words(item):
    return item["text"].lower().split()


def refused(status, words, inputs, name=model, **more):
    try:
        client.infer(name, inputs, **more)
    except InferenceServerException as error:
        assert error.status() == status and words in error.message(), error
        return
    raise AssertionError(f"not refused: {words}")


assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready(model) and client.is_model_ready(model, "1")
assert not client.is_model_ready("nope") and not client.is_model_ready(model, "2")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata(model)
assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}], metadata
assert [spec["name"] for spec in metadata["inputs"]][:2] == ["text", "input_ids"], metadata
assert client.get_model_config(model)["input"][0]["data_type"] == "TYPE_STRING"
assert {"name": model, "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()

known = [item for item in items if item["text"] and all(word in vocabulary for word in words(item))]
known = [item for item in known if item["tokens"] == len(words(item)) + 2]
assert len(known) >= 3, known

lowest = 1.0
for make, asked in [(texts, items), (ids, known)]:
    for binary_in in [True, False]:
        for binary_out in [True, False]:
            outputs = [http.InferRequestedOutput("embedding", binary_data=binary_out)]
            result = client.infer(model, make(asked, binary_in), outputs=outputs, request_id="r 1")
            assert result.get_response()["id"] == "r 1"
            assert ("data" in result.get_output("embedding")) != binary_out
            lowest = min(lowest, hold(result.as_numpy("embedding"), asked))
# Without a word on outputs this client asks for all of them as binary data.
hold(client.infer(model, texts(items[:1], True), "1", priority=1, timeout=20_000_000).as_numpy("embedding"), items[:1])

pending = [(item, client.async_infer(model, texts([item], True))) for item in items]
for item, request in pending:
    hold(request.get_result().as_numpy("embedding"), [item])

refused("404", "nope", texts(items[:1], True), name="nope")
refused("404", "no version `7`", texts(items[:1], True), model_version="7")
refused("400", "it has `embedding`", texts(items[:1], True), outputs=[http.InferRequestedOutput("logits")])
refused("400", "not both", texts(items[:1], True) + ids(known[:1], True))
refused("400", "`input_ids` is INT32", [tensor("input_ids", np.zeros((1, 2), dtype=np.int32), "INT32", True)])
refused("400", "row 0 has no tokens", [tensor("input_ids", np.zeros((1, 0), dtype=np.int64), "INT64", True)])
refused("400", "sequence_id", texts(items[:1], True), sequence_id=7)

print(f"lowest cosine {lowest:.7f} over {len(items)} texts and {len(known)} rows of ids")
