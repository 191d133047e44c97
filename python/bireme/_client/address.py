"""Where a host is, and the token for it: arguments, environment, data directory, this machine's default port.

The same order as the command line's: an address that was given, then control sockets that answer, then port 8080.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional
from urllib.parse import urlsplit

from ..errors import HostUnreachable, InvalidInput

DEFAULT = "http://127.0.0.1:8080"
# Data directory of the service that the packages install.
_SERVICE = Path("/var/lib/bireme")
_SOCKET, _TOKEN = "run/control.sock", "token"
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class Address:
    """Address of one host."""

    kind: Literal["tcp", "tls", "unix"]
    #: Name or IP address, or the path of the socket.
    host: str
    port: int
    #: As people write it.
    url: str
    #: Not shown by `repr`, which ends up in notebooks and logs.
    token: Optional[str] = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """Value of the `host` header."""
        if self.kind == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def unreachable(self, reason: str) -> HostUnreachable:
        """Returns the error for a host that does not answer."""
        hint = "start one with `bireme serve`, or name another with `bireme.connect(URL)` or BIREME_HOST"
        return HostUnreachable(f"no host answers at {self.url} ({reason})", hint=hint)


def find(url: str | None = None, token: str | None = None) -> Address:
    """Returns the address of `url`, else of BIREME_HOST, else of this machine's own host."""
    url = url or os.environ.get("BIREME_HOST") or None
    if url is not None:
        return parse(url, token)
    for directory in _data_directories():
        path = directory / _SOCKET
        if _answers(path):
            return Address("unix", str(path), 0, f"unix:{path}", token)
    return parse(DEFAULT, token)


def parse(url: str, token: str | None = None) -> Address:
    """Reads an address: `http://HOST:PORT`, `https://…`, `HOST:PORT` or `unix:PATH`."""
    if url.startswith("unix:"):
        path = url[len("unix:") :]
        path = path[2:] if path.startswith("//") else path
        # The kernel tells the host who has connected, so no token is looked up.
        return Address("unix", path, 0, f"unix:{path}", token)
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, None
    if parts is None or not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query:
        raise InvalidInput(f"{url!r} is no address of a host", code="usage", hint=f"write it as {DEFAULT}")
    if parts.username is not None:
        raise InvalidInput("an address has no user in it", code="usage", hint="pass `token=`, or set BIREME_TOKEN")
    is_tls = parts.scheme == "https"
    port = port or (443 if is_tls else 80)
    token = token or os.environ.get("BIREME_TOKEN") or None
    # The token of this machine's host is for no other machine.
    if token is None and _is_loopback(host):
        token = _stored_token()
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidInput("the token has characters that no token has", code="usage", hint="`bireme token` prints it")
    shown = f"[{host}]" if ":" in host else host
    return Address("tls" if is_tls else "tcp", host, port, f"{parts.scheme}://{shown}:{port}", token)


def _data_directories() -> list[Path]:
    given = os.environ.get("BIREME_DATA")
    if given:
        return [Path(given)]
    try:
        home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    except RuntimeError:
        return [_SERVICE]
    return [home / "bireme", _SERVICE]


def _stored_token() -> str | None:
    for directory in _data_directories():
        try:
            token = (directory / _TOKEN).read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if token:
            return token
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answers(path: Path) -> bool:
    # A host that was killed leaves its socket behind.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
