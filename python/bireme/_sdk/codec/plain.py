"""JSON of values whose type no hint tells."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator, Mapping, Set
from typing import Any, cast


def plain(value: Any) -> Any:
    """Returns a value that `json.dumps` writes; its `default`. Raises `TypeError` for what has no JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(cast(Any, value))}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(cast(bytes, value)).decode()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, Set):
        # Sorted by their JSON's own order where there is one: equal results are equal bytes.
        members: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        try:
            return sorted(members)
        except TypeError:
            return members
    if isinstance(value, (range, Iterator)):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"a value of type `{type(value).__name__}` has no form in JSON")
