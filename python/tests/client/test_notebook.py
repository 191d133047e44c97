"""What notebooks and terminals are shown."""

from __future__ import annotations

import sys
import time
import types
from typing import Any

import pytest

import bireme
from bireme import Function
from bireme._client import notebook
from bireme._client.receipt import Receipt


class _Handle:
    def __init__(self, shown: list[dict[str, str]]) -> None:
        self._shown = shown

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self._shown.append(data)


def test_a_notebook_shows_the_progress_in_one_place(host: bireme.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    displays = 0

    def display(data: dict[str, str], raw: bool, display_id: bool) -> _Handle:
        nonlocal displays
        displays += 1
        shown.append(data)
        return _Handle(shown)

    module: Any = types.ModuleType("IPython")
    module.display = types.ModuleType("IPython.display")
    module.display.display = display
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    assert list(Function.lookup("authored", "nap").map([200, 200, 1])) == [200, 200, 1]
    assert displays == 1 and "3 of 3" in shown[-1]["text/plain"]
    assert '<progress value="3" max="3">' in shown[-1]["text/html"]
    count = len(shown)
    list(Function.lookup("authored", "nap").map([200], progress=False))
    assert len(shown) == count


def test_a_terminal_has_one_line_and_a_pipe_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = notebook.Progress("x", 10, True)
    progress.update(3)
    progress.close(10)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = notebook.Progress("x", 10, True)
    time.sleep(0.15)
    progress.update(3, failed=1)
    progress.update(4)
    progress.close(10)
    text = capsys.readouterr().err
    assert text.count("\r") == 2 and "3 of 10, 1 failed" in text and text.endswith("s\n")


def test_what_is_shown_as_html_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    for shown in (
        notebook.table(evil, [(evil, evil)]),
        notebook.function_html(evil, evil, evil, evil),
        notebook.outcome_html(evil, Receipt({"host_calls": {evil: {"count": 1, "wall_us": 1}}})),
        notebook.outcome_html(evil, Receipt({"inference": {"device": evil}})),
    ):
        assert "<script" not in shown and "&lt;script" in shown


def test_a_receipt_of_anything_can_be_shown() -> None:
    for fields in ({}, {"wall_us": "x", "host_calls": 3}, {"inference": {"device_us": None}}, {"host_calls": {"a": 1}}):
        assert "<table>" in Receipt(fields)._repr_html_() and str(Receipt(fields))
    assert Receipt.of_headers({"bireme-receipt": "{nonsense"}) is None
