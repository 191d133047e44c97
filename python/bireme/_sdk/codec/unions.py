"""Codec of a union, where a value of JSON tells which member it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..words import found, names
from .base import Codec, Definitions, Misfit, Schema
from .records import RecordCodec
from .scalars import ChoiceCodec, NoneCodec, StrCodec, kind_of


class UnionCodec(Codec):
    """Members in the author's order. Those of different kinds are told apart by the kind; texts by their form, a plain
    `str` last; objects by a field with a `Literal`, or by their fields."""

    def __init__(self, members: Sequence[Codec]) -> None:
        self.members = members
        self.kinds = frozenset().union(*(member.kinds for member in members))
        self.is_plain = all(member.is_plain for member in members)
        self.expected = _either([member.expected for member in members])
        self._by_kind: dict[str, list[Codec]] = {}
        for kind in self.kinds:
            able = [member for member in members if kind in member.kinds]
            # A text that is a date, too, is a date.
            self._by_kind[kind] = sorted(able, key=lambda member: isinstance(member, StrCodec))
        self._records = [member for member in members if isinstance(member, RecordCodec)]
        self._tag: str | None = None

    def check(self) -> None:
        """Raises `TypeError` where two members cannot be told apart. Later than the rest, once records have fields."""
        objects = self._by_kind.get("object", [])
        if len(objects) > 1:
            if len(self._records) != len(objects):
                raise TypeError("its members that are objects cannot be told apart; use dataclasses for them")
            self._tag = _tag(self._records)
            if self._tag is None:
                _check_fields(self._records)
        if len(self._by_kind.get("array", [])) > 1:
            raise TypeError("its members that are arrays cannot be told apart; put each into a dataclass")

    def schema(self, definitions: Definitions) -> Schema:
        schemas = [member.schema(definitions) for member in self.members]
        # `["string", "null"]` rather than two schemas, as other generators write an optional value.
        if len(schemas) == 2 and isinstance(self.members[1], NoneCodec) and isinstance(schemas[0], dict):
            kind = schemas[0].get("type")
            if isinstance(kind, str) and "enum" not in schemas[0]:
                return {**schemas[0], "type": [kind, "null"]}
        return {"anyOf": schemas}

    def decode(self, value: Any) -> Any:
        able = self._by_kind.get(kind_of(value))
        if able is None:
            raise Misfit(f"expected {self.expected}, found {found(value)}")
        if len(able) == 1:
            return able[0].decode(value)
        if isinstance(value, dict):
            return self._record(value).decode(value)  # pyright: ignore[reportUnknownArgumentType]
        for member in able:
            try:
                return member.decode(value)
            except Misfit:
                pass
        raise Misfit(f"expected {_either([member.expected for member in able])}, found {found(value)}")

    def _record(self, value: dict[str, Any]) -> RecordCodec:
        if self._tag is not None:
            for record in self._records:
                tag = record.fields[self._tag].codec
                try:
                    tag.decode(value.get(self._tag))
                except Misfit:
                    continue
                return record
            choices = [found(v) for record in self._records for v in _values(record, self._tag)]
            shown = found(value[self._tag]) if self._tag in value else "nothing"
            raise Misfit(f"expected {_either(choices)}, found {shown}").at(self._tag)
        for record in self._records:
            if record.required <= value.keys() <= record.fields.keys():
                return record
        # The nearest one says what is wrong.
        return max(self._records, key=lambda record: len(record.fields.keys() & value.keys()))

    def encode(self, value: Any) -> Any:
        if self.is_plain:
            return value
        for member in self.members:
            if member.holds(value):
                return member.encode(value)
        raise TypeError(f"expected {self.expected}, found a value of type `{type(value).__name__}`")

    def holds(self, value: Any) -> bool:
        return any(member.holds(value) for member in self.members)


def _either(expected: Sequence[str]) -> str:
    unique = list(dict.fromkeys(expected))
    return " or ".join([", ".join(unique[:-1]), unique[-1]]) if len(unique) > 1 else unique[0]


def _values(record: RecordCodec, tag: str) -> list[Any]:
    codec = record.fields[tag].codec
    return codec.values if isinstance(codec, ChoiceCodec) else []


def _tag(records: Sequence[RecordCodec]) -> str | None:
    """Returns the field whose choices are different in each record."""
    for name in records[0].fields:
        if all(name in record.required and _values(record, name) for record in records):
            values = [value for record in records for value in _values(record, name)]
            if len(set(values)) == len(values):
                return name
    return None


def _check_fields(records: Sequence[RecordCodec]) -> None:
    for i, one in enumerate(records):
        for other in records[i + 1 :]:
            # With a required field that the other does not have at all, no object fits both.
            if not (one.required - other.fields.keys() or other.required - one.fields.keys()):
                raise TypeError(
                    f"an object may be {names([one.name])} as well as {names([other.name])}; "
                    f'give each a field that tells them apart: `kind: Literal["{one.name.lower()}"]`'
                )
