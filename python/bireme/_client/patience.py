"""When to try again: a host that restarts, or that has no room, is given time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from ..errors import Error, HostUnreachable, Overloaded

#: Seconds without any progress after which a map gives up; it stays on the host's disk.
PATIENCE_SECONDS: Final = 60.0
_FIRST, _LONGEST = 0.05, 1.0
_PASSING = frozenset({"body-timeout", "body-unreadable"})


class Patience:
    """Time that is left for a host without an answer; progress renews it."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Starts anew, after progress."""
        self._delay, self._until = _FIRST, time.monotonic() + self._seconds

    def spend(self, error: Error, sleep: Callable[[float], object] = time.sleep) -> None:
        """Waits before the next attempt, or raises an error that waiting does not mend."""
        is_passing = isinstance(error, (HostUnreachable, Overloaded)) or error.code in _PASSING
        if not is_passing or time.monotonic() >= self._until:
            raise error
        # Several maps of one program do not come back in the same moment.
        sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(self._delay * 2, _LONGEST)
