"""Calls and maps on the host's disk: they outlive the call that made them, and a restart of the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .failure import Failure
from .host import Progress, host
from .payload import Payload

if TYPE_CHECKING:
    from .function import Entry
    from .host.api import Order, Result, SpawnedMap

R = TypeVar("R")

# Inputs that are sent to the host at once.
_INPUTS = 1_000

# Outcomes that are read at once.
_OUTCOMES = 256

# One wait for a call, of which `get` makes as many as its time allows.
_WAIT_MS = 60_000


def _value(entry: Entry, result: Result) -> Any:
    if isinstance(result, Payload):
        return entry.signature.value(result)
    raise result


class Spawned(Generic[R]):
    """A spawned call."""

    def __init__(self, call_id: str, entry: Entry) -> None:
        self.id = call_id
        self._entry = entry

    def get(self, timeout: float | None = None) -> R:
        """Waits for the result, at most `timeout` seconds (`TimeoutError`); raises the call's `Failure`."""
        left_ms = None if timeout is None else max(int(timeout * 1000), 0)
        while True:
            wait_ms = _WAIT_MS if left_ms is None else min(left_ms, _WAIT_MS)
            result = host().get(self.id, wait_ms)
            if result is not None:
                return cast(R, _value(self._entry, result))
            if left_ms is not None:
                left_ms -= wait_ms
                if left_ms <= 0:
                    raise TimeoutError(f"call {self.id} has not ended within {timeout} s; it goes on")

    def cancel(self) -> bool:
        """Cancels the call and what it spawned; returns whether it is cancelled."""
        return host().cancel(self.id)

    def __repr__(self) -> str:
        return f"<spawned call {self.id} of `{self._entry.name}`>"


class MapHandle(Generic[R]):
    """A spawned map."""

    def __init__(self, run: SpawnedMap, entry: Entry) -> None:
        self._run = run
        self._entry = entry
        self.id = run.id()

    def extend(self, inputs: Iterable[Any]) -> int:
        """Adds inputs; returns how many the map has, once they are on disk. They begin at once."""
        count, part = 0, list[Payload]()
        for value in inputs:
            part.append(self._entry.signature.input((value,), {}))
            if len(part) == _INPUTS:
                count, part = self._run.push(part), []
        return self._run.push(part) if part else count

    def close(self) -> None:
        """Says that no more inputs will come."""
        self._run.close()

    def progress(self) -> Progress:
        """Returns how far it has come."""
        return self._run.progress()

    def cancel(self) -> Progress:
        """Cancels what has not ended."""
        return self._run.cancel()

    def result(self, index: int) -> R | None:
        """Returns the result of one input, `None` while it has none; raises its `Failure`."""
        result = self._run.outcome(index)
        return None if result is None else cast(R, _value(self._entry, result))

    def results(self, *, ordered: bool = True, return_exceptions: bool = False, start: int = 0) -> Iterator[R]:
        """Reads results from input `start` on: those from before, and those that come until the map has ended."""
        order: Order = "input" if ordered else "completion"
        reader = self._run.outcomes(order, start)
        try:
            while outcomes := reader.next(_OUTCOMES):
                for outcome in outcomes:
                    if isinstance(outcome.result, Failure) and return_exceptions:
                        yield cast(R, outcome.result)
                    else:
                        yield cast(R, _value(self._entry, outcome.result))
        finally:
            reader.close()

    def __iter__(self) -> Iterator[R]:
        return self.results()

    def __repr__(self) -> str:
        return f"<spawned map {self.id} of `{self._entry.name}`>"
