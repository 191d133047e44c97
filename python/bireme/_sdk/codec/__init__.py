"""Types and JSON: a codec for each type hint, which has its schema, a decoder and an encoder.

A codec is made once, when the decorator runs, so that a call only follows it. Errors name the place, the expected
type and the found value: ``$.order.count: expected an integer, found "many"``.
"""

from .base import Codec, Definitions, Misfit
from .build import codec_of
from .plain import plain

__all__ = ["Codec", "Definitions", "Misfit", "codec_of", "plain"]
