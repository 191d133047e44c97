"""Outputs as Python values, by the JSON Schema of a function: dataclasses, dates, bytes.

A part of the schema that says nothing more than JSON does costs nothing: it has no decoder. What does not fit its schema
is left as it is, since an app may have been deployed anew since it was looked up.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import functools
import keyword
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .._shapes import is_array, is_object, object_of
from ..errors import BadAnswer

Decoder = Callable[[Any], Any]
Schema = Mapping[str, Any]

_DEPTH_MAX = 64
_NAME_LEN_MAX = 128


def decoder_of(schema: Any) -> Optional[Decoder]:
    """Returns the decoder of an output; none where JSON's own values are right."""
    if not is_object(schema):
        return None
    decoder = _Builder(schema).build(schema, None, 0)
    return None if decoder is None else _bounded(decoder)


def typed_decoder(hint: Any) -> Decoder:
    """Returns the decoder of a type that the caller wants, by the codecs of the SDK: what does not fit is an error."""
    from .._sdk.codec import Misfit, codec_of

    codec = codec_of(hint)

    def decode(value: Any) -> Any:
        try:
            return codec.decode(value)
        except Misfit as error:
            raise BadAnswer(
                f"the output does not fit `output=`: {error.text()}",
                hint="the app may have another version than this program expects; see its schema with `bireme inspect`",
            ) from None

    return decode


def _bounded(decoder: Decoder) -> Decoder:
    def decode(value: Any) -> Any:
        try:
            return decoder(value)
        except RecursionError:
            # A type that is nothing but itself, or a value that is nested as deep.
            return value

    return decode


def is_bytes(schema: Any) -> bool:
    """Whether an input or output is raw bytes with a media type of their own."""
    return object_of(schema).get("format") == "binary"


class _Builder:
    def __init__(self, root: Schema) -> None:
        self.definitions = object_of(root.get("$defs") or root.get("definitions"))
        #: By name; `None` while it is built, which is a type that contains itself.
        self.built: dict[str, Optional[Decoder]] = {}

    def build(self, schema: Any, name: str | None, depth: int) -> Optional[Decoder]:
        if not is_object(schema) or depth > _DEPTH_MAX:
            return None
        reference: Any = schema.get("$ref")
        if isinstance(reference, str):
            return self.reference(reference, depth)
        for key in ("anyOf", "oneOf", "allOf"):
            parts: Any = schema.get(key)
            if is_array(parts):
                others = [part for part in parts if part != {"type": "null"}]
                # Of a choice between several types nothing tells which one a value is.
                return _unless_none(self.build(others[0], name, depth + 1)) if len(others) == 1 else None
        kind: Any = schema.get("type")
        if is_array(kind):
            kinds = [one for one in kind if one != "null"]
            kind = kinds[0] if len(kinds) == 1 else None
        if kind == "string":
            return _unless_none(_text_decoder(schema))
        if kind == "array":
            return self.array(schema, depth)
        if kind == "object":
            return self.object(schema, name, depth)
        return None

    def reference(self, reference: str, depth: int) -> Optional[Decoder]:
        name = reference.rpartition("/")[2]
        if name in self.built:
            built = self.built[name]
            # Looked up when it runs: a type that contains itself is not built yet.
            return built or (lambda value: self.decode_later(name, value))
        self.built[name] = None
        decoder = self.build(self.definitions.get(name), name, depth + 1)
        if decoder is None:
            del self.built[name]
        else:
            self.built[name] = decoder
        return decoder

    def decode_later(self, name: str, value: Any) -> Any:
        decoder = self.built.get(name)
        return value if decoder is None else decoder(value)

    def array(self, schema: Schema, depth: int) -> Optional[Decoder]:
        item = self.build(schema.get("items"), None, depth + 1)
        if item is None:
            return None
        return lambda value: [item(one) for one in value] if is_array(value) else value

    def object(self, schema: Schema, name: str | None, depth: int) -> Optional[Decoder]:
        members = object_of(schema.get("properties"))
        title: Any = schema.get("title") or name
        if members:
            decoders = {key: self.build(part, None, depth + 1) for key, part in members.items()}
            if isinstance(title, str) and is_name(title) and all(is_name(key) for key in members):
                return _record_decoder(record(title, tuple(members)), decoders)
            return _members_decoder({key: one for key, one in decoders.items() if one is not None})
        value_decoder = self.build(schema.get("additionalProperties"), None, depth + 1)
        if value_decoder is None:
            return None

        def decode(value: Any) -> Any:
            return {key: value_decoder(one) for key, one in value.items()} if is_object(value) else value

        return decode


def _members_decoder(decoders: dict[str, Decoder]) -> Optional[Decoder]:
    if not decoders:
        return None

    def decode(value: Any) -> Any:
        if is_object(value):
            for key, decoder in decoders.items():
                if key in value:
                    value[key] = decoder(value[key])
        return value

    return decode


def _record_decoder(kind: type[Any], decoders: dict[str, Optional[Decoder]]) -> Decoder:
    steps = tuple(decoders.items())

    def decode(value: Any) -> Any:
        if not is_object(value):
            return value
        fields: dict[str, Any] = {}
        for key, decoder in steps:
            part = value.get(key)
            fields[key] = part if decoder is None or part is None else decoder(part)
        return kind(**fields)

    return decode


@functools.lru_cache(maxsize=1_024)
def record(name: str, fields: tuple[str, ...]) -> type[Any]:
    """Returns the dataclass of a schema's type; the same one for the same name and fields."""
    kind = dataclasses.make_dataclass(name, [(field, Any, None) for field in fields])
    # A class that no module has could not be sent to another process.
    setattr(kind, "__reduce__", lambda self: (_restore, (name, fields, tuple(getattr(self, f) for f in fields))))  # pyright: ignore
    kind.__module__ = "bireme.records"
    return kind


def _restore(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return record(name, fields)(*values)


def is_name(text: str) -> bool:
    """Whether it can be the name of a field or a parameter."""
    is_plain = text.isidentifier() and not keyword.iskeyword(text) and len(text) <= _NAME_LEN_MAX
    return is_plain and not text.startswith("__")


def _unless_none(decoder: Optional[Decoder]) -> Optional[Decoder]:
    if decoder is None:
        return None
    return lambda value: None if value is None else decoder(value)


def _text_decoder(schema: Schema) -> Optional[Decoder]:
    if schema.get("contentEncoding") == "base64":
        return _tolerant(lambda text: base64.b64decode(text, validate=True))
    formats: dict[Any, Callable[[str], Any]] = {
        "date-time": _datetime,
        "date": datetime.date.fromisoformat,
        "time": lambda text: datetime.time.fromisoformat(_offset(text)),
        "partial-time": datetime.time.fromisoformat,
        "uuid": uuid.UUID,
    }
    read = formats.get(schema.get("format"))
    return None if read is None else _tolerant(read)


def _tolerant(read: Callable[[str], Any]) -> Decoder:
    def decode(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return read(value)
        except (ValueError, binascii.Error):
            return value

    return decode


def _datetime(text: str) -> datetime.datetime:
    text = _offset(text)
    # Before Python 3.11 a fraction has three or six digits.
    whole, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{whole}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
    return datetime.datetime.fromisoformat(text)


def _offset(text: str) -> str:
    # Before Python 3.11 `fromisoformat` does not know `Z`.
    return text[:-1] + "+00:00" if text[-1:] in ("z", "Z") else text
