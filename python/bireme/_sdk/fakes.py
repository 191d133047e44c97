"""Fakes of a native test, and the calls that it is in. `bireme.testing` sets them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host.api import CallInfo, Level
    from .http import Request, Response


@dataclass(frozen=True)
class LogLine:
    """One line of the log."""

    level: Level
    message: str
    fields: dict[str, str]


@dataclass
class Value:
    """Value of a fake bucket, with the time of the fake clock at which it expires."""

    data: bytes
    expires: float | None = None


@dataclass
class Fakes:
    """What stands in for a host."""

    http: Callable[[Request], Response] | None = None
    kv: dict[str, dict[str, Value]] | None = None
    embedders: dict[str, Callable[[str], Any]] = field(default_factory=dict[str, Any])
    rerankers: dict[str, Callable[[str, str], float]] = field(default_factory=dict[str, Any])
    classifiers: dict[str, Callable[[str], dict[str, float]]] = field(default_factory=dict[str, Any])
    inferrers: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict[str, Any])
    config: dict[str, str] = field(default_factory=dict[str, str])
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    logs: list[LogLine] | None = None
    #: Seconds by which the clock was moved.
    moved: float = 0.0
    calls: list[CallInfo] = field(default_factory=lambda: [])

    def now(self) -> float:
        """Time of the fake clock, which stands still unless a test moves it."""
        return self._start + self.moved

    _start: float = field(default_factory=time.time)


FAKES = Fakes()
