"""Schemas to values, values to JSON, addresses: without a host."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import bireme
from bireme._client import address
from bireme._client.decode import decoder_of
from bireme._client.jsontext import dumps
from bireme._client.signature import Signature

UTC = datetime.timezone.utc


def decode(schema: Any, value: Any) -> Any:
    decoder = decoder_of(schema)
    return value if decoder is None else decoder(value)


def test_a_schema_that_says_no_more_than_json_costs_nothing() -> None:
    for schema in [
        {"type": "integer"},
        {"type": "string"},
        {"type": "array", "items": {"type": "number"}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"oneOf": [{"type": "object", "title": "A"}, {"type": "object", "title": "B"}]},
        True,
        None,
        "nonsense",
        {},
    ]:
        assert decoder_of(schema) is None, schema


def test_texts_with_a_format_become_what_they_mean() -> None:
    moment = datetime.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert decode({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00.123456789Z") == moment
    assert decode({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00.1+01:00").microsecond == 100_000
    assert decode({"type": "string", "format": "date"}, "2026-01-31") == datetime.date(2026, 1, 31)
    assert decode({"type": "string", "format": "time"}, "12:30:00Z") == datetime.time(12, 30, tzinfo=UTC)
    assert decode({"type": "string", "contentEncoding": "base64"}, "AP8=") == b"\x00\xff"
    id_ = "01a20e64-a124-707d-9175-a92a41304ffb"
    assert decode({"type": ["string", "null"], "format": "uuid"}, id_) == uuid.UUID(id_)
    assert decode({"type": ["string", "null"], "format": "uuid"}, None) is None
    # What does not fit is left as it is.
    assert decode({"type": "string", "format": "date-time"}, "soon") == "soon"
    assert decode({"type": "string", "format": "date"}, 7) == 7


PAGE = {
    "title": "Page",
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "seen": {"type": "string", "format": "date-time"},
        "links": {"type": "array", "items": {"$ref": "#/$defs/Link"}},
        "parent": {"anyOf": [{"$ref": "#/$defs/Link"}, {"type": "null"}]},
    },
    "required": ["url", "links"],
    "$defs": {
        "Link": {
            "type": "object",
            "properties": {"to": {"type": "string"}, "more": {"type": "array", "items": {"$ref": "#/$defs/Link"}}},
        }
    },
}


def test_objects_with_a_name_become_dataclasses_also_within_themselves() -> None:
    page = decode(
        PAGE,
        {
            "url": "/",
            "seen": "2026-01-31T12:00:00Z",
            "links": [{"to": "a", "more": [{"to": "b", "more": []}]}],
            "parent": None,
            "unknown": 1,
        },
    )
    assert dataclasses.is_dataclass(page) and repr(page).startswith("Page(url='/', seen=datetime.datetime(2026")
    assert page.links[0].more[0].to == "b" and page.parent is None
    assert decode(PAGE, {"url": "/", "links": []}) == decode(PAGE, {"url": "/", "links": [], "seen": None})
    assert decode(PAGE, "nonsense") == "nonsense"
    assert json.loads(dumps(page))["links"][0]["more"][0]["to"] == "b"
    odd = {"title": "Odd", "type": "object", "properties": {"a-b": {"type": "string"}, "class": {"type": "integer"}}}
    assert decode(odd, {"a-b": "x", "class": 1}) == {"a-b": "x", "class": 1}
    dated = {"type": "object", "properties": {"on": {"type": "string", "format": "date"}}}
    assert decode(dated, {"on": "2026-01-31", "x": 1}) == {"on": datetime.date(2026, 1, 31), "x": 1}


def test_a_schema_without_end_ends() -> None:
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
    assert decode(loop, [1]) == [1]
    deep: Any = {"type": "string", "format": "date"}
    for _ in range(10_000):
        deep = {"type": "array", "items": deep}
    assert decode(deep, []) == []


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


def test_inputs_of_python_become_json() -> None:
    value = {
        "a": Point(1, datetime.date(2026, 1, 31)),
        "b": Colour.RED,
        "c": {3},
        "d": range(2),
        "e": b"\x00",
        "f": Path("/x"),
        "g": Decimal("1.5"),
        "h": uuid.UUID(int=1),
        "i": (1, None),
        "j": datetime.timedelta(seconds=2),
    }
    assert json.loads(dumps(value)) == {
        "a": {"x": 1, "when": "2026-01-31"}, "b": "red", "c": [3], "d": [0, 1], "e": "AA==", "f": "/x", "g": "1.5",
        "h": "00000000-0000-0000-0000-000000000001", "i": [1, None], "j": 2.0,
    }  # fmt: skip
    numpy = pytest.importorskip("numpy")
    assert json.loads(dumps([numpy.float32(1.5), numpy.arange(3), numpy.int64(7)])) == [1.5, [0, 1, 2], 7]


def test_inputs_without_a_form_in_json_are_named() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value, words in [
        (object(), "`object` has no form in JSON"),
        (float("nan"), "infinite or `nan`"),
        ("\ud800", "lone surrogate"),
        (circle, "nested too deep|Circular"),
        ({(1, 2): 3}, "keys must be"),
    ]:
        with pytest.raises(bireme.InvalidInput, match=words):
            dumps(value)


def test_signatures_of_any_metadata_can_be_shown() -> None:
    function = {
        "parameters": ["url", "depth", "tags"],
        "input": {
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "depth": {"type": ["integer", "null"], "default": 3},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}},
            },
            "required": ["url", "tags"],
        },
        "output": {"anyOf": [PAGE, {"type": "null"}]},
    }
    text = str(Signature("f", function).inspected())
    assert text == "(url: str, depth: int | None = 3, *, tags: list[Tag]) -> Page | None"
    for odd in ({}, {"parameters": 1, "input": 1, "output": []}, {"parameters": ["a b", "class"], "input": {}}):
        assert isinstance(Signature("f", odd).inspected(), inspect.Signature)
    bare = Signature("f", {"input": {"type": "integer"}})
    assert bare.value_of((3,), {}) == 3 and bare.value_of((), {"a": 1}) == {"a": 1}


def test_addresses_are_read_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = address.find("http://[::1]:9000/")
    assert (found.host, found.port, found.authority) == ("::1", 9000, "[::1]:9000")
    assert address.find("example.com:81").url == "http://example.com:81"
    assert (address.find("https://example.com").kind, address.find("https://example.com").port) == ("tls", 443)
    for bad in ("ftp://x", "http://", "http://x:port", "http://x/path", "http://user:secret@x"):
        with pytest.raises(bireme.InvalidInput):
            address.find(bad)

    monkeypatch.setenv("BIREME_DATA", str(tmp_path))
    (tmp_path / "token").write_text("t" * 20 + "\n")
    assert address.find().url == "http://127.0.0.1:8080" and address.find().token == "t" * 20
    # The token of this machine's host is for no other machine.
    assert address.find("http://example.com").token is None
    monkeypatch.setenv("BIREME_TOKEN", "e" * 20)
    assert address.find("http://example.com").token == address.find().token == "e" * 20
    assert address.find(token="a" * 20).token == "a" * 20
    monkeypatch.setenv("BIREME_HOST", "http://127.0.0.1:9")
    assert address.find().port == 9 and "eeee" not in repr(address.find())


def test_a_control_socket_that_answers_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("BIREME_DATA", str(tmp_path))
    listener = socket.socket(socket.AF_UNIX)
    (tmp_path / "run").mkdir()
    listener.bind(str(tmp_path / "run/control.sock"))
    # A host that was killed leaves it behind: nobody listens.
    assert address.find().kind == "tcp"
    listener.listen()
    found = address.find()
    assert (found.kind, found.host, found.token) == ("unix", str(tmp_path / "run/control.sock"), None)
    listener.close()
