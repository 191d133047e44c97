"""Texts of a path, a query or a form, decoded to the types of a function's parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..codec.base import Codec, Misfit
from ..codec.containers import ListCodec
from ..codec.scalars import (
    AnyCodec,
    BoolCodec,
    ChoiceCodec,
    FloatCodec,
    IntCodec,
    NoneCodec,
    StrCodec,
    TextCodec,
)
from ..codec.unions import UnionCodec

# Characters of a misfit that are shown.
_FOUND_CHARS = 80


class Missing(Misfit):
    """No value was given."""

    def __init__(self) -> None:
        super().__init__("it is missing")


def is_text(codec: Codec) -> bool:
    """Whether a type can be read from texts."""
    if isinstance(codec, ListCodec):
        return _is_one(codec.item)
    if isinstance(codec, UnionCodec):
        return all(is_text(member) or isinstance(member, NoneCodec) for member in codec.members)
    return _is_one(codec)


def _is_one(codec: Codec) -> bool:
    if isinstance(codec, UnionCodec):
        return all(_is_one(member) or isinstance(member, NoneCodec) for member in codec.members)
    return isinstance(codec, (AnyCodec, BoolCodec, ChoiceCodec, FloatCodec, IntCodec, StrCodec, TextCodec))


def is_optional(codec: Codec) -> bool:
    """Whether a type has a value where there is no text."""
    if isinstance(codec, UnionCodec):
        return any(isinstance(member, NoneCodec) for member in codec.members)
    return isinstance(codec, ListCodec)


def decode(codec: Codec, texts: Sequence[str]) -> Any:
    """Decodes all values of one name, or raises `Misfit`."""
    if isinstance(codec, ListCodec):
        return codec.make([_decode(codec.item, text) for text in texts])
    if isinstance(codec, UnionCodec):
        return _union(codec, texts)
    if not texts:
        raise Missing
    return _decode(codec, texts[0])


def _union(codec: UnionCodec, texts: Sequence[str]) -> Any:
    """An empty field of a form is nothing."""
    if is_optional(codec) and (not texts or list(texts) == [""]):
        return None
    members = [member for member in codec.members if not isinstance(member, NoneCodec)]
    # A plain text fits everything, so it is the last.
    members.sort(key=lambda member: isinstance(member, StrCodec))
    errors: list[Misfit] = []
    for member in members:
        try:
            return decode(member, texts)
        except Misfit as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise _unlike(" or ".join(member.expected for member in members), texts[0] if texts else "")


def _decode(codec: Codec, text: str) -> Any:
    if isinstance(codec, UnionCodec):
        return _union(codec, [text])
    if isinstance(codec, (StrCodec, AnyCodec)):
        return text
    if isinstance(codec, BoolCodec):
        # A name alone (`?all`) is yes, as is a ticked box of a form (`on`).
        if text in ("", "true", "on", "1"):
            return True
        if text in ("false", "off", "0"):
            return False
        raise _unlike("`true` or `false`", text)
    if isinstance(codec, IntCodec):
        if re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
            return int(text)
        raise _unlike("an integer", text)
    if isinstance(codec, FloatCodec):
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            return codec.decode(float(text))
        raise _unlike(codec.expected, text)
    if isinstance(codec, ChoiceCodec):
        for value in codec.values:
            if text == (str(value).lower() if isinstance(value, bool) else str(value)):
                return codec.decode(value)
        raise _unlike(codec.expected.replace('"', "`"), text)
    try:
        return codec.decode(text)
    except Misfit:
        raise _unlike(codec.expected, text) from None


def _unlike(expected: str, text: str) -> Misfit:
    shown = text if len(text) <= _FOUND_CHARS else f"{text[:_FOUND_CHARS]}…"
    return Misfit(f"expected {expected}, found `{shown}`")
