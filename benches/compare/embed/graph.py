"""Writes the ONNX graph of a BERT-family embedding model from its safetensors file.

    graph.py MODEL TARGET        one text a run and no padding, so no attention mask: ids of [1, tokens]
    graph.py MODEL TARGET mask   ids and mask of [batch, tokens], texts padded to the longest

Out comes one vector of length 1 for each text. The operators are the newest and largest of the standard that fit
(LayerNormalization, Gelu), so that an engine is not held back by the graph. ONNX Runtime's own fused operators (Attention,
BiasGelu, SkipLayerNormalization) were tried: with them it was 9 to 17 % slower on one thread, and between 10 % slower and
5 % faster on two.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from safetensors.numpy import load_file

directory, target, masked = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["mask"]
config = json.loads((directory / "config.json").read_text())
pooling_path = directory / "1_Pooling" / "config.json"
pooling = json.loads(pooling_path.read_text()) if pooling_path.exists() else {}
weights = {name.removeprefix("bert."): value for name, value in load_file(directory / "model.safetensors").items()}
heads, hidden = config["num_attention_heads"], config["hidden_size"]
epsilon = config.get("layer_norm_eps", 1e-12)

nodes, constants = [], []


def constant(name, value):
    constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def node(operator, inputs, **attributes):
    name = f"{operator.lower()}_{len(nodes)}"
    nodes.append(helper.make_node(operator, inputs, [name], **attributes))
    return name


def integers(name, values):
    return constant(name, np.array(values, dtype=np.int64))


def linear(x, name):
    product = node("MatMul", [x, constant(f"{name}.weight", weights[f"{name}.weight"].T)])
    return node("Add", [product, constant(f"{name}.bias", weights[f"{name}.bias"])])


def norm(x, name):
    parts = [constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
    return node("LayerNormalization", [x, *parts], axis=-1, epsilon=epsilon)


split = integers("split", [0, 0, heads, hidden // heads])
join = integers("join", [0, 0, hidden])
scale = constant("scale", np.array(1 / np.sqrt(hidden // heads), dtype=np.float32))

words = node("Gather", [constant("words", weights["embeddings.word_embeddings.weight"]), "ids"])
length = node("Slice", [node("Shape", ["ids"]), integers("one", [1]), integers("two", [2])])
rows = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
positions = node("Slice", [constant("positions", rows), integers("zero", [0]), length, "zero"])
x = norm(node("Add", [words, positions]), "embeddings.LayerNorm")

if masked:
    mask = node("Cast", ["mask"], to=TensorProto.FLOAT)
    absent = node("Sub", [constant("present", np.array(1, dtype=np.float32)), mask])
    absent = node("Unsqueeze", [absent, integers("heads_and_queries", [1, 2])])
    unseen = node("Mul", [absent, constant("far_below", np.array(-1e9, dtype=np.float32))])

for index in range(config["num_hidden_layers"]):
    layer = f"encoder.layer.{index}"
    parts = [node("Reshape", [linear(x, f"{layer}.attention.self.{part}"), split]) for part in ("query", "key", "value")]
    query, value = (node("Transpose", [part], perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
    key = node("Transpose", [parts[1]], perm=[0, 2, 3, 1])
    scores = node("Mul", [node("MatMul", [query, key]), scale])
    scores = node("Add", [scores, unseen]) if masked else scores
    context = node("MatMul", [node("Softmax", [scores], axis=-1), value])
    context = node("Reshape", [node("Transpose", [context], perm=[0, 2, 1, 3]), join])
    attended = linear(context, f"{layer}.attention.output.dense")
    x = norm(node("Add", [x, attended]), f"{layer}.attention.output.LayerNorm")
    up = node("Gelu", [linear(x, f"{layer}.intermediate.dense")], approximate="none")
    x = norm(node("Add", [x, linear(up, f"{layer}.output.dense")]), f"{layer}.output.LayerNorm")

if pooling.get("pooling_mode_cls_token"):
    vector = node("Squeeze", [node("Slice", [x, "zero", "one", "one"]), "one"])
elif masked:
    # Not divided by the number of tokens: only the direction counts.
    kept = node("Mul", [x, node("Unsqueeze", [mask, integers("hidden", [2])])])
    vector = node("ReduceSum", [kept, "one"], keepdims=0)
else:
    vector = node("ReduceMean", [x, "one"], keepdims=0)
squares = node("ReduceSum", [node("Mul", [vector, vector]), "one"], keepdims=1)
nodes.append(helper.make_node("Div", [vector, node("Sqrt", [squares])], ["vector"]))

graph = helper.make_graph(
    nodes,
    "encoder",
    [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch" if masked else 1, "tokens"])
        for name in (["ids", "mask"] if masked else ["ids"])
    ],
    [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch" if masked else 1, hidden])],
    constants,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
checker.check_model(model)
save(model, target)
