"""Key-value data of the app: buckets on the host's disk, changed atomically."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

from . import jsontext
from .codec import Misfit, codec_of
from .host import host
from .public import publish
from .units import Duration, milliseconds

if TYPE_CHECKING:
    from .host.api import Bucket as HostBucket
    from .host.api import Swap

T = TypeVar("T")
Value = Union[bytes, bytearray, memoryview, str]

# Attempts of one change before it gives up; each lost one means that another call has changed the value.
_UPDATES_MAX = 1_000

_DAYS_MAX = 36_500


class Error(Exception):
    """The host did not do what was asked of a bucket."""


class Bucket:
    """An open bucket. Values are bytes; a text is stored as UTF-8.

    >>> from bireme import kv, testing
    >>> with testing.fake_kv():
    ...     seen = kv.open("seen")
    ...     seen.set("a", "1")
    ...     seen.increment("a"), seen.get("b")
    (2, None)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bucket: HostBucket = self._do(f"cannot open bucket `{name}`", lambda: host().bucket(name))

    def get(self, key: str) -> bytes | None:
        """Returns a value; `None` where there is none, or it has expired."""
        return self._do(f"cannot read key `{key}` of bucket `{self.name}`", lambda: self._bucket.get(key))

    def get_text(self, key: str) -> str | None:
        """Returns a value as text."""
        value = self.get(key)
        return None if value is None else value.decode()

    def get_json(self, key: str, of: Any = Any) -> Any:
        """Returns a value of JSON, decoded as the type `of`; `None` where there is none."""
        value = self.get(key)
        if value is None:
            return None
        try:
            return codec_of(of).decode(jsontext.loads(value))
        except Misfit as error:
            raise Error(f"the value of key `{key}` in bucket `{self.name}` does not fit: {error.text()}") from None
        except jsontext.NotJson as error:
            raise Error(f"the value of key `{key}` in bucket `{self.name}` is no JSON: {error}") from None

    def set(self, key: str, value: Value, *, ttl: Duration | None = None) -> None:
        """Writes a value, on disk when it returns. With `ttl` it expires after that time."""
        data = _bytes(value)
        words = f"cannot write key `{key}` of bucket `{self.name}`"
        if ttl is None:
            self._do(words, lambda: self._bucket.set(key, data))
        else:
            ms = milliseconds("ttl", ttl, "10m", 1, _DAYS_MAX * 86_400_000)
            self._do(words, lambda: self._bucket.set_expiring(key, data, ms))

    def set_json(self, key: str, value: Any, *, ttl: Duration | None = None) -> None:
        """Writes a value as JSON."""
        self.set(key, jsontext.dumps(value), ttl=ttl)

    def delete(self, key: str) -> None:
        """Removes a value; one that is not there is none the less removed."""
        self._do(f"cannot delete key `{key}` of bucket `{self.name}`", lambda: self._bucket.delete(key))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return self._do(f"cannot read key `{key}` of bucket `{self.name}`", lambda: self._bucket.exists(key))

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return key in self

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Reads keys that begin with `prefix`, page by page, in the order of their bytes."""
        cursor: str | None = None
        while True:
            page, cursor = self._do(
                f"cannot list the keys of bucket `{self.name}`", functools.partial(self._bucket.keys, prefix, cursor)
            )
            yield from (key for key in page if key.startswith(prefix))
            if cursor is None:
                return

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Reads values in one go."""
        wanted = list(keys)
        values = self._do(
            f"cannot read {len(wanted)} keys of bucket `{self.name}`", lambda: self._bucket.get_many(wanted)
        )
        return dict(zip(wanted, values))

    def set_many(self, values: Mapping[str, Value] | Iterable[tuple[str, Value]]) -> None:
        """Writes values in one go."""
        pairs: Iterable[tuple[str, Value]]
        pairs = cast("Mapping[str, Value]", values).items() if isinstance(values, Mapping) else values
        written = [(key, _bytes(value)) for key, value in pairs]
        self._do(f"cannot write {len(written)} keys of bucket `{self.name}`", lambda: self._bucket.set_many(written))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Removes values in one go."""
        gone = list(keys)
        self._do(f"cannot delete {len(gone)} keys of bucket `{self.name}`", lambda: self._bucket.delete_many(gone))

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to a number in decimal text, where nothing is 0; returns the sum. No other call comes between."""
        return self._do(
            f"cannot add to key `{key}` of bucket `{self.name}`", lambda: self._bucket.increment(key, delta)
        )

    def update(self, key: str, change: Callable[[bytes | None], Value]) -> bytes:
        """Changes a value by a function of the earlier one, and returns it. Another call's change in between makes it
        try again, so `change` may run several times."""
        words = f"cannot write key `{key}` of bucket `{self.name}`"
        swap = self._do(words, lambda: self._bucket.cas(key))
        for _ in range(_UPDATES_MAX):
            held: Swap = swap
            value = _bytes(change(self._do(words, held.current)))
            newer = self._do(words, functools.partial(held.swap, value))
            if newer is None:
                return value
            swap = newer
        raise Error(f"{words}: other calls changed it {_UPDATES_MAX} times meanwhile")

    def update_json(self, key: str, change: Callable[[Any], Any], of: Any = Any) -> Any:
        """Is `update` for a value of JSON; the function gets `None` where there is none."""
        codec = codec_of(of)
        result: list[Any] = [None]

        def changed(value: bytes | None) -> bytes:
            result[0] = change(None if value is None else codec.decode(jsontext.loads(value)))
            return jsontext.dumps(result[0])

        self.update(key, changed)
        return result[0]

    def compare_and_swap(self, key: str, expected: Value | None, new: Value) -> bool:
        """Writes `new` if the value is `expected` (`None`: there is none); returns whether it was."""
        words = f"cannot write key `{key}` of bucket `{self.name}`"
        swap = self._do(words, lambda: self._bucket.cas(key))
        if self._do(words, swap.current) != (None if expected is None else _bytes(expected)):
            return False
        return self._do(words, lambda: swap.swap(_bytes(new))) is None

    def _do(self, words: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except Error as error:
            raise Error(f"{words}: {error}") from None

    def __repr__(self) -> str:
        return f"<bucket `{self.name}`>"


def open(name: str = "default") -> Bucket:
    """Opens a bucket of this app; its name has 1 to 64 bytes."""
    return Bucket(name)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(cast(bytes, value))
    raise TypeError(f"a value of a bucket is bytes or a text, not a `{type(value).__name__}`; `set_json` writes others")


__all__ = ["Bucket", "Error", "open"]

publish("bireme.kv", globals(), ["Bucket", "Error", "open"])
