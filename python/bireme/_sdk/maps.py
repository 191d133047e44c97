"""Maps that end with the call that made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from .failure import Failure
from .host import Outcome, host
from .payload import Payload

if TYPE_CHECKING:
    from .function import Entry
    from .host.api import MapRun, Order

R = TypeVar("R")

# Inputs that are ready for the host before it takes them, and outcomes of one turn.
_AHEAD = 256


class Map(Iterator[R], Generic[R]):
    """Results of a map, one after another. Leaving it early cancels what has not finished; so does `close`."""

    def __init__(self, entry: Entry, inputs: Iterator[Payload], ordered: bool, return_exceptions: bool) -> None:
        self._entry = entry
        self._inputs = inputs
        self._order: Order = "input" if ordered else "completion"
        self._keeps = return_exceptions
        self._run: MapRun | None = None
        self._ahead: list[Payload] = []
        self._outcomes: list[Outcome] = []
        self._is_fed = False
        self._is_over = False

    def __next__(self) -> R:
        while not self._outcomes:
            if self._is_over:
                raise StopIteration
            self._turn()
        outcome = self._outcomes.pop()
        result = outcome.result
        if isinstance(result, Payload):
            return cast(R, self._entry.signature.value(result))
        if self._keeps:
            return cast(R, result)
        self.close()
        raise Failure(result.message, code=result.code, causes=[f"input {outcome.index} of the map", *result.causes])

    def _turn(self) -> None:
        """Feeds the host as much as it takes, then waits for outcomes."""
        if self._run is None:
            self._run = host().map(self._entry, self._order)
        run = self._run
        while not self._is_fed:
            while len(self._ahead) < _AHEAD and (payload := next(self._inputs, None)) is not None:
                self._ahead.append(payload)
            if not self._ahead:
                run.finish()
                self._is_fed = True
                break
            taken = run.push(self._ahead)
            del self._ahead[:taken]
            if self._ahead:
                break
        outcomes = run.next(_AHEAD)
        if not outcomes:
            self.close()
        # Taken from the end, so that each is taken in constant time.
        self._outcomes = outcomes[::-1]

    def close(self) -> None:
        """Ends the map, and cancels what has not finished."""
        self._is_over = True
        self._outcomes = []
        if self._run is not None:
            self._run.close()
            self._run = None

    def __enter__(self) -> Map[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_run", None) is not None:
            self.close()
