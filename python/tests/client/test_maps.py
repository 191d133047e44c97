"""Maps: results in both orders, failures, early ends, what is there on the host."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import bireme
from bireme import Function, Map
from running import REPOSITORY, Running


def _until(condition: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_results_come_in_order_or_as_they_complete(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    assert list(square.map(range(3_000))) == [n * n for n in range(3_000)]
    assert sorted(square.map(range(500), ordered=False)) == [n * n for n in range(500)]
    assert list(square.map([])) == []
    assert list(square.map(iter([3]))) == [9]


def test_several_parameters_come_from_iterables_tuples_or_mappings(host: bireme.Host) -> None:
    add = Function.lookup("hello", "add")
    assert list(add.map([1, 2], [10, 20])) == [11, 22]
    assert list(add.starmap([(1, 2), {"a": 3, "b": 4}])) == [3, 7]
    add.for_each([1], [2])
    with pytest.raises(bireme.FunctionFailed):
        add.for_each([2**62], [2**62])
    add.for_each([2**62], [2**62], ignore_exceptions=True)


def test_bytes_go_through_maps(host: bireme.Host) -> None:
    reverse = Function.lookup("authored", "reverse")
    results = list(reverse.map([b"\x00\xff", "text", bireme.Bytes(b"<p>", "text/html")]))
    assert results == [b"\xff\x00", b"txet", b">p<"]
    assert [result.content_type for result in results[1:]] == ["text/plain; charset=utf-8", "text/html"]


def test_the_first_failure_is_raised_and_cancels_the_map(host: bireme.Host) -> None:
    slow = Function.lookup("authored", "slow_square")
    run = slow.starmap((n, 7) for n in range(1, 5_000))
    results: list[int] = []
    with pytest.raises(bireme.FunctionFailed, match="7 is bad") as raised:
        for result in run:
            results.append(result)
    assert results == [1, 4, 9, 16, 25, 36]
    assert (raised.value.index, raised.value.map_id, raised.value.code) == (6, run.id, "terminal")
    assert run.map.status().state == "cancelled"
    with pytest.raises(StopIteration):
        next(run)


def test_failures_take_the_place_of_results_where_that_is_asked(host: bireme.Host) -> None:
    slow = Function.lookup("authored", "slow_square")
    results = list(slow.starmap([(n, 3) for n in range(1, 10)], return_exceptions=True))
    assert [r if isinstance(r, int) else r.message for r in results] == [
        1, 4, "3 is bad", 16, 25, "6 is bad", 49, 64, "9 is bad",
    ]  # fmt: skip
    assert results[2].index == 2 and results[2].receipt.attempts == 1
    unordered = list(slow.starmap([(n, 3) for n in range(1, 10)], ordered=False, return_exceptions=True))
    assert sum(isinstance(r, bireme.FunctionFailed) for r in unordered) == 3


def test_an_endless_iterable_is_read_as_far_as_needed(host: bireme.Host) -> None:
    taken = itertools.count()
    square = Function.lookup("hello", "square")
    run = square.map(n % 1000 for n in taken)
    assert list(itertools.islice(run, 5)) == [0, 1, 4, 9, 16]
    run.close()
    assert run.map.status().state == "cancelled"
    from bireme._client.upload import AHEAD_MAX

    assert next(taken) <= AHEAD_MAX + 10_000
    _until(lambda: not any(thread.name.startswith("bireme-map") for thread in threading.enumerate()))


def test_a_loop_that_is_left_early_cancels_its_map(host: bireme.Host) -> None:
    nap = Function.lookup("authored", "nap")
    runs: list[str] = []

    def first() -> int:
        run = nap.map([1] + [60_000] * 5)
        runs.append(run.id)
        for result in run:
            return result
        return 0

    assert first() == 1
    _until(lambda: Map.from_id(runs[0]).status().state == "cancelled")
    with nap.map([1, 60_000]) as run:
        next(run)
    assert run.map.status().state == "cancelled"


def test_an_iterable_that_fails_ends_the_map_with_its_error(host: bireme.Host) -> None:
    def inputs() -> Iterator[int]:
        yield from range(10)
        raise OSError("the file is gone")

    square = Function.lookup("hello", "square")
    run = square.map(inputs())
    with pytest.raises(OSError, match="the file is gone"):
        list(run)
    assert run.map.status().is_done
    with pytest.raises(bireme.InvalidInput, match="set of functions|no form in JSON"):
        list(square.map([1, object()]))
    with pytest.raises(TypeError, match="has no parameter"):
        list(square.starmap([{"m": 1}]))
    with pytest.raises(OSError, match="the file is gone"):
        square.spawn_map(inputs())


def test_a_map_goes_on_by_itself_and_is_read_later(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    map_ = square.spawn_map(range(1_000))
    again = Map.from_id(map_.id)
    status = again.wait(30)
    assert (status.state, status.accepted, status.done, status.failed) == ("done", 1_000, 1_000, 0)
    assert list(again) == [n * n for n in range(1_000)] == list(again.results())
    assert list(again.results(start=995)) == [n * n for n in range(995, 1_000)]
    assert sorted(again.results(ordered=False, start=990)) == [n * n for n in range(990, 1_000)]
    outcome = again.get(7)
    assert outcome is not None and (outcome.value, outcome.index, outcome.attempt) == (49, 7, 1)
    with pytest.raises(bireme.NotFound):
        again.get(1_000)
    assert "1,000" in map_._repr_html_()


def test_a_cancelled_map_says_so_for_each_input_without_outcome(host: bireme.Host) -> None:
    nap = Function.lookup("authored", "nap_alone")
    map_ = nap.spawn_map([1, 60_000, 60_000])
    _until(lambda: map_.status().done == 1)
    with pytest.raises(bireme.Timeout):
        map_.wait(0.05)
    assert map_.get(2) is None
    map_.cancel()
    results = list(map_.results(return_exceptions=True))
    assert results[0] == 1 and [type(result) for result in results[1:]] == [bireme.Cancelled] * 2
    assert [outcome.error is None for outcome in map_.outcomes(ordered=False)] == [True, False, False]
    with pytest.raises(bireme.Cancelled):
        list(map_.results())


def test_failed_inputs_run_again(host: bireme.Host) -> None:
    map_ = Function.lookup("authored", "hopeless").spawn_map(["a", "b"])
    assert map_.wait(30).failed == 2
    assert map_.retry_failed() == 2
    assert map_.wait(30).failed == 2


def test_a_closed_map_takes_no_inputs_and_gives_its_results(host: bireme.Host) -> None:
    square = Function.lookup("hello", "square")
    run = square.map(itertools.chain([1, 2], _blocked()))
    assert next(run) == 1
    run.map.close()
    assert next(run) == 4
    with pytest.raises(StopIteration):
        next(run)


def _blocked() -> Iterator[int]:
    time.sleep(3)
    yield 3


def test_a_slow_iterable_has_its_first_results_before_its_last_input(host: bireme.Host) -> None:
    waiting = threading.Event()

    def inputs() -> Iterator[int]:
        yield from range(3)
        assert waiting.wait(30)
        yield 3

    run = Function.lookup("hello", "square").map(inputs())
    assert [next(run) for _ in range(3)] == [0, 1, 4]
    waiting.set()
    assert list(run) == [9]


MEMORY = """
import resource, sys
import bireme
bireme.connect(sys.argv[1], sys.argv[2])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
weigh = bireme.Function.lookup("authored", "weigh")
list(weigh.map([b"x" * 1000] * 10))
before = peak()
assert sum(weigh.map(bytes(200_000) for _ in range(1_000))) == 200_000_000
texts = bireme.Function.lookup("authored", "text_of")
assert sum(len(text) for text in texts.map([200_000] * 500)) == 100_000_000
print(peak() - before)
"""


def test_memory_does_not_grow_with_inputs_and_results(running: Running) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, running.url, running.token],
        capture_output=True,
        text=True,
        cwd=REPOSITORY / "python",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # Of 270 MB of inputs, in Base64, and 100 MB of results.
    assert int(done.stdout) < 96, f"{done.stdout} MiB"


def test_priority_reaches_the_host(host: bireme.Host) -> None:
    map_ = Function.lookup("hello", "square").with_options(priority="low").spawn_map([1])
    assert map_.status().document["priority"] == "low"
