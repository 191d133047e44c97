"""Bireme: functions in sandboxes on your own machine.

Authors write apps with `App`, `http`, `kv`, `model` and the rest of the SDK; programs and notebooks call them with
`connect`, `Function`, `Map` and `embed`. Each half is imported when its first name is used: in a sandbox there are no
connections and no threads, and a notebook needs no SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._client import (
        CallStatus as CallStatus,
        Function as Function,
        FunctionCall as FunctionCall,
        Host as Host,
        Map as Map,
        MapOutcome as MapOutcome,
        MapRun as MapRun,
        MapStatus as MapStatus,
        Outcome as Outcome,
        Receipt as Receipt,
        connect as connect,
        embed as embed,
    )
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
    from .errors import (
        BadAnswer as BadAnswer,
        Cancelled as Cancelled,
        Error as Error,
        FunctionFailed as FunctionFailed,
        HostUnreachable as HostUnreachable,
        InvalidInput as InvalidInput,
        MapFailed as MapFailed,
        NotFound as NotFound,
        Overloaded as Overloaded,
        Timeout as Timeout,
        Unauthorized as Unauthorized,
    )

_ERRORS = frozenset(
    {
        "BadAnswer",
        "Cancelled",
        "Error",
        "FunctionFailed",
        "HostUnreachable",
        "InvalidInput",
        "MapFailed",
        "NotFound",
        "Overloaded",
        "Timeout",
        "Unauthorized",
    }
)

_CLIENT = frozenset(
    {
        "CallStatus",
        "Function",
        "FunctionCall",
        "Host",
        "Map",
        "MapOutcome",
        "MapRun",
        "MapStatus",
        "Outcome",
        "Receipt",
        "connect",
        "embed",
    }
)

_SDK = frozenset(
    {
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
    }
)

__all__ = sorted(_ERRORS | _CLIENT | _SDK)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # By its full name: `from . import _sdk` would come back here.
    for names, module in ((_SDK, "_sdk"), (_CLIENT, "_client"), (_ERRORS, "errors")):
        if name in names:
            return getattr(import_module(f"bireme.{module}"), name)
    raise AttributeError(f"module `bireme` has no attribute `{name}`")


def __dir__() -> list[str]:
    return __all__
