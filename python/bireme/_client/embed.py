"""Embeddings of texts by a model of the host."""

from __future__ import annotations

import base64
import importlib
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, Union

from .._shapes import is_array, is_object, object_of
from ..errors import BadAnswer, error_of
from .host import Host, default_host
from .jsontext import JSON, document, dumps

#: Texts of one request, and their characters.
_TEXTS_MAX: Final = 512
_CHARS_MAX: Final = 1 << 20
_CODES: Final = {
    400: "invalid-input",
    404: "unknown-model",
    413: "input-too-large",
    502: "device-lost",
    503: "overloaded",
    504: "timeout",
}


def embed(
    texts: Union[str, Sequence[str]],
    model: str = "all-minilm-l6-v2",
    *,
    dimensions: int | None = None,
    host: Host | None = None,
) -> Any:
    """Returns one vector for each text, of 32-bit floats.

    A NumPy array of shape (texts, dimensions) where NumPy can be imported, else a list of `array("f")`. One text, rather
    than a list, gives one vector.
    """
    one = isinstance(texts, str)
    wanted: list[str] = [texts] if isinstance(texts, str) else list(texts)
    for text in wanted:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"embed() takes texts, not `{type(text).__name__}`")
    host = host or default_host()
    rows: list[bytes] = []
    first = 0
    while first < len(wanted):
        end, size = first, 0
        while end < len(wanted) and end - first < _TEXTS_MAX and (end == first or size + len(wanted[end]) <= _CHARS_MAX):
            size += len(wanted[end])
            end += 1
        rows += _request(host, wanted[first:end], model, dimensions)
        first = end
    vectors = _vectors(rows)
    return vectors[0] if one else vectors


def _request(host: Host, texts: list[str], model: str, dimensions: int | None) -> list[bytes]:
    asked: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "base64"}
    if dimensions is not None:
        asked["dimensions"] = dimensions
    answer = host.transport.request("POST", "/v1/embeddings", dumps(asked), {"content-type": JSON}, is_repeatable=True)
    if answer.status >= 400:
        raise openai_error(host, answer.status, answer.data, answer)
    data: Any = document(answer.data).get("data")
    if not is_array(data) or len(data) != len(texts):
        raise BadAnswer(f"the answer has not one embedding for each of {len(texts)} texts")
    rows: list[bytes] = []
    for item in data:
        text: Any = object_of(item).get("embedding")
        try:
            rows.append(base64.b64decode(text, validate=True))
        except (TypeError, ValueError):
            raise BadAnswer("an embedding is no Base64") from None
    if len({len(row) for row in rows}) > 1 or len(rows[0]) % 4:
        raise BadAnswer("embeddings of one model have different lengths")
    return rows


def openai_error(host: Host, status: int, data: bytes, answer: Any) -> Exception:
    """Returns the error of a path of `/v1`, which has OpenAI's form."""
    try:
        described: Any = document(data).get("error")
    except BadAnswer:
        described = None
    if not is_object(described):
        return host.error(answer)
    # The codes are OpenAI's; the status says which of this host's it is.
    code = _CODES.get(status, "unavailable")
    return error_of({**described, "code": code}, status=status)


def _vectors(rows: list[bytes]) -> Any:
    try:
        numbers: Any = importlib.import_module("numpy")
    except ImportError:
        vectors: list[array[float]] = []
        for row in rows:
            vector = array("f", row)
            if sys.byteorder == "big":
                vector.byteswap()
            vectors.append(vector)
        return vectors
    if not rows:
        return numbers.zeros((0, 0), dtype=numbers.float32)
    flat = numbers.frombuffer(b"".join(rows), dtype="<f4").astype(numbers.float32)
    return flat.reshape(len(rows), -1)
