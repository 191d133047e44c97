"""The loader's finder: modules, packages, files and metadata of an app and its requirements, from a host's files."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "base"))

import finder as loader

FILES = {
    "app/t_main.py": "import t_pkg.part, t_names.inner\nvalue = t_pkg.part.value + t_names.inner.value\n",
    "app/t_names/inner.py": "value = 1\n",
    "app/t_bad.py": "def f():\n    return 1 // 0\n",
    "app/words.txt": "two decks\n",
    "std/t_standard.py": "value = 'standard'\n",
    "lib/t_standard.py": "value = 'requirement'\n",
    "lib/t_pkg/__init__.py": "",
    "lib/t_pkg/part.py": "value = 41\n",
    "lib/t_pkg/data/table.csv": "a,b\n",
    "lib/T_Pkg-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: T-Pkg\nVersion: 1.2\n",
}


def read(path: str) -> bytes | None:
    assert not path.startswith("/") and ".." not in path.split("/"), path
    text = FILES.get(path)
    return None if text is None else text.encode()


def list_(path: str) -> Sequence[str] | None:
    prefix = path.rstrip("/") + "/"
    below = sorted({name.removeprefix(prefix) for name in FILES if name.startswith(prefix)})
    names = [name if "/" not in name else name.partition("/")[0] + "/" for name in below]
    return sorted(set(names)) or None


@pytest.fixture
def found() -> Iterator[Any]:
    finder = loader.Finder(read, list_)
    sys.meta_path.append(finder)
    yield finder
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.startswith("t_")]:
        del sys.modules[name]


def test_modules_come_from_the_app_the_standard_library_and_the_requirements(found: Any) -> None:
    assert importlib.import_module("t_main").value == 42
    assert importlib.import_module("t_standard").value == "standard"
    assert found.place_of("t_main") == "t_main.py"
    assert found.is_author("t_main.py") and not found.is_author("<requirements>/t_pkg/part.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("t_none")


def test_a_traceback_has_the_authors_lines(found: Any) -> None:
    from bireme._sdk import frames

    module = importlib.import_module("t_bad")
    rule = frames.is_author
    frames.use(found.is_author)
    try:
        module.f()
    except ZeroDivisionError as error:
        assert frames.lines(error) == ["t_bad.py, line 2, in f: return 1 // 0"]
        assert frames.text(error).splitlines()[:3] == [
            "Traceback (most recent call last):",
            '  File "t_bad.py", line 2, in f',
            "    return 1 // 0",
        ]
    finally:
        frames.use(rule)


def test_files_of_the_app_are_read_while_it_is_loaded(found: Any) -> None:
    with found.open("words.txt") as file:
        assert file.read() == "two decks\n"
    with found.open("/words.txt", "rb") as file:
        assert file.read() == b"two decks\n"
    with pytest.raises(FileNotFoundError, match="`none.txt` is not a file of the app"):
        found.open("none.txt")


def test_packages_have_their_files_and_versions(found: Any) -> None:
    importlib.import_module("t_pkg")
    table = importlib.resources.files("t_pkg").joinpath("data", "table.csv")
    assert table.is_file() and table.read_text() == "a,b\n"
    assert [node.name for node in importlib.resources.files("t_pkg").iterdir()] == ["__init__.py", "data", "part.py"]
    assert importlib.metadata.version("t-pkg") == "1.2"


def test_nothing_is_imported_or_opened_once_the_snapshot_is_taken(found: Any) -> None:
    found.close()
    with pytest.raises(
        ModuleNotFoundError, match="`t_pkg` was imported inside the function; write `import t_pkg` at the"
    ):
        importlib.import_module("t_pkg")
    with pytest.raises(FileNotFoundError, match="a sandbox has no files; read it at the top of the file"):
        found.open("words.txt")
