"""Codecs of records: dataclasses, `TypedDict`, `NamedTuple`. All are objects with named fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..words import meant, names
from .base import Codec, Definitions, Misfit, Schema, misfit
from .plain import plain


@dataclasses.dataclass
class Field:
    """One field of a record."""

    name: str
    codec: Codec
    is_required: bool
    #: The field's default where it is JSON; `dataclasses.MISSING` otherwise.
    default: Any
    doc: str


class RecordCodec(Codec):
    """An object with these fields and no others, since a misspelt optional field would be lost without a word."""

    kinds = frozenset({"object"})

    def __init__(self, name: str, doc: str, make: Callable[..., Any], read: Callable[[Any, str], Any]) -> None:
        self.name = name
        self._doc = doc
        self._make = make
        self._read = read
        self._is_dict = make is dict
        self.fields: dict[str, Field] = {}
        self.required: frozenset[str] = frozenset()
        self.expected = f"an object (`{name}`)"

    def fill(self, fields: Sequence[Field]) -> None:
        """Sets the fields; later than the rest, since a field's type may be the record itself."""
        self.fields = {field.name: field for field in fields}
        self.required = frozenset(field.name for field in fields if field.is_required)

    def schema(self, definitions: Definitions) -> Schema:
        name, is_known = definitions.name_of(self, self.name)
        if not is_known:
            definitions.schemas[name] = self._body(definitions)
        return {"$ref": f"#/$defs/{name}"}

    def _body(self, definitions: Definitions) -> Schema:
        properties: dict[str, Any] = {}
        for field in self.fields.values():
            properties[field.name] = described(field.codec.schema(definitions), field.doc, field.default)
        body: Schema = {"type": "object"}
        if self._doc:
            body["description"] = self._doc
        required = [field.name for field in self.fields.values() if field.is_required]
        return {**body, "properties": properties, "required": required, "additionalProperties": False}

    def decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise misfit(self.expected, value)
        given = cast("dict[str, Any]", value)
        out: dict[str, Any] = {}
        for key, item in given.items():
            field = self.fields.get(key)
            if field is None:
                near = meant(key, self.fields)
                there = f"; there are {names(self.fields)}" if self.fields else "; there are no fields"
                raise Misfit(f"unknown field `{key}` of `{self.name}`{near}{there}")
            try:
                out[key] = field.codec.decode(item)
            except Misfit as error:
                raise error.at(key) from None
        if not self.required <= out.keys():
            missing = [name for name in self.fields if name in self.required and name not in out]
            raise Misfit(f"missing field {names(missing)} of `{self.name}`")
        return self.make(out)

    def holds(self, value: Any) -> bool:
        if self._is_dict:
            return isinstance(value, dict) and self.required <= value.keys() <= self.fields.keys()
        return isinstance(self._make, type) and isinstance(value, self._make)

    def make(self, fields: dict[str, Any]) -> Any:
        """Returns decoded fields as the type itself."""
        if self._is_dict:
            return fields
        try:
            return self._make(**fields)
        except Misfit:
            raise
        except ValueError as error:
            # A check of the author's own, as in `__post_init__`.
            raise Misfit(str(error) or f"expected {self.expected}") from error

    def encode(self, value: Any) -> Any:
        read = self._read
        out: dict[str, Any] = {}
        for field in self.fields.values():
            try:
                item = read(value, field.name)
            except (KeyError, AttributeError):
                if field.is_required:
                    raise TypeError(f"`{field.name}` of `{self.name}` is missing") from None
                continue
            out[field.name] = item if field.codec.is_plain else field.codec.encode(item)
        return out


def described(schema: Schema | bool, doc: str, default: Any) -> Schema | bool:
    """Adds a description and a default to the schema of a field or parameter."""
    extra: Schema = {}
    if doc:
        extra["description"] = doc
    if default is not dataclasses.MISSING:
        extra["default"] = default
    if not extra or schema is False:
        return schema
    return {**schema, **extra} if isinstance(schema, dict) else extra


def json_default(codec: Codec, value: Any) -> Any:
    """Returns a default as JSON, or `MISSING` where it has no form in it."""
    try:
        encoded = codec.encode(value)
        return _as_json(encoded)
    except (TypeError, ValueError, AttributeError):
        return dataclasses.MISSING


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("no number of JSON")
        return value
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return _as_json(plain(value))
