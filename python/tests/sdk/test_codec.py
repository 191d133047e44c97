"""Type hints as JSON: schema, decoded value, and the words for what does not fit. One row a signature."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import typing
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import pytest

from bireme._sdk.codec import Misfit, codec_of


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Order:
    item: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass
class Tree:
    """A node and those below it."""

    name: str
    below: list[Tree] = field(default_factory=list)


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


@dataclass
class Cat:
    kind: Literal["cat"]
    lives: int


@dataclass
class Dog:
    kind: Literal["dog"]
    name: str


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: float


class Movie(TypedDict, total=False):
    title: typing.Annotated[str, "as on the poster"]
    year: int


class Strict(TypedDict):
    a: int


class Point(NamedTuple):
    x: float
    y: float = 0.0


T = TypeVar("T")


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: Optional[int] = None


UserId = NewType("UserId", int)

UTC = datetime.timezone.utc

# Hint; its schema; a value of JSON and what it becomes; a value that does not fit and the words for it.
ROWS: list[tuple[Any, Any, Any, Any, Any, str]] = [
    (int, {"type": "integer"}, 3, 3, "x", '$: expected an integer, found "x"'),
    (int, {"type": "integer"}, 3.0, 3, True, "$: expected an integer, found true"),
    (float, {"type": "number"}, 3, 3.0, None, "$: expected a number, found null"),
    (bool, {"type": "boolean"}, True, True, 1, "$: expected a boolean, found 1"),
    (str, {"type": "string"}, "a", "a", 7, "$: expected a string, found 7"),
    (type(None), {"type": "null"}, None, None, {}, "$: expected null, found an object"),
    (Any, True, {"a": [1]}, {"a": [1]}, None, ""),
    (
        list[int],
        {"type": "array", "items": {"type": "integer"}},
        [1, 2],
        [1, 2],
        [1, "2"],
        '$[1]: expected an integer, found "2"',
    ),
    (list, {"type": "array", "items": True}, [1, "a"], [1, "a"], {}, "$: expected an array, found an object"),
    (
        list[list[str]],
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        [["a"]],
        [["a"]],
        [["a"], [1]],
        "$[1][0]: expected a string, found 1",
    ),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        [1, "a"],
        (1, "a"),
        [1],
        "$: expected an array of 2, found 1 of them",
    ),
    (
        tuple[int, ...],
        {"type": "array", "items": {"type": "integer"}},
        [1, 2],
        (1, 2),
        [None],
        "$[0]: expected an integer, found null",
    ),
    (
        set[str],
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        ["a", "a"],
        {"a"},
        ["a", 1],
        "$[1]: expected a string, found 1",
    ),
    (
        frozenset[int],
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        [1],
        frozenset({1}),
        "ab",
        '$: expected an array, found "ab"',
    ),
    (
        dict[str, int],
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"a": 1},
        {"a": 1},
        {"a b": "1"},
        '$["a b"]: expected an integer, found "1"',
    ),
    (
        dict[int, str],
        {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^-?[0-9]+$"}},
        {"1": "a"},
        {1: "a"},
        {"x": "a"},
        '$.x: expected an integer as its key, found "x"',
    ),
    (
        dict[Color, int],
        None,
        {"red": 1},
        {Color.RED: 1},
        {"rde": 1},
        '$.rde: expected one of "red", "dark-blue", found "rde", did you mean `red`',
    ),
    (
        dict,
        {"type": "object", "additionalProperties": True},
        {"a": 1},
        {"a": 1},
        [],
        "$: expected an object, found an array",
    ),
    (
        collections.abc.Mapping[str, float],
        {"type": "object", "additionalProperties": {"type": "number"}},
        {"a": 1},
        {"a": 1.0},
        1,
        "$: expected an object, found 1",
    ),
    (
        collections.abc.Sequence[int],
        {"type": "array", "items": {"type": "integer"}},
        [1],
        [1],
        1,
        "$: expected an array, found 1",
    ),
    (Optional[int], {"type": ["integer", "null"]}, None, None, "x", '$: expected an integer or null, found "x"'),
    (
        Union[int, str],
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "a",
        "a",
        [],
        "$: expected an integer or a string, found an array",
    ),
    (Union[int, list[int], None], None, [1], [1], [True], "$[0]: expected an integer, found true"),
    (
        Union[str, datetime.date],
        None,
        "2026-01-31",
        datetime.date(2026, 1, 31),
        1,
        "$: expected a string or a date (`2026-01-31`), found 1",
    ),
    (
        Literal["a", 1, None],
        {"type": ["integer", "null", "string"], "enum": ["a", 1, None]},
        1,
        1,
        True,
        '$: expected one of "a", 1, null, found true',
    ),
    (
        Color,
        None,
        "dark-blue",
        Color.DARK_BLUE,
        "dark-bleu",
        '$: expected one of "red", "dark-blue", found "dark-bleu", did you mean `dark-blue`',
    ),
    (Level, None, 2, Level.HIGH, 3, "$: expected one of 1, 2, found 3"),
    (
        datetime.datetime,
        {"type": "string", "format": "date-time"},
        "2026-01-31T12:00:00Z",
        datetime.datetime(2026, 1, 31, 12, tzinfo=UTC),
        "soon",
        '$: expected a date and time (`2026-01-31T12:00:00Z`), found "soon"',
    ),
    (
        datetime.date,
        {"type": "string", "format": "date"},
        "2026-01-31",
        datetime.date(2026, 1, 31),
        "2026-02-31",
        '$: expected a date (`2026-01-31`), found "2026-02-31"',
    ),
    (
        datetime.time,
        {"type": "string", "format": "time"},
        "12:30:00",
        datetime.time(12, 30),
        12,
        "$: expected a time (`12:30:00`), found 12",
    ),
    (
        datetime.timedelta,
        {"type": "number", "description": "seconds"},
        1.5,
        datetime.timedelta(seconds=1.5),
        "1s",
        '$: expected a number, found "1s"',
    ),
    (
        decimal.Decimal,
        {"type": ["string", "number"], "format": "decimal"},
        "1.10",
        decimal.Decimal("1.10"),
        "nan",
        '$: expected a decimal number, found "nan"',
    ),
    (
        uuid.UUID,
        {"type": "string", "format": "uuid"},
        "12345678123456781234567812345678",
        uuid.UUID(int=0x12345678123456781234567812345678),
        "x",
        '$: expected a UUID, found "x"',
    ),
    (
        list[bytes],
        {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
        ["aGk="],
        [b"hi"],
        ["?"],
        '$[0]: expected bytes in base64, found "?"',
    ),
    (UserId, {"type": "integer"}, 7, 7, None, "$: expected an integer, found null"),
    (Annotated[int, "how many"], {"type": "integer"}, 7, 7, "7", '$: expected an integer, found "7"'),
    (
        Order,
        None,
        {"item": "oar"},
        Order("oar"),
        {"item": "oar", "cuont": 1},
        "$: unknown field `cuont` of `Order`, did you mean `count`; there are `item`, `count`, `tags`",
    ),
    (
        Order,
        None,
        {"item": "oar", "tags": ["a"]},
        Order("oar", 1, ["a"]),
        {"item": "oar", "tags": ["a", 2]},
        "$.tags[1]: expected a string, found 2",
    ),
    (
        dict[str, Order],
        None,
        {"x": {"item": "oar", "count": 2}},
        {"x": Order("oar", 2)},
        {"x": {"count": 2}},
        "$.x: missing field `item` of `Order`",
    ),
    (
        Tree,
        None,
        {"name": "a", "below": [{"name": "b"}]},
        Tree("a", [Tree("b")]),
        {"name": "a", "below": [{"name": 1}]},
        "$.below[0].name: expected a string, found 1",
    ),
    (Even, None, {"number": 2}, Even(2), {"number": 3}, "$: 3 is odd"),
    (
        Union[Cat, Dog],
        None,
        {"kind": "dog", "name": "Rex"},
        Dog("dog", "Rex"),
        {"kind": "cow"},
        '$.kind: expected "cat" or "dog", found "cow"',
    ),
    (
        Union[Cat, Dog, None],
        None,
        {"kind": "cat", "lives": 9},
        Cat("cat", 9),
        {"kind": "cat", "lives": "9"},
        '$.lives: expected an integer, found "9"',
    ),
    (
        Union[Circle, Square],
        None,
        {"side": 1},
        Square(1.0),
        {"sied": 1},
        "$: unknown field `sied` of `Circle`; there are `radius`",
    ),
    (Movie, None, {"title": "A"}, {"title": "A"}, {"year": "1"}, '$.year: expected an integer, found "1"'),
    (Strict, None, {"a": 1}, {"a": 1}, {}, "$: missing field `a` of `Strict`"),
    (Point, None, {"x": 1}, Point(1.0, 0.0), {"y": 1}, "$: missing field `x` of `Point`"),
    (Page[int], None, {"items": [1]}, Page([1]), {"items": ["1"]}, '$.items[0]: expected an integer, found "1"'),
    (
        list[Page[Order]],
        None,
        [{"items": [{"item": "a"}]}],
        [Page([Order("a")])],
        [{"items": [{}]}],
        "$[0].items[0]: missing field `item` of `Order`",
    ),
]


@pytest.mark.parametrize(("hint", "schema", "given", "value", "bad", "words"), ROWS)
def test_a_type_has_a_schema_a_value_and_words_for_what_does_not_fit(
    hint: Any, schema: Any, given: Any, value: Any, bad: Any, words: str
) -> None:
    codec = codec_of(hint)
    if schema is not None:
        assert codec.root_schema() == schema
    decoded = codec.decode(given)
    assert decoded == value
    assert type(decoded) is type(value)
    # What is written is read back.
    assert codec.decode(codec.encode(decoded)) == value
    if words:
        with pytest.raises(Misfit) as caught:
            codec.decode(bad)
        assert caught.value.text() == words


def test_there_are_forty_signatures() -> None:
    assert len(ROWS) >= 40


def test_shared_types_stand_under_defs_and_the_root_is_inline() -> None:
    assert codec_of(Order).root_schema() == {
        "title": "Order",
        "type": "object",
        "properties": {
            "item": {"type": "string"},
            "count": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["item"],
        "additionalProperties": False,
    }
    tree = codec_of(Tree).root_schema()
    assert isinstance(tree, dict)
    assert tree["description"] == "A node and those below it."
    assert tree["properties"]["below"]["items"] == {"$ref": "#/$defs/Tree"}
    assert tree["$defs"]["Tree"]["required"] == ["name"]
    assert codec_of(list[Color]).root_schema() == {
        "type": "array",
        "items": {"$ref": "#/$defs/Color"},
        "$defs": {"Color": {"type": "string", "enum": ["red", "dark-blue"]}},
    }
    movie = codec_of(Movie).root_schema()
    assert isinstance(movie, dict)
    assert movie["properties"]["title"] == {"type": "string", "description": "as on the poster"}
    assert movie["required"] == []


def test_two_types_of_one_name_are_told_apart() -> None:
    def other() -> type:
        @dataclass
        class Order:
            id: int

        return Order

    schema = codec_of(tuple[Order, other()]).root_schema()  # type: ignore[misc]
    assert isinstance(schema, dict)
    assert schema["prefixItems"] == [{"$ref": "#/$defs/Order"}, {"$ref": "#/$defs/Order2"}]


@dataclass
class Same:
    radius: float


@dataclass
class Unsure:
    radius: float
    side: float = 0.0


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (complex, "`complex` has no form in JSON; take a dataclass, a `TypedDict`, or a type of JSON"),
        (list[complex], "`complex` has no form in JSON; take a dataclass, a `TypedDict`, or a type of JSON"),
        (
            dict[tuple[int, int], str],
            "`dict[tuple[int, int], str]`: its keys are `tuple[int, int]`, and those of JSON are texts; use `str`, `int` or an enum",
        ),
        (
            Union[list[int], set[str]],
            "`Union[list[int], set[str]]`: its members that are arrays cannot be told apart; put each into a dataclass",
        ),
        (Union[Circle, dict[str, int]], "cannot be told apart; use dataclasses for them"),
        (Union[Same, Unsure], 'give each a field that tells them apart: `kind: Literal["same"]`'),
        (collections.abc.Callable[[int], int], "has no form in JSON"),
    ],
)
def test_a_type_without_a_form_in_json_is_refused_in_words(hint: Any, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        codec_of(hint)
    assert words in str(caught.value)


def test_a_path_tells_keys_and_positions_apart() -> None:
    misfit = Misfit("no").at("last one").at(3).at("a")
    assert misfit.text("$.page") == '$.page.a[3]["last one"]: no'


def test_a_large_value_is_shown_in_part() -> None:
    with pytest.raises(Misfit) as caught:
        codec_of(int).decode("x" * 1_000_000)
    assert len(caught.value.text()) < 200
