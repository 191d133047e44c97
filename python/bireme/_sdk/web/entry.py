"""A web function: its route, its parameters, its result as a response."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any

from .. import jsontext
from ..codec import Codec, Definitions, codec_of
from ..codec.build import doc_of
from ..codec.records import described
from ..dispatch import run
from ..failure import Failure
from ..function import Entry
from ..signature import is_bytes, strip_annotated
from . import route
from .parameters import WebParameter, parameters_of
from .request import Request
from .responses import Html, Response, Stream

_STREAMS: tuple[Any, ...] = (
    typing.get_origin(typing.Iterator[int]),
    typing.get_origin(typing.Iterable[int]),
    typing.get_origin(typing.Generator[int, None, None]),
)


class WebEntry(Entry):
    """What the host and the document know of a web function."""

    @functools.cached_property
    def web(self) -> WebSignature:
        """Parameters and result; `TypeError` where one has no source in a request."""
        try:
            found, result = parameters_of(self.function, self.namespace, route.read(self.attributes["route"]))
        except TypeError as error:
            raise TypeError(f"{self.place}: {error}" if self.place else str(error)) from None
        return WebSignature(self.name, found, result)

    def describe(self) -> dict[str, Any]:
        """Returns the function's part of the metadata document."""
        return {
            "name": self.name,
            "doc": self.doc,
            "parameters": [one.parameter.name for one in self.web.parameters],
            "input": self.web.input_schema(),
            "output": self.web.output_schema(),
            "attributes": self.attributes,
        }

    def respond(self, request: Request, report: Callable[[str], None]) -> Response:
        """Answers a request; raises `Problem` or `Failure`."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for one in self.web.parameters:
            value = one.take(request)
            if one.parameter.is_positional:
                args.append(value)
            else:
                kwargs[one.parameter.name] = value
        return self.web.response(run(self.function, args, kwargs, report, is_web=True))


class WebSignature:
    """Parameters and result of one web function."""

    def __init__(self, name: str, parameters: list[WebParameter], result: Any) -> None:
        self.name = name
        self.parameters = parameters
        self._result = strip_annotated(result)
        self._codec: Codec | None
        try:
            self._codec = codec_of(result)
        except TypeError:
            # A `Response`, or a union with one: the response tells its own type.
            self._codec = None

    def input_schema(self) -> Any:
        """Returns the schema of the parameters of path, query and body."""
        definitions = Definitions()
        properties: dict[str, Any] = {}
        required: list[str] = []
        for one in self.parameters:
            if one.source in ("request", "body", "bytes"):
                continue
            parameter = one.parameter
            if one.has_implied_default:
                schema_of = parameter.codec.schema(definitions)
                properties[parameter.name] = described(schema_of, doc_of(parameter.hint), dataclasses.MISSING)
            else:
                properties[parameter.name] = parameter.schema(definitions)
            if parameter.is_required:
                required.append(parameter.name)
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        return {**schema, "$defs": definitions.schemas} if definitions.schemas else schema

    def output_schema(self) -> Any:
        """Returns the schema of the body; one of another type than JSON by its media type."""
        result = self._result
        if result in (None, type(None)):
            return False
        media_type = _media_type(result)
        if media_type is not None:
            return {"type": "string", "contentMediaType": media_type}
        return True if self._codec is None else self._codec.root_schema()

    def response(self, value: Any) -> Response:
        """Returns a result as a response."""
        if isinstance(value, Response):
            return value
        if value is None and self._result in (None, type(None), Any):
            return Response(status=204)
        if isinstance(value, Html):
            return Response(value, content_type="text/html; charset=utf-8")
        if isinstance(value, str) and self._result in (str, Any, Html):
            kind = "html" if self._result is Html else "plain"
            return Response(value, content_type=f"text/{kind}; charset=utf-8")
        if isinstance(value, (bytes, bytearray)):
            return Response(bytes(value), content_type=getattr(value, "content_type", "application/octet-stream"))
        if isinstance(value, Iterator):
            return self._stream(value)  # pyright: ignore[reportUnknownArgumentType]
        codec = self._codec
        try:
            body = jsontext.dumps(value if codec is None or codec.is_plain else codec.encode(value))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise Failure(f"the result of `{self.name}` cannot be written as JSON: {error}", terminal=True) from error
        return Response(body, content_type="application/json")

    def _stream(self, parts: Iterator[Any]) -> Response:
        item = (typing.get_args(self._result) or (str,))[0]
        if is_bytes(item):
            return Stream(parts, "application/octet-stream")
        if isinstance(item, type) and issubclass(item, str):
            return Stream(parts, f"text/{'html' if issubclass(item, Html) else 'plain'}; charset=utf-8")
        codec = codec_of(item)
        return Stream.json_lines(parts if codec.is_plain else (codec.encode(part) for part in parts))


def _media_type(result: Any) -> str | None:
    if isinstance(result, type):
        if issubclass(result, Html):
            return "text/html"
        if issubclass(result, str):
            return "text/plain"
    if is_bytes(result):
        return "application/octet-stream"
    if typing.get_origin(result) in _STREAMS:
        item = typing.get_args(result)[0]
        return _media_type(item) or "application/x-ndjson"
    return None
