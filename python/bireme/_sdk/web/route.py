"""Routes of web functions: ``GET /pages/{id}``. `docs/metadata.md` fixes the syntax, which a host implements, too."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..words import names

if TYPE_CHECKING:
    from ..function import Entry

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*")

_SEGMENTS_MAX = 32
_BYTES_MAX = 1_024

# Kinds of a segment, from the most specific to the least.
_LITERAL, _ONE, _REST = 0, 1, 2


@dataclass(frozen=True)
class Route:
    """A method and a path pattern."""

    text: str
    method: str
    #: Kind of each segment, and its text or name.
    segments: tuple[tuple[int, str], ...]

    @property
    def parameters(self) -> list[str]:
        """Names between braces."""
        return [text for kind, text in self.segments if kind != _LITERAL]

    def takes(self, method: str) -> bool:
        """Whether it answers a method; `GET` answers `HEAD` too."""
        return self.method in ("*", method) or (self.method == "GET" and method == "HEAD")

    def fit(self, path: Sequence[str]) -> dict[str, str] | None:
        """Returns the parameters in a path, if it matches."""
        values: dict[str, str] = {}
        for i, (kind, text) in enumerate(self.segments):
            if kind == _REST:
                values[text] = "/".join(path[i:])
                return values
            if i >= len(path) or (path[i] != text if kind == _LITERAL else not path[i]):
                return None
            if kind == _ONE:
                values[text] = path[i]
        return values if len(path) == len(self.segments) else None

    def precedence(self, method: str) -> tuple[list[int], bool]:
        """Orders routes that match one path: the most specific first, then those of the method itself."""
        return [kind for kind, _ in self.segments], self.method != method

    def conflicts(self, other: Route) -> bool:
        """Whether neither takes precedence over the other."""
        return (
            self.method == other.method
            and len(self.segments) == len(other.segments)
            and all(a == b if a[0] == b[0] == _LITERAL else a[0] == b[0] for a, b in zip(self.segments, other.segments))
        )


@functools.cache
def read(text: str) -> Route:
    """Parses a route, or raises `ValueError`, which says what is wrong."""

    def wrong(reason: str) -> ValueError:
        return ValueError(f"`{text}` is no route: {reason}")

    method, space, path = text.partition(" ")
    if not space:
        raise wrong('write a method and a path, as `"GET /pages/{id}"`')
    if method not in METHODS:
        raise wrong(f"`{method}` is no method; there are {names(METHODS)}")
    if not path.startswith("/"):
        raise wrong(f"the path begins with `/`: `{method} /{path.strip()}`")
    if len(text.encode()) > _BYTES_MAX:
        raise wrong(f"it is over {_BYTES_MAX} bytes")
    if re.search(r"[?#\s\\%]", path):
        raise wrong(
            "the path has no query, no spaces and no escapes; parameters of the query are those of the function"
        )
    parts = path[1:].split("/")
    if len(parts) > _SEGMENTS_MAX:
        raise wrong(f"it has over {_SEGMENTS_MAX} segments")
    segments: list[tuple[int, str]] = []
    for i, part in enumerate(parts):
        if "{" not in part and "}" not in part:
            if part in (".", ".."):
                raise wrong(f"`{part}` is no segment")
            segments.append((_LITERAL, part))
            continue
        found = re.fullmatch(r"\{(\*?)([A-Za-z_][A-Za-z0-9_]*)\}", part)
        if found is None:
            raise wrong(f"`{part}` is neither text nor `{{name}}`; braces stand around a whole segment")
        if found[1] and i != len(parts) - 1:
            raise wrong(f"`{part}` takes the rest of the path, so it stands at the end")
        if found[2] in [text for kind, text in segments if kind != _LITERAL]:
            raise wrong(f"`{found[2]}` stands in it twice")
        segments.append((_REST if found[1] else _ONE, found[2]))
    return Route(text, method, tuple(segments))


def conflicts(entries: Sequence[Entry]) -> list[str]:
    """Lists pairs of web functions that answer the same requests."""
    routed = [(entry, read(entry.attributes["route"])) for entry in entries if "route" in entry.attributes]
    errors: list[str] = []
    for i, (one, route) in enumerate(routed):
        for other, route_other in routed[i + 1 :]:
            if route.conflicts(route_other):
                errors.append(
                    f"`{one.name}` at {one.place} and `{other.name}` at {other.place} answer the same requests, "
                    f"`{route_other.text}`; change one of the routes"
                )
    return errors


def split(path: str) -> list[str] | None:
    """Splits the path of a request into decoded segments; `None` for an escape that is none, or is not of UTF-8."""
    parts: list[str] = []
    for segment in path.removeprefix("/").split("/"):
        part = _decode(segment)
        if part is None:
            return None
        parts.append(part)
    return parts


def _decode(segment: str) -> str | None:
    if "%" not in segment:
        return segment
    if re.search(r"%(?![0-9A-Fa-f]{2})", segment):
        return None
    raw = re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), segment.encode())
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
