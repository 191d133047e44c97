"""What a host offers to the SDK, in types of the SDK. One method for each import of `wit/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union

from ..failure import Failure
from ..payload import Payload

if TYPE_CHECKING:
    from ..function import Entry

Order = Literal["input", "completion"]
Level = Literal["trace", "debug", "info", "warn", "error"]
Result = Union[Payload, Failure]


@dataclass(frozen=True)
class CallInfo:
    """Identity of a call."""

    app: str
    function: str
    #: Version of the deployed app: the first 12 hex digits of its component's SHA-256.
    version: str
    #: Unique on its host, sortable by time.
    call_id: str
    #: 1 for the first attempt.
    attempt: int


@dataclass(frozen=True)
class Outcome:
    """The outcome of one input of a map."""

    index: int
    result: Result


@dataclass(frozen=True)
class Progress:
    """Progress of a spawned map."""

    #: Inputs on disk.
    inputs: int
    #: Of those, the ones with a result.
    done: int
    #: Those that failed, every attempt.
    failed: int
    #: Those that were cancelled before they had ended.
    cancelled: int
    #: No more inputs will come.
    is_closed: bool
    #: Nothing more will happen.
    is_ended: bool


class MapRun(Protocol):
    """A map that ends with the call that made it."""

    def push(self, inputs: Sequence[Payload]) -> int: ...
    def finish(self) -> None: ...
    def next(self, most: int) -> list[Outcome]: ...
    def close(self) -> None: ...


class OutcomeReader(Protocol):
    """Outcomes of a spawned map."""

    def next(self, most: int) -> list[Outcome]: ...
    def close(self) -> None: ...


class SpawnedMap(Protocol):
    """A map that is kept on the host's disk."""

    def id(self) -> str: ...
    def push(self, inputs: Sequence[Payload]) -> int: ...
    def close(self) -> None: ...
    def progress(self) -> Progress: ...
    def outcome(self, index: int) -> Result | None: ...
    def outcomes(self, order: Order, start: int) -> OutcomeReader: ...
    def cancel(self) -> Progress: ...


class Swap(Protocol):
    """A key's value at one moment, to be swapped."""

    def current(self) -> bytes | None: ...
    def swap(self, value: bytes) -> Swap | None:
        """Sets the value; returns the newer one to try again with where it has changed meanwhile."""
        ...


class Bucket(Protocol):
    """An open bucket. Every method raises `kv.Error`."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def set_expiring(self, key: str, value: bytes, ttl_ms: int) -> None: ...
    def delete(self, key: str) -> None: ...
    def exists(self, key: str) -> bool: ...
    def keys(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]: ...
    def get_many(self, keys: Sequence[str]) -> list[bytes | None]: ...
    def set_many(self, values: Sequence[tuple[str, bytes]]) -> None: ...
    def delete_many(self, keys: Sequence[str]) -> None: ...
    def increment(self, key: str, delta: int) -> int: ...
    def cas(self, key: str) -> Swap: ...


class HttpError(Exception):
    """Reason why a request has no answer: one of `wasi:http`'s error codes, by its name, with its details."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


@dataclass
class Answer:
    """Answer to an outbound request, with its body unread."""

    status: int
    headers: list[tuple[str, bytes]]
    #: Parts of the body, as they arrive. Raises `HttpError`.
    body: Iterator[bytes]
    #: Gives the connection back.
    close: Any = field(default=lambda: None)


@dataclass(frozen=True)
class Tensor:
    """A named tensor as it crosses the boundary: little-endian, row-major."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes


class Host(Protocol):
    """A host."""

    def call(self, entry: Entry, payload: Payload) -> Payload: ...
    def map(self, entry: Entry, order: Order) -> MapRun: ...
    def spawn(self, entry: Entry, payload: Payload) -> str: ...
    def get(self, call_id: str, wait_ms: int) -> Result | None: ...
    def cancel(self, call_id: str) -> bool: ...
    def spawn_map(self, entry: Entry) -> SpawnedMap: ...
    def open_map(self, map_id: str) -> SpawnedMap: ...

    def current(self) -> CallInfo: ...
    def remaining(self) -> float: ...
    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None: ...
    def sleep(self, seconds: float) -> None: ...

    def config(self, key: str) -> str | None: ...
    def config_all(self) -> dict[str, str]: ...
    def secret(self, name: str) -> str | None: ...
    def bucket(self, name: str) -> Bucket: ...

    def http(
        self, method: str, url: str, headers: list[tuple[str, bytes]], body: bytes, timeout: float | None
    ) -> Answer: ...

    def embed(self, model: str, texts: list[str], overflow: str) -> tuple[int, list[float]]: ...
    def rerank(self, model: str, query: str, documents: list[str], overflow: str) -> list[float]: ...
    def classify(self, model: str, texts: list[str], overflow: str) -> tuple[list[str], list[float]]: ...
    def infer(self, model: str, inputs: list[Tensor]) -> list[Tensor]: ...
