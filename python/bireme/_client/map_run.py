"""A map that is read while its inputs are sent."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..errors import Error
from .notebook import Progress
from .results import Results, Row
from .upload import Upload

if TYPE_CHECKING:
    from .maps import Map

R = TypeVar("R")

_CANCEL_SECONDS = 5.0


class MapRun(Iterator[R], Generic[R]):
    """Results of a map, one after another. Leaving it early, or `close`, cancels what has not ended.

    An interrupt (Ctrl-C, or a notebook's stop) leaves the map on the host, and says how to go on.
    """

    def __init__(
        self,
        map: Map[R],
        lines: Iterable[bytes],
        ordered: bool,
        return_exceptions: bool,
        progress: bool,
        length: int | None,
        accepted: int = 0,
    ) -> None:
        #: The durable map behind it.
        self.map = map
        self._signature = map.its_signature()
        self._keeps_errors = return_exceptions
        self._is_ordered = ordered
        self._upload = Upload(map.host, map.id, lines, accepted, is_bounded=True)
        self._results = Results(map.host, map.id, map.its_signature, ordered, 0)
        self._batches: Iterator[list[Row]] = self._results.batches()
        # Taken from the end, so that each is taken in constant time.
        self._rows: list[Row] = []
        self._missing: list[int] = []
        self._next = 0
        self._failed = 0
        self._is_over = False
        #: Error behind the results of a batch.
        self._pending: Error | None = None
        self._progress = Progress(map.id[:8], length, progress)
        self._upload.start()

    @property
    def id(self) -> str:
        """Id of the map, for `Map.from_id`."""
        return self.map.id

    def __next__(self) -> R:
        rows = self._rows
        if not rows:
            self._fill()
            rows = self._rows
        row = rows[-1]
        # Of a cancelled map, inputs before this one have no outcome.
        if self._is_ordered and row[0] > self._next:
            index, self._next = self._next, self._next + 1
            return self._raise_or_return(self._results.cancelled(index))
        rows.pop()
        self._next = row[0] + 1
        document = row[1]
        if "output" in document:
            return cast(R, self._signature.output_in_line(document["output"]))
        return self._raise_or_return(self._results.failure(row))

    def next_batch(self) -> list[R]:
        """Returns the results that are there, at least one; none at the end."""
        pending, self._pending = self._pending, None
        if pending is not None:
            raise pending
        batch: list[R] = []
        try:
            batch.append(next(self))
            while self._rows:
                batch.append(next(self))
        except StopIteration:
            pass
        except Error as error:
            if not batch:
                raise
            # Raised in its turn.
            self._pending = error
        return batch

    def _raise_or_return(self, error: Error) -> R:
        self._failed += 1
        if self._keeps_errors:
            return cast(R, error)
        self.close()
        raise error

    def _fill(self) -> None:
        """Waits for the next results."""
        if self._is_over:
            raise StopIteration
        try:
            batch = next(self._batches, None)
        except KeyboardInterrupt as interrupt:
            self._leave()
            _add_note(interrupt, f"map {self.id} goes on at {self.map.host.url}; {self._how_to_resume()}")
            raise
        except Error as error:
            if self._results.is_stopped:
                self.close()
                raise
            self._leave()
            raise self._with_place(self._upload.error or error) from None
        except BaseException:
            self._leave()
            raise
        if batch is None:
            self._finish()
            return
        batch.reverse()
        self._rows = batch
        self._upload.set_delivered(self._results.count)
        self._progress.update(self._results.count, self._upload.accepted, self._failed)

    def _finish(self) -> None:
        """Ends with the map: inputs without an outcome, if it was cancelled, then no more."""
        upload_error = self._upload.error
        if upload_error is not None:
            self._leave()
            raise self._with_place(upload_error)
        missing = self._results.missing()
        self._leave()
        if not missing:
            raise StopIteration
        rows: list[Row] = [(index, {"index": index}) for index in missing]
        rows.reverse()
        self._rows = rows

    def _with_place(self, error: BaseException) -> BaseException:
        """Adds the map to an error that ends the loop, and how to go on after a host that is away."""
        if isinstance(error, Error):
            error.map_id = self.id
            if error.code in ("no-host", "unavailable"):
                error.hint = self._how_to_resume()
        return error

    def _how_to_resume(self) -> str:
        return f"`bireme.Map.from_id({self.id!r})` has its results, and `.resume(inputs)` sends the rest"

    def _leave(self) -> None:
        """Ends this side of it; the map goes on."""
        self._is_over = True
        self._rows = []
        self._upload.stop()
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()
        self._progress.close(self._results.count)

    def close(self) -> None:
        """Ends it, and cancels what has not ended."""
        if self._is_over:
            self._rows = []
            return
        self._leave()
        if self._results.summary is None:
            try:
                self.map.host.request("DELETE", f"/api/v1/maps/{self.id}", timeout=_CANCEL_SECONDS)
            except Error:
                pass

    def interrupt(self) -> None:
        """Ends the wait of the thread that reads the results; that thread closes it."""
        self._upload.stop()
        self._results.stop()

    def __enter__(self) -> MapRun[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A program that ends leaves its maps to the host.
        if not getattr(self, "_is_over", True) and not sys.is_finalizing():
            self.close()

    def __repr__(self) -> str:
        return f"<results of map {self.id}>"

    def _repr_html_(self) -> str:
        return self.map._repr_html_()  # pyright: ignore[reportPrivateUsage]


def _add_note(error: BaseException, note: str) -> None:
    add: Any = getattr(error, "add_note", None)
    if add is not None:
        add(note)
    else:
        print(note, file=sys.stderr)
