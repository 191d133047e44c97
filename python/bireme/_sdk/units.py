"""Durations and sizes as authors write them: ``"10s"``, ``"64MiB"``."""

from __future__ import annotations

import datetime
import re
from typing import Union

Duration = Union[str, int, float, datetime.timedelta]
Size = Union[str, int]

_TIMES = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def milliseconds(what: str, value: Duration, example: str, least: int, most: int) -> int:
    """Reads a duration: a text with a unit, a number of seconds, or a `timedelta`."""
    if isinstance(value, datetime.timedelta):
        ms = value.total_seconds() * 1000
    elif isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)", value.strip())
        if found is None:
            raise ValueError(f'{what}={value!r} is no duration; write a number of seconds, or "{example}"')
        ms = float(found[1]) * _TIMES[found[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        ms = value * 1000
    else:
        raise TypeError(f'{what}={value!r} is no duration; write a number of seconds, or "{example}"')
    # `nan` is not within the bounds either.
    if not least <= ms <= most:
        raise ValueError(f"{what}={value!r} is not from {_time(least)} to {_time(most)}")
    return int(ms)


def _time(ms: int) -> str:
    for unit in ("h", "m", "s"):
        if ms and ms % _TIMES[unit] == 0:
            return f"{ms // _TIMES[unit]}{unit}"
    return f"{ms}ms"


def size_bytes(what: str, value: Size, example: str, least: int, most: int) -> int:
    """Reads a size: a text with a unit, or a number of MiB."""
    if isinstance(value, bool):
        raise TypeError(f'{what}={value!r} is no size; write "{example}"')
    if isinstance(value, int):
        if value > most >> 20:
            raise ValueError(f'{what}={value} is a number of MiB, and over {most >> 20}; write a size as "{example}"')
        size = value << 20
    elif isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB)", value.strip())
        if found is None:
            raise ValueError(f'{what}={value!r} is no size; write "{example}"')
        size = int(float(found[1]) * _SIZES[found[2]])
    else:
        raise TypeError(f'{what}={value!r} is no size; write "{example}"')
    if not least <= size <= most:
        raise ValueError(f"{what}={value!r} is not from {least >> 20}MiB to {most >> 20}MiB")
    return size
