"""Attributes of a function: checked where they are written, and put into the form of the metadata document.

The names, units and bounds are those of the Rust SDK (`docs/reference/attributes.md`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from .units import Duration, Size, milliseconds, size_bytes
from .words import names

_SECOND, _HOUR = 1_000, 3_600_000


@dataclass(frozen=True)
class Retries:
    """Retries with their own delays: the first, its factor from one to the next, the longest.

    >>> Retries(max=3, backoff=2.0, initial="1s", max_delay="60s").max
    3
    """

    max: int
    backoff: float | None = None
    initial: Duration | None = None
    max_delay: Duration | None = None


@dataclass(frozen=True)
class Batched:
    """Groups of single inputs: at most `max_size`, and the longest wait of the first for others."""

    max_size: int
    wait: Duration


@dataclass(frozen=True)
class Cron:
    """Times of a calendar: minute, hour, day of the month, month, day of the week, in a time zone.

    >>> Cron("0 6 * * MON", tz="Europe/Stockholm").tz
    'Europe/Stockholm'
    """

    pattern: str
    tz: str = "UTC"
    #: Policy for runs that were due while the host was down.
    missed: Literal["skip", "run_once"] | None = None
    #: Policy for a run that is due while the previous one is still running.
    overlap: Literal["skip", "allow", "queue"] | None = None


@dataclass(frozen=True)
class Period:
    """A fixed period, counted from the first deployment.

    >>> Period("15m").period
    '15m'
    """

    period: Duration
    missed: Literal["skip", "run_once"] | None = None
    overlap: Literal["skip", "allow", "queue"] | None = None


RetriesLike = Union[int, Retries]
BatchedLike = Union[Batched, "tuple[int, Duration]"]
ScheduleLike = Union[str, Cron, Period]


def read(
    *,
    route: str | None = None,
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
) -> dict[str, Any]:
    """Returns the attributes as the metadata document has them; an absent one means the host's default."""
    out: dict[str, Any] = {}
    if route is not None:
        out["route"] = route
    if timeout is not None:
        out["timeout_ms"] = milliseconds("timeout", timeout, "10s", 1, 24 * _HOUR)
    if memory is not None:
        out["memory_bytes"] = size_bytes("memory", memory, "64MiB", 1 << 20, 4 << 30)
    if retries is not None:
        out["retries"] = _retries(retries)
    if concurrency is not None:
        out["concurrency"] = _whole("concurrency", concurrency, 1, 1_000)
    if batched is not None:
        out["batched"] = _batched(batched)
    if schedule is not None:
        out["schedule"] = _schedule(schedule)
    out["outbound"] = _texts("outbound", outbound, '["https://api.example.com", "$site"]', _origin)
    out["models"] = _texts("models", models, '["all-minilm-l6-v2"]', _model)
    if tokens is not None:
        out["tokens"] = _whole("tokens", tokens, 1, 10**12)
    if tokens_per_day is not None:
        out["tokens_per_day"] = _whole("tokens_per_day", tokens_per_day, 1, 10**12)
    if secrets:
        out["secrets"] = _texts("secrets", secrets, '["API_KEY"]', _secret)
    if config:
        out["config"] = _texts("config", config, '["depth"]', _key)
    return out


def _whole(what: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int:
        raise TypeError(f"{what}={value!r} is no whole number")
    if not least <= value <= most:
        raise ValueError(f"{what}={value} is not from {least} to {most:_}")
    return value


def _retries(value: Any) -> Any:
    if not isinstance(value, Retries):
        return _whole("retries", value, 0, 100)
    out: dict[str, Any] = {"max": _whole("retries: max", value.max, 0, 100)}
    if value.backoff is not None:
        if isinstance(value.backoff, bool) or not 1 <= value.backoff <= 10:
            raise ValueError(f"retries: backoff={value.backoff} is not from 1 to 10")
        out["backoff"] = float(value.backoff)
    if value.initial is not None:
        out["initial_ms"] = milliseconds("retries: initial", value.initial, "1s", 0, _HOUR)
    if value.max_delay is not None:
        out["max_delay_ms"] = milliseconds("retries: max_delay", value.max_delay, "60s", 0, _HOUR)
    if out.get("initial_ms", 0) > out.get("max_delay_ms", _HOUR):
        raise ValueError("retries: `initial` is longer than `max_delay`")
    return out


def _batched(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:  # pyright: ignore[reportUnknownArgumentType]
        value = Batched(*value)  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(value, Batched):
        raise TypeError(f'batched={value!r}: write the largest group and the longest wait, as `batched=(64, "10ms")`')
    return {
        "max_size": _whole("batched: max_size", value.max_size, 1, 1_000),
        "wait_ms": milliseconds("batched: wait", value.wait, "10ms", 0, 10 * _SECOND),
    }


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)


def _schedule(value: Any) -> Any:
    if isinstance(value, str):
        value = Cron(value)
    if isinstance(value, Cron):
        out: dict[str, Any] = {"cron": _cron(value.pattern), "tz": value.tz}
        if not re.fullmatch(r"[A-Za-z0-9_+\-/]+", value.tz):
            raise ValueError(f'tz={value.tz!r} is no time zone; write "Europe/Stockholm" or "UTC"')
    elif isinstance(value, Period):
        out = {"period_ms": milliseconds("schedule: period", value.period, "15m", _SECOND, 720 * _HOUR)}
    else:
        raise TypeError(f'schedule={value!r}: write `Cron("0 6 * * MON", tz="Europe/Stockholm")` or `Period("15m")`')
    for name, known in (("missed", ("skip", "run_once")), ("overlap", ("skip", "allow", "queue"))):
        policy = getattr(value, name)
        if policy is not None:
            if policy not in known:
                raise ValueError(f"{name}={policy!r}: there are {names(known)}")
            out[name] = policy
    return out


def _cron(pattern: str) -> str:
    """Checks everything that needs no calendar; the host checks the rest."""
    fields = pattern.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"schedule={pattern!r} has {len(fields)} fields, and needs five: minute, hour, day of the month, month, "
            'day of the week, as "0 6 * * MON"'
        )
    for text, (name, least, most, words) in zip(fields, _FIELDS):
        for part in text.split(","):
            bounds, _, step = part.partition("/")
            ends = [] if bounds == "*" else bounds.split("-")
            numbers = [_cron_number(end, words, least) for end in ends]
            fits = all(number is not None and least <= number <= most for number in numbers) and len(numbers) <= 2
            if not fits or (len(numbers) == 2 and numbers[0] > numbers[1]):  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
                raise ValueError(f"schedule={pattern!r}: `{part}` is no {name}, which goes from {least} to {most}")
            if "/" in part and not (step.isdigit() and int(step) > 0):
                raise ValueError(f"schedule={pattern!r}: `{part}` has no step, as `*/15` has")
    return pattern


def _cron_number(text: str, words: Sequence[str], least: int) -> int | None:
    if text.isdigit() and text.isascii():
        return int(text)
    return words.index(text.upper()) + least if text.upper() in words else None


def _texts(what: str, value: Any, example: str, check: Any) -> list[str]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise TypeError(f"{what}={value!r} is no list; write `{what}={example}`")
    texts: list[str] = []
    for text in value:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(text, str):
            raise TypeError(f"{what}: {text!r} is no text; write `{what}={example}`")
        check(text)
        if text in texts:
            raise ValueError(f"{what}: `{text}` is listed twice; keep one")
        texts.append(text)
    return texts


def _origin(text: str) -> None:
    if text.startswith("$"):
        if not re.fullmatch(r"\$[A-Za-z0-9_-]+", text):
            raise ValueError(f"outbound: `{text}` is not a name: after `$` come letters, digits, `-` or `_`")
        return
    scheme, separator, authority = text.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError(
            f"outbound: `{text}` is not an origin: write `https://{text}`, or `$name` for one that the operator grants"
        )
    if not re.fullmatch(r"[^\s/?#@*\\]+/?", authority):
        raise ValueError(
            f"outbound: `{text}` is not an origin: a scheme, a host and perhaps a port, such as "
            "`https://api.example.com:8443`"
        )


def _model(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", text):
        raise ValueError(f"models: `{text}` is not a model's name: letters, digits, `-`, `_`, `.` and `/`")


def _secret(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError(
            f"secrets: `{text}` is not a secret's name: letters, digits and `_`, no digit first, as an environment "
            "variable has it"
        )
    if len(text) > 128:
        raise ValueError("secrets: the name of a secret is at most 128 bytes long")


def _key(text: str) -> None:
    if not text:
        raise ValueError("config: a name is empty")
