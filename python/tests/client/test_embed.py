"""Embeddings, with NumPy and without."""

from __future__ import annotations

import base64
import json
import math
import socket
import sys
from array import array

import pytest

import bireme
import tiny_model
from fake import FakeHost, response
from running import Running, command


@pytest.fixture(scope="module")
def model(running: Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model.write(directory)
    command("models", "add", "tiny", str(directory), data=running.data)
    return "tiny"


def test_texts_become_vectors_of_length_one(host: bireme.Host, model: str) -> None:
    numpy = pytest.importorskip("numpy")
    texts = ["the sea", "the wind", "oar and deck"] * 200
    vectors = bireme.embed(texts, model)
    assert vectors.shape == (600, 64) and vectors.dtype == numpy.float32 and vectors.flags.writeable
    assert numpy.allclose((vectors * vectors).sum(axis=1), 1, atol=1e-5)
    assert numpy.array_equal(vectors[0], bireme.embed("the sea", model))
    assert not numpy.allclose(vectors[0], vectors[1])
    assert bireme.embed(["the sea"], model, dimensions=8).shape == (1, 8)
    assert len(bireme.embed([], model)) == 0


def test_without_numpy_a_vector_is_an_array(host: bireme.Host, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    vectors = bireme.embed(["the sea", "the wind"], model)
    assert [type(vector) for vector in vectors] == [array, array] and vectors[0].itemsize == 4
    assert math.isclose(sum(number * number for number in vectors[0]), 1, abs_tol=1e-5)
    assert len(bireme.embed("the sea", model)) == 64


def test_a_model_that_is_missing_is_named(host: bireme.Host) -> None:
    with pytest.raises(bireme.NotFound) as raised:
        bireme.embed(["x"], "nothing")
    assert raised.value.code == "unknown-model" and "bireme models pull" in str(raised.value.hint)
    with pytest.raises(TypeError, match="takes texts, not `int`"):
        bireme.embed(["x", 1])  # type: ignore[list-item]


def test_long_lists_go_in_parts_and_bad_answers_are_errors() -> None:
    vector = base64.b64encode(array("f", [1.0, 0.0]).tobytes()).decode()
    sizes: list[int] = []
    rows = [{"embedding": vector}]

    def answer(connection: socket.socket, head: bytes, body: bytes) -> bool:
        count = len(json.loads(body)["input"])
        sizes.append(count)
        connection.sendall(response(json.dumps({"data": (rows * count)[: count * len(rows)]}).encode()))
        return True

    with FakeHost(answer) as fake:
        host = bireme.Host(fake.url)
        assert len(bireme.embed(["x"] * 1_200, host=host)) == 1_200 and sizes == [512, 512, 176]
        sizes.clear()
        bireme.embed(["x" * 600_000] * 3, host=host)
        assert sizes == [1, 1, 1]
        for rows, words in [
            ([{"embedding": vector}] * 2, "one embedding for each"),
            ([{"embedding": "*"}], "no Base64"),
            ([{"embedding": [1.0]}], "no Base64"),
            ([1], "no Base64"),
            ([{"embedding": "AAA="}], "different lengths"),
        ]:
            with pytest.raises(bireme.BadAnswer, match=words):
                bireme.embed(["x"], host=host)


