"""Bytes and their media type, as they cross the boundary."""

from __future__ import annotations

from dataclasses import dataclass

OCTETS = "application/octet-stream"


@dataclass
class Payload:
    """Input or output of a call."""

    content_type: str
    data: bytes


class Bytes(bytes):
    """Bytes with a content type of their own, as a function takes and returns them.

    >>> Bytes(b"...", "image/png").content_type
    'image/png'
    """

    content_type: str

    def __new__(cls, data: bytes = b"", content_type: str = OCTETS) -> Bytes:
        """Makes them of `data`."""
        self = super().__new__(cls, data)
        self.content_type = content_type
        return self
