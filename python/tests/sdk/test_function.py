"""Functions: inputs, results, failures, groups, maps, attributes, the metadata document."""

from __future__ import annotations

import datetime
import inspect
import json
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import pytest

from bireme import App, Bytes, Cron, Failure, Period, Retries, context, testing
from bireme._sdk import dispatch
from bireme._sdk.payload import Payload


@dataclass
class Page:
    url: str
    links: list[str]


def one(app: App, hint: Any) -> Any:
    def page(page):  # type: ignore[no-untyped-def]
        return page

    page.__annotations__ = {"page": hint}
    return app.function(page)


def failure(function: Any, value: Any = None) -> Failure:
    with pytest.raises(Failure) as caught:
        testing.call(function, value)
    return caught.value


def test_one_parameter_takes_the_bare_value_or_the_named_form() -> None:
    text = one(App("a"), str)
    assert testing.call(text, "a") == "a"
    assert testing.call(text, {"page": "a"}) == "a"
    page = {"url": "u", "links": []}
    of_page = one(App("a"), Page)
    assert testing.call(of_page, page) == page
    assert testing.call(of_page, {"page": page}) == page
    assert testing.call(one(App("a"), list[int]), [1, 2]) == [1, 2]


def test_an_error_names_the_parameter_and_the_path() -> None:
    of_page = one(App("a"), Page)
    found = failure(of_page, {"page": {"url": "u", "links": ["a", "b", 3]}})
    assert (found.code, found.message) == ("invalid-input", "$.page.links[2]: expected a string, found 3")
    assert failure(one(App("a"), list[str]), [None]).message == "$[0]: expected a string, found null"


def test_an_object_that_does_not_fit_bare_was_meant_by_name() -> None:
    text = one(App("a"), str)
    assert str(failure(text, {"pgae": "a"})) == (
        "unknown parameter `pgae`, did you mean `page`; the function takes `page`: $: expected a string, found an object"
    )
    assert failure(text, {"page": "a", "size": 1}).message.startswith("unknown parameter `size`;")
    assert failure(text, {}).message == "missing parameter `page`; the function takes `page`"
    assert str(failure(one(App("a"), Page), {"url": "u"})) == (
        '$: missing field `links` of `Page`: the input was read as the value itself; by name it is {"page": …}'
    )


def test_several_parameters_are_named_and_checked() -> None:
    app = App("a")

    @app.function
    def two(count: int, name: Optional[str] = None) -> str:
        return f"{count} {name}"

    assert testing.call(two, {"count": 1, "name": "n"}) == "1 n"
    assert testing.call(two, {"count": 1}) == "1 None"
    assert failure(two, {"cuont": 1}).message == (
        "unknown parameter `cuont`, did you mean `count`; the function takes `count`, `name`"
    )
    assert failure(two, {"name": "n"}).message == "missing parameter `count`; the function takes `count`, `name`"
    assert failure(two, [1]).message == "expected an object with the keys `count`, `name`, found an array"
    assert failure(two, {"count": "1"}).message == '$.count: expected an integer, found "1"'


def test_nothing_is_the_input_of_a_function_without_parameters() -> None:
    app = App("a")

    @app.function
    def nothing() -> int:
        return 1

    assert testing.call(nothing) == testing.call(nothing, {}) == 1
    assert failure(nothing, 1).message == "the function takes no input, but found a number"
    assert "unknown parameter `a`; the function takes no parameters" in failure(nothing, {"a": 1}).message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "the input is not JSON: "),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[NaN]", "`NaN` is no number of JSON"),
        (b"[" * 100_000, "the input is not JSON: "),
        (b"1" * 10_000, "the input is not JSON: "),
    ],
)
def test_a_hostile_input_is_refused_in_words(data: bytes, words: str) -> None:
    app = App("a")
    one(app, Any)
    with pytest.raises(Failure) as caught:
        dispatch.invoke(app.entries, "page", Payload("application/json", data), print)
    assert caught.value.code == "invalid-input"
    assert words in caught.value.message


def test_bytes_pass_as_they_are_with_their_content_type() -> None:
    app = App("a")

    @app.function
    def double(data: bytes) -> bytes:
        return Bytes(data * 2, getattr(data, "content_type", ""))

    @app.function
    def count(data: bytes) -> int:
        return len(data)

    doubled = testing.call(double, Bytes(b"\xff\x00", "image/png"))
    assert (doubled, doubled.content_type) == (b"\xff\x00\xff\x00", "image/png")
    assert testing.call(count, b"abc") == 3
    assert double.remote(b"a") == b"aa"
    assert list(count.map([b"a", b"bc"])) == [1, 2]
    assert "this function takes raw bytes" in failure(count, 1).message
    document = testing.document(app)["functions"]
    assert (
        document[1]["input"]
        == document[1]["output"]
        == {
            "type": "string",
            "format": "binary",
            "contentMediaType": "application/octet-stream",
        }
    )


def test_json_for_bytes_and_bytes_for_json_are_refused() -> None:
    with pytest.raises(Failure, match="the input is `application/octet-stream`, and this function takes"):
        testing.call(one(App("a"), int), b"1")


def test_what_leaves_a_function_is_its_failure() -> None:
    app = App("a")

    @app.function
    def fails(how: str) -> int:
        if how == "terminal":
            raise Failure("no such ship", terminal=True)
        if how == "exit":
            raise SystemExit(3)
        if how == "chain":
            try:
                int("x")
            except ValueError as error:
                raise RuntimeError("broken") from error
        return {}[how]

    assert (failure(fails, "terminal").code, failure(fails, "terminal").message) == ("terminal", "no such ship")
    found = failure(fails, "exit")
    assert found.message == "the function called `sys.exit(3)`; return a value, or raise `Failure`"
    found = failure(fails, "chain")
    assert found.message == "RuntimeError: broken"
    assert found.causes[0] == "ValueError: invalid literal for int() with base 10: 'x'"
    assert found.causes[1].endswith('in fails: raise RuntimeError("broken") from error')
    found = failure(fails, "x")
    assert (found.code, found.message) == ("failed", "KeyError: 'x'")
    # The author's own frames alone, none of the SDK.
    assert len(found.causes) == 1 and "test_function.py, line" in found.causes[0]


def test_a_result_without_a_form_in_json_is_terminal() -> None:
    app = App("a")

    @app.function
    def strange(kind: str) -> Any:
        loop: list[Any] = []
        loop.append(loop)
        return {"object": object(), "nan": float("nan"), "surrogate": "\ud800", "loop": loop}[kind]

    for kind, words in {
        "object": "a value of type `object` has no form in JSON",
        "nan": "a number in it is infinite or `nan`",
        "surrogate": "a lone surrogate",
        "loop": "Circular reference",
    }.items():
        found = failure(strange, kind)
        assert found.code == "terminal" and words in found.message, found.message


def test_results_are_written_by_their_types() -> None:
    app = App("a")

    @app.function
    def pages() -> list[Page]:
        return [Page("u", ["a"])]

    @app.function
    def untyped():  # type: ignore[no-untyped-def]
        return {"when": datetime.date(2026, 1, 31), "page": Page("u", []), "set": {2, 1}, "gen": (n for n in [1])}

    assert pages.remote() == [Page("u", ["a"])]
    assert testing.call(untyped) == {
        "when": "2026-01-31",
        "page": {"url": "u", "links": []},
        "set": [1, 2],
        "gen": [1],
    }


def test_a_coroutine_and_a_generator_are_run_to_their_end() -> None:
    import asyncio

    app = App("a")

    @app.function
    async def several() -> list[int]:
        async def after(number: int) -> int:
            await asyncio.sleep(number / 1000)
            return number

        return list(await asyncio.gather(after(2), after(1)))

    @app.function
    def squares(to: int) -> list[int]:
        return (n * n for n in range(to))  # type: ignore[return-value]

    assert testing.call(several) == [2, 1]
    assert testing.call(squares, 3) == [0, 1, 4]


# Groups.

GROUP = dispatch.GROUP


def group(app: App, name: str, inputs: Any) -> Any:
    answer = dispatch.invoke(app.entries, name, Payload(GROUP, json.dumps(inputs).encode()), lambda text: None)
    assert answer.content_type == GROUP
    return json.loads(answer.data)


def batched() -> App:
    app = App("groups")

    @app.function(batched=(4, "10ms"))
    def sizes(numbers: list[int]) -> list[tuple[int, int]]:
        return [(number, len(numbers)) for number in numbers]

    @app.function(batched=(4, 0), retries=2)
    def halves(numbers: list[int]) -> list[int | Failure]:
        return [n // 2 if n % 2 == 0 else Failure(f"{n} is odd") for n in numbers]

    @app.function(batched=(4, "1s"))
    def forgets(numbers: list[int]) -> list[int]:
        return [n for n in numbers if n != 3]

    return app


def test_a_group_is_answered_input_by_input() -> None:
    answers = group(batched(), "sizes", [1, {"numbers": 2}, "three", 4, {"number": 5}])
    assert [answers[i] for i in (0, 1, 3)] == [{"ok": [1, 3]}, {"ok": [2, 3]}, {"ok": [4, 3]}]
    assert answers[2]["err"]["code"] == "invalid-input"
    assert answers[2]["err"]["message"] == '$: expected an integer, found "three"'
    assert "`numbers`" in answers[4]["err"]["message"]
    assert group(batched(), "sizes", []) == []
    answers = group(batched(), "halves", [2, 3, 8])
    assert (answers[0], answers[2]) == ({"ok": 1}, {"ok": 4})
    assert answers[1]["err"] == {"code": "failed", "message": "3 is odd", "causes": []}


def test_a_group_fails_as_a_whole_where_the_function_miscounts() -> None:
    with pytest.raises(Failure) as caught:
        group(batched(), "forgets", [1, 2, 3, "x"])
    assert caught.value.is_terminal
    assert "2 outputs for a group of 3 inputs" in caught.value.message
    with pytest.raises(Failure, match="the group of inputs is no JSON array"):
        dispatch.invoke(batched().entries, "sizes", Payload(GROUP, b"[1} "), print)


def test_single_inputs_are_groups_of_one() -> None:
    app = App("one")

    @app.function(batched=(64, "10ms"))
    def lengths(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    assert lengths(["a", "bc"]) == [1, 2]
    assert lengths.remote("oar") == 3
    assert list(lengths.map(["a", "bc"])) == [1, 2]
    entry = testing.document(app)["functions"][0]
    assert entry["input"]["properties"] == {"texts": {"type": "string"}}
    assert entry["output"] == {"type": "integer"}
    assert entry["attributes"]["batched"] == {"max_size": 64, "wait_ms": 10}


# Calls of other functions.


def test_maps_yield_results_or_end_at_a_failure() -> None:
    app = App("maps")

    @app.function
    def half(number: int) -> int:
        if number % 2:
            raise Failure("it is odd", terminal=True)
        return number // 2

    @app.function
    def add(a: int, b: int) -> int:
        return a + b

    assert list(half.map(range(0, 100, 2))) == list(range(50))
    kept = list(half.map(range(4), return_exceptions=True))
    assert [k for k in kept if isinstance(k, int)] == [0, 1]
    assert [str(k) for k in kept if isinstance(k, Failure)] == ["it is odd", "it is odd"]
    with pytest.raises(Failure, match="it is odd: input 1 of the map"):
        list(half.map(range(4)))
    assert list(add.starmap([(1, 2), (3, 4)])) == [3, 7]
    half.for_each([2, 4])
    half.for_each([1], ignore_exceptions=True)
    # Inputs without end, of which few are taken.
    import itertools

    endless = half.map(itertools.count(step=2))
    assert [next(endless) for _ in range(3)] == [0, 1, 2]
    endless.close()


def test_spawned_calls_and_maps_are_found_by_their_ids() -> None:
    app = App("spawns")

    @app.function
    def double(number: int) -> int:
        if number < 0:
            raise Failure("below nothing")
        return number * 2

    call = double.spawn(4)
    assert call.get(timeout=1) == 8
    assert double.from_id(call.id).get() == 8
    with pytest.raises(Failure, match="below nothing"):
        double.spawn(-1).get()
    handle = double.spawn_map(range(3))
    assert list(handle.results()) == [0, 2, 4]
    found = double.map_from_id(handle.id)
    assert found.progress().done == 3 and found.result(1) == 2 and found.result(9) is None


def test_calls_nest_and_know_who_they_are() -> None:
    app = App("nested")

    @app.function
    def inner() -> str:
        return context.current().function

    @app.function
    def outer() -> list[str]:
        return [inner.remote(), context.current().function]

    @app.function
    def endless() -> None:
        endless.remote()

    assert outer.remote() == ["inner", "outer"]
    with pytest.raises(Failure, match="deeper than 4"):
        endless.remote()


# Attributes and the document.


def attributes(**given: Any) -> Any:
    app = App("a")

    @app.function(**given)
    def f(x: Optional[int] = None) -> None: ...

    return testing.document(app)["functions"][0]["attributes"]


def test_attributes_stand_in_the_document_as_those_of_rust_do() -> None:
    assert attributes() == {"outbound": [], "models": []}
    assert attributes(
        timeout="1500ms",
        memory="8MiB",
        retries=Retries(max=3, backoff=1.5, initial="1s", max_delay=60),
        concurrency=2,
        schedule=Cron("0 6 * * MON", missed="run_once", overlap="queue"),
        outbound=["$site", "https://example.com:8443"],
        models=["m"],
        tokens=10,
        tokens_per_day=20,
        secrets=["A_SECRET"],
        config=["depth"],
    ) == {
        "timeout_ms": 1500,
        "memory_bytes": 8_388_608,
        "retries": {"max": 3, "backoff": 1.5, "initial_ms": 1000, "max_delay_ms": 60_000},
        "concurrency": 2,
        "schedule": {"cron": "0 6 * * MON", "tz": "UTC", "missed": "run_once", "overlap": "queue"},
        "outbound": ["$site", "https://example.com:8443"],
        "models": ["m"],
        "tokens": 10,
        "tokens_per_day": 20,
        "secrets": ["A_SECRET"],
        "config": ["depth"],
    }
    assert attributes(schedule=Period("15m", overlap="allow"))["schedule"] == {"period_ms": 900_000, "overlap": "allow"}
    # As in Modal: seconds, and MiB.
    assert attributes(timeout=10, memory=64)["memory_bytes"] == 64 << 20
    assert attributes(timeout=datetime.timedelta(minutes=1))["timeout_ms"] == 60_000


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timeout": "soon"}, "timeout='soon' is no duration; write a number of seconds, or \"10s\""),
        ({"timeout": 0}, "timeout=0 is not from 1ms to 24h"),
        ({"timeout": float("nan")}, "timeout=nan is not from"),
        ({"memory": "64MB"}, "memory='64MB' is no size; write \"64MiB\""),
        ({"memory": 64 << 20}, "is a number of MiB"),
        ({"retries": -1}, "retries=-1 is not from 0 to 100"),
        ({"retries": Retries(max=1, initial="1m", max_delay="1s")}, "`initial` is longer than `max_delay`"),
        ({"concurrency": True}, "concurrency=True is no whole number"),
        ({"batched": 64}, 'write the largest group and the longest wait, as `batched=(64, "10ms")`'),
        ({"outbound": "https://example.com"}, "is no list"),
        ({"outbound": ["example.com"]}, "write `https://example.com`"),
        ({"outbound": ["https://example.com/path"]}, "is not an origin"),
        ({"outbound": ["$a", "$a"]}, "`$a` is listed twice"),
        ({"models": ["a model"]}, "is not a model's name"),
        ({"secrets": ["1KEY"]}, "no digit first"),
        ({"schedule": "0 6 * *"}, "has 4 fields, and needs five"),
        ({"schedule": "0 25 * * *"}, "`25` is no hour, which goes from 0 to 23"),
        ({"schedule": Cron("* * * * *", missed="later")}, "there are `skip`, `run_once`"),  # type: ignore[arg-type]
        ({"timout": "1s"}, "unknown attribute `timout`; did you mean `timeout`?"),
        ({"gpu": "A10G"}, "unknown attribute `gpu`: models run on the host's workers"),
        ({"route": "GET /"}, '`route` belongs to `app.web`: write `@app.web("GET /search")`'),
    ],
)
def test_a_wrong_attribute_is_refused_where_it_is_written(given: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        attributes(**given)
    assert words in str(caught.value)


def test_the_document_has_the_fixed_shape() -> None:
    app = App("docs-search", version="0.1.0", description="Finds pages.")

    @app.function(timeout="10s")
    def scrape(url: Annotated[str, "address of the page"], depth: int = 2) -> list[str]:
        """Fetches one page.

        And takes it apart.
        """
        return [url] * depth

    assert testing.document(app) == {
        "format": 1,
        "app": {"name": "docs-search", "version": "0.1.0", "description": "Finds pages."},
        "functions": [
            {
                "name": "scrape",
                "doc": "Fetches one page.\n\nAnd takes it apart.",
                "parameters": ["url", "depth"],
                "input": {
                    "type": "object",
                    "properties": {
                        "url": {"type": "string", "description": "address of the page"},
                        "depth": {"type": "integer", "default": 2},
                    },
                    "required": ["url"],
                    "additionalProperties": False,
                },
                "output": {"type": "array", "items": {"type": "string"}},
                "attributes": {"timeout_ms": 10_000, "outbound": [], "models": []},
            }
        ],
    }


@pytest.mark.parametrize("name", ["", "a b", "ä", "-a", "x" * 65])
def test_an_apps_name_is_checked(name: str) -> None:
    if name:
        with pytest.raises(ValueError, match="an app's name has letters"):
            App(name)
    else:
        assert testing.document(App())["app"]["name"] == "app"


def test_two_functions_of_one_name_are_refused_with_both_places() -> None:
    app = App("a")

    @app.function
    def f() -> None: ...

    with pytest.raises(ValueError, match=r"two functions are named `f`: at .*test_function.py, line \d+ and at"):

        @app.function
        def f() -> int:  # type: ignore[no-redef]
            return 1


def test_a_type_without_json_is_named_with_its_place() -> None:
    app = App("a")

    @app.function
    def f(x: complex) -> None: ...

    with pytest.raises(TypeError, match=r"test_function.py, line \d+: parameter `x` of `f`: `complex` has no form"):
        testing.document(app)


def test_parameters_are_named() -> None:
    app = App("a")

    @app.function
    def f(*numbers: int) -> None: ...

    with pytest.raises(TypeError, match=r"`\*numbers` of `f`: an input has named values"):
        testing.document(app)


def test_a_plain_call_stays_one() -> None:
    app = App("a")

    @app.function
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    assert add(1) == add.local(1) == add.remote(1) == 2
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    # It is the function itself, so that it recurs as deep as any.
    assert inspect.isfunction(add)
    with pytest.raises(TypeError, match="missing a required argument"):
        add.remote()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
