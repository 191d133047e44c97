"""Web functions: plain functions that answer HTTP requests.

>>> from bireme import App, Html, testing, web
>>> app = App("notes")
>>> @app.web("GET /pages/{id}")
... def page(id: int, words: int = 20) -> Html:
...     return Html(f"<h1>{id}</h1><p>{words} words")
>>> testing.web(app, "GET", "/pages/7?words=3").text
'<h1>7</h1><p>3 words'
>>> testing.web(app, "GET", "/pages/x").json()["detail"]
'parameter `id` of the path: expected an integer, found `x`'

A parameter that is named in the route comes from the path. Of the others, a dataclass, a ``TypedDict`` or a ``dict``
is the body as JSON, ``Form[T]`` a posted form, ``bytes`` the body as it is, `Body` the body streamed, `Request`
everything; any other type is a parameter of the query.

A function returns `Html`, a text, bytes, `Response`, `Redirect`, `Stream`, or anything that has JSON; an iterator is a
stream, and ``None`` is a 204. It raises `Problem` for an answer with a status of its own.
"""

from html import escape

from ..public import publish
from .body import BODY_BYTES_MAX, Body
from .parameters import Form, Json
from .problem import Problem
from .request import Request
from .responses import Html, Redirect, Response, Stream

__all__ = [
    "BODY_BYTES_MAX",
    "Body",
    "Form",
    "Html",
    "Json",
    "Problem",
    "Redirect",
    "Request",
    "Response",
    "Stream",
    "escape",
]

publish("bireme.web", globals(), __all__)
