"""One web request over `wasi:http/incoming-handler`. Resources are dropped in the order that `wasi:http` demands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import log
from ..failure import Failure
from ..function import Entry
from ..http.headers import Headers
from ..web import server
from ..web.body import Body
from ..web.problem import Problem
from ..web.request import Request
from ..web.responses import Response, of_problem
from . import wasm

_http: Any = wasm.wit("wasi_http_types")

_READ_BYTES = 64 * 1024


def serve(
    entries: Mapping[str, Entry],
    incoming: Any,
    outparam: Any,
    report: Callable[[str], None],
    begin: Callable[[Entry], None],
) -> None:
    """Answers one request. `begin` runs before the author's function."""
    method = _method(incoming.method())
    with incoming.headers() as fields:
        headers = Headers.of_raw(fields.entries())
    path = incoming.path_with_query() or "/"
    request = Request(method, path, headers, Body(_body(incoming)))
    try:
        begin(server.find(entries, method, request.path)[0])
    except Problem:
        # The same problem is the answer, below.
        pass
    response = server.answer(entries, request, report)
    try:
        _send(response, outparam, method == "HEAD", report)
    except Failure as failure:
        log.error(f"the answer was cut off: {failure.message}")


def _method(method: Any) -> str:
    name = type(method).__name__.removeprefix("Method_")
    return str(method.value) if name == "Other" else name.upper()


def _body(incoming: Any) -> Iterator[bytes]:
    body = incoming.consume()
    with body, body.stream() as stream:
        while True:
            try:
                part = stream.blocking_read(_READ_BYTES)
            except wasm.Err as error:
                reason: Any = getattr(error, "value")
                if type(reason).__name__ == "StreamError_Closed":
                    return
                raise Problem(400, f"the body could not be read: {reason.value.to_debug_string()}") from None
            if part:
                yield part


def _outgoing(response: Response) -> Any:
    fields = _http.Fields()
    for name, value in response.headers.raw():
        try:
            fields.append(name, value)
        except wasm.Err:
            raise ValueError(f"header `{name}`: {value!r}") from None
    outgoing = _http.OutgoingResponse(fields)
    outgoing.set_status_code(response.status)
    return outgoing


def _send(response: Response, outparam: Any, is_head: bool, report: Callable[[str], None]) -> None:
    """Sends the head, then the body. An unfinished body counts as aborted, so a failed stream is never taken for a
    complete one."""
    try:
        outgoing = _outgoing(response)
    except ValueError as error:
        response = of_problem(Problem(500, f"the app's answer cannot be sent: {error}"))
        outgoing = _outgoing(response)
    if is_head:
        _http.ResponseOutparam.set(outparam, wasm.Ok(outgoing))
        return
    body = outgoing.body()
    stream = body.write()
    _http.ResponseOutparam.set(outparam, wasm.Ok(outgoing))
    with stream:
        for part in server.parts(response, report):
            _write(stream, part)
    try:
        _http.OutgoingBody.finish(body, None)
    except wasm.Err as error:
        raise Failure(f"the body does not fit its `content-length`: {getattr(error, 'value')}") from None


def _write(stream: Any, part: bytes) -> None:
    """Writes a part, as fast as the client takes it."""
    rest = memoryview(part)
    try:
        while rest:
            permitted = stream.check_write()
            if permitted:
                stream.write(bytes(rest[:permitted]))
                rest = rest[permitted:]
            else:
                with stream.subscribe() as ready:
                    ready.block()
    except wasm.Err as error:
        reason: Any = getattr(error, "value")
        is_gone = type(reason).__name__ == "StreamError_Closed"
        raise Failure("the client is gone" if is_gone else reason.value.to_debug_string()) from None
