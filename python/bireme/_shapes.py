"""What a value of JSON is, in a way that type checkers follow."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a JSON array."""
    return isinstance(value, list)


def object_of(value: object) -> dict[str, Any]:
    """Returns a JSON object, or an empty one in the place of anything else."""
    return value if is_object(value) else {}


def array_of(value: object) -> list[Any]:
    """Returns a JSON array, or an empty one in the place of anything else."""
    return value if is_array(value) else []
