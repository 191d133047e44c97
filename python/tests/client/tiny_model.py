"""A small random model of the BERT family, as files that a host installs."""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path

_HIDDEN, _INTERMEDIATE, _POSITIONS, _LAYERS = 64, 72, 40, 2
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_WORDS = ["a", "and", "at", "in", "is", "the", "anchor", "crew", "deck", "galley", "oar", "sail", "sea", "wind"]


def write(directory: Path) -> None:
    """Writes configuration, weights and tokenizer."""
    vocabulary = {word: id for id, word in enumerate(_SPECIAL + _WORDS)}
    shapes: dict[str, list[int]] = {
        "embeddings.word_embeddings.weight": [len(vocabulary), _HIDDEN],
        "embeddings.position_embeddings.weight": [_POSITIONS, _HIDDEN],
        "embeddings.token_type_embeddings.weight": [2, _HIDDEN],
    }
    pairs = {"embeddings.LayerNorm": [_HIDDEN]}
    for layer in range(_LAYERS):
        name = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            pairs[name + part] = [_HIDDEN, _HIDDEN]
        pairs[name + "attention.output.LayerNorm"] = pairs[name + "output.LayerNorm"] = [_HIDDEN]
        pairs[name + "intermediate.dense"] = [_INTERMEDIATE, _HIDDEN]
        pairs[name + "output.dense"] = [_HIDDEN, _INTERMEDIATE]
    for name, shape in pairs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    numbers = random.Random(1)
    header: dict[str, object] = {}
    data = bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        start = len(data)
        data += array("f", (numbers.random() - 0.5 for _ in range(count))).tobytes()
        header[f"bert.{name}"] = {"dtype": "F32", "shape": shape, "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {
        "model_type": "bert", "vocab_size": len(vocabulary), "hidden_size": _HIDDEN, "num_hidden_layers": _LAYERS,
        "num_attention_heads": 2, "intermediate_size": _INTERMEDIATE, "max_position_embeddings": _POSITIONS,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer = {
        "version": "1.0", "added_tokens": [], "truncation": None, "padding": None, "decoder": None,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    }  # fmt: skip
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
