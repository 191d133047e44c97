"""The encoding of a text: from the header, the byte order mark or the HTML."""

from __future__ import annotations

import codecs
import re

# Bytes of an HTML page that are searched for its encoding, as in browsers.
_META_BYTES = 1_024

_META = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Names mean what they mean in browsers.
_ALIASES = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "windows-1252": "cp1252",
    "utf8": "utf-8",
}


def encoding_of(content_type: str, body: bytes) -> str:
    """Returns the first encoding that is named and known; UTF-8 without one."""
    found = re.search(r"""charset\s*=\s*["']?([A-Za-z0-9_.:-]+)""", content_type, re.IGNORECASE)
    if found and (name := _known(found[1])):
        return name
    for mark, name in _MARKS:
        if body.startswith(mark):
            return name
    if "html" in content_type.lower() and (meta := _META.search(body[:_META_BYTES])):
        return _known(meta[1].decode("latin-1")) or "utf-8"
    return "utf-8"


def _known(name: str) -> str | None:
    name = _ALIASES.get(name.lower(), name.lower())
    try:
        codecs.lookup(name)
    except LookupError:
        return None
    return name


def decode(body: bytes, encoding: str) -> str:
    """Decodes a text, with U+FFFD for what does not belong to its encoding, without its byte order mark."""
    for mark, name in _MARKS:
        if encoding == name and body.startswith(mark):
            body = body[len(mark) :]
    return body.decode(encoding, "replace")
