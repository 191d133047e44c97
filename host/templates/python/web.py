"""Answers HTTP requests: a page with a form, and the same as JSON. Try it, from this folder: `bireme dev .`, then open
http://127.0.0.1:8080/NAME/ in a browser, and `pytest`.
"""

import html
from dataclasses import dataclass

from bireme import App, Html

app = App("NAME")


@dataclass
class Greeting:
    """A text and its length."""

    text: str
    letters: int


@app.web("GET /hello/{name}")
def hello(name: str) -> Greeting:
    """Greets somebody, as JSON; `name` is a part of the path."""
    return Greeting(text=f"hello, {name}", letters=len(name))


@app.web("GET /", timeout="1s")
def home(name: str | None = None) -> Html:
    """The page; `name` comes from its form, through the query."""
    greeting = hello(name).text if name else ""
    return Html(
        f"<!doctype html><title>hello</title><h1>{html.escape(greeting)}</h1>"
        "<form><input name=name placeholder='your name' autofocus> <button>Greet</button></form>"
    )
