"""The page for users: its blocks of Python run, and print what stands behind them."""

from __future__ import annotations

import contextlib
import io
import re

import bireme
from running import REPOSITORY

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_page_print_what_it_says(host: bireme.Host) -> None:
    page = (REPOSITORY / "docs/python-client.md").read_text()
    blocks = _BLOCK.findall(page)
    names: dict[str, object] = {}
    shown = 0
    for (language, code), (following, expected) in zip(blocks, blocks[1:]):
        if language != "python":
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "python-client.md", "exec"), names)
        assert following == "text" and output.getvalue() == expected, code
        shown += 1
    assert shown >= 6


def test_every_name_of_the_page_is_there() -> None:
    page = (REPOSITORY / "docs/python-client.md").read_text()
    for name in re.findall(r"^\| `(\w+)`(?:, also[^|]*)? \| `", page, re.MULTILINE):
        assert issubclass(getattr(bireme, name), bireme.Error), name
