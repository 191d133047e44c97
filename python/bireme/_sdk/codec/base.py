"""What a codec is, and the error of a value that does not fit."""

from __future__ import annotations

import json
from typing import Any

from ..words import found

Schema = dict[str, Any]


class Misfit(ValueError):
    """A value that does not fit its type. The place is collected on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._segments: list[str | int] = []

    def at(self, segment: str | int) -> Misfit:
        """Adds the key or position of the value, from the inside out."""
        self._segments.append(segment)
        return self

    def text(self, root: str = "$") -> str:
        """Returns ``PATH: REASON``, the path below `root`."""
        path = root
        for segment in reversed(self._segments):
            if isinstance(segment, int):
                path += f"[{segment}]"
            elif segment and segment.replace("_", "").replace("-", "").isalnum() and segment.isascii():
                path += f".{segment}"
            else:
                path += f"[{json.dumps(segment, ensure_ascii=False)}]"
        return f"{path}: {self.reason}"


def misfit(expected: str, value: Any) -> Misfit:
    """Returns the error of a value of another type."""
    return Misfit(f"expected {expected}, found {found(value)}")


class Definitions:
    """Schemas of an input or output that are referred to by their name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[int, str] = {}

    def name_of(self, key: object, wanted: str) -> tuple[str, bool]:
        """Returns the name of a type, and whether it was there before. Two types of one name are told apart."""
        if (name := self._names.get(id(key))) is not None:
            return name, True
        name, count = wanted, 2
        while name in self.schemas:
            name, count = f"{wanted}{count}", count + 1
        self._names[id(key)] = name
        self.schemas[name] = {}
        return name, False


class Codec:
    """One type: its schema, its decoder from values of JSON, its encoder to them."""

    #: Kinds of JSON values that it decodes: object, array, string, integer, number, boolean, null.
    kinds: frozenset[str] = frozenset()

    #: Whether values are written as they are, so that an encoder has nothing to do.
    is_plain = False

    #: What it expects, in the words of an error.
    expected = ""

    def schema(self, definitions: Definitions) -> Schema | bool:
        """Returns its JSON Schema (draft 2020-12)."""
        raise NotImplementedError

    def decode(self, value: Any) -> Any:
        """Returns the value of JSON as one of its type, or raises `Misfit`."""
        raise NotImplementedError

    def encode(self, value: Any) -> Any:
        """Returns a value that `json.dumps` writes."""
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        """Whether a value of Python is of its type, as far as a union has to know."""
        raise NotImplementedError

    def root_schema(self) -> Schema | bool:
        """Returns the schema with its definitions under ``$defs``."""
        definitions = Definitions()
        schema = self.schema(definitions)
        if isinstance(schema, bool) or not definitions.schemas:
            return schema
        reference = schema.get("$ref", "") if len(schema) == 1 else ""
        name = reference.removeprefix("#/$defs/")
        if reference:
            schema = {"title": name, **definitions.schemas[name]}
            rest = {key: value for key, value in definitions.schemas.items() if key != name}
            if f'"{reference}"' not in json.dumps([schema, rest]):
                definitions.schemas = rest
        return {**schema, "$defs": definitions.schemas} if definitions.schemas else schema
