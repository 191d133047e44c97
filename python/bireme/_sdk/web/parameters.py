"""Parameters of web functions, by their source in the request."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from .. import jsontext
from ..codec import Codec, Misfit, codec_of
from ..codec.records import RecordCodec
from ..payload import OCTETS, Bytes
from ..signature import Parameter, is_bytes, strip_annotated, type_hints
from ..words import hint_name
from . import texts
from .body import Body
from .problem import Problem
from .request import Request
from .route import Route

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Source:
    """Part of a request, as an annotation names it."""

    name: str


JSON_BODY, FORM_BODY = Source("json"), Source("form")

#: The body as JSON, of any type: ``numbers: Json[list[float]]``.
Json = Annotated[T, JSON_BODY]

#: Fields of a posted form, as browsers encode them: ``entry: Form[Entry]`` with a dataclass.
Form = Annotated[T, FORM_BODY]


@dataclasses.dataclass
class WebParameter:
    """One parameter: where it is, and how it is read."""

    parameter: Parameter
    #: ``path``, ``query``, ``json``, ``form``, ``bytes``, ``body`` or ``request``.
    source: str
    #: The default is that of its type: `None`, or an empty list.
    has_implied_default: bool = False

    def take(self, request: Request) -> Any:
        """Decodes it, or raises `Problem`."""
        name, codec = self.parameter.name, self.parameter.codec
        if self.source in ("path", "query"):
            values = [request.path_values[name]] if self.source == "path" else request.query_values(name)
            if not values and not self.parameter.is_required:
                return self.parameter.default
            try:
                return texts.decode(codec, values)
            except Misfit as error:
                raise _invalid(f"parameter `{name}` of the {self.source}: {error.reason}") from None
        if self.source == "request":
            return request
        if self.source == "body":
            return request.body
        if self.source == "bytes":
            return Bytes(request.body.whole(), request.headers.get("content-type", OCTETS))
        return _form(codec, request) if self.source == "form" else self._json(request)

    def _json(self, request: Request) -> Any:
        body = _whole(request, "application/json")
        if not body.strip() and not self.parameter.is_required:
            return self.parameter.default
        name = self.parameter.name
        try:
            return self.parameter.codec.decode(jsontext.loads(body))
        except jsontext.NotJson as error:
            raise _invalid(f"the body, `{name}`, is no JSON: {error}") from None
        except Misfit as error:
            raise _invalid(f"the body, `{name}`: {error.text()}") from None


def _invalid(detail: str) -> Problem:
    return Problem.of_request(400, "invalid-input", detail)


def _whole(request: Request, media_type: str) -> bytes:
    """Reads the body, if it is of this media type. A body without a type is accepted as any."""
    kind = jsontext.essence(request.headers.get("content-type", ""))
    if kind not in ("", media_type) and not (media_type == jsontext.JSON and kind.endswith("+json")):
        raise Problem.of_request(415, "unsupported-media-type", f"the body is `{kind}`, and `{media_type}` is expected")
    return request.body.whole()


def _form(codec: Codec, request: Request) -> Any:
    text = _whole(request, "application/x-www-form-urlencoded").decode("utf-8", "replace")
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        given.setdefault(name, []).append(value)
    assert isinstance(codec, RecordCodec)
    fields: dict[str, Any] = {}
    for field in codec.fields.values():
        values = given.get(field.name, [])
        if not values and not field.is_required:
            continue
        try:
            fields[field.name] = texts.decode(field.codec, values)
        except texts.Missing:
            raise _invalid(f"expected a field `{field.name}`") from None
        except Misfit as error:
            raise _invalid(f"field `{field.name}`: {error.reason}") from None
    try:
        return codec.make(fields)
    except Misfit as error:
        raise _invalid(error.reason) from None


def parameters_of(
    function: Callable[..., Any], namespace: Mapping[str, Any], route: Route
) -> tuple[list[WebParameter], Any]:
    """Returns a web function's parameters and the type of its result; `TypeError` where one has no source."""
    hints = type_hints(function, namespace)
    result = hints.pop("return", Any)
    found = [
        _parameter(function.__name__, p, hints.get(p.name, str), route)
        for p in inspect.signature(function).parameters.values()
    ]
    known = {one.parameter.name for one in found}
    for name in route.parameters:
        # A `Request` has them all.
        if name not in known and not any(one.source == "request" for one in found):
            raise TypeError(
                f"`{function.__name__}`: the route `{route.text}` has `{{{name}}}`, and the function no such parameter"
            )
    readers = [one.parameter.name for one in found if one.source not in ("path", "query")]
    if len(readers) > 1:
        both = " and ".join(f"`{name}`" for name in readers)
        raise TypeError(f"`{function.__name__}`: only one parameter can take the body, not {both}")
    return found, result


def _parameter(function: str, parameter: inspect.Parameter, hint: Any, route: Route) -> WebParameter:
    name = parameter.name
    where = f"parameter `{name}` of `{function}`"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"{where}: a request has named values; name each parameter")
    source, codec = _source(where, hint)
    if name in route.parameters:
        if source != "query":
            raise TypeError(f"{where}: the route gives this name a part of the path, which is no body")
        source = "path"
    if route.method in ("GET", "HEAD") and source in ("json", "form", "bytes", "body"):
        raise TypeError(f"{where}: a `{route.method}` has no body; use another method, or take `Request`")
    default = parameter.default
    is_implied = default is inspect.Parameter.empty and source == "query" and texts.is_optional(codec)
    if is_implied:
        default = texts.decode(codec, [])
    is_positional = parameter.kind is parameter.POSITIONAL_ONLY
    return WebParameter(Parameter(name, hint, codec, default, is_positional), source, is_implied)


def _source(where: str, hint: Any) -> tuple[str, Codec]:
    plain = strip_annotated(hint)
    any_codec = codec_of(Any)
    if plain is Request:
        return "request", any_codec
    if plain is Body:
        return "body", any_codec
    if is_bytes(hint):
        return "bytes", any_codec
    try:
        codec = codec_of(hint)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    for marker in getattr(hint, "__metadata__", ()) if typing.get_origin(hint) is Annotated else ():
        if marker is FORM_BODY:
            if not isinstance(codec, RecordCodec):
                raise TypeError(f"{where}: a form is a dataclass or a `TypedDict`, not `{hint_name(plain)}`")
            return "form", codec
        if marker is JSON_BODY:
            return "json", codec
    return ("query" if texts.is_text(codec) else "json"), codec
