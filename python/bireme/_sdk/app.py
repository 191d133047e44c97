"""An app: its functions, found by their decorators."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast, overload

from . import attributes
from .attributes import BatchedLike, RetriesLike, ScheduleLike
from .function import BatchedFunction, Entry, Function, attach, namespace_of
from .units import Duration, Size
from .web import route as routes
from .web.entry import WebEntry
from .words import names, nearest

P = ParamSpec("P")
R = TypeVar("R")
I = TypeVar("I")
O = TypeVar("O")

#: Apps in the order of their making, so that the loader finds the one of a module.
APPS: list[App] = []


class App:
    """The functions that are deployed together, under one name.

    >>> app = App("pages")
    >>> @app.function(timeout="1s", memory="64MiB")
    ... def words(text: str) -> int:
    ...     "Counts the words of a text."
    ...     return len(text.split())
    >>> words("a ship"), words.remote("with two decks")
    (2, 3)
    """

    def __init__(self, name: str = "", *, version: str = "", description: str = "") -> None:
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise ValueError(
                f"App({name!r}): an app's name has letters, digits, `-` and `_`, begins with a letter or a digit, and "
                "is at most 64 bytes long"
            )
        self.name = name
        self.version = version
        self.description = description
        self.entries: dict[str, Entry] = {}
        APPS.append(self)

    @overload
    def function(self, function: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def function(
        self,
        function: None = None,
        /,
        *,
        batched: BatchedLike,
        timeout: Duration | None = None,
        memory: Size | None = None,
        retries: RetriesLike | None = None,
        concurrency: int | None = None,
        outbound: Sequence[str] = (),
        models: Sequence[str] = (),
        tokens: int | None = None,
        tokens_per_day: int | None = None,
        secrets: Sequence[str] = (),
        config: Sequence[str] = (),
    ) -> Callable[[Callable[[list[I]], list[O]]], BatchedFunction[I, O]]: ...

    @overload
    def function(
        self,
        function: None = None,
        /,
        *,
        timeout: Duration | None = None,
        memory: Size | None = None,
        retries: RetriesLike | None = None,
        concurrency: int | None = None,
        schedule: ScheduleLike | None = None,
        outbound: Sequence[str] = (),
        models: Sequence[str] = (),
        tokens: int | None = None,
        tokens_per_day: int | None = None,
        secrets: Sequence[str] = (),
        config: Sequence[str] = (),
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    def function(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        timeout: Duration | None = None,
        memory: Size | None = None,
        retries: RetriesLike | None = None,
        concurrency: int | None = None,
        batched: BatchedLike | None = None,
        schedule: ScheduleLike | None = None,
        outbound: Sequence[str] = (),
        models: Sequence[str] = (),
        tokens: int | None = None,
        tokens_per_day: int | None = None,
        secrets: Sequence[str] = (),
        config: Sequence[str] = (),
        **unknown: Any,
    ) -> Any:
        """Registers a plain function with the host.

        The function stays as it is: ``words(text)`` is an ordinary call. Beside it there are ``words.remote(text)``,
        ``.map``, ``.starmap``, ``.for_each``, ``.spawn`` and ``.spawn_map``.

        :param timeout: wall-clock time of one attempt: seconds, or ``"500ms"``, ``"10s"``, ``"2m"``.
        :param memory: memory of one attempt: MiB, or ``"64MiB"``.
        :param retries: further attempts after a failure that is not terminal; `Retries` with delays of its own.
        :param concurrency: calls of this function at a time on one host; further ones wait.
        :param batched: called with single inputs, runs on groups of them: ``(64, "10ms")``, the largest group and the
            longest wait. It takes a list and returns a list of the same length; an exception in place of an output
            fails that input alone.
        :param schedule: times at which the host calls it: ``"0 6 * * MON"``, `Cron` or `Period`.
        :param outbound: origins that it may reach over HTTP; a ``$name`` is one that the operator grants.
        :param models: models that it may use.
        :param tokens: tokens of one attempt, over all models.
        :param tokens_per_day: tokens of all calls of this function on one host in one day.
        :param secrets: secrets that the operator sets, read by `secret`.
        :param config: configuration values that it expects, read by `config`.
        """
        for name in unknown:
            raise TypeError(unknown_attribute(name))
        read = attributes.read(
            timeout=timeout,
            memory=memory,
            retries=retries,
            concurrency=concurrency,
            batched=batched,
            schedule=schedule,
            outbound=outbound,
            models=models,
            tokens=tokens,
            tokens_per_day=tokens_per_day,
            secrets=secrets,
            config=config,
        )
        if function is not None:
            return self._register(function, read, 2)

        def register(function: Callable[..., Any]) -> Any:
            return self._register(function, read, 2)

        return register

    def web(
        self,
        route: str,
        /,
        *,
        timeout: Duration | None = None,
        memory: Size | None = None,
        concurrency: int | None = None,
        outbound: Sequence[str] = (),
        models: Sequence[str] = (),
        tokens: int | None = None,
        tokens_per_day: int | None = None,
        secrets: Sequence[str] = (),
        config: Sequence[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Makes a plain function answer HTTP requests.

        `route` is a method and a path below the app: ``"GET /pages/{id}"``. A parameter of the function whose name
        stands between braces is that part of the path; ``{*rest}`` at the end takes all that is left, ``*`` for the
        method takes every method. The module `web` has the other parameters and the results. The other attributes are
        those of `function`.
        """
        if not isinstance(route, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError('`app.web` takes a route: write `@app.web("GET /pages/{id}")`')
        routes.read(route)
        read = attributes.read(
            route=route,
            timeout=timeout,
            memory=memory,
            concurrency=concurrency,
            outbound=outbound,
            models=models,
            tokens=tokens,
            tokens_per_day=tokens_per_day,
            secrets=secrets,
            config=config,
        )

        def register(function: Callable[P, R]) -> Callable[P, R]:
            if not isinstance(function, types.FunctionType):
                raise TypeError(f"@app.web decorates a function, not {function!r}")
            self.add(WebEntry(self, function, read, namespace_of(function, 1)))
            return cast("Callable[P, R]", function)

        return register

    def _register(self, function: Callable[..., Any], read: dict[str, Any], depth: int) -> Any:
        if not isinstance(function, types.FunctionType):
            raise TypeError(f"@app.function decorates a function, not {function!r}")
        entry = Entry(self, function, read, namespace_of(function, depth))
        self.add(entry)
        if "batched" in read:
            if "schedule" in read:
                raise TypeError(f"`{entry.name}`: a schedule makes one call at a time, so it cannot be batched")
            return attach(BatchedFunction[Any, Any](entry))
        return attach(Function[..., Any](entry))

    def add(self, entry: Entry) -> None:
        """Adds a function, or refuses its name."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", entry.name):
            raise ValueError(f"`{entry.name}` cannot be a function's name: letters, digits and `_`, at most 64 bytes")
        known = self.entries.get(entry.name)
        if known is not None and not _is_reload(known, entry):
            raise ValueError(
                f"two functions are named `{entry.name}`: at {known.place} and at {entry.place}; rename one"
            )
        self.entries[entry.name] = entry


def _is_reload(known: Entry, new: Entry) -> bool:
    """A cell of a notebook that runs again defines the same function anew."""
    return "ipykernel" in sys.modules or known.function.__code__ is new.function.__code__


_KNOWN = (
    "timeout",
    "memory",
    "retries",
    "concurrency",
    "batched",
    "schedule",
    "outbound",
    "models",
    "tokens",
    "tokens_per_day",
    "secrets",
    "config",
)


# Attributes of Modal's decorator, which authors bring along.
_ELSEWHERE = {
    "gpu": "models run on the host's workers; name one in `models=[…]`",
    "image": "requirements stand in pyproject.toml",
    "cpu": "a call has one core",
    "volumes": "a sandbox has no files; keep values in `kv`",
    "max_containers": "write `concurrency=…`",
    "concurrency_limit": "write `concurrency=…`",
    "secret": "write `secrets=[…]`",
    "cron": 'write `schedule="0 6 * * *"`',
    "name": "the function's own name is its name",
}


def unknown_attribute(name: str) -> str:
    """Returns the words for an attribute that there is not."""
    if name in _ELSEWHERE:
        return f"unknown attribute `{name}`: {_ELSEWHERE[name]}"
    if name == "route":
        return '`route` belongs to `app.web`: write `@app.web("GET /search")`'
    near = nearest(name, _KNOWN)
    return f"unknown attribute `{name}`; {f'did you mean `{near}`? ' if near else ''}there are {names(_KNOWN)}"
