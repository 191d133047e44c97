"""A set of small numbers, one bit for each."""

from __future__ import annotations


class Bits:
    """A set of small numbers."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, number: int) -> bool:
        """Adds a number; returns whether it is new."""
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self._bytes):
            self._bytes.extend(bytes(place + 1 - len(self._bytes) + 4_096))
        if self._bytes[place] & bit:
            return False
        self._bytes[place] |= bit
        return True

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bytes) and bool(self._bytes[place] & (1 << (number & 7)))
