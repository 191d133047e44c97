"""Fakes for tests of an app: `bireme._sdk.testing`, under the name that authors import."""

from ._sdk.testing import *  # noqa: F403
from ._sdk.testing import __all__ as __all__  # pyright: ignore[reportUnsupportedDunderAll]
