"""Calls of functions: arguments, results, errors, receipts, durable calls."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import multiprocessing
import pickle
import threading
import time

import pytest

import bireme
from bireme import Function
from running import Running


def test_arguments_go_by_position_or_by_name(host: bireme.Host) -> None:
    add = Function.lookup("hello", "add")
    assert add.remote(1, 2) == add.remote(1, b=2) == add.remote(b=2, a=1) == add(1, 2) == 3
    echo = Function.lookup("hello", "echo")
    # Looks like the named form of its parameter, and is a value all the same.
    assert echo({"value": 1}) == {"value": 1}
    assert echo(None) is None and echo("é\n\u2028") == "é\n\u2028" and echo(2**60) == 2**60


def test_wrong_arguments_are_named_before_anything_is_sent(host: bireme.Host) -> None:
    add = Function.lookup("hello", "add")
    for arguments, names, words in [
        ((1, 2, 3), {}, "2 arguments (a, b), and 3"),
        ((1,), {}, "needs `b`"),
        ((1,), {"c": 2}, "no parameter `c`; it has a, b"),
        ((1,), {"a": 2}, "two values for `a`"),
    ]:
        with pytest.raises(TypeError) as raised:
            add(*arguments, **names)
        assert words in str(raised.value)


def test_a_function_has_the_signature_and_the_words_of_its_author(host: bireme.Host) -> None:
    add = Function.lookup("hello", "add")
    assert str(inspect.signature(add)) == "(a: int, b: int) -> int"
    assert add.__doc__ == "Adds two numbers." and add.__name__ == "add"
    assert "hello::add(a: int, b: int) -> int" in repr(add)
    assert "Adds two numbers." in add._repr_html_()


def test_an_object_with_a_name_comes_back_as_a_dataclass(host: bireme.Host) -> None:
    identity = Function.lookup("hello", "whoami")()
    assert (identity.app, identity.function, identity.attempt) == ("hello", "whoami", 1)
    assert type(identity).__name__ == "Identity"
    assert pickle.loads(pickle.dumps(identity)) == identity


@dataclasses.dataclass
class Who:
    app: str
    function: str
    version: str
    call_id: str
    attempt: int
    remaining_ms: int


@dataclasses.dataclass
class Point:
    x: int


def test_a_result_has_the_type_that_was_asked_for(host: bireme.Host) -> None:
    who = Function.lookup("hello", "whoami", output=Who)
    mine = who()
    assert isinstance(mine, Who) and mine.attempt == 1 and who.spawn().get(20).function == "whoami"
    points = Function.lookup("hello", "echo", output=list[Point])
    assert points([{"x": 1}]) == [Point(1)] == points.spawn([Point(1)]).get(20) == next(points.map([[Point(1)]]))
    with pytest.raises(bireme.BadAnswer, match=r"\$\[0\]\.x: expected an integer"):
        points([{"x": "one"}])


def test_bytes_go_and_come_with_their_media_type(host: bireme.Host) -> None:
    reverse = Function.lookup("authored", "reverse")
    data = bytes(range(256)) * 1000
    assert reverse(data) == data[::-1] and reverse(memoryview(data)) == data[::-1]
    assert reverse("text").content_type == "text/plain; charset=utf-8"
    assert Function.lookup("authored", "weigh")(data) == len(data)
    with pytest.raises(TypeError, match="takes bytes, not `int`"):
        reverse(1)


def test_a_refused_input_is_an_error_with_code_hint_and_receipt(host: bireme.Host) -> None:
    with pytest.raises(bireme.InvalidInput) as raised:
        Function.lookup("hello", "greet")(1)
    error = raised.value
    assert (error.code, error.status) == ("invalid-input", 400)
    assert "$.name: expected a string, found 1" in str(error) and "bireme explain" in str(error.hint)
    assert error.receipt is not None and error.receipt.attempts == 1 and error.call_id
    # As `multiprocessing` sends it.
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.status, str(again)) == (error.code, error.status, str(error))


def test_a_failed_function_is_an_error_with_its_words(host: bireme.Host) -> None:
    with pytest.raises(bireme.FunctionFailed, match="does not fit 64 bits") as raised:
        Function.lookup("hello", "add")(2**62, 2**62)
    assert raised.value.code == "failed"
    with pytest.raises(bireme.FunctionFailed) as raised:
        Function.lookup("authored", "hopeless")("no such ship")
    assert (raised.value.code, raised.value.message) == ("terminal", "no such ship")


def test_what_is_not_there_is_named_with_what_is(host: bireme.Host) -> None:
    with pytest.raises(bireme.NotFound) as raised:
        Function.lookup("hello", "gret")
    assert raised.value.code == "unknown-function" and "did you mean `greet`?" in str(raised.value)
    with pytest.raises(bireme.NotFound) as raised:
        Function.lookup("nothing", "f")
    assert raised.value.code == "unknown-app" and "bireme deploy" in str(raised.value.hint)
    with pytest.raises(bireme.NotFound):
        bireme.FunctionCall.from_id("01a20e64-a124-707d-9175-a92a41304ffb").get(1)
    assert "greet" in host.apps()["hello"]


def test_the_control_api_wants_a_token_and_functions_do_not(running: Running) -> None:
    stranger = bireme.Host(running.url)
    with pytest.raises(bireme.Unauthorized) as raised:
        Function.lookup("hello", "greet", host=stranger)
    assert raised.value.status == 401 and "BIREME_TOKEN" in str(raised.value.hint)
    with pytest.raises(bireme.Unauthorized):
        Function.lookup("hello", "greet", host=bireme.Host(running.url, "x" * 32))
    assert running.token not in repr(bireme.Host(running.url, running.token).address)
    known = Function.lookup("hello", "greet", host=bireme.Host(running.url, running.token))
    assert Function(stranger, "hello", "greet", known.metadata)("Ada") == "hello, Ada"


def test_over_the_control_socket_the_user_stands_for_the_token(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREME_DATA", str(running.data))
    host = bireme.Host()
    assert host.url.startswith("unix:") and host.address.token is None
    square = Function.lookup("hello", "square", host=host)
    assert square(3) == 9 and list(square.map(range(100))) == [n * n for n in range(100)]
    assert asyncio.run(square.aremote(4)) == 16


def test_a_receipt_tells_the_cost(host: bireme.Host) -> None:
    outcome = Function.lookup("authored", "nap").outcome(20)
    assert outcome.value == 20 and outcome.receipt is not None and outcome.receipt.wall_us >= 20_000
    assert outcome.call_id and outcome.version
    assert "wall" in str(outcome.receipt) and "<table>" in outcome._repr_html_()


def test_a_wait_has_an_end_where_one_is_set(host: bireme.Host) -> None:
    nap = Function.lookup("authored", "nap")
    began = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        nap.with_options(timeout=0.2)(5_000)
    assert isinstance(raised.value, bireme.Timeout) and time.monotonic() - began < 3
    # The answer that is still to come is nobody else's.
    assert nap(1) == 1


def test_a_durable_call_is_waited_for_found_again_and_cancelled(host: bireme.Host) -> None:
    nap = Function.lookup("authored", "nap")
    call = nap.spawn(300)
    with pytest.raises(bireme.Timeout) as raised:
        call.get(0.05)
    assert raised.value.call_id == call.id and "it goes on" in str(raised.value.hint)
    assert bireme.FunctionCall.from_id(call.id).get(10) == 300
    status = call.status()
    assert status.is_done and status.state == "done" and status.function == "authored::nap"
    assert "done" in call._repr_html_()

    call = nap.spawn(60_000)
    assert call.cancel()
    with pytest.raises(bireme.Cancelled):
        call.get(10)


def test_a_durable_calls_own_failure_is_raised_and_retries_are_made(host: bireme.Host) -> None:
    assert Function.lookup("authored", "flaky").spawn(2).get(20) == 3
    with pytest.raises(bireme.FunctionFailed, match="no such ship"):
        Function.lookup("authored", "hopeless").spawn("no such ship").get(20)
    # A function's own time-out is no time-out of the wait, and is not waited for again.
    with pytest.raises(bireme.Timeout) as raised:
        Function.lookup("authored", "calls_itself").spawn(1).get(20)
    assert raised.value.status == 504
    reverse = Function.lookup("authored", "reverse").spawn(b"abc")
    assert reverse.get(20) == b"cba" and bireme.FunctionCall.from_id(reverse.id).get(20) == b"cba"


def test_a_key_makes_one_call_of_two(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    first, second = (square.spawn(7, idempotency_key="test-key-17") for _ in range(2))
    assert first.id == second.id and second.get(10) == 49
    with pytest.raises(bireme.Error) as raised:
        square.spawn(8, idempotency_key="test-key-17")
    assert raised.value.code == "key-reused"


def test_threads_share_a_function(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda start=start: results.append([square(n) for n in range(start, start + 50)]))
        for start in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[n * n for n in range(start, start + 50)] for start in range(0, 800, 100)]


def _square(url: str, token: str, n: int) -> int:
    return int(Function.lookup("hello", "square", host=bireme.Host(url, token))(n))


def _square_of_default(n: int) -> int:
    return int(Function.lookup("hello", "square")(n))


def test_a_forked_process_has_connections_of_its_own(host: bireme.Host, running: Running) -> None:
    square = Function.lookup("hello", "square")
    assert square(2) == 4
    with multiprocessing.get_context("fork").Pool(2) as pool:
        children = pool.map_async(_square_of_default, range(50), chunksize=1)
        ours = [square(n) for n in range(200)]
        assert children.get(60) == [n * n for n in range(50)] and ours == [n * n for n in range(200)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_square, (running.url, running.token, 3)) == 9


def test_a_connection_that_the_host_closed_is_replaced(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    assert square(2) == 4
    # The host closes an idle connection after 10 s.
    time.sleep(11)
    assert square(3) == 9


def test_large_inputs_and_outputs_go_through(host: bireme.Host) -> None:
    echo = Function.lookup("hello", "echo")
    text = "é" * 1_000_000
    assert echo(text) == text
    with pytest.raises(bireme.InvalidInput) as raised:
        echo("x" * (20 << 20))
    assert raised.value.code == "input-too-large"
