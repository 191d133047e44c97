"""Dispatch of a request to its web function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..dispatch import failed
from ..failure import Failure
from ..function import Entry
from . import route
from .entry import WebEntry
from .problem import Problem
from .request import Request, prefix
from .responses import Response, of_problem


def answer(entries: Mapping[str, Entry], request: Request, report: Callable[[str], None]) -> Response:
    """Answers one request with the app's own routes. The body of a response to ``HEAD`` is not for the client."""
    try:
        entry, request.path_values = find(entries, request.method, request.path)
        response = entry.respond(request, report)
    except Problem as problem:
        response = of_problem(problem)
        if problem.status == 405:
            response.headers.set("allow", problem.detail.partition(" takes ")[2])
    except Failure as failure:
        own = failure.__cause__
        response = of_problem(own if isinstance(own, Problem) else Problem.of_failure(failure))
    except BaseException as error:
        response = of_problem(Problem.of_failure(failed(error, report, shows_lines=False)))
    return _finish(response, prefix(request.headers))


def find(entries: Mapping[str, Entry], method: str, path: str) -> tuple[WebEntry, dict[str, str]]:
    """Returns the web function that answers, and the parameters in the path."""
    parts = route.split(path)
    if parts is None:
        raise Problem.of_request(400, "bad-path", f"`{path}` is no path: an escape in it is none, or not of UTF-8")
    fitting: list[tuple[WebEntry, route.Route, dict[str, str]]] = []
    for entry in entries.values():
        if isinstance(entry, WebEntry):
            known = route.read(entry.attributes["route"])
            if (values := known.fit(parts)) is not None:
                fitting.append((entry, known, values))
    if not fitting:
        raise Problem.of_request(404, "not-found", f"nothing is at `{path}`")
    answering = [one for one in fitting if one[1].takes(method)]
    if not answering:
        methods = {known.method for _, known, _ in fitting}
        allow = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        raise Problem.of_request(405, "method-not-allowed", f"`{path}` takes {allow}")
    entry, _, values = min(answering, key=lambda one: one[1].precedence(method))
    return entry, values


def _finish(response: Response, mounted_at: str) -> Response:
    """Adds headers that follow from the content, and the app's path to a redirect within it."""
    if isinstance(response.body, bytes) and response.status not in (204, 304):
        if "content-length" not in response.headers:
            response.headers.set("content-length", str(len(response.body)))
    location = response.headers.get("location", "")
    if location.startswith("/") and not location.startswith("//"):
        response.headers.set("location", mounted_at + location)
    return response


def parts(response: Response, report: Callable[[str], None]) -> Iterator[bytes]:
    """Yields the body; an error of a stream becomes a `Failure`."""
    if isinstance(response.body, bytes):
        if response.body:
            yield response.body
        return
    try:
        for part in response.body:
            if part:
                yield _part(part)
    except Exception as error:
        raise failed(error, report, shows_lines=False) from error


def _part(part: Any) -> bytes:
    if isinstance(part, (bytes, bytearray)):
        return bytes(part)
    raise TypeError(f"a part of a stream is bytes or a text, not a `{type(part).__name__}`")
