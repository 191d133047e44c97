"""Bodies of responses: decompressed as they arrive, within a limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..host import HttpError
from .errors import BodyTooLarge, DecodeError, of_host

# Bytes that a decompressor gives at a time.
_PART_BYTES = 64 * 1024

#: Encodings that are asked for and decoded.
ACCEPTED = "gzip, deflate"


def read(parts: Iterator[bytes], encoding: str, url: str, most: int) -> Iterator[bytes]:
    """Yields the body in parts, decompressed; at most `most` bytes, before and after."""
    total = 0
    decoded = _decode(_bounded(_named(parts, url), url, most), encoding, url)
    for part in decoded:
        total += len(part)
        if total > most:
            raise _too_large(url, most)
        yield part


def _too_large(url: str, most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body of `{url}` is larger than {most} bytes; `max_bytes` raises that", url)


def _named(parts: Iterator[bytes], url: str) -> Iterator[bytes]:
    try:
        yield from parts
    except HttpError as error:
        raise of_host(error, url) from None


def _bounded(parts: Iterator[bytes], url: str, most: int) -> Iterator[bytes]:
    total = 0
    for part in parts:
        total += len(part)
        if total > most:
            raise _too_large(url, most)
        yield part


def _decode(parts: Iterator[bytes], encoding: str, url: str) -> Iterator[bytes]:
    if encoding in ("gzip", "x-gzip"):
        return _inflate(parts, encoding, url, 16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return _inflate(parts, encoding, url, zlib.MAX_WBITS)
    return parts


def _inflate(parts: Iterator[bytes], encoding: str, url: str, bits: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(bits)
    is_first, is_within = True, False
    for part in parts:
        rest = part
        while rest:
            is_within = True
            try:
                out = decoder.decompress(rest, _PART_BYTES)
            except zlib.error as error:
                if not (is_first and encoding == "deflate"):
                    raise DecodeError(f"the body of `{url}` cannot be read as `{encoding}`: {error}", url) from None
                # Some servers leave the header of zlib out.
                decoder, is_first = zlib.decompressobj(-zlib.MAX_WBITS), False
                continue
            is_first = False
            rest = decoder.unconsumed_tail
            yield out
            if decoder.eof:
                # Another member may follow.
                rest, decoder, is_within = decoder.unused_data, zlib.decompressobj(bits), False
    if is_within:
        try:
            yield decoder.flush()
        except zlib.error:
            pass
        if not decoder.eof:
            raise DecodeError(f"the body of `{url}` cannot be read as `{encoding}`: it is cut off", url)
