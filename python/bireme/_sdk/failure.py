"""Failures of a call: what an author raises, and what a call of another function raises."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

# Causes of one failure that travel.
_CAUSES_MAX = 16

# Codes of failures that no further attempt can mend.
_TERMINAL = frozenset({"terminal", "invalid-input", "unknown-function"})

CODES = (
    "failed",
    "terminal",
    "invalid-input",
    "unknown-function",
    "timeout",
    "memory-limit",
    "crashed",
    "input-too-large",
    "output-too-large",
    "overloaded",
    "depth-exceeded",
    "cancelled",
    "unavailable",
)


class Failure(Exception):
    """Reason why a call has no result.

    Any exception that leaves a function fails its call. This one chooses the words, and with ``terminal=True`` it says
    that no further attempt can help, so that ``retries`` are not spent on it:

    >>> raise Failure("no such ship", terminal=True)
    Traceback (most recent call last):
    bireme.Failure: no such ship
    """

    def __init__(
        self, message: object = "", *, terminal: bool = False, code: str | None = None, causes: Iterable[object] = ()
    ) -> None:
        self.message = str(message)
        self.code = code or ("terminal" if terminal else "failed")
        if self.code not in CODES:
            raise ValueError(f"code={code!r}: a failure's code is one of {', '.join(CODES)}")
        self.causes = [str(cause) for cause in causes]
        super().__init__(self.message)

    @property
    def is_terminal(self) -> bool:
        """Whether the host never retries it."""
        return self.code in _TERMINAL

    def __str__(self) -> str:
        return ": ".join([self.message, *self.causes])


def of_exception(error: BaseException, frames: list[str]) -> Failure:
    """Turns whatever left a function into its failure. `frames` are the author's own lines, innermost last."""
    if isinstance(error, Failure):
        causes = [*error.causes, *_causes(error)]
        return Failure(error.message, code=error.code, causes=causes[:_CAUSES_MAX])
    code = "terminal" if getattr(error, "is_terminal", False) is True else "failed"
    if isinstance(error, SystemExit):
        message = f"the function called `sys.exit({_exit_code(error)})`; return a value, or raise `Failure`"
    elif isinstance(error, MemoryError):
        message = "MemoryError: the function needs more memory; raise `memory=` in its decorator"
    else:
        message = one_line(error)
    return Failure(message, code=code, causes=[*_causes(error), *frames][:_CAUSES_MAX])


def one_line(error: BaseException) -> str:
    """Returns an exception's type and words, as the last line of a traceback has them."""
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
    except Exception:
        # An exception whose own words fail.
        return type(error).__name__
    last = text.splitlines()[-1] if isinstance(error, SyntaxError) else text
    return last


def _exit_code(error: SystemExit) -> str:
    return "" if error.code is None else repr(error.code)


def _causes(error: BaseException) -> Iterator[str]:
    seen = {id(error)}
    while True:
        error_next = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if error_next is None or id(error_next) in seen:
            return
        error = error_next
        seen.add(id(error))
        yield one_line(error)
