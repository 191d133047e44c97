"""A function's parameters and result: their codecs, and the way from an input to arguments.

The input is one JSON object keyed by parameter. A function of one parameter also takes the bare value; an object whose
only key is the parameter's name is always the named form. `docs/metadata.md` is the contract.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from . import jsontext
from .codec import Codec, Definitions, Misfit, codec_of
from .codec.build import LISTS, doc_of
from .codec.records import described, json_default
from .failure import Failure
from .payload import OCTETS, Bytes, Payload
from .words import hint_name, meant, names

_EMPTY = inspect.Parameter.empty
_BYTES_SCHEMA: dict[str, Any] = {"type": "string", "format": "binary", "contentMediaType": OCTETS}


@dataclasses.dataclass
class Parameter:
    """One parameter of a function."""

    name: str
    hint: Any
    codec: Codec
    default: Any
    is_positional: bool

    @property
    def is_required(self) -> bool:
        """Whether a call must give it."""
        return self.default is _EMPTY

    def schema(self, definitions: Definitions) -> Any:
        """Returns its schema, with its default and the text of its annotation."""
        default = dataclasses.MISSING if self.is_required else json_default(self.codec, self.default)
        return described(self.codec.schema(definitions), doc_of(self.hint), default)


class Signature:
    """Parameters and result of one function. Made after the module has run, when all of its types are there."""

    def __init__(self, function: Callable[..., Any], namespace: Mapping[str, Any], is_batched: bool) -> None:
        self.name = function.__name__
        hints = type_hints(function, namespace)
        result = hints.pop("return", Any)
        signature = inspect.signature(function)
        self.native = signature
        if is_batched:
            hints, result = _group_hints(self.name, signature, hints, result)
        self.parameters = [_parameter(self.name, p, hints.get(name, Any)) for name, p in signature.parameters.items()]
        self.names = [parameter.name for parameter in self.parameters]
        self.takes_bytes = len(self.parameters) == 1 and is_bytes(self.parameters[0].hint)
        self.gives_bytes = is_bytes(result)
        if is_batched and (self.takes_bytes or self.gives_bytes):
            raise TypeError(f"`{self.name}`: a group travels as one JSON array, so bytes cannot be batched")
        try:
            self.result = codec_of(_result_hint(result))
        except TypeError as error:
            raise TypeError(f"result of `{self.name}`: {error}") from None

    def input_schema(self) -> Any:
        """Returns the schema of the input."""
        if self.takes_bytes:
            return dict(_BYTES_SCHEMA)
        definitions = Definitions()
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {p.name: p.schema(definitions) for p in self.parameters},
            "required": [p.name for p in self.parameters if p.is_required],
            "additionalProperties": False,
        }
        return {**schema, "$defs": definitions.schemas} if definitions.schemas else schema

    def output_schema(self) -> Any:
        """Returns the schema of the result."""
        return dict(_BYTES_SCHEMA) if self.gives_bytes else self.result.root_schema()

    # The callee's side.

    def arguments(self, payload: Payload) -> tuple[list[Any], dict[str, Any]]:
        """Decodes the input of a call."""
        if self.takes_bytes:
            if jsontext.essence(payload.content_type) == jsontext.JSON:
                raise invalid(
                    "the input is `application/json`, and this function takes raw bytes; send a file with its own "
                    "content type, or as `application/octet-stream`"
                )
            return [Bytes(payload.data, payload.content_type or OCTETS)], {}
        kind = jsontext.essence(payload.content_type)
        if kind and kind != jsontext.JSON:
            raise invalid(f"the input is `{kind}`, and this function takes `application/json`")
        if not payload.data.strip():
            return self._bind({}, None)
        try:
            value = jsontext.loads(payload.data)
        except jsontext.NotJson as error:
            raise invalid(f"the input is not JSON: {error}") from None
        return self.arguments_of(value)

    def arguments_of(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        """Decodes an input that is a value of JSON."""
        if not isinstance(value, dict):
            if len(self.parameters) == 1:
                return self._bind({self.names[0]: value}, value)
            if value is None and not any(p.is_required for p in self.parameters):
                return self._bind({}, None)
            if not self.parameters:
                raise invalid(f"the function takes no input, but found {_kind(value)}")
            raise invalid(f"expected an object with the keys {names(self.names)}, found {_kind(value)}")
        given = cast("dict[str, Any]", value)
        if len(self.parameters) != 1 or list(given) == self.names:
            return self._bind(given, None)
        if not given and not self.parameters[0].is_required:
            return self._bind({}, None)
        try:
            return self._bind({self.names[0]: given}, given)
        except Failure as failure:
            # An object that does not fit as the bare value was probably meant as the named form.
            raise self._hint(given, failure) from None

    def _bind(self, given: dict[str, Any], bare: Any) -> tuple[list[Any], dict[str, Any]]:
        """Decodes each argument. `bare` is the whole input, where that is the value of the only parameter."""
        if len(given) > len(self.names) or not given.keys() <= set(self.names):
            raise invalid(self._unknown([name for name in given if name not in self.names]))
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in given:
                try:
                    value = parameter.codec.decode(given[parameter.name])
                except Misfit as error:
                    raise invalid(error.text("$" if bare is not None else f"$.{parameter.name}")) from None
            elif parameter.is_required:
                raise self._missing(parameter.name)
            else:
                value = parameter.default
            if parameter.is_positional:
                args.append(value)
            else:
                kwargs[parameter.name] = value
        return args, kwargs

    def _hint(self, given: dict[str, Any], failure: Failure) -> Failure:
        parameter = self.names[0]
        if failure.message.startswith("$: ") and failure.message.endswith(", found an object"):
            others = [name for name in given if name != parameter]
            if not others:
                return self._missing(parameter)
            return Failure(self._unknown(others), code="invalid-input", causes=[failure.message])
        failure.causes.append(f'the input was read as the value itself; by name it is {{"{parameter}": …}}')
        return failure

    def _missing(self, name: str) -> Failure:
        return invalid(f"missing parameter `{name}`; the function takes {names(self.names)}")

    def _unknown(self, unknown: list[str]) -> str:
        near = meant(unknown[0], self.names) if len(unknown) == 1 else ""
        takes = names(self.names) or "no parameters"
        return f"unknown parameter {names(unknown)}{near}; the function takes {takes}"

    def output(self, value: Any) -> Payload:
        """Encodes the result of a call."""
        if isinstance(value, (bytes, bytearray)):
            return Payload(getattr(value, "content_type", OCTETS), bytes(value))
        return Payload(jsontext.JSON, self.output_json(value))

    def output_json(self, value: Any) -> bytes:
        """Encodes the result of a call that is JSON."""
        try:
            return jsontext.dumps(value if self.result.is_plain else self.result.encode(value))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise Failure(f"the result of `{self.name}` cannot be written as JSON: {error}", terminal=True) from error

    # The caller's side.

    def input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Encodes the arguments of a call, or raises `TypeError` as a plain call does."""
        bound = self.native.bind(*args, **kwargs).arguments
        if self.takes_bytes:
            data = bound[self.names[0]]
            return Payload(getattr(data, "content_type", OCTETS), bytes(data))
        out: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in bound:
                value = bound[parameter.name]
                try:
                    out[parameter.name] = value if parameter.codec.is_plain else parameter.codec.encode(value)
                except (TypeError, ValueError, AttributeError, KeyError) as error:
                    raise TypeError(f"`{parameter.name}` of `{self.name}`: {error}") from None
        return Payload(jsontext.JSON, jsontext.dumps(out))

    def value(self, payload: Payload) -> Any:
        """Decodes the result of a call."""
        if self.gives_bytes or jsontext.essence(payload.content_type) != jsontext.JSON:
            return Bytes(payload.data, payload.content_type)
        try:
            return self.result.decode(jsontext.loads(payload.data))
        except Misfit as error:
            raise Failure(f"the result of `{self.name}` does not fit its own type: {error.text()}") from None


def invalid(message: str) -> Failure:
    """Returns the failure of an input that does not fit."""
    return Failure(message, code="invalid-input")


def is_bytes(hint: Any) -> bool:
    """Whether a parameter or result of this type travels as raw bytes."""
    hint = strip_annotated(hint)
    return isinstance(hint, type) and issubclass(hint, (bytes, bytearray))


def strip_annotated(hint: Any) -> Any:
    """Returns the type within `Annotated`."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def type_hints(function: Callable[..., Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the type hints, with names looked up in the module and where the function was defined."""
    try:
        return typing.get_type_hints(function, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise TypeError(f"`{function.__name__}`: {error}, in its type hints") from None


def _parameter(function: str, parameter: inspect.Parameter, hint: Any) -> Parameter:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise TypeError(f"`{stars}{parameter.name}` of `{function}`: an input has named values; name each parameter")
    try:
        codec = codec_of(hint)
    except TypeError as error:
        raise TypeError(f"parameter `{parameter.name}` of `{function}`: {error}") from None
    is_positional = parameter.kind is parameter.POSITIONAL_ONLY
    return Parameter(parameter.name, hint, codec, parameter.default, is_positional)


def _group_hints(
    name: str, signature: inspect.Signature, hints: dict[str, Any], result: Any
) -> tuple[dict[str, Any], Any]:
    """Returns the types of one input and one output of a batched function."""
    parameters = list(signature.parameters)
    if len(parameters) != 1:
        raise TypeError(
            f"`{name}`: a batched function takes one parameter, the list of inputs; it has {len(parameters)}"
        )
    item, output = _item(hints.get(parameters[0], list)), _item(result)
    if item is None or output is None:
        found = hint_name(result if item is not None else hints[parameters[0]])
        raise TypeError(
            f"`{name}`: a batched function takes a list of inputs and returns a list of outputs, not `{found}`"
        )
    return {parameters[0]: item}, output


def _item(hint: Any) -> Any:
    if hint is Any:
        return Any
    hint = strip_annotated(hint)
    arguments = typing.get_args(hint)
    if (typing.get_origin(hint) or hint) not in LISTS:
        return None
    if not arguments:
        return Any
    # An exception in place of an output fails its input alone.
    return _without_exceptions(arguments[0])


def _without_exceptions(hint: Any) -> Any:
    members = typing.get_args(hint)
    if any(isinstance(m, type) and issubclass(m, BaseException) for m in members):
        rest: list[Any] = [m for m in members if not (isinstance(m, type) and issubclass(m, BaseException))]
        return typing.Union[tuple(rest)] if rest else None
    return hint


def _result_hint(hint: Any) -> Any:
    """A coroutine's own type is that of its result; a function that never returns has none."""
    return None if hint in (typing.NoReturn, getattr(typing, "Never", typing.NoReturn)) else hint


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bool):
        return "a boolean"
    if value is None:
        return "null"
    return "an array" if isinstance(value, list) else "a number"
