"""Hosts and clients are killed in the middle of maps and calls: every result comes, and comes once."""

from __future__ import annotations

import collections
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bireme
from bireme import Function, Map
from running import Running

INPUTS = 4_000
EXPECTED = [n * n for n in range(INPUTS)]


def _slow(running: Running) -> Function[int]:
    host = bireme.connect(running.url, running.token)
    return Function.lookup("authored", "slow_square", host=host)


def _inputs(pause: float = 0.0) -> Iterator[tuple[int, int]]:
    for n in range(INPUTS):
        if pause and n % 100 == 0:
            time.sleep(pause)
        yield (n, 0)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_goes_on_over_hosts_that_are_killed(own: Running, ordered: bool) -> None:
    kills = 0

    def kill(after: list[int]) -> None:
        nonlocal kills
        for count in after:
            while len(results) < count:
                time.sleep(0.005)
            own.kill()
            kills += 1
            time.sleep(0.3)
            own.start()

    results: list[int] = []
    killer = threading.Thread(target=kill, args=([100, 1_500, 3_000],))
    # Inputs come over some seconds, so that hosts are killed while they are sent, too.
    run = _slow(own).starmap(_inputs(pause=0.05), ordered=ordered)
    killer.start()
    for result in run:
        results.append(result)
    killer.join()
    assert kills == 3
    assert (results if ordered else sorted(results)) == EXPECTED
    status = Map.from_id(run.id).status()
    assert (status.state, status.done, status.accepted) == ("done", INPUTS, INPUTS)


CHILD = """
import sys, time
import bireme
bireme.connect(sys.argv[1], sys.argv[2])
slow = bireme.Function.lookup("authored", "slow_square")
def inputs():
    for n in range(4000):
        if n >= 1000:
            time.sleep(0.01)
        yield (n, 0)
run = slow.starmap(inputs())
print(run.id, flush=True)
for result in run:
    print(result, flush=True)
"""


def test_a_map_whose_client_was_killed_is_resumed(own: Running) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, own.url, own.token],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(bireme.__file__).parents[1],
    )
    assert child.stdout is not None
    map_id = child.stdout.readline().strip()
    for _ in range(200):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()

    bireme.connect(own.url, own.token)
    map_ = Map.from_id(map_id)
    accepted = map_.status().accepted
    assert 200 <= accepted < INPUTS and map_.status().state == "open"
    taken = collections.Counter[int]()

    def inputs() -> Iterator[tuple[int, int]]:
        for n in range(INPUTS):
            taken[n] += 1
            yield (n, 0)

    # Two parameters: each input is a tuple, as it was for `starmap`.
    assert list(map_.resume_starmap(inputs())) == EXPECTED
    assert map_.status().done == INPUTS and set(taken.values()) == {1}
    # Closed now: nothing is read of its inputs.
    assert list(map_.resume_starmap(inputs())) == EXPECTED and set(taken.values()) == {1}


def test_results_are_read_over_a_host_that_is_killed(own: Running) -> None:
    map_ = _slow(own).with_options(priority="low").spawn_starmap(_inputs())
    results = map_.results()
    first = [next(results) for _ in range(500)]
    own.kill()
    threading.Timer(0.5, own.start).start()
    assert first + list(results) == EXPECTED


def test_a_durable_call_is_waited_for_over_a_host_that_is_killed(own: Running) -> None:
    bireme.connect(own.url, own.token)
    call = Function.lookup("authored", "nap").spawn(1_500)
    results: list[object] = []

    def wait() -> None:
        results.append(call.get(60))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    own.kill()
    time.sleep(0.3)
    own.start()
    waiting.join()
    assert results == [1_500]


def test_a_host_that_stays_away_ends_the_map_with_its_id(own: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bireme._client.patience.Patience.__init__.__defaults__", (1.0,))
    run = _slow(own).starmap(_inputs(pause=0.05))
    assert next(run) == 0
    own.kill()
    with pytest.raises(bireme.HostUnreachable) as raised:
        list(run)
    assert raised.value.map_id == run.id and "Map.from_id" in str(raised.value.hint)
    own.start()
    assert list(Map.from_id(run.id).resume_starmap(_inputs())) == EXPECTED


def test_an_interrupt_leaves_the_map_and_says_how_to_go_on(own: Running) -> None:
    code = CHILD.replace("def inputs", "import _thread, threading\nthreading.Timer(1.5, _thread.interrupt_main).start()\ndef inputs")
    done = subprocess.run(
        [sys.executable, "-c", code, own.url, own.token],
        capture_output=True,
        text=True,
        cwd=Path(bireme.__file__).parents[1],
        timeout=60,
    )
    map_id = done.stdout.split("\n")[0]
    assert "KeyboardInterrupt" in done.stderr and f"bireme.Map.from_id('{map_id}')" in done.stderr
    bireme.connect(own.url, own.token)
    assert Map.from_id(map_id).status().state == "open"


def test_a_slow_reader_gets_every_result(own: Running) -> None:
    # More than sockets and the host's channel hold; the host closes a connection that nobody reads for 30 s.
    host = bireme.connect(own.url, own.token)
    map_ = Function.lookup("authored", "text_of", host=host).spawn_map([200_000] * 300)
    map_.wait(60)
    results = map_.results()
    assert len(next(results)) == 200_000
    time.sleep(35)
    assert sum(len(result) for result in results) == 299 * 200_000
