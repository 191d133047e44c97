"""Import of modules that the host reads: the app's, its requirements', and the rest of the standard library."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bireme._sdk import frames

#: Roots of the host's files, in the order in which they are searched.
APP, STANDARD, LIBRARY = "app/", "std/", "lib/"
_ROOTS = (APP, STANDARD, LIBRARY)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finder and loader of every module that is not in the base."""

    def __init__(self, read: Callable[[str], bytes | None], list_: Callable[[str], Sequence[str] | None]) -> None:
        self._read = read
        self._list = list_
        self._is_closed = False
        self._open = io.open
        #: Files of the app that were loaded, as their tracebacks name them.
        self._files: set[str] = set()
        self._places: dict[str, str] = {}

    def install(self) -> None:
        """Takes the place of the finders that read a disk."""
        sys.path[:] = []
        sys.path_hooks[:] = []
        sys.path_importer_cache.clear()
        sys.meta_path[:] = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder]
        sys.meta_path.append(self)
        io.open = self.open  # type: ignore[assignment]
        __builtins__["open"] = self.open  # type: ignore[index]

    def close(self) -> None:
        """From now on there are no files, since the host's are gone once the snapshot is taken."""
        self._is_closed = True

    def is_author(self, filename: str) -> bool:
        """Whether a file is one of the app's."""
        return filename in self._files

    def place_of(self, module: str) -> str:
        """Returns the file of a module."""
        return self._places.get(module, module)

    # Finder.

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Finds a module in the roots, or says why it cannot be imported now."""
        if self._is_closed:
            self._refuse(fullname)
        tail = fullname.replace(".", "/")
        is_directory = False
        for root in _ROOTS if path is None else _roots_of(path):
            base = f"{root}{tail}"
            for file, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
                data = self._read(file)
                if data is not None:
                    return self._spec(fullname, file, data, [base] if is_package else None)
            is_directory = is_directory or self._list(base) is not None
        if is_directory:
            # A directory without `__init__.py` is a package all the same.
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [f"{root}{tail}" for root in _ROOTS]
            return spec
        return None

    def _spec(self, fullname: str, file: str, data: bytes, locations: list[str] | None) -> Any:
        shown = shown_name(file)
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=shown, is_package=locations is not None)
        if locations is not None:
            spec.submodule_search_locations = locations
        spec.has_location = True
        spec.loader_state = (file, data)
        return spec

    def _refuse(self, fullname: str) -> None:
        top = fullname.partition(".")[0]
        raise ModuleNotFoundError(
            f"`{fullname}` was imported inside the function; write `import {top}` at the top of the file, since the "
            "modules of an app are loaded once, before its calls",
            name=fullname,
        )

    # Loader.

    def create_module(self, spec: Any) -> None:
        """Leaves the making of the module to Python."""

    def exec_module(self, module: Any) -> None:
        """Runs a module."""
        spec = module.__spec__
        file, data = spec.loader_state
        spec.loader_state = None
        if file.startswith(APP):
            self._files.add(spec.origin)
            self._places[spec.name] = spec.origin
            frames.remember(spec.origin, data.decode("utf-8", "replace"))
        code = compile(data, spec.origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def get_data(self, path: str) -> bytes:
        """Reads a file beside a module; of `pkgutil.get_data`."""
        with self.open(path, "rb") as file:
            data: bytes = file.read()
        return data

    def get_source(self, fullname: str) -> str | None:
        """Returns the source of a module; of `inspect`."""
        return None

    def is_package(self, fullname: str) -> bool:
        """Whether a module is a package."""
        return hasattr(sys.modules.get(fullname), "__path__")

    # Files.

    def open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Is `open` for the files of the app, while it is loaded; a sandbox has no others."""
        if not isinstance(file, (str, os.PathLike)) or set(mode) & set("wax+"):
            return self._open(file, mode, *args, **kwargs)
        name = os.fspath(file)
        path = os.path.normpath(name).lstrip("/")
        if self._is_closed:
            raise FileNotFoundError(
                f"`{name}` was opened inside the function, and a sandbox has no files; read it at the top of the file, "
                "once for all calls, or keep values in `bireme.kv`"
            )
        for root in (APP, "", LIBRARY):
            if (data := self._read(_real_name(root, path))) is not None:
                raw = io.BytesIO(data)
                return raw if "b" in mode else io.TextIOWrapper(raw, kwargs.get("encoding") or "utf-8")
        raise FileNotFoundError(f"`{name}` is not a file of the app")

    def get_resource_reader(self, fullname: str) -> Reader:
        """Reads files of a package; of `importlib.resources`."""
        locations = getattr(sys.modules.get(fullname), "__path__", None)
        return Reader(Node(self, next(iter(locations)) if locations else ""))

    def data(self, path: str) -> bytes | None:
        """Returns the bytes of a file, by its path below the roots; none once the host's files are gone."""
        return None if self._is_closed else self._read(path)

    def names(self, path: str) -> Sequence[str] | None:
        """Returns the names in a directory, by its path below the roots."""
        return None if self._is_closed else self._list(path)

    # Metadata of requirements.

    def find_distributions(self, context: Any) -> Iterable[Any]:
        """Finds what `importlib.metadata` asks for."""
        import importlib.metadata

        finder = self

        class Distribution(importlib.metadata.Distribution):
            def __init__(self, directory: str) -> None:
                self._directory = directory

            def read_text(self, filename: str) -> str | None:
                data = finder.data(f"{self._directory}{filename}")
                return None if data is None else data.decode()

            def locate_file(self, path: Any) -> Any:
                return path

        wanted = None if context.name is None else _normal(context.name)
        for name in self.names(LIBRARY.rstrip("/")) or ():
            if name.endswith(".dist-info/") and wanted in (None, _normal(name.partition("-")[0])):
                yield Distribution(f"{LIBRARY}{name}")


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _roots_of(path: Any) -> list[str]:
    """Returns the roots in which the submodules of a package are: the package's own, or all for a namespace."""
    roots = [root for root in _ROOTS if any(str(entry).startswith(root) for entry in path)]
    return roots or list(_ROOTS)


def shown_name(file: str) -> str:
    """Returns a file's name in tracebacks: that of an app's own is relative to the app."""
    if file.startswith(APP):
        return file.removeprefix(APP)
    root = STANDARD if file.startswith(STANDARD) else LIBRARY
    return f"<{'python' if root == STANDARD else 'requirements'}>/{file.removeprefix(root)}"


def _real_name(root: str, path: str) -> str:
    if path.startswith("<requirements>/"):
        return LIBRARY + path.removeprefix("<requirements>/")
    return root + path


class Node:
    """A file or directory of a package, as `importlib.resources` asks for it (`Traversable`)."""

    def __init__(self, finder: Finder, path: str) -> None:
        self._finder = finder
        self._path = path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.rpartition("/")[2]

    def joinpath(self, *parts: str) -> Node:
        """Returns what lies below it."""
        return Node(self._finder, os.path.normpath("/".join([self._path, *map(str, parts)])))

    __truediv__ = joinpath

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self._finder.names(self._path) is not None

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._finder.data(self._path) is not None

    def iterdir(self) -> Iterator[Node]:
        """Yields what lies in the directory."""
        for name in self._finder.names(self._path) or ():
            yield self.joinpath(name.rstrip("/"))

    def read_bytes(self) -> bytes:
        """Returns the bytes of the file."""
        data = self._finder.data(self._path)
        if data is None:
            raise FileNotFoundError(f"`{shown_name(self._path)}` is not there; resources are read at the top of a file")
        return data

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Returns the text of the file."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", encoding: str | None = None, errors: str | None = None) -> Any:
        """Opens the file."""
        raw = io.BytesIO(self.read_bytes())
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding or "utf-8", errors)


class Reader:
    """Files of one package (`TraversableResources`)."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def files(self) -> Node:
        """Returns the package's directory."""
        return self._node
