"""The asynchronous client: many calls at a time, maps, time-outs, cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

import bireme
from bireme import Function


def test_many_calls_wait_at_a_time(host: bireme.Host) -> None:
    async def run() -> None:
        nap = Function.lookup("authored", "nap")
        began = time.monotonic()
        assert await asyncio.gather(*(nap.aremote(500) for _ in range(64))) == [500] * 64
        assert time.monotonic() - began < 10
        square = Function.lookup("hello", "square")
        assert await asyncio.gather(*(square.aremote(n) for n in range(500))) == [n * n for n in range(500)]

    asyncio.run(run())
    # Another loop has connections of its own.
    assert asyncio.run(Function.lookup("hello", "greet").aremote("Ada")) == "hello, Ada"


def test_errors_are_those_of_blocking_calls(host: bireme.Host) -> None:
    async def run() -> None:
        with pytest.raises(bireme.InvalidInput) as raised:
            await Function.lookup("hello", "greet").aremote(1)
        assert raised.value.receipt is not None
        nap = Function.lookup("authored", "nap")
        with pytest.raises(bireme.Timeout):
            await nap.with_options(timeout=0.2).aremote(5_000)
        task = asyncio.ensure_future(nap.aremote(5_000))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The answer that is still to come is nobody else's.
        assert await nap.aremote(1) == 1

    asyncio.run(run())


def test_durable_calls_are_awaited(host: bireme.Host) -> None:
    async def run() -> None:
        nap = Function.lookup("authored", "nap")
        call = await nap.aspawn(300)
        with pytest.raises(bireme.Timeout):
            await call.aget(0.05)
        assert await call.aget(10) == 300
        assert await bireme.FunctionCall.from_id(call.id).aget(10) == 300
        with pytest.raises(bireme.FunctionFailed):
            await (await Function.lookup("authored", "hopeless").aspawn("no")).aget(10)

    asyncio.run(run())


def test_maps_take_iterables_of_either_kind(host: bireme.Host) -> None:
    async def numbers(count: int) -> AsyncIterator[int]:
        for n in range(count):
            if n % 1_000 == 0:
                await asyncio.sleep(0.001)
            yield n

    async def run() -> None:
        square = Function.lookup("hello", "square")
        assert [result async for result in square.amap(range(2_000))] == [n * n for n in range(2_000)]
        results = [result async for result in square.amap(numbers(10_000), ordered=False)]
        assert sorted(results) == [n * n for n in range(10_000)]

        # The loop goes on meanwhile.
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        nap = Function.lookup("authored", "nap")
        assert [result async for result in nap.amap([300] * 4)] == [300] * 4
        ticking.cancel()
        assert ticks >= 10

    asyncio.run(run())


def test_a_map_fails_or_is_left_as_a_blocking_one(host: bireme.Host) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise OSError("the socket is gone")

    async def run() -> str:
        slow = Function.lookup("hello", "square")
        with pytest.raises(OSError, match="the socket is gone"):
            async for _ in slow.amap(failing()):
                pass
        with pytest.raises(bireme.InvalidInput):
            async for _ in slow.amap([1, -1, 2]):
                pass
        nap = Function.lookup("authored", "nap")
        newest = ""
        async for result in nap.amap([1, 60_000, 60_000]):
            assert result == 1
            newest = host.document("GET", "/api/v1/calls?kind=map&limit=1")["calls"][0]["id"]
            break
        return newest

    map_id = asyncio.run(run())
    end = time.monotonic() + 10
    while bireme.Map.from_id(map_id).status().state != "cancelled":
        assert time.monotonic() < end
        time.sleep(0.05)
