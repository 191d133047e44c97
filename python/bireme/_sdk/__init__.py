"""The author's side: apps, their functions, and what a host offers to them."""

from . import config, context, http, kv, log, testing, web
from .app import App
from .attributes import Batched, Cron, Period, Retries
from .failure import Failure
from .models import model
from .payload import Bytes
from .public import publish
from .secrets import secret
from .warming import warm
from .web import Html, Problem, Redirect, Request, Response, Stream

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

publish("bireme", globals(), __all__)
