"""The host of a sandbox: the imports of `wit/`, in types of the SDK.

Everything is imported here, at the top: nothing can be once the snapshot of an app is taken.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..failure import Failure
from ..function import Entry
from ..kv import Error as KvError
from ..models import Error as ModelError
from ..payload import Payload
from ..url import Url
from .api import Answer, CallInfo, HttpError, Level, Order, Outcome, Progress, Result, Tensor

T = TypeVar("T")

# The imports of `wit/` have no stubs, so everything that comes from them is `Any`.


def wit(name: str) -> Any:
    """Returns a module of the bindings."""
    return importlib.import_module(f"wit_world.imports.{name}")


_types = wit("bireme_host_types")
_functions = wit("functions")
_context = wit("context")
_inference = wit("inference")
_config = wit("wasi_config_store")
_store = wit("wasi_keyvalue_store")
_atomics = wit("atomics")
_batch = wit("batch")
_buckets = wit("buckets")
_http = wit("wasi_http_types")
_outgoing = wit("outgoing_handler")
_streams = wit("streams")
_poll = wit("poll")
_clock = wit("monotonic_clock")
_environment = wit("environment")
_values = importlib.import_module("componentize_py_types")
Ok: Any = _values.Ok
Err: type[Exception] = _values.Err

# Bytes that are read at a time.
_READ_BYTES = 64 * 1024


def failure_of(failure: Any) -> Failure:
    """Returns a failure of the host as one of the SDK."""
    code = failure.code.name.lower().replace("_", "-")
    return Failure(failure.message, code=code, causes=failure.causes)


def failure_to(failure: Failure) -> Exception:
    """Returns a failure of the SDK as what an export raises."""
    code = _types.FailureCode[failure.code.upper().replace("-", "_")]
    return Err(_types.Failure(code, failure.message, failure.causes))


def payload_to(payload: Payload) -> Any:
    """Returns a payload in the type of the bindings."""
    return _types.Payload(payload.content_type, payload.data)


def payload_of(payload: Any) -> Payload:
    """Returns a payload in the type of the SDK."""
    return Payload(payload.content_type, payload.data)


def _of_host(work: Callable[[], T]) -> T:
    try:
        return work()
    except Err as error:
        raise failure_of(getattr(error, "value")) from None


def _result(result: Any) -> Result:
    return payload_of(result.value) if isinstance(result, Ok) else failure_of(result.value)


def _outcomes(outcomes: Any) -> list[Outcome]:
    return [Outcome(outcome.index, _result(outcome.result)) for outcome in outcomes]


def _order(order: Order) -> Any:
    return _functions.Order.INPUT if order == "input" else _functions.Order.COMPLETION


def _close(resource: Any) -> None:
    resource.__exit__(None, None, None)


class _MapRun:
    def __init__(self, run: Any) -> None:
        self._run = run

    def push(self, inputs: Sequence[Payload]) -> int:
        return int(_of_host(lambda: self._run.push([payload_to(payload) for payload in inputs])))

    def finish(self) -> None:
        self._run.finish()

    def next(self, most: int) -> list[Outcome]:
        return _outcomes(self._run.next(most))

    def close(self) -> None:
        _close(self._run)


class _OutcomeReader:
    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def next(self, most: int) -> list[Outcome]:
        return _outcomes(_of_host(lambda: self._reader.next(most)))

    def close(self) -> None:
        _close(self._reader)


class _SpawnedMap:
    def __init__(self, run: Any) -> None:
        self._run = run

    def id(self) -> str:
        return str(self._run.id())

    def push(self, inputs: Sequence[Payload]) -> int:
        return int(_of_host(lambda: self._run.push([payload_to(payload) for payload in inputs])))

    def close(self) -> None:
        _of_host(self._run.close)

    def progress(self) -> Progress:
        return _progress(_of_host(self._run.progress))

    def outcome(self, index: int) -> Result | None:
        outcome = _of_host(lambda: self._run.outcome(index))
        return None if outcome is None else _result(outcome)

    def outcomes(self, order: Order, start: int) -> _OutcomeReader:
        return _OutcomeReader(_of_host(lambda: self._run.outcomes(_order(order), start)))

    def cancel(self) -> Progress:
        return _progress(_of_host(self._run.cancel))


def _progress(of: Any) -> Progress:
    return Progress(of.inputs, of.done, of.failed, of.cancelled, of.is_closed, of.is_ended)


def _kv_error(error: Any) -> KvError:
    name = type(error).__name__
    if name == "Error_NoSuchStore":
        return KvError("there is no such bucket")
    if name == "Error_AccessDenied":
        return KvError("this app may not use the bucket")
    return KvError(str(error.value))


def _of_kv(work: Callable[[], T]) -> T:
    try:
        return work()
    except Err as error:
        raise _kv_error(getattr(error, "value")) from None


class _Swap:
    def __init__(self, cas: Any) -> None:
        self._cas = cas

    def current(self) -> bytes | None:
        value: bytes | None = _of_kv(self._cas.current)
        return value

    def swap(self, value: bytes) -> _Swap | None:
        try:
            _atomics.swap(self._cas, value)
        except Err as error:
            reason: Any = getattr(error, "value")
            if type(reason).__name__ == "CasError_CasFailed":
                return _Swap(reason.value)
            raise _kv_error(reason.value) from None
        return None


class _Bucket:
    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        value: bytes | None = _of_kv(lambda: self._bucket.get(key))
        return value

    def set(self, key: str, value: bytes) -> None:
        _of_kv(lambda: self._bucket.set(key, value))

    def set_expiring(self, key: str, value: bytes, ttl_ms: int) -> None:
        _of_kv(lambda: _buckets.set_expiring(self._bucket, key, value, ttl_ms))

    def delete(self, key: str) -> None:
        _of_kv(lambda: self._bucket.delete(key))

    def exists(self, key: str) -> bool:
        return bool(_of_kv(lambda: self._bucket.exists(key)))

    def keys(self, prefix: str, cursor: str | None) -> tuple[list[str], str | None]:
        if prefix:
            page = _of_kv(lambda: _buckets.list_keys(self._bucket, prefix, cursor))
        else:
            page = _of_kv(lambda: self._bucket.list_keys(cursor))
        return page.keys, page.cursor

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        pairs = _of_kv(lambda: _batch.get_many(self._bucket, list(keys)))
        return [None if pair is None else pair[1] for pair in pairs]

    def set_many(self, values: Sequence[tuple[str, bytes]]) -> None:
        _of_kv(lambda: _batch.set_many(self._bucket, list(values)))

    def delete_many(self, keys: Sequence[str]) -> None:
        _of_kv(lambda: _batch.delete_many(self._bucket, list(keys)))

    def increment(self, key: str, delta: int) -> int:
        return int(_of_kv(lambda: _atomics.increment(self._bucket, key, delta)))

    def cas(self, key: str) -> _Swap:
        return _Swap(_of_kv(lambda: _atomics.Cas.new(self._bucket, key)))


_METHODS = {
    "GET": _http.Method_Get,
    "HEAD": _http.Method_Head,
    "POST": _http.Method_Post,
    "PUT": _http.Method_Put,
    "DELETE": _http.Method_Delete,
    "OPTIONS": _http.Method_Options,
    "PATCH": _http.Method_Patch,
}


class _Exchange:
    """One request under way. Resources are dropped in the order that `wasi:http` demands."""

    def __init__(self, timeout: float | None) -> None:
        self._ns = None if timeout is None else max(int(timeout * 1e9), 0)
        self._timer = None if self._ns is None else _clock.subscribe_duration(self._ns)

    def send(self, method: str, url: str, headers: list[tuple[str, bytes]], body: bytes) -> Answer:
        outgoing = self._outgoing(method, url, headers)
        sink = outgoing.body() if body else None
        options = _http.RequestOptions()
        if self._ns is not None:
            # The host may ignore some options; the timer holds in any case.
            for set_timeout in (
                options.set_connect_timeout,
                options.set_first_byte_timeout,
                options.set_between_bytes_timeout,
            ):
                try:
                    set_timeout(self._ns)
                except Err:
                    pass
        try:
            pending = _outgoing.handle(outgoing, options)
        except Err as error:
            raise _http_error(getattr(error, "value")) from None
        if sink is not None:
            self._write(sink, body)
        while (answer := pending.get()) is None:
            with pending.subscribe() as ready:
                self._wait(ready)
        if not isinstance(answer, Ok):
            raise HttpError("InternalError", "the response was taken before")
        if not isinstance(answer.value, Ok):
            raise _http_error(answer.value.value)
        _close(pending)
        return self._answer(answer.value.value)

    def _outgoing(self, method: str, url: str, headers: list[tuple[str, bytes]]) -> Any:
        fields = _http.Fields()
        for name, value in headers:
            try:
                fields.append(name, value)
            except Err as error:
                reason = type(getattr(error, "value")).__name__.removeprefix("HeaderError_")
                words = "the host sets it itself" if reason == "Forbidden" else "it is malformed"
                raise HttpError("HttpRequestHeaderSize", f"header `{name}`: {words}") from None
        outgoing = _http.OutgoingRequest(fields)
        target = Url(url)
        steps: list[tuple[Callable[[Any], None], Any, str]] = [
            (
                outgoing.set_method,
                _METHODS.get(method, lambda: _http.Method_Other(method))(),
                f"`{method}` is no method",
            ),
            (
                outgoing.set_scheme,
                _http.Scheme_Https() if target.scheme == "https" else _http.Scheme_Http(),
                "the host does not take its scheme",
            ),
            (outgoing.set_authority, target.authority, f"`{target.authority}` is no host"),
            (outgoing.set_path_with_query, target.path_with_query, "its path or query is not valid"),
        ]
        for step, value, words in steps:
            try:
                step(value)
            except Err:
                raise HttpError("HttpRequestUriInvalid", words) from None
        return outgoing

    def _write(self, sink: Any, body: bytes) -> None:
        stream = sink.write()
        rest = memoryview(body)
        try:
            with stream:
                while rest:
                    permitted = stream.check_write()
                    if permitted:
                        stream.write(bytes(rest[:permitted]))
                        rest = rest[permitted:]
                    else:
                        with stream.subscribe() as ready:
                            self._wait(ready)
        except Err as error:
            # The peer answered without reading all of it; the response explains why.
            if type(getattr(error, "value")).__name__ == "StreamError_Closed":
                return
            raise _stream_error(getattr(error, "value")) from None
        try:
            _http.OutgoingBody.finish(sink, None)
        except Err as error:
            raise _http_error(getattr(error, "value")) from None

    def _answer(self, response: Any) -> Answer:
        with response.headers() as fields:
            headers = fields.entries()
        body = response.consume()
        stream = body.stream()
        open_parts = [stream, body, response]

        def close() -> None:
            while open_parts:
                _close(open_parts.pop(0))

        def parts() -> Iterator[bytes]:
            while open_parts:
                try:
                    part = stream.read(_READ_BYTES)
                except Err as error:
                    reason: Any = getattr(error, "value")
                    if type(reason).__name__ == "StreamError_Closed":
                        break
                    raise _stream_error(reason) from None
                if part:
                    yield part
                else:
                    with stream.subscribe() as ready:
                        self._wait(ready)
            close()

        return Answer(response.status(), headers, parts(), close)

    def _wait(self, ready: Any) -> None:
        if self._timer is None:
            ready.block()
        elif _poll.poll([ready, self._timer]) == [1]:
            raise HttpError("HttpResponseTimeout", "no complete answer within the request's own timeout")


def _http_error(code: Any) -> HttpError:
    name = type(code).__name__.removeprefix("ErrorCode_")
    value = getattr(code, "value", None)
    if value is not None and not isinstance(value, (str, int)):
        # Of the records, the one field that is in words.
        value = getattr(value, "rcode", None) or getattr(value, "alert_message", None) or ""
    return HttpError(name, "" if value is None else str(value))


def _stream_error(error: Any) -> HttpError:
    if type(error).__name__ == "StreamError_Closed":
        return HttpError("ConnectionTerminated")
    code = _http.http_error_code(error.value)
    return HttpError("HttpProtocolError", error.value.to_debug_string()) if code is None else _http_error(code)


def _of_model(model: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except Err as error:
        reason: Any = getattr(error, "value")
        kind = type(reason).__name__.removeprefix("InferenceError_")
        raise ModelError(model, kind, str(getattr(reason, "value", ""))) from None


def _overflow(overflow: str) -> Any:
    return _inference.Overflow.TRUNCATE if overflow == "truncate" else _inference.Overflow.REJECT


class WasmHost:
    """The host's own imports."""

    def call(self, entry: Entry, payload: Payload) -> Payload:
        return payload_of(_of_host(lambda: _functions.call(entry.name, payload_to(payload))))

    def map(self, entry: Entry, order: Order) -> _MapRun:
        return _MapRun(_of_host(lambda: _functions.MapRun.start(entry.name, _order(order))))

    def spawn(self, entry: Entry, payload: Payload) -> str:
        return str(_of_host(lambda: _functions.spawn(entry.name, payload_to(payload))))

    def get(self, call_id: str, wait_ms: int) -> Result | None:
        ended = _of_host(lambda: _functions.get(call_id, wait_ms))
        return None if ended is None else _result(ended)

    def cancel(self, call_id: str) -> bool:
        return bool(_of_host(lambda: _functions.cancel(call_id)))

    def spawn_map(self, entry: Entry) -> _SpawnedMap:
        return _SpawnedMap(_of_host(lambda: _functions.SpawnedMap.start(entry.name)))

    def open_map(self, map_id: str) -> _SpawnedMap:
        return _SpawnedMap(_of_host(lambda: _functions.SpawnedMap.open(map_id)))

    def current(self) -> CallInfo:
        info = _context.current()
        return CallInfo(info.app, info.function, info.version, info.call_id, info.attempt)

    def remaining(self) -> float:
        return float(_context.remaining()) / 1e9

    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None:
        _context.log(_context.Level[level.upper()], message, fields)

    def sleep(self, seconds: float) -> None:
        with _clock.subscribe_duration(max(int(seconds * 1e9), 0)) as timer:
            timer.block()

    def config(self, key: str) -> str | None:
        try:
            value: str | None = _config.get(key)
        except Err as error:
            raise OSError(f"the host cannot read the configuration: {getattr(error, 'value').value}") from None
        return value

    def config_all(self) -> dict[str, str]:
        try:
            return dict(_config.get_all())
        except Err as error:
            raise OSError(f"the host cannot read the configuration: {getattr(error, 'value').value}") from None

    def secret(self, name: str) -> str | None:
        # The environment is that of the snapshot; the host's own is the call's.
        return dict(_environment.get_environment()).get(name)

    def bucket(self, name: str) -> _Bucket:
        return _Bucket(_of_kv(lambda: _store.open(name)))

    def http(
        self, method: str, url: str, headers: list[tuple[str, bytes]], body: bytes, timeout: float | None
    ) -> Answer:
        return _Exchange(timeout).send(method, url, headers, body)

    def embed(self, model: str, texts: list[str], overflow: str) -> tuple[int, list[float]]:
        out = _of_model(model, lambda: _inference.embed(model, texts, _overflow(overflow)))
        return out.dimension, out.values

    def rerank(self, model: str, query: str, documents: list[str], overflow: str) -> list[float]:
        return list(_of_model(model, lambda: _inference.rerank(model, query, documents, _overflow(overflow))))

    def classify(self, model: str, texts: list[str], overflow: str) -> tuple[list[str], list[float]]:
        out = _of_model(model, lambda: _inference.classify(model, texts, _overflow(overflow)))
        return out.labels, out.scores

    def infer(self, model: str, inputs: list[Tensor]) -> list[Tensor]:
        given = [_inference.Tensor(t.name, _inference.Datatype[t.datatype], t.shape, t.data) for t in inputs]
        outputs = _of_model(model, lambda: _inference.infer(model, given))
        return [Tensor(t.name, t.datatype.name, list(t.shape), t.data) for t in outputs]
