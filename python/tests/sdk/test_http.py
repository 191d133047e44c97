"""Outbound requests: what is sent, redirects, retries, bodies, errors."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bireme import http, testing
from bireme._sdk.host import HttpError
from bireme._sdk.http.errors import of_host
from bireme._sdk.url import Url, UrlError


def test_redirects_are_followed_and_each_hop_is_a_request_of_its_own() -> None:
    def site(request: http.Request) -> http.Response:
        if request.url == "http://a/1":
            return http.Response(302, headers={"Location": "/2"})
        if request.url == "http://a/2":
            return http.Response(307, headers={"location": "http://b/3"})
        return http.Response(200, request.headers.get("authorization", "no secret"))

    with testing.fake_http(site) as requests:
        answer = http.get("http://a/1", headers={"Authorization": "secret"})
        assert (answer.url, answer.text) == ("http://b/3", "no secret")
        assert [r.status_code for r in answer.history] == [302, 307]
        assert [r.url for r in requests] == ["http://a/1", "http://a/2", "http://b/3"]
        assert http.get("http://a/1", allow_redirects=False).status_code == 302
        assert http.post("http://a/1").status_code == 302


def test_a_post_that_is_redirected_goes_on_as_get_without_its_body() -> None:
    def site(request: http.Request) -> http.Response:
        if request.url == "http://a/form":
            return http.Response(303, headers={"location": "/done"})
        return http.Response(200, f"{request.method} {len(request.body)} {request.headers.get('content-type')}")

    with testing.fake_http(site):
        assert http.post("http://a/form", json=1, allow_redirects=True).text == "GET 0 None"


def test_a_loop_of_redirects_ends() -> None:
    with testing.fake_http(lambda _: http.Response(302, headers={"location": "/"})):
        with pytest.raises(http.TooManyRedirects, match="redirects again after 5"):
            http.get("http://a/")


def test_a_body_is_bytes_a_text_a_form_or_json() -> None:
    with testing.fake_http(lambda r: http.Response(200, r.body, {"x-type": r.headers.get("content-type", "")})):
        assert http.post("http://a/", data=b"\xff").content == b"\xff"
        form = http.post("http://a/", data={"name": "two oars!", "tags": ["a", "b"], "all": True, "none": None})
        assert form.text == "name=two+oars%21&tags=a&tags=b&all=true"
        assert form.headers["X-Type"] == "application/x-www-form-urlencoded"
        assert http.post("http://a/", json={"a": [1]}).json() == {"a": [1]}
        with pytest.raises(TypeError, match="`data` or `json`"):
            http.post("http://a/", data=b"", json=1)


def test_params_join_the_query() -> None:
    with testing.fake_http(lambda r: http.Response(200, r.url)):
        url = "https://example.com/?a=1#top"
        assert (
            http.get(url, params={"q": "two words", "page": 2}).text
            == "https://example.com/?a=1&q=two+words&page=2#top"
        )
        assert http.get("https://example.com", auth=("u", "p")).status_code == 200


def test_idempotent_requests_are_retried_with_growing_delays() -> None:
    asked: list[str] = []

    def busy(request: http.Request) -> http.Response:
        asked.append(request.method)
        return http.Response(503 if len(asked) < 3 else 200)

    with testing.fake_http(busy):
        assert http.get("http://a/", retries=2).status_code == 200
        asked.clear()
        assert http.post("http://a/", retries=2).status_code == 503
        asked.clear()
        assert http.get("http://a/", retries=1).status_code == 503
    with testing.fake_http(lambda _: http.Response(429, headers={"retry-after": "3600"})) as requests:
        # The call has not so much time.
        assert http.get("http://a/", retries=3).status_code == 429
        assert len(requests) == 1


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ({}, "häuser".encode(), "häuser"),
        ({"content-type": "text/html; charset=iso-8859-1"}, b"caf\xe9 \x93", "caf\xe9 \u201c"),
        ({"content-type": "text/html; charset=nonsense"}, "ä".encode(), "ä"),
        ({"content-type": "text/html"}, b"<meta charset='windows-1251'>\xc4", "<meta charset='windows-1251'>\u0414"),
        ({"content-type": "text/plain"}, b"\xef\xbb\xbfa", "a"),
        ({"content-type": "text/plain"}, b"\xff\xfea\x00", "a"),
        ({}, b"caf\xe9", "caf\ufffd"),
    ],
)
def test_a_text_is_in_the_encoding_that_it_names(headers: dict[str, str], body: bytes, text: str) -> None:
    assert http.Response(200, body, headers).text == text


def test_compressed_bodies_are_decoded_within_the_limit() -> None:
    def site(request: http.Request) -> http.Response:
        kind = request.url.rpartition("/")[2]
        body = b"hello " * 1000
        coded = {
            "gzip": gzip.compress(body),
            "two": gzip.compress(body) + gzip.compress(body),
            "deflate": zlib.compress(body),
            "raw": zlib.compress(body)[2:-4],
            "cut": gzip.compress(body)[:-20],
            "no": b"hello",
            "bomb": gzip.compress(bytes(20 << 20)),
        }[kind]
        encoding = "deflate" if kind in ("deflate", "raw") else "gzip"
        return http.Response(200, coded, {"Content-Encoding": encoding, "content-length": "1"})

    with testing.fake_http(site):
        for kind in ("gzip", "deflate", "raw"):
            answer = http.get(f"http://a/{kind}")
            assert answer.content == b"hello " * 1000
            assert "content-encoding" not in answer.headers and "content-length" not in answer.headers
        assert http.get("http://a/two").content == b"hello " * 2000
        for kind in ("cut", "no"):
            with pytest.raises(http.DecodeError, match="cannot be read as `gzip`"):
                http.get(f"http://a/{kind}")
        with pytest.raises(http.BodyTooLarge, match="larger than 8388608 bytes; `max_bytes` raises that"):
            http.get("http://a/bomb")
        with pytest.raises(http.BodyTooLarge):
            http.get("http://a/gzip", max_bytes=5)


def test_a_stream_is_read_as_it_is_asked_for() -> None:
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            read.append(number)
            yield f"line {number}\r\nha".encode()

    with testing.fake_http(lambda _: http.Response(200, parts())):
        with http.get("http://a/", stream=True) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "line 0" and read == [0]
            assert list(lines) == ["haline 1", "haline 2", "ha"]
        with http.get("http://a/", stream=True) as answer:
            assert [len(part) for part in answer.iter_content(10)] == [10, 10, 10]
        with pytest.raises(RuntimeError, match="was streamed, and is gone"):
            _ = answer.content


@dataclass
class Page:
    id: list[int]


def test_json_is_decoded_as_a_type_with_the_path_of_a_misfit() -> None:
    assert http.Response(200, '{"id": [1]}').json() == {"id": [1]}
    assert http.Response(200, '{"id": [1]}').json(Page) == Page([1])
    with pytest.raises(
        http.JSONError, match=r"not the expected JSON: \$.id\[1\]: expected an integer, found \"2\""
    ) as caught:
        http.Response(200, '{"id": [1, "2"]}', url="http://a/").json(Page)
    assert caught.value.is_terminal
    with pytest.raises(http.JSONError, match="`http://a/` is no JSON") as caught:
        http.Response(200, "<html>", url="http://a/").json()
    assert not caught.value.is_terminal and isinstance(caught.value, ValueError)


def test_a_status_is_an_error_where_the_author_says_so() -> None:
    assert http.Response(204).raise_for_status().ok
    with pytest.raises(http.HTTPError, match="`http://a/` answered with status 404") as caught:
        http.Response(404, url="http://a/").raise_for_status()
    assert caught.value.is_terminal and caught.value.response.reason == "Not Found"
    with pytest.raises(http.HTTPError) as caught:
        http.Response(503).raise_for_status()
    assert not caught.value.is_terminal


@pytest.mark.parametrize(
    ("code", "detail", "kind", "words", "is_terminal"),
    [
        ("HttpRequestDenied", "", http.Denied, "add its origin to the function's `outbound`", True),
        (
            "DnsError",
            "no such name",
            http.ConnectError,
            "no address found for the host of `http://a/`: no such name",
            False,
        ),
        ("ConnectionRefused", "", ConnectionError, "cannot connect to `http://a/`: the connection was refused", False),
        ("HttpResponseTimeout", "", TimeoutError, "`http://a/` took too long: no answer", False),
        ("TlsCertificateError", "", http.ConnectError, "its certificate is not trusted", False),
        ("ConnectionLimitReached", "", http.ConnectError, "as many as the host allows", False),
        ("InternalError", "broken", http.ProtocolError, "the exchange with `http://a/` failed: broken", False),
        ("NoFake", "", http.Error, "answer it with `bireme.testing.fake_http`", True),
    ],
)
def test_an_error_names_the_url_and_the_way_out(
    code: str, detail: str, kind: type[Exception], words: str, is_terminal: bool
) -> None:
    error = of_host(HttpError(code, detail), "http://a/")
    assert isinstance(error, kind) and words in str(error) and error.is_terminal is is_terminal


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("example.com", "begin it with `https://`"),
        ("ftp://example.com", "`ftp` is not `http` or `https`"),
        ("http:///x", "it has no host"),
        ("http://u:p@example.com/", "use `auth=`"),
        ("http://a/\nb", "control character"),
    ],
)
def test_a_text_that_is_no_url_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(UrlError) as caught:
        Url(url)
    assert words in str(caught.value)
    with pytest.raises(http.InvalidRequest):
        http.get(url)


@pytest.mark.parametrize(
    ("reference", "joined"),
    [
        ("../std/index.html#vec", "https://example.com/std/index.html#vec"),
        ("//other.org", "https://other.org/"),
        ("?v=3", "https://example.com/book/ch01.html?v=3"),
        ("http://x/ä b", "http://x/%C3%A4%20b"),
    ],
)
def test_a_reference_is_resolved(reference: str, joined: str) -> None:
    assert str(Url("https://Example.com/book/ch01.html?v=2").join(reference)) == joined
    assert Url("http://bücher.example/").authority == "xn--bcher-kva.example"


def test_a_session_has_headers_and_settings_of_its_own() -> None:
    with testing.fake_http(lambda r: http.Response(200, f"{r.headers['x-a']} {r.headers['x-b']}")):
        session = http.Session(headers={"x-a": "1", "x-b": "2"}, timeout=5)
        assert session.get("http://a/", headers={"x-b": "3"}).text == "1 3"


def test_without_a_fake_a_request_fails_by_name() -> None:
    with pytest.raises(http.Error, match="there is no host in a native test, so no `http://a/`"):
        http.get("http://a/")
