"""Functions on Bireme: write them, call them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sdk import (
        App as App,
        Batched as Batched,
        Bytes as Bytes,
        Cron as Cron,
        Failure as Failure,
        Html as Html,
        Period as Period,
        Problem as Problem,
        Redirect as Redirect,
        Request as Request,
        Response as Response,
        Retries as Retries,
        Stream as Stream,
        config as config,
        context as context,
        http as http,
        kv as kv,
        log as log,
        model as model,
        secret as secret,
        testing as testing,
        warm as warm,
        web as web,
    )


def __getattr__(name: str) -> Any:
    # By its full name: `from . import _sdk` would come back here.
    sdk = importlib.import_module("bireme._sdk")
    if name in sdk.__all__:
        return getattr(sdk, name)
    raise AttributeError(f"module `bireme` has no attribute `{name}`")
