"""A real host for tests: the binary on a free port with a data directory of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
_START_SECONDS = 60


def binary() -> Path:
    """The host: BIREME_BINARY, or the debug build of the repository."""
    path = Path(os.environ.get("BIREME_BINARY") or REPOSITORY / "target/debug/bireme")
    assert path.is_file(), f"{path} is missing: `cargo build`, or set BIREME_BINARY"
    return path


def command(*arguments: str, data: Path) -> str:
    """Runs a command of the binary; returns its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BIREME_")}
    environment["BIREME_DATA"] = str(data)
    done = subprocess.run([binary(), *arguments], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def build(app: str) -> Path:
    """Builds an app of the repository, with what earlier runs compiled; returns its component."""
    data = REPOSITORY / "target/python-builds"
    data.mkdir(parents=True, exist_ok=True)
    text = command("build", str(REPOSITORY / app), data=data)
    found = re.search(r"^(/.*\.bireme\.wasm)", text, re.MULTILINE)
    assert found, text
    return Path(found[1])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A host. It can be killed and started again on its port and data."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it takes calls."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("BIREME_")}
        environment["BIREME_DATA"] = str(self.data)
        log = open(self.data.parent / f"{self.data.name}.log", "ab")
        with log:
            self._process = subprocess.Popen(
                [binary(), "serve", "--listen", f"127.0.0.1:{self.port}", *self._options],
                env=environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < until, "the host does not start"
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                return connection.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    @property
    def token(self) -> str:
        """Token of its control API."""
        return (self.data / "token").read_text().strip()

    def deploy(self, component: Path) -> None:
        """Deploys a component, with all that it declares."""
        command("deploy", str(component), "--accept", "--host", self.url, data=self.data)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(60)
