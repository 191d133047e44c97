"""Writes what is left of the standard library to a zip file: ``standard_library.py OUT.zip python/bireme``.

componentize-py carries the library of its CPython as a compressed tar within its own code. The zip is the same in each
run: names in order, no times, uncompressed, since compressors differ and packages compress it whole. The host serves
its files below `std/` while an app is loaded.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator

import componentize_py
import zstandard

# What has no use in a sandbox: windows, other interpreters, tools, tests.
_LEFT_OUT = re.compile(
    r"(idlelib|tkinter|turtledemo|test|ensurepip|venv|pydoc_data|_pyrepl|lib2to3|curses|ctypes|dbm|multiprocessing)/"
    r"|(turtle|pdb|bdb|cProfile|profile|pstats|antigravity|this|__hello__|_ios_support|_android_support|_apple_support"
    r"|_sysconfigdata\w*|sysconfig/__main__)\.py$"
    r"|.*(/tests?/|\.pyc$|\.exe$|\.txt$)"
)

_LATE = ("_sdk/coroutines.py", "_sdk/fakes.py", "_sdk/host/native.py", "_sdk/testing.py", "testing.py")

_ZSTD = b"\x28\xb5\x2f\xfd"


def _archives(data: bytes) -> list[tarfile.TarFile]:
    found: list[tarfile.TarFile] = []
    at = data.find(_ZSTD)
    while at >= 0:
        try:
            content = zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
        except zstandard.ZstdError:
            content = b""
        if content[257:262] == b"ustar":
            found.append(tarfile.open(fileobj=io.BytesIO(content)))
        at = data.find(_ZSTD, at + 1)
    return found


def main(out: str, sdk: str) -> None:
    """Finds the library and writes it."""
    module = componentize_py.__file__
    assert module is not None
    binary = module.replace("__init__.py", "componentize_py.abi3.so")
    with open(binary, "rb") as file:
        archives = _archives(file.read())
    library = next(archive for archive in archives if "traceback.py" in archive.getnames())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for name, content in sorted([*_library(library), *_sdk(sdk)]):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            target.writestr(entry, content)


def _library(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive.getmembers():
        name = member.name.removeprefix("./")
        content = archive.extractfile(member)
        if content is not None and not _LEFT_OUT.match(name):
            yield name, content.read()


def _sdk(directory: str) -> Iterator[tuple[str, bytes]]:
    """Yields what the base leaves out of the SDK: coroutines, which need `asyncio`, and the fakes of tests."""
    for name in _LATE:
        with open(f"{directory}/{name}", "rb") as file:
            yield f"bireme/{name}", file.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
