"""Hooks of schemathesis: bodies of the media types that it does not know."""

import schemathesis


@schemathesis.serializer("application/x-ndjson", "application/wasm")
def as_bytes(ctx, value):
    if isinstance(value, bytes):
        return value
    return str(value).encode()
