"""What notebooks and terminals show: progress of a map, tables of receipts and states. Plain HTML, no widgets."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Optional

if TYPE_CHECKING:
    from .call import CallStatus
    from .maps import MapStatus
    from .receipt import Receipt

_INTERVAL_SECONDS: Final = 0.1
_SHOWN_CHARS_MAX: Final = 2_000
_BAR_WIDTH: Final = 24


def table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """Returns a table of names and values."""
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th><td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table><caption style="text-align:left">{html.escape(caption)}</caption>{cells}</table>'


def function_html(app: str, name: str, signature: str, doc: str) -> str:
    """Shows a function."""
    head = f"<code><b>{html.escape(app)}::{html.escape(name)}</b>{html.escape(signature)}</code>"
    return f"{head}<br>{html.escape(doc)}" if doc else head


def outcome_html(value: Any, receipt: Receipt | None) -> str:
    """Shows a result above its receipt."""
    shown = f"<pre>{html.escape(repr(value)[:_SHOWN_CHARS_MAX])}</pre>"
    return shown if receipt is None else shown + table("receipt", receipt.rows())


def call_html(status: CallStatus) -> str:
    """Shows a durable call."""
    rows = [("function", status.function), ("state", status.state), ("attempts", str(status.attempts))]
    if status.receipt is not None and status.is_done:
        rows += status.receipt.rows()[1:]
    return table(f"call {status.id}", rows)


def map_html(status: MapStatus) -> str:
    """Shows a map."""
    rows = [
        ("function", status.function),
        ("state", status.state),
        ("inputs", f"{status.accepted:,}"),
        ("done", f"{status.done:,}"),
        ("failed", f"{status.failed:,}"),
        ("cancelled", f"{status.cancelled:,}"),
    ]
    if status.receipt is not None:
        rows += status.receipt.rows()[1:]
    return table(f"map {status.id}", rows)


class Progress:
    """Progress of a map, shown where somebody looks: in a notebook's cell, or on a terminal's last line."""

    def __init__(self, name: str, total: int | None, is_wanted: bool) -> None:
        self._name = name
        self._total = total
        self._show = _display() if is_wanted else None
        self._began = self._shown = time.monotonic()
        self._state: tuple[int, int, int] = (0, 0, 0)

    def update(self, done: int, accepted: int = 0, failed: int = 0) -> None:
        """Shows numbers, ten times a second at most."""
        if self._show is None:
            return
        self._state = (done, accepted, failed)
        now = time.monotonic()
        if now - self._shown >= _INTERVAL_SECONDS:
            self._shown = now
            self._show.show(self._text(), self._html(), False)

    def close(self, done: int) -> None:
        """Shows the last numbers, if any were shown or it took long enough to be looked at."""
        show, self._show = self._show, None
        if show is None:
            return
        self._state = (done, *self._state[1:])
        if time.monotonic() - self._began >= _INTERVAL_SECONDS:
            show.show(self._text(), self._html(), True)

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-6)
        return f"{self._state[0] / seconds:,.0f}/s, {seconds:,.1f} s"

    def _whole(self) -> int | None:
        # What is on the host says nothing of how many there will be.
        return self._total or None

    def _text(self) -> str:
        done, _, failed = self._state
        whole = self._whole()
        of = f" of {whole:,}" if whole else ""
        bar = ""
        if whole:
            filled = min(_BAR_WIDTH * done // whole, _BAR_WIDTH)
            bar = f" [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}]"
        failures = f", {failed:,} failed" if failed else ""
        return f"map {self._name}{bar} {done:,}{of}{failures}, {self._rate()}"

    def _html(self) -> str:
        whole = self._whole()
        bar = f'<progress value="{min(self._state[0], whole)}" max="{whole}"></progress> ' if whole else ""
        return bar + html.escape(self._text() if not whole else self._text().replace(f"{self._bar()} ", " ", 1))

    def _bar(self) -> str:
        text = self._text()
        return text[text.index(" [") : text.index("]") + 1]


class _Terminal:
    def show(self, text: str, html: str, is_last: bool) -> None:
        print(f"\r\x1b[K{text}", end="\n" if is_last else "", file=sys.stderr, flush=True)


class _Notebook:
    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str, html: str, is_last: bool) -> None:
        display: Any = sys.modules["IPython"].display
        shown = {"text/html": html, "text/plain": text}
        if self._handle is None:
            self._handle = display.display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def _display() -> Optional[_Terminal | _Notebook]:
    ipython: Any = sys.modules.get("IPython")
    if ipython is not None:
        shell: Any = ipython.get_ipython()
        # A kernel's shell, not the one of a terminal.
        if shell is not None and getattr(shell, "kernel", None) is not None:
            import importlib

            importlib.import_module("IPython.display")
            return _Notebook()
    try:
        return _Terminal() if sys.stderr.isatty() else None
    except (AttributeError, ValueError):
        return None
