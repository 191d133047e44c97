"""Stand-in for a host in an author's native tests.

Calls and maps run in process, each through its JSON as on a host. HTTP, models and key-value data come from the fakes
of `bireme.testing`; without one they fail, naming the fake.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..failure import Failure
from ..fakes import FAKES, LogLine, Value
from ..payload import Payload
from .api import Answer, CallInfo, HttpError, Level, Order, Outcome, Progress, Result, Tensor

if TYPE_CHECKING:
    from ..function import Entry

# Inputs that a map takes before it yields; few, so that tests meet a full map.
_MAP_LEN = 16

# Deepest nesting of calls, as on a host.
_DEPTH = 4

# Keys of one page of a listing; few, so that tests meet a second page.
_KEYS_LEN = 100

# Seconds of a call's default time.
_REMAINING = 30.0


def invoke(entry: Entry, payload: Payload) -> Payload:
    """Runs one call in process."""
    from .. import dispatch

    if len(FAKES.calls) >= _DEPTH:
        raise Failure(f"the call of `{entry.name}` would nest deeper than {_DEPTH} calls", code="depth-exceeded")
    FAKES.calls.append(CallInfo(entry.app.name, entry.name, "000000000000", str(uuid.uuid4()), 1))
    try:
        return dispatch.invoke(entry.app.entries, entry.name, payload, lambda text: None)
    finally:
        FAKES.calls.pop()


def _outcome(entry: Entry, payload: Payload) -> Result:
    try:
        return invoke(entry, payload)
    except Failure as failure:
        return failure


class _MapRun:
    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._inputs: list[Payload] = []
        self._index = 0

    def push(self, inputs: Sequence[Payload]) -> int:
        taken = inputs[: _MAP_LEN - len(self._inputs)]
        self._inputs.extend(taken)
        return len(taken)

    def finish(self) -> None:
        pass

    def next(self, most: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self._inputs and len(outcomes) < max(most, 1):
            outcomes.append(Outcome(self._index, _outcome(self._entry, self._inputs.pop(0))))
            self._index += 1
        return outcomes

    def close(self) -> None:
        self._inputs.clear()


class _Reader:
    def __init__(self, outcomes: Iterator[Outcome]) -> None:
        self._outcomes = outcomes

    def next(self, most: int) -> list[Outcome]:
        return [outcome for _, outcome in zip(range(max(most, 1)), self._outcomes)]

    def close(self) -> None:
        pass


class _SpawnedMap:
    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._id = str(uuid.uuid4())
        self._results: list[Result] = []
        self._is_closed = False

    def id(self) -> str:
        return self._id

    def push(self, inputs: Sequence[Payload]) -> int:
        if self._is_closed:
            raise Failure(f"map {self._id} is closed, and takes no more inputs", terminal=True)
        self._results.extend(_outcome(self._entry, payload) for payload in inputs)
        return len(self._results)

    def close(self) -> None:
        self._is_closed = True

    def progress(self) -> Progress:
        failed = sum(isinstance(result, Failure) for result in self._results)
        count = len(self._results)
        return Progress(count, count, failed, 0, self._is_closed, self._is_closed)

    def outcome(self, index: int) -> Result | None:
        return self._results[index] if 0 <= index < len(self._results) else None

    def outcomes(self, order: Order, start: int) -> _Reader:
        return _Reader(Outcome(i, result) for i, result in enumerate(self._results) if i >= start)

    def cancel(self) -> Progress:
        self._is_closed = True
        return self.progress()


class _Swap:
    def __init__(self, bucket: _Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._seen = bucket.get(key)

    def current(self) -> bytes | None:
        return self._seen

    def swap(self, value: bytes) -> _Swap | None:
        if self._bucket.get(self._key) != self._seen:
            return _Swap(self._bucket, self._key)
        self._bucket.put(self._key, value)
        return None


class _Bucket:
    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values

    def get(self, key: str) -> bytes | None:
        value = self._values.get(key)
        if value is None or (value.expires is not None and value.expires <= FAKES.now()):
            return None
        return value.data

    def set(self, key: str, value: bytes) -> None:
        self._values[key] = Value(value)

    def put(self, key: str, value: bytes) -> None:
        """Changes a value, and leaves its time as it is."""
        held = self._values.get(key) if self.get(key) is not None else None
        self._values[key] = Value(value, held.expires if held else None)

    def set_expiring(self, key: str, value: bytes, ttl_ms: int) -> None:
        self._values[key] = Value(value, FAKES.now() + ttl_ms / 1000)

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def exists(self, key: str) -> bool:
        return self.get(key) is not None

    def keys(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
        known = sorted(key for key in self._values if key.startswith(prefix) and self.exists(key))
        rest = [key for key in known if cursor is None or key > cursor]
        page = rest[:_KEYS_LEN]
        return page, page[-1] if len(rest) > len(page) else None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def set_many(self, values: Sequence[tuple[str, bytes]]) -> None:
        for key, value in values:
            self.set(key, value)

    def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def increment(self, key: str, delta: int) -> int:
        from ..kv import Error

        text = self.get(key) or b"0"
        try:
            total = int(text) + delta
        except ValueError:
            raise Error("the value is no whole number in decimal text, so nothing was added to it") from None
        if not -(1 << 63) <= total < 1 << 63:
            raise Error(f"it holds {int(text)}, and that plus {delta} does not fit 64 bits")
        self.put(key, str(total).encode())
        return total

    def cas(self, key: str) -> _Swap:
        return _Swap(self, key)


def _model(model: str, fakes: dict[str, Any], what: str) -> Callable[..., Any]:
    from ..models import Error

    fake: Callable[..., Any] | None = fakes.get(model)
    if fake is None:
        raise Error(model, "NoFake", what)
    return fake


class NativeHost:
    """No host: a test."""

    def __init__(self) -> None:
        self._spawned: dict[str, Result] = {}
        self._maps: dict[str, _SpawnedMap] = {}

    def call(self, entry: Entry, payload: Payload) -> Payload:
        return invoke(entry, payload)

    def map(self, entry: Entry, order: Order) -> _MapRun:
        return _MapRun(entry)

    def spawn(self, entry: Entry, payload: Payload) -> str:
        call_id = str(uuid.uuid4())
        self._spawned[call_id] = _outcome(entry, payload)
        return call_id

    def get(self, call_id: str, wait_ms: int) -> Result | None:
        if call_id not in self._spawned:
            raise Failure(f"there is no call {call_id}", terminal=True)
        return self._spawned[call_id]

    def cancel(self, call_id: str) -> bool:
        self.get(call_id, 0)
        return False

    def spawn_map(self, entry: Entry) -> _SpawnedMap:
        run = _SpawnedMap(entry)
        self._maps[run.id()] = run
        return run

    def open_map(self, map_id: str) -> _SpawnedMap:
        if map_id not in self._maps:
            raise Failure(f"there is no map {map_id}", terminal=True)
        return self._maps[map_id]

    def current(self) -> CallInfo:
        return FAKES.calls[-1] if FAKES.calls else CallInfo("test", "test", "000000000000", str(uuid.UUID(int=0)), 1)

    def remaining(self) -> float:
        return _REMAINING

    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None:
        if FAKES.logs is not None:
            FAKES.logs.append(LogLine(level, message, dict(fields)))
        else:
            print(level.upper(), message, *(f"{name}={value}" for name, value in fields), file=sys.stderr)

    def sleep(self, seconds: float) -> None:
        FAKES.moved += max(seconds, 0.0)

    def config(self, key: str) -> str | None:
        return FAKES.config.get(key)

    def config_all(self) -> dict[str, str]:
        return dict(FAKES.config)

    def secret(self, name: str) -> str | None:
        return FAKES.secrets.get(name, os.environ.get(name))

    def bucket(self, name: str) -> _Bucket:
        from ..kv import Error

        if FAKES.kv is None:
            raise Error("there is no host in a native test; give one with `bireme.testing.fake_kv`")
        if not 1 <= len(name.encode()) <= 64:
            raise Error("a bucket's name has 1 to 64 bytes")
        return _Bucket(FAKES.kv.setdefault(name, {}))

    def http(
        self, method: str, url: str, headers: list[tuple[str, bytes]], body: bytes, timeout: float | None
    ) -> Answer:
        from ..http import Headers, Request

        if FAKES.http is None:
            raise HttpError("NoFake")
        answer = FAKES.http(Request(method, url, headers=Headers.of_raw(headers), data=body))
        return Answer(answer.status_code, answer.headers.raw(), answer.iter_content(), answer.close)

    def embed(self, model: str, texts: list[str], overflow: str) -> tuple[int, list[float]]:
        fake = _model(model, FAKES.embedders, "fake_model")
        vectors = [[float(number) for number in fake(text)] for text in texts]
        lengths = {len(vector) for vector in vectors}
        if len(lengths) > 1:
            raise AssertionError(f"the fake model `{model}` returns vectors of one length, not of {sorted(lengths)}")
        return lengths.pop() if lengths else 0, [number for vector in vectors for number in vector]

    def rerank(self, model: str, query: str, documents: list[str], overflow: str) -> list[float]:
        fake = _model(model, FAKES.rerankers, "fake_reranker")
        return [float(fake(query, document)) for document in documents]

    def classify(self, model: str, texts: list[str], overflow: str) -> tuple[list[str], list[float]]:
        fake = _model(model, FAKES.classifiers, "fake_classifier")
        scored: list[dict[str, float]] = [fake(text) for text in texts]
        labels = list(scored[0]) if scored else []
        return labels, [float(scores[label]) for scores in scored for label in labels]

    def infer(self, model: str, inputs: list[Tensor]) -> list[Tensor]:
        from .. import models

        fake = _model(model, FAKES.inferrers, "fake_infer")
        given = {t.name: models.Tensor(t.name, t.data, datatype=t.datatype, shape=t.shape) for t in inputs}
        outputs: Any = fake(given)
        tensors = [v if isinstance(v, models.Tensor) else models.Tensor(str(name), v) for name, v in outputs.items()]
        return [Tensor(t.name, t.datatype, t.shape, t.data) for t in tensors]
