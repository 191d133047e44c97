"""Receipt of a call: what it cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional

from .._shapes import is_object, object_of

_HEADER = "bireme-receipt"
_HEADER_LEN_MAX = 32 << 10


class Receipt:
    """What a call cost. Fields that the host left out are 0.

    >>> print(Receipt({"attempts": 1, "wall_us": 1250, "cpu_us": 300, "memory_peak_bytes": 1 << 20}))
    1 attempt, wall 1.2 ms, cpu 300 µs, memory 1.0 MiB
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        #: As the host sent it; `docs/receipts.md` has every field.
        self.fields = dict(fields)

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> Optional[Receipt]:
        """Reads the receipt of an answer."""
        text = headers.get(_HEADER)
        if text is None or len(text) > _HEADER_LEN_MAX:
            return None
        try:
            fields: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return cls.of_document(fields)

    @classmethod
    def of_document(cls, fields: Any) -> Optional[Receipt]:
        """Takes the receipt of a document."""
        return cls(fields) if is_object(fields) else None

    def _number(self, name: str) -> int:
        value = self.fields.get(name)
        return value if isinstance(value, int) else 0

    @property
    def attempts(self) -> int:
        """How often the function was started."""
        return self._number("attempts")

    @property
    def queue_us(self) -> int:
        """Microseconds of waiting for a slot."""
        return self._number("queue_us")

    @property
    def wall_us(self) -> int:
        """Microseconds from the start of the first attempt to the result."""
        return self._number("wall_us")

    @property
    def cpu_us(self) -> int:
        """Microseconds of CPU."""
        return self._number("cpu_us")

    @property
    def memory_peak_bytes(self) -> int:
        """Largest memory of any attempt."""
        return self._number("memory_peak_bytes")

    def rows(self) -> list[tuple[str, str]]:
        """Returns what people read: names and values with units."""
        rows = [
            ("attempts", str(self.attempts)),
            ("queue", duration(self.queue_us)),
            ("wall", duration(self.wall_us)),
            ("cpu", duration(self.cpu_us)),
            ("memory", size(self.memory_peak_bytes)),
        ]
        for kind, cost in object_of(self.fields.get("host_calls")).items():
            if is_object(cost):
                rows.append((kind.replace("_", " "), f"{cost.get('count', 0)} in {duration(cost.get('wall_us', 0))}"))
        inference: Any = self.fields.get("inference")
        if is_object(inference):
            device = duration(inference.get("device_us", 0))
            where = inference.get("device", "the device")
            rows.append(("model", f"{inference.get('tokens', 0)} tokens, {device} of {where}"))
        return rows

    def __str__(self) -> str:
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        cost = f"wall {duration(self.wall_us)}, cpu {duration(self.cpu_us)}, memory {size(self.memory_peak_bytes)}"
        return f"{attempts}, {cost}"

    def __repr__(self) -> str:
        return f"<receipt: {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash((self.wall_us, self.cpu_us))

    def _repr_html_(self) -> str:
        from .notebook import table

        return table("receipt", self.rows())


def duration(us: Any) -> str:
    """Returns microseconds as people read them."""
    if not isinstance(us, (int, float)):
        return "?"
    if us < 1_000:
        return f"{us:.0f} µs"
    return f"{us / 1_000:.1f} ms" if us < 1_000_000 else f"{us / 1_000_000:.1f} s"


def size(count: int) -> str:
    """Returns bytes as people read them."""
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.0f} KiB"
