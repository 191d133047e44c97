"""Codecs of single values: numbers, texts, times, choices."""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ..words import found, meant
from .base import Codec, Definitions, Misfit, Schema, misfit

_STRING = frozenset({"string"})


class AnyCodec(Codec):
    """Whatever is JSON."""

    kinds = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
    is_plain = True
    expected = "a value"

    def schema(self, definitions: Definitions) -> Schema | bool:
        return True

    def decode(self, value: Any) -> Any:
        return value

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return True


class NoneCodec(Codec):
    kinds = frozenset({"null"})
    is_plain = True
    expected = "null"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "null"}

    def decode(self, value: Any) -> None:
        if value is not None:
            raise misfit("null", value)

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return value is None


class BoolCodec(Codec):
    kinds = frozenset({"boolean"})
    is_plain = True
    expected = "a boolean"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "boolean"}

    def decode(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise misfit("a boolean", value)

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return isinstance(value, bool)


class IntCodec(Codec):
    kinds = frozenset({"integer"})
    is_plain = True
    expected = "an integer"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "integer"}

    def decode(self, value: Any) -> int:
        if type(value) is int:
            return value
        # 3.0 is an integer of JSON Schema.
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise misfit("an integer", value)

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, (bool, enum.Enum))


class FloatCodec(Codec):
    kinds = frozenset({"integer", "number"})
    is_plain = True
    expected = "a number"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "number"}

    def decode(self, value: Any) -> float:
        if isinstance(value, float):
            return value
        if type(value) is int:
            try:
                return float(value)
            except OverflowError:
                pass
        raise misfit("a number", value)

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)


class StrCodec(Codec):
    kinds = _STRING
    is_plain = True
    expected = "a string"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "string"}

    def decode(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        raise misfit("a string", value)

    def encode(self, value: Any) -> Any:
        return value

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and not isinstance(value, enum.Enum)


class TextCodec(Codec):
    """A type that travels as a text of one form."""

    kinds = _STRING

    def __init__(
        self, of: type, expected: str, schema: Schema, read: Callable[[str], Any], write: Callable[[Any], str]
    ) -> None:
        self._type = of
        self.expected = expected
        self._schema = schema
        self._read = read
        self._write = write

    def schema(self, definitions: Definitions) -> Schema:
        return dict(self._schema)

    def decode(self, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return self._read(value)
            except (ValueError, ArithmeticError):
                pass
        raise misfit(self.expected, value)

    def encode(self, value: Any) -> Any:
        return self._write(value)

    def holds(self, value: Any) -> bool:
        return type(value) is self._type


def _read_datetime(text: str) -> datetime.datetime:
    # Before Python 3.11 `fromisoformat` does not know `Z`.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "zZ" else text)


def _read_time(text: str) -> datetime.time:
    return datetime.time.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "zZ" else text)


def _read_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _read_decimal(text: str) -> decimal.Decimal:
    value = decimal.Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def _write_bytes(value: Any) -> str:
    return base64.b64encode(value).decode()


def _iso(value: Any) -> str:
    return str(value.isoformat())


class DecimalCodec(TextCodec):
    """A decimal travels as a text, since a number of JSON loses digits; a number is taken too."""

    kinds = frozenset({"string", "integer", "number"})

    def __init__(self) -> None:
        schema = {"type": ["string", "number"], "format": "decimal"}
        super().__init__(decimal.Decimal, "a decimal number", schema, _read_decimal, str)

    def decode(self, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return decimal.Decimal(str(value))
        return super().decode(value)


class SecondsCodec(FloatCodec):
    """A `timedelta` is a number of seconds."""

    is_plain = False
    expected = "a number of seconds"

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "number", "description": "seconds"}

    def decode(self, value: Any) -> Any:
        try:
            return datetime.timedelta(seconds=super().decode(value))
        except OverflowError:
            raise misfit(self.expected, value) from None

    def encode(self, value: Any) -> Any:
        return value.total_seconds()

    def holds(self, value: Any) -> bool:
        return isinstance(value, datetime.timedelta)


_BASE64: Schema = {"type": "string", "contentEncoding": "base64"}

TEXTS: dict[type, Callable[[], Codec]] = {
    datetime.datetime: lambda: TextCodec(
        datetime.datetime,
        "a date and time (`2026-01-31T12:00:00Z`)",
        {"type": "string", "format": "date-time"},
        _read_datetime,
        _iso,
    ),
    datetime.date: lambda: TextCodec(
        datetime.date, "a date (`2026-01-31`)", {"type": "string", "format": "date"}, datetime.date.fromisoformat, _iso
    ),
    datetime.time: lambda: TextCodec(
        datetime.time, "a time (`12:30:00`)", {"type": "string", "format": "time"}, _read_time, _iso
    ),
    datetime.timedelta: SecondsCodec,
    uuid.UUID: lambda: TextCodec(uuid.UUID, "a UUID", {"type": "string", "format": "uuid"}, uuid.UUID, str),
    decimal.Decimal: DecimalCodec,
    bytes: lambda: TextCodec(bytes, "bytes in base64", dict(_BASE64), _read_bytes, _write_bytes),
    bytearray: lambda: TextCodec(
        bytearray, "bytes in base64", dict(_BASE64), lambda text: bytearray(_read_bytes(text)), _write_bytes
    ),
}


def kind_of(value: Any) -> str:
    """Returns the kind of a value of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


class ChoiceCodec(Codec):
    """One of some values of JSON: a `Literal`, or an `Enum` by its members' values."""

    def __init__(self, choices: Sequence[tuple[Any, Any]], is_enum: bool, title: str = "") -> None:
        #: By kind too, since `True == 1`.
        self._members = {(kind_of(value), value): member for value, member in choices}
        self._is_enum = is_enum
        self._title = title
        self.values = [value for value, _ in choices]
        self.kinds = frozenset(kind_of(value) for value in self.values)
        self.is_plain = not is_enum
        shown = [found(value) for value in self.values]
        self.expected = shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"

    def schema(self, definitions: Definitions) -> Schema:
        kinds = sorted(self.kinds)
        schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(self.values)}
        if not self._title:
            return schema
        name, _ = definitions.name_of(self, self._title)
        definitions.schemas[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def decode(self, value: Any) -> Any:
        if isinstance(value, (dict, list)):
            raise misfit(self.expected, value)
        try:
            return self._members[kind_of(value), value]
        except KeyError:
            near = meant(value, [v for v in self.values if isinstance(v, str)]) if isinstance(value, str) else ""
            raise Misfit(f"expected {self.expected}, found {found(value)}{near}") from None

    def encode(self, value: Any) -> Any:
        return value.value if isinstance(value, enum.Enum) else value

    def holds(self, value: Any) -> bool:
        return any(value is member or value == member for member in self._members.values())


def choices_of_enum(hint: type[enum.Enum]) -> list[tuple[Any, Any]]:
    """Returns values and members; raises `TypeError` where a value has no form in JSON."""
    choices = [(member.value, member) for member in hint]
    for value, member in choices:
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(f"its member `{member.name}` has the value {value!r}, and JSON has texts and numbers")
    if not choices:
        raise TypeError("it has no members")
    return choices


def text_key(codec: Codec) -> Callable[[str], Any] | None:
    """Returns the decoder of an object's key, which is a text; `None` where a type cannot be a key."""
    if isinstance(codec, (StrCodec, AnyCodec)):
        return str
    if isinstance(codec, IntCodec):

        def read(key: str) -> int:
            try:
                return int(key)
            except ValueError:
                raise misfit("an integer as its key", key) from None

        return read
    if isinstance(codec, TextCodec) or (isinstance(codec, ChoiceCodec) and codec.kinds == _STRING):
        return codec.decode
    return None


def key_text(key: Any, codec: Codec) -> str:
    """Returns the text of an object's key."""
    value = key if isinstance(key, str) and not isinstance(key, enum.Enum) else codec.encode(key)
    return value if isinstance(value, str) else json.dumps(value)
