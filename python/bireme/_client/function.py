"""A function of an app on a host, and the ways to call it."""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Generic, Literal, Optional, TypeVar, Union, cast, overload

from .call import FunctionCall
from .host import Host, default_host, segment
from .map_run import MapRun
from .maps import Map
from .outcome import Outcome
from .receipt import Receipt
from .signature import Arguments, Signature

R = TypeVar("R")
T = TypeVar("T")
Priority = Literal["high", "normal", "low"]


class Function(Generic[R]):
    """A deployed function: `Function.lookup("app", "name")`.

    Arguments go by position or by name, as the function's schema says; `help`, editors and notebooks show it.
    """

    def __init__(self, host: Host, app: str, name: str, metadata: Mapping[str, Any], output: Any = None) -> None:
        self.host = host
        self.app = app
        self.name = name
        self.metadata = metadata
        self.__name__ = name
        self.__qualname__ = f"{app}.{name}"
        self.__doc__ = str(metadata.get("doc") or "")
        self._signature = Signature(name, metadata, output)
        self._path = f"/{segment(app)}/{segment(name)}"
        self._api = f"/api/v1/apps/{segment(app)}/functions/{segment(name)}"
        self._timeout: Optional[float] = None
        self._priority: Optional[Priority] = None
        # Only the length of the body is missing.
        head = host.transport.head("POST", self._path, {"content-type": "application/json"})
        self._head = head[: -len(b"\r\n")] + b"content-length: "

    @overload
    @staticmethod
    def lookup(app: str, name: str, *, host: Host | None = None) -> Function[Any]: ...
    @overload
    @staticmethod
    def lookup(app: str, name: str, *, output: type[T], host: Host | None = None) -> Function[T]: ...

    @staticmethod
    def lookup(app: str, name: str, *, output: Any = None, host: Host | None = None) -> Function[Any]:
        """Finds a function that is deployed; `NotFound` names those that are.

        Results have the types of its schema. With `output`, a dataclass for example, or `list[Page]`, they have that one,
        and type checkers know it.
        """
        host = host or default_host()
        return Function(host, app, name, host.function(app, name), output)

    @property
    def __signature__(self) -> Any:
        return self._signature.inspected()

    def with_options(self, *, timeout: float | None = None, priority: Priority | None = None) -> Function[R]:
        """Returns this function with options: seconds to wait for `remote`, and the priority of `spawn` and maps."""
        function = copy.copy(self)
        function._timeout = self._timeout if timeout is None else timeout
        function._priority = self._priority if priority is None else priority
        return function

    def remote(self, *args: Any, **kwargs: Any) -> R:
        """Calls the function and waits for its result."""
        return cast(R, self._exchange(args, kwargs)[0])

    __call__ = remote

    def outcome(self, *args: Any, **kwargs: Any) -> Outcome[R]:
        """Is `remote` with the call's id, version and receipt beside its value."""
        value, headers = self._exchange(args, kwargs)
        receipt = Receipt.of_headers(headers)
        return Outcome(cast(R, value), receipt, headers.get("bireme-call"), headers.get("bireme-version"))

    def _exchange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        signature = self._signature
        body, content_type = signature.body(args, kwargs)
        transport = self.host.transport
        if signature.takes_bytes:
            head = transport.head("POST", self._path, {"content-type": content_type}, len(body))
        else:
            head = b"%b%d\r\n\r\n" % (self._head, len(body))
        answer = transport.exchange(head, body, self._timeout)
        if answer.status >= 400:
            self.host.refuse(answer)
        return signature.output_of(answer.data, answer.headers.get("content-type", "")), answer.headers

    async def aremote(self, *args: Any, **kwargs: Any) -> R:
        """Is `remote` for `asyncio`: thousands may wait at a time."""
        body, content_type = self._signature.body(args, kwargs)
        from . import aio

        answer = await aio.request(
            self.host.transport, "POST", self._path, body, {"content-type": content_type}, timeout=self._timeout
        )
        if answer.status >= 400:
            self.host.refuse(answer)
        return cast(R, self._signature.output_of(answer.data, answer.headers.get("content-type", "")))

    def spawn(self, *args: Any, idempotency_key: str | None = None, **kwargs: Any) -> FunctionCall[R]:
        """Starts a durable call, which survives this program and the host; `.get()` waits for its result.

        With an `idempotency_key` the same call may be spawned again, after an error for example: there is one.
        """
        body, content_type = self._signature.body(args, kwargs)
        target, headers = self._spawning("calls", content_type, idempotency_key)
        answer = self.host.document("POST", target, body, headers=headers, is_repeatable=True)
        return FunctionCall(self.host, str(answer.get("id")), self._signature)

    async def aspawn(self, *args: Any, idempotency_key: str | None = None, **kwargs: Any) -> FunctionCall[R]:
        """Is `spawn` for `asyncio`."""
        body, content_type = self._signature.body(args, kwargs)
        target, headers = self._spawning("calls", content_type, idempotency_key)
        from . import aio

        answer = await aio.document(self.host, "POST", target, body, headers)
        return FunctionCall(self.host, str(answer.get("id")), self._signature)

    def _spawning(self, what: str, content_type: str | None, key: str | None) -> tuple[str, dict[str, str]]:
        # A key of its own makes a request that broke off safe to repeat.
        headers = {"idempotency-key": key or new_key()}
        if content_type is not None:
            headers["content-type"] = content_type
        query = "" if self._priority is None else f"?priority={self._priority}"
        return f"{self._api}/{what}{query}", headers

    def map(
        self, *inputs: Iterable[Any], ordered: bool = True, return_exceptions: bool = False, progress: bool = True
    ) -> MapRun[R]:
        """Calls the function for each input, many at a time, and iterates over the results.

        Inputs are read by a thread as they are needed, so there may be more of them than memory holds. Several
        iterables are taken together, as by Python's `map`. Results come in the order of the inputs, or as they are
        ready (``ordered=False``). The first failure is raised and cancels the map, unless ``return_exceptions=True``
        puts it in the place of its result. The map is on the host's disk: it goes on when the host is restarted, and
        `Map.from_id` finds it when this program ends. Leaving the loop early cancels it.
        """
        return self._run(self._signature.lines(inputs), ordered, return_exceptions, progress, length_of(inputs))

    def starmap(
        self,
        inputs: Iterable[Arguments],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> MapRun[R]:
        """Is `map` for inputs that are tuples of arguments, or mappings of arguments by name."""
        lines = self._signature.star_lines(inputs)
        return self._run(lines, ordered, return_exceptions, progress, length_of((inputs,)))

    def for_each(self, *inputs: Iterable[Any], ignore_exceptions: bool = False, progress: bool = True) -> None:
        """Is `map` without results."""
        for _ in self.map(*inputs, ordered=False, return_exceptions=ignore_exceptions, progress=progress):
            pass

    def _run(
        self, lines: Iterable[bytes], ordered: bool, return_exceptions: bool, progress: bool, length: int | None
    ) -> MapRun[R]:
        created = self._create_map()
        return MapRun(created, lines, ordered, return_exceptions, progress, length)

    def _create_map(self) -> Map[R]:
        target, headers = self._spawning("maps", None, None)
        answer = self.host.document("POST", target, headers=headers, is_repeatable=True)
        return Map(self.host, str(answer.get("id")), self._signature)

    def spawn_map(self, *inputs: Iterable[Any], progress: bool = True) -> Map[R]:
        """Is `map` that goes on by itself: returns once every input is on the host's disk."""
        return self._spawn_map(self._signature.lines(inputs), length_of(inputs), progress)

    def spawn_starmap(self, inputs: Iterable[Arguments], *, progress: bool = True) -> Map[R]:
        """Is `spawn_map` for inputs that are tuples of arguments, or mappings of arguments by name."""
        return self._spawn_map(self._signature.star_lines(inputs), length_of((inputs,)), progress)

    def _spawn_map(self, lines: Iterable[bytes], length: int | None, progress: bool) -> Map[R]:
        created = self._create_map()
        created.send(lines, length=length, progress=progress)
        return created

    def amap(
        self,
        inputs: Union[Iterable[Any], AsyncIterable[Any]],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> AsyncIterator[R]:
        """Is `map` for `asyncio`, over an iterable of either kind: ``async for result in f.amap(inputs)``."""
        from .async_map import results

        return results(self, inputs, ordered, return_exceptions, progress)

    def __repr__(self) -> str:
        return f"<function {self.app}::{self.name}{self._signature.inspected()} at {self.host.url}>"

    def _repr_html_(self) -> str:
        from .notebook import function_html

        return function_html(self.app, self.name, str(self._signature.inspected()), self.__doc__ or "")


def new_key() -> str:
    """Returns a new idempotency key."""
    return os.urandom(16).hex()


def length_of(inputs: tuple[Iterable[Any], ...]) -> int | None:
    """Returns how many inputs there will be, where the iterables know."""
    try:
        return min(len(cast("list[Any]", one)) for one in inputs)
    except TypeError:
        return None
