"""Functions on Bireme: write them, call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sdk import (
        App as App,
        Batched as Batched,
        Bytes as Bytes,
        Cron as Cron,
        Failure as Failure,
        Period as Period,
        Retries as Retries,
        config as config,
        context as context,
        kv as kv,
        log as log,
        model as model,
        secret as secret,
        warm as warm,
    )


def __getattr__(name: str) -> Any:
    from . import _sdk

    if name in _sdk.__all__:
        return getattr(_sdk, name)
    raise AttributeError(f"module `bireme` has no attribute `{name}`")
