"""JSON as bytes, strict in both directions: no `NaN`, no lone surrogates, no nesting without end."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .codec.plain import plain

JSON = "application/json"


class NotJson(ValueError):
    """Bytes that are no JSON."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no number of JSON")


_ENCODER = json.JSONEncoder(default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def loads(data: bytes) -> Any:
    """Reads one value."""
    try:
        return _DECODER.decode(data.decode())
    except RecursionError:
        raise NotJson("it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start} is not UTF-8") from None
    except ValueError as error:
        raise NotJson(str(error)) from None


def dumps(value: Any) -> bytes:
    """Writes one value, or raises `TypeError` or `ValueError`, which says what has no form in JSON."""
    try:
        return _ENCODER.encode(value).encode()
    except RecursionError:
        raise ValueError("it is nested too deep, or contains itself") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it has a lone surrogate, which is no character") from None
    except ValueError as error:
        if "JSON compliant" in str(error):
            raise ValueError("a number in it is infinite or `nan`, which JSON does not have") from None
        raise


def essence(content_type: str) -> str:
    """Returns a media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()
