"""Headers: names in any case, values in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Union, cast

HeadersLike = Union[Mapping[str, str], Iterable[tuple[str, str]], "Headers"]


class Headers(Mapping[str, str]):
    """Headers of a request or response. ``headers["content-type"]`` is the first value of that name.

    >>> Headers({"Content-Type": "text/html"})["content-type"]
    'text/html'
    """

    def __init__(self, headers: HeadersLike = ()) -> None:
        pairs: Iterable[tuple[str, str]]
        if isinstance(headers, Headers):
            pairs = headers.all()
        elif isinstance(headers, Mapping):
            pairs = cast("Mapping[str, str]", headers).items()
        else:
            pairs = headers
        self._pairs = [(str(name), str(value)) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for known, value in self._pairs:
            if known.lower() == wanted:
                return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(known.lower() == name.lower() for known, _ in self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})

    def get_all(self, name: str) -> list[str]:
        """Returns every value of a name."""
        return [value for known, value in self._pairs if known.lower() == name.lower()]

    def all(self) -> list[tuple[str, str]]:
        """Returns names and values in their order."""
        return list(self._pairs)

    def set(self, name: str, value: str) -> None:
        """Sets the only value of a name."""
        self.remove(name)
        self._pairs.append((name, value))

    def add(self, name: str, value: str) -> None:
        """Adds a value."""
        self._pairs.append((name, value))

    def remove(self, *names: str) -> None:
        """Removes every value of some names."""
        gone = {name.lower() for name in names}
        self._pairs = [pair for pair in self._pairs if pair[0].lower() not in gone]

    def raw(self) -> list[tuple[str, bytes]]:
        """Returns them as they travel."""
        return [(name, value.encode("latin-1", "replace")) for name, value in self._pairs]

    @classmethod
    def of_raw(cls, headers: Iterable[tuple[str, bytes]]) -> Headers:
        """Reads them as they travel; what is not UTF-8 is Latin-1."""
        return cls((name, _text(value)) for name, value in headers)

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
