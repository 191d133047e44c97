"""JSON of inputs and answers."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Set
from typing import Any

from .._shapes import is_object
from ..errors import BadAnswer, InvalidInput

JSON = "application/json"


def plain(value: Any) -> Any:
    """Returns what JSON has for a value that `json` does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, (Set, range, Iterator)):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    # Arrays and numbers of numpy, and what is like them.
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    raise TypeError(f"a value of type `{type(value).__name__}` has no form in JSON")


_encode = json.JSONEncoder(default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """Writes an input on one line."""
    try:
        return _encode(value).encode()
    except TypeError as error:
        raise InvalidInput(f"the input cannot be sent: {error}") from None
    except RecursionError:
        raise InvalidInput("the input is nested too deep, or contains itself") from None
    except UnicodeEncodeError:
        raise InvalidInput("a text in the input has a lone surrogate, which is no character") from None
    except ValueError as error:
        if "JSON compliant" in str(error):
            raise InvalidInput("a number in the input is infinite or `nan`, which JSON does not have") from None
        raise InvalidInput(f"the input cannot be sent: {error}") from None


def loads(data: bytes) -> Any:
    """Reads an answer."""
    try:
        # Decoded here: for bytes, `json` looks for other encodings first.
        return json.loads(data.decode())
    except RecursionError:
        raise BadAnswer("the answer's JSON is nested too deep") from None
    except ValueError as error:
        raise BadAnswer(f"the answer is no JSON: {str(error)[:200]}") from None


def document(data: bytes) -> dict[str, Any]:
    """Reads an answer that is an object."""
    value = loads(data)
    if not is_object(value):
        raise BadAnswer("the answer is no JSON object")
    return value
