"""Hosts and components for the tests of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import bireme
from running import Running, build


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No host or token of the person who runs the tests."""
    for name in ("BIREME_HOST", "BIREME_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIREME_DATA", str(tmp_path / "nothing"))


@pytest.fixture(scope="session")
def hello() -> Path:
    """Component of `examples/hello`."""
    return build("examples/hello")


@pytest.fixture(scope="session")
def authored() -> Path:
    """Component with one function for each thing that an author can use."""
    return build("host/tests/guests/authored")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, hello: Path, authored: Path) -> Iterator[Running]:
    """One host for all tests that do not end theirs."""
    host = Running(tmp_path_factory.mktemp("host"))
    try:
        host.deploy(hello)
        host.deploy(authored)
        yield host
    finally:
        host.stop()


@pytest.fixture
def host(running: Running) -> Iterator[bireme.Host]:
    """The client of that host, as the one of the process."""
    connected = bireme.connect(running.url, running.token)
    yield connected
    connected.close()


@pytest.fixture
def own(tmp_path: Path, authored: Path) -> Iterator[Running]:
    """A host of the test's own, to be killed."""
    data = tmp_path / "data"
    data.mkdir()
    host = Running(data)
    try:
        host.deploy(authored)
        yield host
    finally:
        host.stop()
