"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from ..failure import Failure

_STATUS = {
    "invalid-input": 400,
    "unknown-function": 404,
    "input-too-large": 413,
    "crashed": 502,
    "memory-limit": 502,
    "output-too-large": 502,
    "overloaded": 503,
    "cancelled": 503,
    "unavailable": 503,
    "timeout": 504,
    "depth-exceeded": 508,
}


class Problem(Exception):
    """An answer that says what is wrong: a status from 400 to 599, a sentence for people, a code for programs.

    >>> raise Problem(404, "no page `7`")
    Traceback (most recent call last):
    bireme.Problem: no page `7`
    """

    #: The author chose its words, so its traceback is of no interest.
    is_answer = True

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        code: str | None = None,
        explain: str | None = None,
        causes: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status if 400 <= status < 600 else 500
        self.detail = detail
        self.code = code or _title(self.status).lower().replace(" ", "-")
        #: Command that explains the code; none for a code of the function.
        self.explain = explain
        self.causes = list(causes)

    @classmethod
    def of_request(cls, status: int, code: str, detail: str) -> Problem:
        """A problem that the SDK finds in a request, with a code of the host's."""
        return cls(status, detail, code=code, explain=f"bireme explain {code}")

    @classmethod
    def of_failure(cls, failure: Failure) -> Problem:
        """A failure as an answer."""
        # The function's own errors have nothing more to say.
        explain = None if failure.code in ("failed", "terminal") else f"bireme explain {failure.code}"
        status = _STATUS.get(failure.code, 500)
        return cls(status, failure.message, code=failure.code, explain=explain, causes=failure.causes)

    def document(self) -> dict[str, Any]:
        """Returns it as JSON."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": _title(self.status),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.explain:
            document["explain"] = self.explain
        return {**document, "causes": self.causes} if self.causes else document


# Phrases that changed with Python 3.13, so that a document is the same under each.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


def _title(status: int) -> str:
    try:
        return _TITLES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Client Error" if status < 500 else "Server Error"
