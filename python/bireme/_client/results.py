"""Reads the outcomes of a map: streams that break are taken up again, and each outcome is seen once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from .._shapes import array_of, is_object, object_of
from ..errors import BadAnswer, Cancelled, Error, HostUnreachable, MapFailed, error_of
from .bits import Bits
from .connection import Stream
from .host import Host
from .jsontext import loads
from .outcome import MapOutcome
from .patience import Patience
from .receipt import Receipt
from .signature import Signature

#: Bytes of one line: the largest output, in Base64.
LINE_BYTES_MAX: Final = 512 << 20
#: Outcomes that are decoded at once; the first of a long list need not wait for the last.
_BATCH_LEN: Final = 1_024

#: An outcome before it is decoded: the index and its line.
Row = tuple[int, dict[str, Any]]


class Results:
    """Outcomes of one map from `start` on. `batches` yields them; `summary` is the map's document at its end."""

    def __init__(self, host: Host, map_id: str, signature: Callable[[], Signature], ordered: bool, start: int) -> None:
        self._host = host
        self._map_id = map_id
        self._signature = signature
        self._is_ordered = ordered
        self._start = start
        #: Ordered: the next index. Else the lowest one that may be missing.
        self._next = start
        self._seen = Bits()
        self.count = 0
        self.summary: dict[str, Any] | None = None
        self._stream: Stream | None = None
        #: Whether `stop` was called.
        self.is_stopped = False

    def stop(self) -> None:
        """Ends a wait for outcomes in another thread, which then raises."""
        self.is_stopped = True
        stream = self._stream
        if stream is not None:
            stream.close()

    def batches(self, follow: bool = True) -> Generator[list[Row], None, None]:
        """Yields outcomes as they come, some at a time, until the map has ended."""
        order = "input" if self._is_ordered else "completion"
        flag = "&follow=true" if follow else ""
        patience = Patience()
        while self.summary is None:
            count = self.count
            try:
                with self._host.stream(f"/api/v1/maps/{self._map_id}/results?from={self._next}&order={order}{flag}") as body:
                    self._stream = body
                    if self.is_stopped:
                        return
                    pending = b""
                    for part in body:
                        lines = part.split(b"\n")
                        lines[0] = pending + lines[0] if pending else lines[0]
                        pending = lines.pop()
                        if len(pending) > LINE_BYTES_MAX:
                            raise BadAnswer(f"a line of the results is over {LINE_BYTES_MAX >> 20} MiB")
                        for first in range(0, len(lines), _BATCH_LEN):
                            rows = self._rows(lines[first : first + _BATCH_LEN])
                            if rows:
                                yield rows
                    if pending:
                        raise BadAnswer("the results broke off within a line")
                if self.summary is None:
                    raise Error("the results broke off", code="unavailable")
            except Error as error:
                error.map_id = error.map_id or self._map_id
                if self.summary is not None:
                    return
                if self.is_stopped:
                    raise
                if self.count > count:
                    patience.renew()
                # A body that breaks off is a host that was killed, unless it comes again and again.
                is_broken = isinstance(error, BadAnswer) and self.count > count
                patience.spend(_passing(error) if is_broken or error.code == "unavailable" else error)

    def _rows(self, lines: list[bytes]) -> list[Row]:
        # One call for all of them costs half as much as one for each.
        documents: Any = loads(b"[" + b",".join(line for line in lines if line) + b"]")
        rows: list[Row] = []
        for document in array_of(documents):
            if not is_object(document):
                raise BadAnswer("a line of the results is no object")
            index = document.get("index")
            if isinstance(index, int):
                if self._is_fresh(index):
                    rows.append((index, document))
            elif "summary" in document:
                summary: Any = document["summary"]
                if not is_object(summary):
                    raise BadAnswer("the summary of the map is no object")
                self.summary = summary
            elif "error" in document:
                row = self._error_line(document)
                if row is not None:
                    rows.append(row)
        self.count += len(rows)
        return rows

    def _is_fresh(self, index: int) -> bool:
        if index < self._start:
            return False
        if self._is_ordered:
            if index < self._next:
                return False
            self._next = index + 1
            return True
        if not self._seen.add(index - self._start):
            return False
        while self._next - self._start in self._seen:
            self._next += 1
        return True

    def _error_line(self, document: dict[str, Any]) -> Row | None:
        index: Any = document.get("failed_index")
        described: Any = document["error"]
        if not is_object(described):
            raise BadAnswer("an error in the results is no object")
        if isinstance(index, int) and described.get("code") != "overloaded":
            return (index, {"index": index, "error": described}) if self._is_fresh(index) else None
        raise error_of(described, map_id=self._map_id)

    def outcome(self, row: Row) -> MapOutcome[Any]:
        """Decodes an outcome."""
        index, document = row
        attempt = document.get("attempt")
        receipt = Receipt.of_document(document.get("receipt"))
        if "output" in document:
            value = self._signature().output_in_line(document["output"])
            return MapOutcome(index, value, None, attempt, receipt)
        return MapOutcome(index, None, self.failure(row), attempt, receipt)

    def failure(self, row: Row) -> Error:
        """Returns the error of an input that has no output."""
        index, document = row
        described = object_of(document.get("error")) or {"code": "cancelled", "message": "the input was cancelled"}
        receipt = Receipt.of_document(document.get("receipt"))
        return error_of(described, receipt=receipt, map_id=self._map_id, index=index)

    def missing(self) -> list[int]:
        """Returns inputs without an outcome, of a map that has ended: it was cancelled."""
        accepted: Any = object_of((self.summary or {}).get("counts")).get("accepted")
        if not isinstance(accepted, int):
            raise BadAnswer("the summary of the map has no counts")
        if self._is_ordered:
            return list(range(self._next, accepted))
        return [index for index in range(self._start, accepted) if index - self._start not in self._seen]

    def cancelled(self, index: int) -> Error:
        """Returns the error of an input that will have no outcome."""
        if (self.summary or {}).get("state") == "cancelled":
            return Cancelled("the map was cancelled before this input had ended", map_id=self._map_id, index=index)
        return MapFailed("the host has no outcome of this input", map_id=self._map_id, index=index)


def _passing(error: Error) -> Error:
    """Returns an error that is worth another attempt."""
    if isinstance(error, HostUnreachable):
        return error
    return HostUnreachable(
        f"the results broke off ({error.message})",
        map_id=error.map_id,
        hint=f"`bireme.Map.from_id({error.map_id!r}).results()` goes on",
    )
