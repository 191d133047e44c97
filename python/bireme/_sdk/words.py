"""Words that messages share: lists of names, a near name, a found value."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# Longest name that is compared: the cost grows with the product of both lengths.
_NAME_LEN_MAX = 64

# Characters of a found value that are shown.
_FOUND_CHARS_MAX = 80


def names(of: Iterable[str]) -> str:
    """Lists names, each between backquotes."""
    return ", ".join(f"`{name}`" for name in of)


def meant(typed: str, known: Iterable[str]) -> str:
    """Returns ``, did you mean `…` ``, or an empty text."""
    near = nearest(typed, known)
    return f", did you mean `{near}`" if near else ""


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """Returns the known name that was probably meant."""
    if len(typed) > _NAME_LEN_MAX:
        return None
    near = [
        (distance, word)
        for word in known
        if (distance := _distance(typed, word)) <= 1 + min(len(word), len(typed)) // 4
    ]
    return min(near)[1] if near else None


def _distance(a: str, b: str) -> int:
    """Counts insertions, deletions, substitutions and swaps of neighbours."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, one in enumerate(a):
        row = [i + 1]
        for j, other in enumerate(b):
            best = min(last[j] + (one != other), last[j + 1] + 1, row[j] + 1)
            if i and j and one == b[j - 1] and a[i - 1] == other:
                best = min(best, before[j - 1] + 1)
            row.append(best)
        before, last = last, row
    return last[len(b)]


def found(value: Any) -> str:
    """Describes a value of JSON that does not fit: a scalar as it is, an object or array by its kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _FOUND_CHARS_MAX else f"{text[:_FOUND_CHARS_MAX]}…"


def hint_name(hint: Any) -> str:
    """Returns a type as its author writes it."""
    if isinstance(hint, type) and not getattr(hint, "__args__", None):
        return hint.__qualname__.rpartition("<locals>.")[2]
    return str(hint).replace("typing.", "").replace("collections.abc.", "")
