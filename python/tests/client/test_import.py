"""What an import does: a sandbox has no sockets and no threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2]


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_imports_no_client_by_itself() -> None:
    code = """
import sys
import bireme
loaded = [name for name in ("bireme._client", "socket", "ssl", "threading", "asyncio", "http.client") if name in sys.modules]
print(loaded, bireme.Error("x").code)
"""
    assert _run(code) == "[] unavailable"


def test_every_name_of_the_client_is_there() -> None:
    code = "import bireme; print(all(getattr(bireme, name) is not None for name in bireme.__all__), len(dir(bireme)))"
    found, count = _run(code).split()
    assert found == "True" and int(count) >= 23


def test_the_client_starts_no_thread_and_opens_no_connection() -> None:
    code = """
import socket, sys, threading
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = refuse
import bireme
bireme.Host("http://127.0.0.1:9"), bireme.connect("http://127.0.0.1:9"), bireme.Function
print(threading.active_count(), "asyncio" in sys.modules, "numpy" in sys.modules)
"""
    assert _run(code).split()[0] == "1"


def test_a_wrong_name_is_an_attribute_error() -> None:
    assert _run("import bireme\ntry: bireme.nothing\nexcept AttributeError as error: print(error)").endswith("`nothing`")
