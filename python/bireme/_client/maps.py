"""A durable map: it survives the program that made it, and the host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Optional, TypeVar, cast

from .._shapes import is_object, object_of
from ..errors import BadAnswer, Timeout
from .host import Host, default_host, segment
from .outcome import MapOutcome
from .receipt import Receipt
from .results import Results
from .signature import Arguments, Signature
from .upload import Upload

if TYPE_CHECKING:
    from .map_run import MapRun

R = TypeVar("R")
State = Literal["open", "running", "done", "cancelled"]

_WAIT_SECONDS = 50.0


@dataclass(frozen=True)
class MapStatus:
    """State of a durable map, with the numbers of its inputs."""

    id: str
    #: As `APP::FUNCTION`.
    function: str
    #: `open` while it takes inputs, `running` until each has its outcome.
    state: State
    accepted: int
    done: int
    #: Inputs that failed, of which no retry was left or of use.
    failed: int
    cancelled: int
    receipt: Optional[Receipt]
    #: The whole document, as `docs/api.md` describes it.
    document: dict[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("done", "cancelled")

    def _repr_html_(self) -> str:
        from .notebook import map_html

        return map_html(self)


class Map(Generic[R]):
    """A durable map. `Map.from_id` finds it again, in another program too."""

    def __init__(self, host: Host, map_id: str, signature: Signature | None = None) -> None:
        self.host = host
        self.id = map_id
        self._signature = signature
        self._path = f"/api/v1/maps/{segment(map_id)}"

    @classmethod
    def from_id(cls, map_id: str, *, host: Host | None = None) -> Map[Any]:
        """Returns the map of an id, or of its first digits (8 at least)."""
        return cast("Map[Any]", cls(host or default_host(), map_id))

    def status(self) -> MapStatus:
        """Returns the map's state now."""
        return status_of(self.host.document("GET", self._path))

    def wait(self, timeout: float | None = None) -> MapStatus:
        """Waits until every input has its outcome. After `timeout` seconds it raises `Timeout`; the map goes on."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT_SECONDS if until is None else max(until - time.monotonic(), 0)
            status = status_of(self.host.document("GET", f"{self._path}?wait={min(left, _WAIT_SECONDS):.3f}"))
            if status.is_done:
                return status
            if until is not None and time.monotonic() >= until:
                raise Timeout(f"map {self.id} has not ended within {timeout:g} s", hint="it goes on", map_id=self.id)

    def results(self, *, ordered: bool = True, return_exceptions: bool = False, start: int = 0) -> Iterator[R]:
        """Iterates over the results from input `start` on, those that there are and those that come, to the map's end.

        Stopping changes nothing on the host; another call begins where `start` says.
        """
        for outcome in self.outcomes(ordered=ordered, start=start):
            if outcome.error is not None:
                if not return_exceptions:
                    raise outcome.error
                yield cast(R, outcome.error)
            else:
                yield cast(R, outcome.value)

    def __iter__(self) -> Iterator[R]:
        return self.results()

    def outcomes(self, *, ordered: bool = True, start: int = 0, follow: bool = True) -> Iterator[MapOutcome[R]]:
        """Is `results` with index, error and receipt. With ``follow=False`` it ends with those that there are."""
        results = Results(self.host, self.id, self.its_signature, ordered, start)
        batches = results.batches(follow)
        for batch in batches:
            for row in batch:
                yield results.outcome(row)
        if status_of(results.summary or {}).is_done:
            for index in results.missing():
                yield MapOutcome(index, None, results.cancelled(index))

    def get(self, index: int) -> MapOutcome[R] | None:
        """Returns the outcome of one input; `None` while it has none."""
        answer = self.host.document("GET", f"{self._path}/results/{index:d}")
        if answer.get("state") == "pending":
            return None
        return Results(self.host, self.id, self.its_signature, True, index).outcome((index, answer))

    def cancel(self) -> MapStatus:
        """Cancels inputs that have not ended, and what they spawned."""
        return status_of(self.host.document("DELETE", self._path))

    def close(self) -> MapStatus:
        """Ends the inputs; those that there are go on."""
        return status_of(self.host.document("POST", f"{self._path}/close", is_repeatable=True))

    def retry_failed(self) -> int:
        """Runs the failed and cancelled inputs of a map that has ended again; returns how many."""
        retried = self.host.document("POST", f"{self._path}/retry-failed").get("retried")
        return retried if isinstance(retried, int) else 0

    def resume(
        self, inputs: Iterable[Any], *, ordered: bool = True, return_exceptions: bool = False, progress: bool = True
    ) -> MapRun[R]:
        """Goes on with a map whose program ended: `inputs` are all its inputs again, of which the first ones are skipped.

        Iterates over all results, from the first on. A closed map has all of its inputs, and none is read.
        """
        return self._resume(self.its_signature().lines((inputs,)), ordered, return_exceptions, progress)

    def resume_starmap(
        self, inputs: Iterable[Arguments], *, ordered: bool = True, return_exceptions: bool = False, progress: bool = True
    ) -> MapRun[R]:
        """Is `resume` for a map that `starmap` began."""
        return self._resume(self.its_signature().star_lines(inputs), ordered, return_exceptions, progress)

    def _resume(self, lines: Iterable[bytes], ordered: bool, return_exceptions: bool, progress: bool) -> MapRun[R]:
        from .map_run import MapRun

        status = self.status()
        if status.state != "open":
            lines = ()
        return MapRun(self, lines, ordered, return_exceptions, progress, None, accepted=status.accepted)

    def send(self, lines: Iterable[bytes], *, length: int | None, progress: bool) -> None:
        """Sends all inputs, and closes the map."""
        from .notebook import Progress

        upload = Upload(self.host, self.id, lines, 0, is_bounded=False)
        shown = Progress(f"{self.id[:8]} inputs", length, progress)
        upload.start()
        try:
            while not upload.is_done.wait(0.1):
                shown.update(upload.accepted)
        finally:
            upload.stop()
            shown.close(upload.accepted)
        if upload.error is not None:
            raise upload.error

    def its_signature(self) -> Signature:
        """Returns the signature of the function that it calls."""
        if self._signature is None:
            app, _, name = self.status().function.partition("::")
            self._signature = Signature(name, self.host.function(app, name))
        return self._signature

    def __repr__(self) -> str:
        return f"<map {self.id} at {self.host.url}>"

    def _repr_html_(self) -> str:
        from .notebook import map_html

        return map_html(self.status())


def status_of(document: dict[str, Any]) -> MapStatus:
    """Reads the document of a map."""
    counts: Any = document.get("counts")
    state: Any = document.get("state")
    if not is_object(counts) or not isinstance(state, str):
        raise BadAnswer("the map's document has no state, or no counts")

    def count(name: str) -> int:
        number: Any = object_of(counts).get(name)
        if not isinstance(number, int):
            raise BadAnswer(f"the map's document has no count `{name}`")
        return number

    return MapStatus(
        str(document.get("id")),
        str(document.get("function")),
        cast(State, state),
        count("accepted"),
        count("done"),
        count("failed") + count("dead"),
        count("cancelled"),
        Receipt.of_document(document.get("receipt")),
        document,
    )


