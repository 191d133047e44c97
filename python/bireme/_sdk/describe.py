"""The metadata document of an app: the result of `describe`, in the shape of `docs/metadata.md`."""

from __future__ import annotations

from typing import Any

from . import jsontext
from .app import App
from .web import route

_FORMAT = 1


def document(app: App, name: str = "", version: str = "", description: str = "") -> dict[str, Any]:
    """Returns the document. Raises `TypeError` where a type of a function has no form in JSON.

    Name, version and description are those of the app's directory, where its source gives none.
    """
    entries = sorted(app.entries.values(), key=lambda entry: entry.name)
    errors = route.conflicts(entries)
    return {
        "format": _FORMAT,
        "app": {
            "name": app.name or name or "app",
            "version": app.version or version,
            "description": app.description or description,
        },
        "functions": [] if errors else [entry.describe() for entry in entries],
        **({"errors": errors} if errors else {}),
    }


def describe(app: App, name: str = "", version: str = "", description: str = "") -> str:
    """Returns the document as JSON."""
    return jsontext.dumps(document(app, name, version, description)).decode()
