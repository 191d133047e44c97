#!/usr/bin/env python3
"""Figures of the client against a running host with the app `hello`: python/bench.py [URL] [--inputs N] [--rounds N].

Rounds take turns between this client and a bare loop over `http.client`, so that both meet the same noise.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

import bireme  # noqa: E402


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Returns seconds of wall and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_loop(url: str, calls: int) -> None:
    """What `http.client` needs for the same calls, and no less: JSON in and out."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = {"content-type": "application/json"}
    for n in range(calls):
        connection.request("POST", "/hello/square", json.dumps({"n": n}), headers)
        assert json.loads(connection.getresponse().read()) == n * n
    connection.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("url", nargs="?")
    arguments.add_argument("--inputs", type=int, default=100_000)
    arguments.add_argument("--calls", type=int, default=5_000)
    arguments.add_argument("--rounds", type=int, default=5)
    asked = arguments.parse_args()
    host = bireme.connect(asked.url)
    square = bireme.Function.lookup("hello", "square")
    print(f"Python {sys.version.split()[0]}, {host.url}, median of {asked.rounds} rounds (lowest to highest)")

    def show(name: str, values: list[float], unit: str) -> None:
        print(f"{name:44} {statistics.median(values):>10,.1f} {unit} ({min(values):,.1f} to {max(values):,.1f})")

    def loop(calls: int) -> None:
        for n in range(calls):
            assert square(n) == n * n

    def in_threads() -> None:
        threads = [threading.Thread(target=loop, args=(asked.calls // 8,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    loop(500)
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    eight: list[tuple[float, float]] = []
    for _ in range(asked.rounds):
        ours.append(timed(lambda: loop(asked.calls)))
        if host.address.kind == "tcp":
            bare.append(timed(lambda: bare_loop(host.url, asked.calls)))
        eight.append(timed(in_threads))
    for name, times in (("calls, one thread", ours), ("calls, http.client alone", bare), ("calls, 8 threads", eight)):
        if times:
            show(name, [asked.calls / wall for wall, _ in times], "/s")
            show("  CPU of the client", [cpu / asked.calls * 1e6 for _, cpu in times], "us a call")
    if bare:
        ratios = [b[0] / o[0] for o, b in zip(ours, bare)]
        show("RATIO calls/s, to http.client", ratios, "")

    for ordered in (True, False):
        rates: list[float] = []
        cpus: list[float] = []
        firsts: list[float] = []
        for _ in range(asked.rounds):
            began, cpu, first, total = time.perf_counter(), time.process_time(), 0.0, 0
            for result in square.map(iter(range(asked.inputs)), ordered=ordered, progress=False):
                first = first or time.perf_counter() - began
                total += result
            assert total == sum(n * n for n in range(asked.inputs))
            rates.append(asked.inputs / (time.perf_counter() - began))
            cpus.append((time.process_time() - cpu) / asked.inputs * 1e6)
            firsts.append(first * 1e3)
        name = f"map of {asked.inputs:,}, {'in order' if ordered else 'as completed'}"
        show(name, rates, "inputs/s")
        show("  first result", firsts, "ms")
        show("  CPU of the client", cpus, "us an input")
    print(f"{'memory of the client, at most':44} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>10,.1f} MiB")


if __name__ == "__main__":
    main()
