"""Maps for `asyncio`: the blocking map in a thread of its own, whose results come in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, Optional, TypeVar, Union

if TYPE_CHECKING:
    from .function import Function
    from .map_run import MapRun

R = TypeVar("R")

#: Inputs of an asynchronous iterable that wait for the thread that sends them.
_WAITING_MAX: Final = 4_096
#: Batches of results that wait for the loop.
_BATCHES_MAX: Final = 4


async def results(
    function: Function[R],
    inputs: Union[Iterable[Any], AsyncIterable[Any]],
    ordered: bool,
    return_exceptions: bool,
    progress: bool,
) -> AsyncIterator[R]:
    """Iterates over the results of a map; leaving early cancels it."""
    pump: Optional[asyncio.Task[None]] = None
    if isinstance(inputs, AsyncIterable):
        bridge = _Bridge(asyncio.get_running_loop())
        pump = asyncio.ensure_future(bridge.pump(inputs))
        source: Iterable[Any] = bridge
    else:
        bridge, source = None, inputs
    worker: _Worker[R] = _Worker(asyncio.get_running_loop())
    worker.start(lambda: function.map(source, ordered=ordered, return_exceptions=return_exceptions, progress=progress))
    try:
        while (batch := await worker.next()) is not None:
            for result in batch:
                yield result
    finally:
        worker.stop()
        if bridge is not None:
            bridge.stop()
        if pump is not None:
            pump.cancel()


class _Worker(Generic[R]):
    """The thread of one map. Its batches wait here until the loop takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: deque[Union[list[R], BaseException, None]] = deque()
        self._has_come = asyncio.Event()
        self._room = threading.Semaphore(_BATCHES_MAX)
        self._is_stopped = False
        self._run: Optional[MapRun[R]] = None

    def start(self, make: Any) -> None:
        threading.Thread(target=self._work, args=(make,), name="bireme-amap", daemon=True).start()

    async def next(self) -> list[R] | None:
        while not self._batches:
            self._has_come.clear()
            await self._has_come.wait()
        batch = self._batches.popleft()
        self._room.release()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def stop(self) -> None:
        self._is_stopped = True
        self._room.release()
        run = self._run
        if run is not None:
            # Off the loop: it is a request to the host.
            threading.Thread(target=run.interrupt, name="bireme-amap-end", daemon=True).start()

    def _work(self, make: Any) -> None:
        try:
            run: MapRun[R] = make()
            self._run = run
            with run:
                while not self._is_stopped and (batch := run.next_batch()):
                    self._room.acquire()
                    self._put(batch)
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, batch: Union[list[R], BaseException, None]) -> None:
        self._batches.append(batch)
        try:
            self._loop.call_soon_threadsafe(self._has_come.set)
        except RuntimeError:
            # The loop was closed: nobody waits any more.
            self._is_stopped = True


class _Bridge(Iterator[Any]):
    """Inputs of an asynchronous iterable, for the thread that sends them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Any] = deque()
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._is_over = False
        self._error: Optional[BaseException] = None

    async def pump(self, inputs: AsyncIterable[Any]) -> None:
        """Runs on the loop."""
        try:
            async for value in inputs:
                with self._changed:
                    self._waiting.append(value)
                    self._changed.notify()
                if len(self._waiting) >= _WAITING_MAX:
                    self._room.clear()
                    if len(self._waiting) >= _WAITING_MAX:
                        await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends the inputs."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def __next__(self) -> Any:
        with self._changed:
            while not self._waiting:
                if self._is_over:
                    if self._error is not None:
                        raise self._error
                    raise StopIteration
                self._changed.wait()
            value = self._waiting.popleft()
        if len(self._waiting) == _WAITING_MAX // 2:
            self._loop.call_soon_threadsafe(self._room.set)
        return value
