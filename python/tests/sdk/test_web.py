"""Web functions: routes, parameters, results, problems."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import pytest

from bireme import App, Bytes, Html, Problem, Redirect, Request, Response, Stream, testing, web
from bireme._sdk.web import route


class Order(enum.Enum):
    NEWEST = "newest-first"
    OLDEST = "oldest-first"


@dataclass
class Note:
    text: str
    stars: Optional[int] = None
    tags: list[str] = field(default_factory=list)


def answer(routes: list[str], method: str, path: str) -> str | None:
    parts = route.split(path)
    if parts is None:
        return None
    fitting = [known for known in map(route.read, routes) if known.takes(method) and known.fit(parts) is not None]
    return min(fitting, key=lambda known: known.precedence(method)).text if fitting else None


# The host has the same table (`host/src/app/route.rs`), and so has the Rust SDK, so that all find the same route.
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "GET /"),
        ("GET", "/pages/7", "GET /pages/{id}"),
        ("GET", "/pages/new", "GET /pages/new"),
        ("HEAD", "/pages/new", "HEAD /pages/new"),
        ("HEAD", "/pages/7", "GET /pages/{id}"),
        ("POST", "/pages/new", "POST /pages/{id}"),
        ("GET", "/pages/", "GET /{*rest}"),
        ("GET", "/pages/a%2Fb", "GET /pages/{id}"),
        ("GET", "/p%61ges/new", "GET /pages/new"),
        ("GET", "/pages/new/7", "GET /{a}/new/{b}"),
        ("GET", "/x/y/z", "GET /{*rest}"),
        ("POST", "/x/y/z", None),
        ("GET", "/pages/%zz", None),
        ("GET", "/pages/%ff", None),
    ],
)
def test_the_most_particular_route_answers(method: str, path: str, expected: str | None) -> None:
    routes = [
        "GET /",
        "GET /pages/{id}",
        "GET /pages/new",
        "POST /pages/{id}",
        "GET /{*rest}",
        "GET /{a}/new/{b}",
        "HEAD /pages/new",
    ]
    assert answer(routes, method, path) == expected


def test_a_path_gives_its_parameters_decoded() -> None:
    parts = route.split("/a%20b/x/y%2Fz")
    assert parts is not None
    assert route.read("GET /{one}/{*rest}").fit(parts) == {"one": "a b", "rest": "x/y/z"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/pages", "write a method and a path"),
        ("FETCH /", "`FETCH` is no method"),
        ("GET pages", "the path begins with `/`"),
        ("GET /a?b", "no query"),
        ("GET /a{b}", "braces stand around a whole segment"),
        ("GET /{*a}/b", "so it stands at the end"),
        ("GET /{a}/{a}", "`a` stands in it twice"),
        ("GET /" + "a/" * 40, "over 32 segments"),
    ],
)
def test_a_text_that_is_no_route_is_refused_where_it_is_written(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        App("a").web(text)
    assert words in str(caught.value)


def app() -> App:
    app = App("notes")

    @app.web("GET /pages/{id}")
    def page(id: int, words: int = 20, order: Optional[Order] = None, tag: list[str] = [], all: bool = False) -> Html:
        return Html(f"{id} {words} {order and order.name} {tag} {all}")

    @app.web("PUT /notes/{id}")
    def put(id: int, note: Note) -> Note:
        note.tags.append(str(id))
        return note

    @app.web("POST /sum")
    def total(numbers: web.Json[list[float]]) -> float:
        return sum(numbers)

    @app.web("POST /sign")
    def sign(note: web.Form[Note]) -> Redirect:
        return Redirect(f"/notes/{note.text}-{note.stars}-{len(note.tags)}")

    @app.web("POST /bytes")
    def raw(data: bytes) -> Bytes:
        return Bytes(data * 2, getattr(data, "content_type", ""))

    @app.web("POST /lines")
    def lines(body: web.Body) -> str:
        return str(len(list(body.lines())))

    @app.web("* /mirror/{*path}")
    def mirror(request: Request) -> str:
        return f"{request.method} {request.path_values['path']} {request.query_values('q')} {request.url('/x')}"

    @app.web("GET /count")
    def count(to: int) -> Iterator[str]:
        return (f"{n}\n" for n in range(to))

    @app.web("GET /squares")
    def squares() -> Iterator[dict[str, int]]:
        for n in range(3):
            yield {"n": n * n}

    @app.web("GET /cut")
    def cut() -> Stream:
        def parts() -> Iterator[str]:
            yield "a"
            raise ValueError("midway")

        return Stream(parts())

    @app.web("GET /nothing")
    def nothing() -> None: ...

    @app.web("GET /either")
    def either(go: bool = False) -> Union[Html, Redirect]:
        return Redirect("https://example.com/", 308) if go else Html("<p>")

    @app.web("GET /missing")
    def missing() -> str:
        raise Problem(404, "no page `7`", code="no-page")

    @app.web("GET /fails")
    def fails() -> str:
        return {}["oops"]

    @app.web("GET /robots.txt")
    def robots() -> Response:
        return Response("User-agent: *\n", headers={"cache-control": "max-age=3600"})

    return app


APP = app()


def detail(method: str, path: str, **given: Any) -> tuple[int, str]:
    reply = testing.web(APP, method, path, **given)
    return reply.status_code, reply.json()["detail"]


def test_parameters_come_from_path_and_query() -> None:
    get = lambda path: testing.web(APP, "GET", path).text
    assert get("/pages/7") == "7 20 None [] False"
    assert get("/pages/7?words=3&order=newest-first&tag=a&tag=b&all") == "7 3 NEWEST ['a', 'b'] True"
    assert detail("GET", "/pages/x") == (400, "parameter `id` of the path: expected an integer, found `x`")
    assert detail("GET", "/pages/7?order=newest") == (
        400,
        "parameter `order` of the query: expected one of `newest-first`, `oldest-first`, found `newest`",
    )
    assert detail("GET", "/pages/7?all=yes")[1].endswith("expected `true` or `false`, found `yes`")
    assert detail("GET", "/count") == (400, "parameter `to` of the query: it is missing")


def test_bodies_are_json_forms_bytes_or_streams() -> None:
    reply = testing.web(APP, "PUT", "/notes/7", json={"text": "oars"})
    assert reply.json() == {"text": "oars", "stars": None, "tags": ["7"]}
    assert detail("PUT", "/notes/7", json={"text": 1}) == (400, "the body, `note`: $.text: expected a string, found 1")
    assert detail("PUT", "/notes/7", data="{", headers={"content-type": "application/json"})[1].startswith(
        "the body, `note`, is no JSON: "
    )
    assert detail("PUT", "/notes/7", data="x=1", headers={"content-type": "text/csv"}) == (
        415,
        "the body is `text/csv`, and `application/json` is expected",
    )
    assert testing.web(APP, "POST", "/sum", json=[1.5, 2]).json() == 3.5
    signed = testing.web(APP, "POST", "/sign", data={"text": "Ada", "stars": "5", "tags": ["a", "b"]})
    assert (signed.status_code, signed.headers["location"]) == (303, "/notes/Ada-5-2")
    assert testing.web(APP, "POST", "/sign", data={"text": "A", "stars": ""}).headers["location"] == "/notes/A-None-0"
    assert detail("POST", "/sign", data={"text": "a", "stars": "many"})[1] == (
        "field `stars`: expected an integer, found `many`"
    )
    assert detail("POST", "/sign", data={}) == (400, "expected a field `text`")
    doubled = testing.web(APP, "POST", "/bytes", data=b"\xff", headers={"content-type": "image/png"})
    assert (doubled.content, doubled.headers["content-type"]) == (b"\xff\xff", "image/png")
    assert testing.web(APP, "POST", "/lines", data="a\nb\nc\n").text == "3"
    big = testing.web(APP, "POST", "/bytes", data=bytes((8 << 20) + 1))
    assert (big.status_code, big.json()["code"]) == (413, "input-too-large")


def test_a_request_has_everything_and_the_apps_place() -> None:
    reply = testing.web(APP, "DELETE", "/mirror/a/b?q=1&q=2", headers={"x-forwarded-prefix": "/notes/"})
    assert reply.text == "DELETE a/b ['1', '2'] /notes/x"


def test_results_become_responses() -> None:
    get = lambda path, **given: testing.web(APP, "GET", path, **given)
    assert get("/pages/1").headers["content-type"] == "text/html; charset=utf-8"
    assert (get("/nothing").status_code, get("/nothing").content) == (204, b"")
    assert get("/count?to=3").text == "0\n1\n2\n"
    assert get("/squares").text == '{"n":0}\n{"n":1}\n{"n":4}\n'
    assert get("/squares").headers["content-type"] == "application/x-ndjson"
    assert get("/either").text == "<p>"
    assert get("/either?go").headers["location"] == "https://example.com/"
    assert get("/robots.txt").headers["cache-control"] == "max-age=3600"
    head = testing.web(APP, "HEAD", "/robots.txt")
    assert (head.content, head.headers["content-length"]) == (b"", "14")
    mounted = testing.web(APP, "POST", "/sign", data={"text": "a"}, headers={"x-forwarded-prefix": "/notes"})
    assert mounted.headers["location"] == "/notes/notes/a-None-0"


def test_what_goes_wrong_is_a_problem_document_without_lines_of_the_app() -> None:
    missing = testing.web(APP, "GET", "/missing").json()
    assert missing == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "no-page",
        "detail": "no page `7`",
    }
    assert testing.web(APP, "GET", "/fails").json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "code": "failed",
        "detail": "KeyError: 'oops'",
    }
    assert testing.web(APP, "GET", "/cut").json()["detail"] == "ValueError: midway"
    assert detail("GET", "/nowhere") == (404, "nothing is at `/nowhere`")
    reply = testing.web(APP, "PUT", "/pages/1")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert testing.web(APP, "GET", "/pages/%ff").json()["code"] == "bad-path"


def test_the_document_has_the_parameters_and_the_type_of_the_answer() -> None:
    functions = {function["name"]: function for function in testing.document(APP)["functions"]}
    page = functions["page"]
    assert page["attributes"]["route"] == "GET /pages/{id}"
    assert page["input"]["required"] == ["id"]
    assert page["input"]["properties"]["words"] == {"type": "integer", "default": 20}
    assert page["output"] == {"type": "string", "contentMediaType": "text/html"}
    assert functions["nothing"]["output"] is False
    assert functions["either"]["output"] is True
    assert functions["squares"]["output"] == {"type": "string", "contentMediaType": "application/x-ndjson"}
    assert functions["put"]["input"]["properties"]["note"] == {"$ref": "#/$defs/Note"}
    assert functions["raw"]["input"]["properties"] == {}


def test_two_routes_for_the_same_requests_are_an_error_of_the_document() -> None:
    app = App("a")

    @app.web("GET /{a}")
    def one(a: int) -> None: ...

    @app.web("GET /{b}")
    def two(b: int) -> None: ...

    document = testing.document(app)
    assert document["functions"] == []
    assert "answer the same requests, `GET /{b}`" in document["errors"][0]


def check(route: str, function: Any) -> str:
    app = App("a")
    app.web(route)(function)
    with pytest.raises(TypeError) as caught:
        testing.document(app)
    return str(caught.value)


def test_a_parameter_without_a_source_is_refused() -> None:
    def body(note: Note) -> None: ...

    def two(note: Note, data: bytes) -> None: ...

    def other(id: int) -> None: ...

    def form(numbers: web.Form[list[int]]) -> None: ...

    assert "a `GET` has no body; use another method, or take `Request`" in check("GET /", body)
    assert "only one parameter can take the body, not `note` and `data`" in check("POST /", two)
    assert "has `{name}`, and the function no such parameter" in check("GET /{name}", other)
    assert "a form is a dataclass or a `TypedDict`" in check("POST /", form)
    assert "a part of the path, which is no body" in check("POST /{note}", body)


def test_a_web_function_stays_a_plain_one_and_is_not_called_by_name() -> None:
    app = App("a")

    @app.web("GET /")
    def home(name: str = "you") -> str:
        return f"hello, {name}"

    assert home("Ada") == "hello, Ada"
