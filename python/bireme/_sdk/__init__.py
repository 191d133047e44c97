"""The author's side: apps, their functions, and what a host offers to them."""

from . import config, context, kv, log
from .app import App
from .attributes import Batched, Cron, Period, Retries
from .failure import Failure
from .models import model
from .payload import Bytes
from .secrets import secret
from .warming import warm

__all__ = [
    "App",
    "Batched",
    "Bytes",
    "Cron",
    "Failure",
    "Period",
    "Retries",
    "config",
    "context",
    "kv",
    "log",
    "model",
    "secret",
    "warm",
]
