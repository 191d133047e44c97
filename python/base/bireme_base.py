"""The base of Python apps: CPython, the SDK, and a loader that takes an app's modules from the host.

`build.sh` makes a component of it. A host imports an app's modules into an instance, by `load`, and makes a snapshot of
that. So nothing here may depend on the time, on random numbers or on the environment.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import random
import sys

import common_modules  # noqa: F401  # pyright: ignore[reportUnusedImport]
import finder
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import loader as wit_loader
from wit_world.imports import environment, files

from bireme._sdk import frames, log, warming
from bireme._sdk.app import APPS, App
from bireme._sdk.describe import describe
from bireme._sdk.dispatch import invoke, to_stderr
from bireme._sdk.failure import Failure, one_line
from bireme._sdk.function import Entry
from bireme._sdk.host import use, wasm, wasm_web

#: Functions of the app that was loaded, and its metadata document.
_entries: dict[str, Entry] = {}
_document = '{"format":1,"errors":["no app was loaded into this base"],"app":{"name":"base"},"functions":[]}'

_finder = finder.Finder(files.read, files.list)


class Loader(exports.Loader):
    """Imports modules of requirements, then an app."""

    def preload(self, modules: list[str]) -> list[tuple[str, wit_loader.LoadError]]:
        """Imports modules, and keeps those that can be."""
        failed: list[tuple[str, wit_loader.LoadError]] = []
        for name in modules:
            try:
                __import__(name)
            except BaseException as error:
                failed.append((name, _load_error(error)))
        _settle()
        return failed

    def load(self, module: str, app: wit_loader.AppInfo) -> str:
        """Imports the app and returns its metadata document."""
        global _document
        try:
            __import__(module)
            found = _app_of(module)
            _document = describe(found, app.name, app.version, app.description)
            if any(inspect.iscoroutinefunction(entry.function) for entry in found.entries.values()):
                importlib.import_module("bireme._sdk.coroutines")
            warming.run()
        except BaseException as error:
            raise Err(_load_error(error)) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        _entries.update(found.entries)
        _finder.close()
        _settle()
        return _document


def _settle() -> None:
    """Leaves memory in the state in which a call can start at once, and with as few pages to copy as can be."""
    random.seed(0)
    gc.collect()
    gc.freeze()


def _app_of(module: str) -> App:
    """Returns the app of a module: its `app`, or the only one."""
    found = getattr(sys.modules[module], "app", None)
    if isinstance(found, App):
        return found
    if len(APPS) == 1:
        return APPS[0]
    place = _finder.place_of(module)
    if not APPS:
        raise Failure(
            f'{place} has no app; write `app = App("name")` from `bireme`, and `@app.function` above a function'
        )
    raise Failure(f"{place} has {len(APPS)} apps; name the one to serve `app`")


def _load_error(error: BaseException) -> wit_loader.LoadError:
    missing: str | None = None
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        missing = error.name.partition(".")[0]
    if isinstance(error, Failure):
        message, traceback = error.message, ""
    else:
        message, traceback = one_line(error), frames.text(error)
    if isinstance(error, SystemExit):
        message = (
            f"the module called `sys.exit({'' if error.code is None else repr(error.code)})` while it was imported"
        )
    return wit_loader.LoadError(message, traceback, missing)


def _begin(entry: Entry | None) -> None:
    """Gives a call its own random numbers, and its secrets as environment variables."""
    # The snapshot's state is the same in each instance.
    random.seed(os.urandom(32))
    if entry is not None and entry.attributes.get("secrets"):
        os.environ.update(environment.get_environment())


class Handler(exports.Handler):
    """Calls of functions."""

    def invoke(self, function: str, input: wasm.Payload) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Runs one function."""
        _begin(_entries.get(function))
        try:
            return wasm.payload_to(invoke(_entries, function, wasm.payload_of(input), to_stderr))
        except Failure as failure:
            raise wasm.failure_to(failure) from None
        finally:
            sys.stdout.flush()


class Metadata(exports.Metadata):
    """The app, to be known without being run."""

    def describe(self) -> str:
        """Returns the document."""
        return _document


class IncomingHandler(exports.IncomingHandler):
    """Requests to web functions."""

    def handle(self, request: object, response_out: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Answers one request."""
        try:
            wasm_web.serve(_entries, request, response_out, to_stderr, _begin)
        finally:
            sys.stdout.flush()


use(wasm.WasmHost())
frames.use(_finder.is_author)
log.install()
_finder.install()
_settle()
