"""Names under which authors know the SDK's classes: a traceback says `bireme.http.Timeout`, whatever file has it."""

from __future__ import annotations

from typing import Any


def publish(module: str, namespace: dict[str, Any], names: list[str]) -> None:
    """Sets the module of classes and functions that `module` gives to authors."""
    for name in names:
        value = namespace[name]
        if str(getattr(value, "__module__", "")).startswith("bireme._sdk."):
            try:
                value.__module__ = module
            except AttributeError:
                # An alias of `typing`.
                pass
