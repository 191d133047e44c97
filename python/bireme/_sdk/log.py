"""Lines of the call's log, with fields. `logging` writes to the same log, and `print` does.

>>> from bireme import log, testing
>>> with testing.logs() as lines:
...     log.info("found", pages=3)
>>> lines[0].message, lines[0].fields
('found', {'pages': '3'})
"""

from __future__ import annotations

import logging
from typing import Any

from .host import host
from .host.api import Level


def log(level: Level, message: object, /, **fields: object) -> None:
    """Writes a line of a level: ``trace``, ``debug``, ``info``, ``warn``, ``error``."""
    host().log(level, str(message), [(name, str(value)) for name, value in fields.items()])


def debug(message: object, /, **fields: object) -> None:
    """Writes a line for whoever looks for a fault."""
    log("debug", message, **fields)


def info(message: object, /, **fields: object) -> None:
    """Writes a line about what happens."""
    log("info", message, **fields)


def warn(message: object, /, **fields: object) -> None:
    """Writes a line about something odd."""
    log("warn", message, **fields)


warning = warn


def error(message: object, /, **fields: object) -> None:
    """Writes a line about something that failed."""
    log("error", message, **fields)


# Attributes of every record of `logging`; all others are an author's `extra`.
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def level_of(number: int) -> Level:
    """Returns the level of a number of `logging`."""
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    if number >= logging.INFO:
        return "info"
    return "debug" if number >= logging.DEBUG else "trace"


class Handler(logging.Handler):
    """Handler of `logging` that writes to the call's log. In a sandbox the root logger has it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; its `extra` are fields."""
        try:
            fields: dict[str, Any] = {} if record.name == "root" else {"logger": record.name}
            fields.update((name, value) for name, value in record.__dict__.items() if name not in _OWN)
            log(level_of(record.levelno), self.format(record), **fields)
        except Exception:
            self.handleError(record)


def install() -> None:
    """Makes `logging` write to the call's log, from level `INFO` on."""
    root = logging.getLogger()
    if not any(isinstance(handler, Handler) for handler in root.handlers):
        root.addHandler(Handler())
        root.setLevel(logging.INFO)
