"""Configuration values that the operator sets (``--config depth=2``)."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from . import jsontext
from .codec import Misfit, codec_of
from .host import host
from .public import publish

T = TypeVar("T")
_MISSING: Any = object()


class Error(Exception):
    """A configuration value that is missing or does not fit."""

    is_terminal = True


@overload
def get(key: str) -> str: ...


@overload
def get(key: str, of: type[T]) -> T: ...


@overload
def get(key: str, of: type[T], default: T) -> T: ...


@overload
def get(key: str, *, default: str) -> str: ...


def get(key: str, of: Any = str, default: Any = _MISSING) -> Any:
    """Returns a value: a text, or with `of` what the text says as a value of that type.

    >>> from bireme import config, testing
    >>> with testing.fake_config(depth="2"):
    ...     config.get("depth"), config.get("depth", int), config.get("width", int, 3)
    ('2', 2, 3)
    """
    text = host().config(key)
    if text is None:
        if default is not _MISSING:
            return default
        raise Error(f"no configuration value `{key}`; the operator gives it with `--config {key}=VALUE`")
    codec = codec_of(of)
    if "string" in codec.kinds:
        try:
            return codec.decode(text)
        except Misfit as error:
            if len(codec.kinds) == 1:
                raise Error(f"the configuration value `{key}` does not fit: {error.reason}") from None
    try:
        return codec.decode(jsontext.loads(text.encode()))
    except jsontext.NotJson:
        raise Error(
            f"the configuration value `{key}` does not fit: expected {codec.expected}, found `{text}`"
        ) from None
    except Misfit as error:
        raise Error(f"the configuration value `{key}` does not fit: {error.text()}") from None


def all() -> dict[str, str]:
    """Returns every value of the app."""
    return host().config_all()


publish("bireme.config", globals(), ["Error"])
