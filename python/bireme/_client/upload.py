"""Sends the inputs of a map: one thread reads them, another posts what is there.

Invariants: at most `AHEAD_BYTES_MAX` of inputs are in memory, and at most `AHEAD_MAX` inputs on the host without a
result that was read; a piece is sent until the host has it, and `from` makes a repeat harmless.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Optional

from ..errors import Error, MapFailed
from .host import Host
from .patience import Patience

#: Inputs of one request, and their bytes.
PIECE_LEN_MAX: Final = 8_192
PIECE_BYTES_MAX: Final = 4 << 20
#: Bytes of inputs that were read and not sent.
AHEAD_BYTES_MAX: Final = 8 << 20
#: Inputs ahead of the results that were read; an endless iterable does not fill the host's disk.
AHEAD_MAX: Final = 100_000

_LINES = {"content-type": "application/x-ndjson"}


class Upload:
    """Upload of one map. `start` begins it; `error` is why it ended early."""

    def __init__(self, host: Host, map_id: str, lines: Iterable[bytes], accepted: int, is_bounded: bool) -> None:
        self._host = host
        self._target = f"/api/v1/maps/{map_id}"
        self._map_id = map_id
        self._lines = lines
        self._ahead_max = AHEAD_MAX if is_bounded else None
        self._skipped = accepted
        # Ends of the queue are taken by one thread each; so are the counters.
        self._queue: deque[bytes] = deque()
        self._read_bytes = self._taken_bytes = 0
        self._has_all = False
        self._wants_lines = False
        self._wants_room = False
        self._changed = threading.Condition()
        self._is_stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        #: Inputs on the host's disk.
        self.accepted = accepted
        #: Results that were read.
        self.delivered = 0
        #: Why the upload ended before its inputs.
        self.error: Optional[BaseException] = None
        self.is_done = threading.Event()

    def start(self) -> None:
        """Starts both threads."""
        for name, run in (("bireme-map-inputs", self._read), ("bireme-map-send", self._send)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends it; the map stays as it is."""
        self._is_stopped.set()
        self._wake()

    def set_delivered(self, count: int) -> None:
        """Tells how many results were read, which makes room for inputs."""
        self.delivered = count
        if self._wants_room:
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # The reading thread.

    def _read(self) -> None:
        try:
            self._read_lines()
        except BaseException as error:  # Raised again where the results are read.
            self._fail(error)
        self._has_all = True
        self._wake()

    def _read_lines(self) -> None:
        queue, count, read_bytes = self._queue, self._skipped, 0
        lines: Iterator[bytes] = iter(self._lines)
        if self._skipped:
            lines = itertools.islice(lines, self._skipped, None)
        for line in lines:
            queue.append(line)
            count += 1
            read_bytes += len(line) + 1
            self._read_bytes = read_bytes
            if self._wants_lines:
                self._wake()
            if self._is_full(count):
                self._wait_for_room(count)
            if self._is_stopped.is_set():
                return

    def _is_full(self, count: int) -> bool:
        if self._read_bytes - self._taken_bytes > AHEAD_BYTES_MAX:
            return True
        return self._ahead_max is not None and count - self.delivered > self._ahead_max

    def _wait_for_room(self, count: int) -> None:
        with self._changed:
            self._wants_room = True
            while self._is_full(count) and not self._is_stopped.is_set():
                self._changed.wait()
            self._wants_room = False

    # The sending thread.

    def _send(self) -> None:
        try:
            while (piece := self._take()) is not None:
                self._post(piece)
            if not self._is_stopped.is_set():
                self._persist("/close", None)
        except BaseException as error:
            self._fail(error)
        self.is_done.set()

    def _take(self) -> Optional[list[bytes]]:
        """Returns lines to send; `None` at their end."""
        queue = self._queue
        if not queue:
            with self._changed:
                # Set before the queue is looked at again: a line that comes now finds it set, and wakes this thread.
                self._wants_lines = True
                while not queue and not self._has_all and not self._is_stopped.is_set():
                    self._changed.wait()
                self._wants_lines = False
        if self._is_stopped.is_set():
            return None
        piece, size = list[bytes](), 0
        while queue and len(piece) < PIECE_LEN_MAX and size < PIECE_BYTES_MAX:
            line = queue.popleft()
            piece.append(line)
            size += len(line) + 1
        return piece or None

    def _post(self, piece: list[bytes]) -> None:
        body = b"\n".join(piece)
        first = self.accepted
        accepted = self._persist(f"/inputs?from={first}", body).get("accepted")
        if not isinstance(accepted, int) or accepted < first + len(piece):
            raise MapFailed(f"the host has {accepted} inputs of {first + len(piece)} that were sent", map_id=self._map_id)
        self.accepted = first + len(piece)
        self._taken_bytes += len(body) + 1
        if self._wants_room:
            self._wake()

    def _persist(self, path: str, body: bytes | None) -> dict[str, object]:
        patience = Patience()
        while True:
            try:
                return self._host.document(
                    "POST", self._target + path, body, headers=_LINES if body else None, is_repeatable=True
                )
            except Error as error:
                if self._is_stopped.is_set():
                    raise
                patience.spend(error, self._is_stopped.wait)

    def _fail(self, error: BaseException) -> None:
        if self.error is not None or self._is_stopped.is_set():
            return
        self.error = error
        self.stop()
        if isinstance(error, MapFailed) and error.code == "map-closed":
            return
        try:
            # Nobody waits for the rest; and whoever reads the results comes to their end.
            self._host.request("DELETE", self._target, timeout=10)
        except Error:
            pass
