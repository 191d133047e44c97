"""A function of an app: a plain call, and calls through the host."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from . import maps, spawns
from .frames import place_of_caller
from .host import host
from .payload import Payload
from .signature import Signature

if TYPE_CHECKING:
    from .app import App

P = ParamSpec("P")
R = TypeVar("R")
I = TypeVar("I")
O = TypeVar("O")


class Entry:
    """What the host and the document know of a function."""

    def __init__(
        self, app: App, function: Callable[..., Any], attributes: dict[str, Any], namespace: Mapping[str, Any]
    ) -> None:
        self.app = app
        self.function = function
        self.name = function.__name__
        self.attributes = attributes
        self.place = place_of_caller()
        #: Names around a function that was defined within another one.
        self.namespace = namespace
        self.doc = inspect.cleandoc(function.__doc__) if function.__doc__ else ""

    @functools.cached_property
    def signature(self) -> Signature:
        """Parameters and result. `TypeError` where a type has no form in JSON."""
        try:
            return Signature(self.function, self.namespace, "batched" in self.attributes)
        except TypeError as error:
            raise TypeError(f"{self.place}: {error}" if self.place else str(error)) from None

    def describe(self) -> dict[str, Any]:
        """Returns the function's part of the metadata document."""
        signature = self.signature
        return {
            "name": self.name,
            "doc": self.doc,
            "parameters": signature.names,
            "input": signature.input_schema(),
            "output": signature.output_schema(),
            "attributes": self.attributes,
        }


class Caller(Generic[R]):
    """Calls of one function through the host, each in a sandbox of its own with the function's own limits."""

    __name__: str
    __doc__: str | None

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def _call(self, payload: Payload) -> R:
        return cast(R, self.entry.signature.value(host().call(self.entry, payload)))

    def _spawn(self, payload: Payload) -> spawns.Spawned[R]:
        return spawns.Spawned(host().spawn(self.entry, payload), self.entry)

    def starmap(
        self, inputs: Iterable[Iterable[Any]], *, ordered: bool = True, return_exceptions: bool = False
    ) -> maps.Map[R]:
        """Is `map` for several parameters: one tuple of arguments for each call."""
        payloads = (self.entry.signature.input(tuple(args), {}) for args in inputs)
        return maps.Map(self.entry, payloads, ordered, return_exceptions)

    def map(self, inputs: Iterable[Any], *, ordered: bool = True, return_exceptions: bool = False) -> maps.Map[R]:
        """Calls the function once for each input, many at a time, in bounded memory: the inputs may have no end.

        Results come in the order of the inputs, or as they are ready (``ordered=False``). A failure ends the map, or
        takes the place of its result (``return_exceptions=True``).
        """
        payloads = (self.entry.signature.input((value,), {}) for value in inputs)
        return maps.Map(self.entry, payloads, ordered, return_exceptions)

    def for_each(self, inputs: Iterable[Any], *, ignore_exceptions: bool = False) -> None:
        """Is `map` without results."""
        payloads = (self.entry.signature.input((value,), {}) for value in inputs)
        for _ in maps.Map[R](self.entry, payloads, False, ignore_exceptions):
            pass

    def spawn_map(self, inputs: Iterable[Any]) -> spawns.MapHandle[R]:
        """Is `map` on the host's disk: it outlives this call and a restart of the host."""
        handle = spawns.MapHandle[R](host().spawn_map(self.entry), self.entry)
        handle.extend(inputs)
        handle.close()
        return handle

    def from_id(self, call_id: str) -> spawns.Spawned[R]:
        """Finds a spawned call of this function."""
        return spawns.Spawned(call_id, self.entry)

    def map_from_id(self, map_id: str) -> spawns.MapHandle[R]:
        """Finds a spawned map of this function."""
        return spawns.MapHandle(host().open_map(map_id), self.entry)


class Function(Caller[R], Generic[P, R]):
    """A function: ``f(x)`` is the plain call, ``f.remote(x)`` one through the host."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast(R, self.entry.function(*args, **kwargs))

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Is the plain call."""
        return cast(R, self.entry.function(*args, **kwargs))

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function in a fresh sandbox and waits for its result; raises `Failure`."""
        return self._call(self.entry.signature.input(args, kwargs))

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> spawns.Spawned[R]:
        """Keeps a call on the host's disk and returns at once; it runs when there is room."""
        return self._spawn(self.entry.signature.input(args, kwargs))


class BatchedFunction(Caller[O], Generic[I, O]):
    """A batched function: ``f(inputs)`` is the plain call, ``f.remote(x)`` joins a group on the host."""

    def __call__(self, inputs: list[I], /) -> list[O]:
        return cast("list[O]", self.entry.function(inputs))

    def local(self, inputs: list[I], /) -> list[O]:
        """Is the plain call."""
        return cast("list[O]", self.entry.function(inputs))

    def remote(self, value: I, /) -> O:
        """Calls it with one input, which meets those of other calls; raises `Failure`."""
        return self._call(self.entry.signature.input((value,), {}))

    def spawn(self, value: I, /) -> spawns.Spawned[O]:
        """Keeps a call with one input on the host's disk and returns at once."""
        return self._spawn(self.entry.signature.input((value,), {}))


# Methods that a decorated function gets.
_METHODS = ("entry", "for_each", "from_id", "map", "map_from_id", "remote", "spawn", "spawn_map", "starmap")


def attach(caller: Caller[Any]) -> Any:
    """Returns the author's function with the methods of `caller`.

    It stays the function that it was, rather than an object around it: a plain call costs nothing, and a recursion
    takes no stack of the interpreter's own, which would end the sandbox before Python's limit is reached.
    """
    function: Any = caller.entry.function
    for name in _METHODS:
        setattr(function, name, getattr(caller, name))
    function.local = function
    return function


def namespace_of(function: types.FunctionType, depth: int) -> Mapping[str, Any]:
    """Returns the names around a function that was defined within another one; types of its hints may be there."""
    if "<locals>" not in function.__qualname__:
        return {}
    return dict(sys._getframe(depth + 1).f_locals)  # pyright: ignore[reportPrivateUsage]
