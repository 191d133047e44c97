"""Codecs of lists, tuples, sets and dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from ..words import found
from .base import Codec, Definitions, Misfit, Schema, misfit
from .scalars import key_text, text_key


class ListCodec(Codec):
    """An array of equal items: `list`, `set`, `frozenset`, `tuple[T, ...]`."""

    kinds = frozenset({"array"})
    expected = "an array"

    def __init__(self, item: Codec, make: Callable[[Iterable[Any]], Any], is_set: bool) -> None:
        self.item = item
        self._make = make
        self._is_set = is_set

    @property
    def is_plain(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._make is list and self.item.is_plain

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "array", "items": self.item.schema(definitions)}
        return {**schema, "uniqueItems": True} if self._is_set else schema

    def decode(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise misfit("an array", value)
        decode = self.item.decode
        items: list[Any] = []
        try:
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                items.append(decode(item))
        except Misfit as error:
            raise error.at(len(items)) from None
        return self.make(items)

    def holds(self, value: Any) -> bool:
        return isinstance(value, (set, frozenset) if self._is_set else (list, tuple))

    def make(self, items: list[Any]) -> Any:
        """Returns decoded items as the type itself."""
        try:
            return items if self._make is list else self._make(items)
        except TypeError as error:
            raise Misfit(f"expected an array of values for a set, but {error}") from None

    def encode(self, value: Any) -> Any:
        items: Iterable[Any] = value
        if self._is_set:
            try:
                items = sorted(items)
            except TypeError:
                pass
        encode = self.item.encode
        return list(items) if self.item.is_plain else [encode(item) for item in items]


class TupleCodec(Codec):
    """An array of a fixed length, each item of its own type."""

    kinds = frozenset({"array"})

    def __init__(self, items: Sequence[Codec]) -> None:
        self.items = items
        self.expected = f"an array of {len(items)}"

    def schema(self, definitions: Definitions) -> Schema:
        items = [item.schema(definitions) for item in self.items]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def decode(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise misfit(self.expected, value)
        given: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        if len(given) != len(self.items):
            raise Misfit(f"expected {self.expected}, found {len(given)} of them")
        items: list[Any] = []
        try:
            for codec, item in zip(self.items, given):
                items.append(codec.decode(item))
        except Misfit as error:
            raise error.at(len(items)) from None
        return tuple(items)

    def holds(self, value: Any) -> bool:
        return isinstance(value, (list, tuple))

    def encode(self, value: Any) -> Any:
        items = list(value)
        if len(items) != len(self.items):
            raise TypeError(f"{len(items)} values were given for a tuple of {len(self.items)}")
        return [codec.encode(item) for codec, item in zip(self.items, items)]


class DictCodec(Codec):
    """An object of any keys."""

    kinds = frozenset({"object"})
    expected = "an object"

    def __init__(self, key: Codec, value: Codec, key_hint: str) -> None:
        read = text_key(key)
        if read is None:
            raise TypeError(f"its keys are `{key_hint}`, and those of JSON are texts; use `str`, `int` or an enum")
        self._read_key = read
        self._key = key
        self.value = value

    @property
    def is_plain(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._key.is_plain and self.value.is_plain

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": self.value.schema(definitions)}
        names = self._key.schema(definitions)
        if isinstance(names, dict) and names != {"type": "string"}:
            # A key is a text, whatever it stands for.
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"} if names.get("type") == "integer" else names
        return schema

    def decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise misfit("an object", value)
        given = cast("dict[str, Any]", value)
        out: dict[Any, Any] = {}
        for key, item in given.items():
            try:
                out[self._read_key(key)] = self.value.decode(item)
            except Misfit as error:
                raise error.at(key) from None
        return out

    def holds(self, value: Any) -> bool:
        return isinstance(value, Mapping)

    def encode(self, value: Any) -> Any:
        if not hasattr(value, "items"):
            raise TypeError(f"expected a dictionary, found {found_type(value)}")
        encode = self.value.encode
        return {key_text(key, self._key): encode(item) for key, item in value.items()}


def found_type(value: Any) -> str:
    """Describes a value of Python that an encoder cannot write."""
    try:
        return found(value)
    except (TypeError, ValueError):
        return f"a value of type `{type(value).__name__}`"
