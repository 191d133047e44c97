"""The author's side: apps, their functions, and what a host offers to them."""

import importlib
from typing import TYPE_CHECKING, Any

from . import config, context, http, kv, log, web
from .app import App
from .attributes import Batched, Cron, Period, Retries
from .failure import Failure
from .models import model
from .payload import Bytes
from .public import publish
from .secrets import secret
from .warming import warm
from .web import Html, Problem, Redirect, Request, Response, Stream

if TYPE_CHECKING:
    from . import testing as testing

__all__ = [
    "App",
    "Batched",
    "Bytes",
    "Cron",
    "Failure",
    "Html",
    "Period",
    "Problem",
    "Redirect",
    "Request",
    "Response",
    "Retries",
    "Stream",
    "config",
    "context",
    "http",
    "kv",
    "log",
    "model",
    "secret",
    "testing",
    "warm",
    "web",
]

publish("bireme", globals(), [name for name in __all__ if name != "testing"])


def __getattr__(name: str) -> Any:
    # Late, so that a sandbox does not carry it.
    if name == "testing":
        return importlib.import_module("bireme._sdk.testing")
    raise AttributeError(f"module `bireme` has no attribute `{name}`")
