"""The author's own lines of a traceback. Frames of the SDK, the loader and the standard library say nothing to them."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from collections.abc import Callable
from types import FrameType

_SDK = __file__.rpartition("/")[0] + "/"
_LIBRARIES = tuple({*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))})


def _is_native_author(filename: str) -> bool:
    return not filename.startswith((_SDK, "<frozen ", *_LIBRARIES))


#: Whether a file is the author's; the loader in a sandbox knows which ones it read.
is_author: Callable[[str], bool] = _is_native_author


def use(rule: Callable[[str], bool]) -> None:
    """Sets the rule that tells the author's files."""
    global is_author
    is_author = rule


def lines(error: BaseException) -> list[str]:
    """Returns one line for each of the author's frames, innermost last: ``main.py, line 3, in words: int("x")``."""
    shown: list[str] = []
    for frame in traceback.extract_tb(error.__traceback__, limit=-_FRAMES_MAX):
        if is_author(frame.filename):
            place = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
            shown.append(f"{place}: {frame.line}" if frame.line else place)
    return shown


# Frames of one exception that are shown; deep recursions have a thousand.
_FRAMES_MAX = 32


def text(error: BaseException) -> str:
    """Formats an exception as Python does, with the author's frames alone."""
    parts: list[str] = []
    try:
        _format(error, parts, set())
    except Exception:
        # An exception whose own words fail, or that Python cannot format without a module that is not there.
        return f"{type(error).__name__}\n"
    return "".join(parts)


def _format(error: BaseException, parts: list[str], seen: set[int]) -> None:
    seen.add(id(error))
    cause, context = error.__cause__, error.__context__
    if cause is not None and id(cause) not in seen:
        _format(cause, parts, seen)
        parts.append("\nThe above exception was the direct cause of the following exception:\n\n")
    elif context is not None and not error.__suppress_context__ and id(context) not in seen:
        _format(context, parts, seen)
        parts.append("\nDuring handling of the above exception, another exception occurred:\n\n")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_author(f.filename)]
    if frames:
        parts.append("Traceback (most recent call last):\n")
        parts.extend(traceback.StackSummary.from_list(frames[-_FRAMES_MAX:]).format())
    parts.extend(traceback.format_exception_only(error))


def remember(filename: str, source: str) -> None:
    """Keeps a file's lines for tracebacks: in a sandbox there is no file to read them from."""
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)


def place_of_caller() -> str:
    """Returns ``main.py, line 3`` for the innermost frame of the author's on the stack."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if is_author(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""
