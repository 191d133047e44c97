"""What answers is broken or hostile: each case is a typed error, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

import bireme
from bireme._client import aio, connection, results, wire
from fake import FakeHost, endless, raw, response
from running import free_port

FUNCTION = {"name": "f", "parameters": ["x"], "input": {"type": "object"}, "output": {}, "attributes": {}}
DEEP = b"[" * 200_000

BROKEN = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "another version": b"HTTP/2 200 OK\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "a header without a colon": b"HTTP/1.1 200 OK\r\ncontent-length 3\r\n\r\nabc",
    "a body that breaks off": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "a length with an underscore": b"HTTP/1.1 200 OK\r\ncontent-length: 1_0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "an odd encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk that is too long": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    "chunks that break off": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    "no JSON": response(b"{nonsense"),
    "deep JSON": response(DEEP),
    "a huge number": response(b"1" * 100_000),
    "no text": response(b'"\xff\xfe"'),
    "an error that is no problem document": response(b"<html>", "text/html", "502 Bad Gateway"),
    "an error that is no JSON": response(b"<html>", "application/problem+json", "500 Internal Server Error"),
    "an error that is no object": response(b"[1]", "application/problem+json", "500 Internal Server Error"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_answer_is_a_typed_error(case: str) -> None:
    with FakeHost(raw(BROKEN[case])) as fake:
        host = bireme.Host(fake.url, "t" * 16)
        function = bireme.Function(host, "app", "f", FUNCTION)
        for request in (lambda: function(1), lambda: asyncio.run(function.aremote(1)), lambda: host.apps()):
            with pytest.raises(bireme.Error) as raised:
                request()
            assert isinstance(raised.value, (bireme.BadAnswer, bireme.HostUnreachable)), repr(raised.value)
            assert len(str(raised.value)) < 1_000


def test_heads_and_lines_without_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_BYTES_MAX", 4 << 20)
    monkeypatch.setattr(aio, "BODY_BYTES_MAX", 4 << 20)
    monkeypatch.setattr(results, "LINE_BYTES_MAX", 4 << 20)
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    for answer, words in [
        (endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000), "head is over 64 KiB"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), "answer is over 4 MiB"),
        (endless(chunked, part), "answer is over 4 MiB"),
        (endless(chunked, b"1" * 1000), "too long"),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n" * 500), "head is over 64 KiB"),
    ]:
        with FakeHost(answer) as fake:
            function = bireme.Function(bireme.Host(fake.url), "app", "f", FUNCTION)
            for call in (lambda: function(1), lambda: asyncio.run(function.aremote(1))):
                with pytest.raises(bireme.BadAnswer, match=words):
                    call()
    with FakeHost(endless(chunked, part)) as fake:
        map_ = bireme.Map(bireme.Host(fake.url), "a" * 8)
        with pytest.raises(bireme.BadAnswer, match="line of the results is over 4 MiB"):
            list(map_.outcomes())


LINES = {
    "no JSON": b"{nonsense\n",
    "no object": b"[1]\n",
    "an index twice, and no end": b'{"index":0,"output":1}\n{"index":0,"output":1}\n',
    "a summary that is no object": b'{"summary":1}\n',
    "an error that is no object": b'{"error":1}\n',
    "an error of the stream": b'{"error":{"code":"store","message":"the disk is broken"}}\n',
    "deep JSON": DEEP + b"\n",
    "a closing bracket": b"1]\n",
}


@pytest.mark.parametrize("case", LINES)
def test_broken_lines_of_a_map_are_typed_errors(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bireme._client.patience.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("bireme._client.patience.Patience.__init__.__defaults__", (0.2,))
    with FakeHost(raw(response(LINES[case], "application/x-ndjson"), keeps=True)) as fake:
        from bireme._client.signature import Signature

        map_ = bireme.Map(bireme.Host(fake.url), "a" * 8, Signature("f", FUNCTION))
        with pytest.raises(bireme.Error):
            list(map_.outcomes())


def test_the_parser_takes_bytes_in_any_pieces() -> None:
    answers = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    )
    for size in (1, 2, 3, 7, 1000):
        parser, bodies = wire.Parser(), list[bytes]()
        pieces = [answers[start : start + size] for start in range(0, len(answers), size)]
        for _ in range(4):
            parser.begin()
            body = b""
            while (event := parser.event()) is not wire.END:
                if event is wire.NEED:
                    parser.feed(pieces.pop(0))
                elif isinstance(event, bytes):
                    body += event
            bodies.append(body)
        assert bodies == [b"hello", b"abc0123456789", b"", b""] and not pieces


def test_a_host_that_is_not_there_is_named_with_the_next_step(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for address, place in [(url, url), (f"unix:{tmp_path}/control.sock", "control.sock")]:
        host = bireme.Host(address)
        function = bireme.Function(host, "app", "f", FUNCTION)
        for call in (lambda: function(1), lambda: asyncio.run(function.aremote(1)), lambda: host.apps()):
            with pytest.raises(bireme.HostUnreachable) as raised:
                call()
            error = raised.value
            assert error.code == "no-host" and place in str(error) and "bireme serve" in str(error.hint)
    with pytest.raises(bireme.InvalidInput, match="no address of a host"):
        bireme.Host("ftp://127.0.0.1")


def test_a_call_that_may_have_run_is_not_sent_again() -> None:
    count = 0

    def answer(connection: socket.socket, head: bytes, body: bytes) -> bool:
        nonlocal count
        count += 1
        if count == 1:
            connection.sendall(response(b"1"))
            return True
        return False

    with FakeHost(answer) as fake:
        function = bireme.Function(bireme.Host(fake.url), "app", "f", FUNCTION)
        assert function(1) == 1
        with pytest.raises(bireme.HostUnreachable, match="broke before the answer") as raised:
            function(1)
        assert count == 2 and "may have run" in str(raised.value.hint)

    # A request that changes nothing is repeated over a new connection.
    seen: list[bytes] = []

    def flaky(connection: socket.socket, head: bytes, body: bytes) -> bool:
        seen.append(head)
        if len(seen) == 2:
            return False
        connection.sendall(response(b'{"apps":[]}'))
        return True

    with FakeHost(flaky) as fake:
        host = bireme.Host(fake.url)
        assert host.apps() == host.apps() == {} and len(seen) == 3


def test_a_refusal_before_the_whole_body_is_read() -> None:
    problem = {"code": "input-too-large", "detail": "the input is over its limit", "status": 413}

    class Refusing(FakeHost):
        def _serve(self, connection: socket.socket) -> None:
            with connection:
                connection.recv(1000)
                body = json.dumps(problem).encode()
                connection.sendall(response(body, "application/problem+json", "413 Content Too Large"))
                connection.shutdown(socket.SHUT_WR)
                # What is still on its way is read, or the reset would overtake the answer.
                while connection.recv(65_536):
                    pass

    with Refusing(raw(b"")) as fake:
        function = bireme.Function(bireme.Host(fake.url), "app", "f", FUNCTION)
        with pytest.raises(bireme.InvalidInput, match="over its limit") as raised:
            function("x" * (8 << 20))
        assert raised.value.status == 413


def test_names_and_headers_cannot_break_out() -> None:
    with FakeHost(raw(response(b"1"), keeps=True)) as fake:
        host = bireme.Host(fake.url, "t" * 16)
        bireme.Function(host, "a/../b?c#d\r\nx: y", "f", FUNCTION)(1)
        assert fake.heads[0].split(b"\r\n")[0] == b"POST /a%2F..%2Fb%3Fc%23d%0D%0Ax%3A%20y/f HTTP/1.1"
        # Functions need no token, so it is not shown to them.
        assert b"authorization" not in fake.heads[0]
        with pytest.raises(ValueError, match="line end"):
            bireme.Function(host, "app", "f", FUNCTION).spawn(1, idempotency_key="a\r\nb: c")
    with pytest.raises(bireme.InvalidInput, match="characters that no token has"):
        bireme.Host("http://127.0.0.1:1", "a\r\nb: c")
