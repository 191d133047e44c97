"""Models on the host's workers. A function names one, and loads nothing: requests of many calls share their batches."""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, overload

from .host import host
from .host.api import Tensor as HostTensor
from .public import publish
from .words import names

_WORDS = {
    "UnknownModel": "the host has no model `{model}`; `bireme models` lists those it has, `bireme models pull {model}` "
    "fetches one",
    "NotDeclared": 'this function does not declare model `{model}`; add `models=["{model}"]` to its decorator',
    "BadInput": "model `{model}` cannot take the input: {reason}",
    "Overloaded": "the queue of model `{model}` is full; try again later",
    "Deadline": "the deadline passed before model `{model}` ran",
    "DeviceLost": "the worker of model `{model}` died twice on this request",
    "BudgetExceeded": "no more tokens for model `{model}`: {reason}",
    "Unavailable": "the worker of model `{model}` is not available: {reason}",
    "NoFake": "there is no host in a native test, so no model `{model}`; give one with `bireme.testing.{reason}`",
}


class Error(Exception):
    """Reason why a model gave no result."""

    def __init__(self, model: str, kind: str, reason: str = "") -> None:
        super().__init__(_WORDS[kind].format(model=model, reason=reason))
        self.model = model
        self.kind = kind

    @property
    def is_terminal(self) -> bool:
        """Whether another attempt cannot help."""
        return self.kind in ("UnknownModel", "NotDeclared", "BadInput", "NoFake")


class Embedding(list[float]):
    """A vector; of unit length where the model normalises."""

    def dot(self, other: Sequence[float]) -> float:
        """Returns the product with another one: their similarity, where both have unit length."""
        if len(self) != len(other):
            raise ValueError(f"vectors of {len(self)} and {len(other)} numbers have no product")
        return sum(a * b for a, b in zip(self, other))


@dataclass(frozen=True)
class Ranked:
    """A document's place in a ranking."""

    index: int
    score: float


@dataclass(frozen=True)
class Classes:
    """Scores of one text by label, in the model's own order."""

    scores: dict[str, float]

    @property
    def best(self) -> tuple[str, float]:
        """The label with the highest score."""
        return max(self.scores.items(), key=lambda item: item[1])


Element = Union[bool, int, float, str, bytes]

# Name in `wit/`, code of `struct` or `array`, the kinds of Python's values that it holds.
_FORMATS = {
    "BOOL": "B",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}


class Tensor:
    """A named tensor of a model: its data little-endian and row-major.

    >>> Tensor("terms", [1, 2, 3]).values
    [1, 2, 3]
    """

    def __init__(
        self,
        name: str,
        values: Sequence[Any] | bytes | Element,
        *,
        datatype: str = "",
        shape: Sequence[int] | None = None,
    ) -> None:
        """Makes one of nested lists, or of raw bytes with `datatype` and `shape`. Without a `datatype` integers are
        ``int64``, other numbers ``fp32``."""
        self.name = name
        if isinstance(values, bytes) and shape is not None:
            self.datatype, self.shape, self.data = datatype.upper(), list(shape), values
            return
        flat, found = _flatten(values)
        self.datatype = datatype.upper() or _datatype(flat)
        self.shape = list(shape) if shape is not None else found
        self.data = _pack(self.datatype, flat)

    @property
    def values(self) -> list[Any]:
        """Its elements, one after another."""
        if self.datatype == "BYTES":
            return _unpack_bytes(self.data)
        if self.datatype not in _FORMATS:
            raise TypeError(f"tensor `{self.name}` is of `{self.datatype.lower()}`; read its `data`")
        numbers: list[Any] = list(struct.iter_unpack("<" + _FORMATS[self.datatype], self.data))
        return [bool(n) for (n,) in numbers] if self.datatype == "BOOL" else [n for (n,) in numbers]

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype.lower()}, shape={self.shape})"


def _flatten(values: Any) -> tuple[list[Any], list[int]]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        return [values], []
    items: list[Any] = list(values)  # pyright: ignore[reportUnknownArgumentType]
    if not items or isinstance(items[0], (str, bytes)) or not isinstance(items[0], Sequence):
        return items, [len(items)]
    flat: list[Any] = []
    inner: list[int] | None = None
    for item in items:
        part, shape = _flatten(item)
        if inner is not None and shape != inner:
            raise ValueError(f"the rows of a tensor have one length, not {inner} and {shape}")
        inner = shape
        flat.extend(part)
    return flat, [len(items), *(inner or [])]


def _datatype(flat: list[Any]) -> str:
    if flat and all(isinstance(v, (str, bytes)) for v in flat):
        return "BYTES"
    if flat and all(isinstance(v, bool) for v in flat):
        return "BOOL"
    return "INT64" if flat and all(isinstance(v, int) for v in flat) else "FP32"


def _pack(datatype: str, flat: list[Any]) -> bytes:
    if datatype == "BYTES":
        parts = [v.encode() if isinstance(v, str) else bytes(v) for v in flat]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    if datatype not in _FORMATS:
        raise ValueError(f"datatype={datatype.lower()!r}: lists are of {names(t.lower() for t in _FORMATS)} or `bytes`")
    packed = array.array(_FORMATS[datatype] if datatype != "BOOL" else "B", flat)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpack_bytes(data: bytes) -> list[bytes]:
    out: list[bytes] = []
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        out.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return out


class Model:
    """A model, by its name."""

    def __init__(self, name: str, *, truncate: bool = True) -> None:
        self.name = name
        self._overflow = "truncate" if truncate else "reject"

    @overload
    def embed(self, texts: str) -> Embedding: ...  # type: ignore[overload-overlap]

    @overload
    def embed(self, texts: Iterable[str]) -> list[Embedding]: ...

    def embed(self, texts: str | Iterable[str]) -> Embedding | list[Embedding]:
        """Embeds a text, or each of some."""
        given = [texts] if isinstance(texts, str) else _texts(texts)
        dimension, values = host().embed(self.name, given, self._overflow)
        vectors = (
            [Embedding(values[at : at + dimension]) for at in range(0, len(values), dimension)] if dimension else []
        )
        return vectors[0] if isinstance(texts, str) else vectors

    def rerank(self, query: str, documents: Iterable[str]) -> list[float]:
        """Scores each document for the query, higher for a better answer."""
        return host().rerank(self.name, query, _texts(documents), self._overflow)

    def rank(self, query: str, documents: Iterable[str]) -> list[Ranked]:
        """Orders documents for the query, the best first."""
        scores = self.rerank(query, documents)
        ranked = [Ranked(index, score) for index, score in enumerate(scores)]
        return sorted(ranked, key=lambda one: -one.score)

    @overload
    def classify(self, texts: str) -> Classes: ...  # type: ignore[overload-overlap]

    @overload
    def classify(self, texts: Iterable[str]) -> list[Classes]: ...

    def classify(self, texts: str | Iterable[str]) -> Classes | list[Classes]:
        """Classifies a text, or each of some."""
        given = [texts] if isinstance(texts, str) else _texts(texts)
        labels, scores = host().classify(self.name, given, self._overflow)
        count = len(labels)
        found = [Classes(dict(zip(labels, scores[at : at + count]))) for at in range(0, len(scores), count or 1)]
        return found[0] if isinstance(texts, str) else found

    def infer(self, inputs: Mapping[str, Any] | Iterable[Tensor]) -> dict[str, Tensor]:
        """Runs the model over named tensors: `Tensor`s, or lists by their names."""
        if isinstance(inputs, Mapping):
            given = [v if isinstance(v, Tensor) else Tensor(str(name), v) for name, v in inputs.items()]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        else:
            given = list(inputs)
        outputs = host().infer(self.name, [HostTensor(t.name, t.datatype, t.shape, t.data) for t in given])
        return {t.name: Tensor(t.name, t.data, datatype=t.datatype, shape=t.shape) for t in outputs}

    def __repr__(self) -> str:
        return f"<model `{self.name}`>"


def _texts(texts: Iterable[str]) -> list[str]:
    given = list(texts)
    for text in given:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a model takes texts, not a `{type(text).__name__}`")
    return given


def model(name: str, *, truncate: bool = True) -> Model:
    """Returns a model that the function declares in its `models`.

    A text that is longer than the model takes is cut, or with ``truncate=False`` refused.

    >>> from bireme import testing
    >>> with testing.fake_model("letters", lambda text: [len(text)]):
    ...     model("letters").embed(["a", "bc"])
    [[1.0], [2.0]]
    """
    return Model(name, truncate=truncate)


publish("bireme.model", globals(), ["Error", "Model", "Tensor"])
