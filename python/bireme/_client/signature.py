"""A looked-up function's parameters and result: arguments to inputs, outputs to values, `help` and editors."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from .._shapes import array_of, is_array, is_object, object_of
from ..errors import BadAnswer
from .decode import decoder_of, is_bytes, is_name, typed_decoder
from .jsontext import JSON, dumps, loads

#: Arguments of one call: by position, or by name.
Arguments = Union[tuple[Any, ...], Mapping[str, Any]]

OCTETS = "application/octet-stream"


class Signature:
    """Parameters and result of one function, by the metadata of its app."""

    def __init__(self, name: str, function: Mapping[str, Any], output: Any = None) -> None:
        self.name = name
        self.input: Any = function.get("input")
        self.output: Any = function.get("output")
        schema = object_of(self.input)
        self.properties = object_of(schema.get("properties"))
        self.required = array_of(schema.get("required"))
        self.names = tuple(name for name in array_of(function.get("parameters")) if isinstance(name, str))
        #: The input is raw bytes.
        self.takes_bytes = is_bytes(self.input)
        #: The output is raw bytes.
        self.returns_bytes = is_bytes(self.output)
        # Functions of other toolchains may tell no parameters; they take one value, or members by name.
        self._is_bare = not self.names and self.properties == {} and schema.get("type") != "object"
        self._decode = None
        if output is not None:
            self._decode = typed_decoder(output)
        elif not self.returns_bytes:
            self._decode = decoder_of(self.output)
        self._accepted = frozenset(self.names)
        self._needed = tuple(name for name in self.names if name in self.required)

    def value_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the input of a call: an object by parameter, or bytes."""
        if self.takes_bytes or self._is_bare:
            if len(args) + len(kwargs) > 1 or (kwargs and self.takes_bytes and not self._accepted.issuperset(kwargs)):
                raise TypeError(f"{self.name}() takes one argument")
            if self.takes_bytes:
                return next(iter(args), None) if args else next(iter(kwargs.values()), b"")
            return args[0] if args else kwargs
        names = self.names
        if len(args) > len(names):
            raise TypeError(
                f"{self.name}() takes {_count(len(names), 'argument')} ({', '.join(names)}), and {len(args)} were given"
            )
        value = dict(zip(names, args))
        for key, argument in kwargs.items():
            if key in value:
                raise TypeError(f"{self.name}() got two values for `{key}`")
            if key not in self._accepted:
                raise TypeError(f"{self.name}() has no parameter `{key}`; it has {', '.join(names) or 'none'}")
            value[key] = argument
        for name in self._needed:
            if name not in value:
                raise TypeError(f"{self.name}() needs `{name}`")
        return value

    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, str]:
        """Returns the input as a body with its media type."""
        value = self.value_of(args, kwargs)
        return self.raw(value) if self.takes_bytes else (dumps(value), JSON)

    def line(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Returns the input as a line of a map."""
        value = self.value_of(args, kwargs)
        if not self.takes_bytes:
            return dumps(value)
        data, content_type = self.raw(value)
        return dumps({"content_type": content_type, "base64": base64.b64encode(data).decode()})

    def lines(self, inputs: tuple[Iterable[Any], ...]) -> Iterator[bytes]:
        """Returns the lines of a map over iterables, one for each argument."""
        if not inputs:
            raise TypeError("a map needs its inputs: one iterable for each argument")
        if len(inputs) == 1:
            return (self.line((one,), {}) for one in inputs[0])
        return self.star_lines(zip(*inputs))

    def star_lines(self, inputs: Iterable[Arguments]) -> Iterator[bytes]:
        """Returns the lines of a map over tuples or mappings of arguments."""
        for one in inputs:
            yield self.line((), dict(one)) if isinstance(one, Mapping) else self.line(tuple(one), {})

    def raw(self, value: Any) -> tuple[bytes, str]:
        """Returns the bytes of an input that is raw."""
        if isinstance(value, str):
            return value.encode(), "text/plain; charset=utf-8"
        content_type = str(getattr(value, "content_type", OCTETS))
        if isinstance(value, bytes):
            return value, content_type
        try:
            return bytes(memoryview(value)), content_type
        except TypeError:
            raise TypeError(f"{self.name}() takes bytes, not `{type(value).__name__}`") from None

    def output_of(self, data: bytes, content_type: str) -> Any:
        """Returns the value of an answer."""
        if content_type != JSON and content_type.partition(";")[0].strip().lower() != JSON:
            return _bytes(data, content_type)
        value = loads(data)
        return value if self._decode is None else self._decode(value)

    def output_in_line(self, value: Any) -> Any:
        """Returns the value of an output within a document, where bytes are an object with their Base64."""
        if self.returns_bytes:
            if is_object(value):
                text, kind = value.get("base64"), value.get("content_type")
                if isinstance(text, str):
                    try:
                        return _bytes(base64.b64decode(text, validate=True), str(kind or ""))
                    except ValueError:
                        raise BadAnswer("an output is no Base64") from None
            return value
        return value if self._decode is None else self._decode(value)

    def inspected(self) -> inspect.Signature:
        """Returns it for `inspect.signature`, editors and notebooks."""
        if self.takes_bytes:
            first = self.names[0] if self.names and is_name(self.names[0]) else "data"
            parameters = [inspect.Parameter(first, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=bytes)]
        elif self._is_bare:
            parameters = [inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY, annotation=Any)]
        else:
            parameters = [self._parameter(name) for name in self.names if is_name(name)]
            # One with a default may stand before one without, which Python does not have: from there on, by name.
            parameters = _ordered(parameters)
        returned: Any = bytes if self.returns_bytes else type_text(self.output)
        return inspect.Signature(parameters, return_annotation=returned)

    def _parameter(self, name: str) -> inspect.Parameter:
        schema: Any = self.properties.get(name)
        default: Any = inspect.Parameter.empty
        if name not in self.required:
            default = object_of(schema).get("default")
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(name, kind, default=default, annotation=type_text(schema))


def _bytes(data: bytes, content_type: str) -> bytes:
    # The type of the SDK, which few programs need: its import takes longer than that of the client.
    from .._sdk.payload import Bytes

    return Bytes(data, content_type or OCTETS)


def _ordered(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    has_default, ordered = False, list[inspect.Parameter]()
    for parameter in parameters:
        if has_default and parameter.default is inspect.Parameter.empty:
            parameter = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        if ordered and ordered[-1].kind is inspect.Parameter.KEYWORD_ONLY:
            parameter = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        has_default = has_default or parameter.default is not inspect.Parameter.empty
        ordered.append(parameter)
    return ordered


class _TypeText(str):
    """Text of a type, which `repr` shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def type_text(schema: Any, depth: int = 0) -> str:
    """Returns a schema as the Python type that it is nearest to."""
    return _TypeText(_type_text(schema, depth))


def _type_text(schema: Any, depth: int) -> str:
    if not is_object(schema) or depth > 4:
        return "Any"
    reference: Any = schema.get("$ref")
    if isinstance(reference, str):
        return reference.rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        parts: Any = schema.get(key)
        if is_array(parts):
            return " | ".join(dict.fromkeys(_type_text(part, depth + 1) for part in parts))
    kind: Any = schema.get("type")
    if is_array(kind):
        return " | ".join(_type_text({**schema, "type": one}, depth + 1) for one in kind)
    if kind == "array":
        return f"list[{_type_text(schema.get('items'), depth + 1)}]"
    if kind == "object":
        title: Any = schema.get("title")
        if isinstance(title, str):
            return title
        return f"dict[str, {_type_text(schema.get('additionalProperties'), depth + 1)}]"
    if kind == "string" and schema.get("contentEncoding") == "base64":
        return "bytes"
    return _SCALARS.get(kind, "Any") if isinstance(kind, str) else "Any"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
