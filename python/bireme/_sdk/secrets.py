"""Secrets that the operator sets and the function declares."""

from __future__ import annotations

from .host import host
from .public import publish


class SecretError(Exception):
    """A secret that the function does not declare, or the operator has not set."""

    is_terminal = True


def secret(name: str) -> str:
    """Returns a secret that the function declares in its `secrets`. ``os.environ`` has it too.

    >>> from bireme import secret, testing
    >>> with testing.fake_secrets(API_KEY="abc"):
    ...     secret("API_KEY")
    'abc'
    """
    value = host().secret(name)
    if value is None:
        raise SecretError(
            f'this function does not declare the secret `{name}`; add `secrets=["{name}"]` to its decorator'
        )
    return value


publish("bireme", globals(), ["SecretError"])
