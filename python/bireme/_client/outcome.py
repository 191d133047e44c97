"""Outcomes: a value or an error, with what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Optional, TypeVar, cast

from ..errors import Error
from .receipt import Receipt

R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """Result of a call, with its receipt."""

    value: R
    receipt: Optional[Receipt]
    call_id: Optional[str]
    version: Optional[str]

    def _repr_html_(self) -> str:
        from .notebook import outcome_html

        return outcome_html(self.value, self.receipt)


@dataclass(frozen=True)
class MapOutcome(Generic[R]):
    """Outcome of one input of a map: its value, or its error."""

    index: int
    #: The result; `None` where there is an error.
    value: Optional[R]
    error: Optional[Error] = None
    #: Number of the attempt that gave it, from 1.
    attempt: Optional[int] = None
    receipt: Optional[Receipt] = None

    def result(self) -> R:
        """Returns the value, or raises the error."""
        if self.error is not None:
            raise self.error
        return cast(R, self.value)
