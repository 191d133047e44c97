"""URLs: absolute `http` and `https` ones. Percent-encodes what a request cannot carry, decodes nothing."""

from __future__ import annotations

from urllib.parse import quote, urljoin

_SAFE = "/%:@!$&'()*+,;=~-._[]"


class UrlError(ValueError):
    """A text that is no URL of a request."""

    is_terminal = True


class Url:
    """An absolute URL, in its parts.

    >>> Url("https://example.com/a b?q=1#top").path_with_query
    '/a%20b?q=1'
    """

    def __init__(self, text: str) -> None:
        def wrong(reason: str) -> UrlError:
            return UrlError(f"cannot ask for `{text}`: {reason}")

        if any(ord(c) < 0x20 or c == "\x7f" for c in text):
            raise wrong("it has a control character")
        rest, _, self.fragment = text.strip().partition("#")
        scheme, separator, rest = rest.partition(":")
        if not separator or "/" in scheme:
            raise wrong("it has no scheme; begin it with `https://`")
        self.scheme = scheme.lower()
        if self.scheme not in ("http", "https"):
            raise wrong(f"`{scheme}` is not `http` or `https`")
        if not rest.startswith("//"):
            raise wrong("`//` and a host must follow the scheme")
        rest, mark, query = rest[2:].partition("?")
        authority, slash, path = rest.partition("/")
        if not authority or authority.startswith(":"):
            raise wrong("it has no host")
        if "@" in authority:
            raise wrong("a user name or password in a URL is not sent; use `auth=` or an `authorization` header")
        self.authority = _ascii_host(authority)
        self.path = quote(slash + path, safe=_SAFE) or "/"
        self.query = quote(query, safe=_SAFE + "?") if mark else None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def path_with_query(self) -> str:
        """Path and query, as in a request."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def join(self, reference: str) -> Url:
        """Resolves a reference from a page or a `location` header."""
        return Url(urljoin(str(self), reference))

    def __str__(self) -> str:
        return f"{self.origin}{self.path_with_query}{'#' if self.fragment else ''}{self.fragment}"


def _ascii_host(authority: str) -> str:
    if authority.isascii():
        return authority.lower()
    host, colon, port = authority.partition(":")
    labels: list[str] = []
    for label in host.lower().split("."):
        # The codec `punycode` is one of the interpreter's own tables, where `idna` reads `stringprep`.
        labels.append(label if label.isascii() else "xn--" + label.encode("punycode").decode())
    return ".".join(labels) + colon + port
