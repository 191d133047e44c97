"""Memory: log lines, announced bodies, answers that nobody reads, maps that wait."""

import os
import socket
import time

from host import LITTLE, MIB, Fault, Host, chunk, counted, request, status_of, together, until
from trial import attack

CONTROL = "\x01" * 60_000


@attack("H3", "standard error that nobody reads, a host that warns", "queue of 4 MiB; lines are dropped and counted", quick=True)
def stalled_stderr(trial):
    reader, writer = os.pipe()
    try:
        with trial.host(["hello", "hostile"], stderr=writer, peak_mib=200) as host:
            os.close(writer)
            with trial.beside(host):
                fill_log(host, 4, 8)
                # Each of these is a warning of the host's own, written on a thread of the runtime.
                broken = [host.get("/hostile/breaks")[0] for _ in range(20)]
                fill_log(host, 4, 8)
            trial.check(len(broken) == 20, "64 calls logged 56 MiB, 20 warnings")
    finally:
        os.close(reader)


def fill_log(host, clients, calls):
    def one(_):
        return [host.post("/hostile/long_lines", {"lines": 15, "kib": 60})[0] for _ in range(calls)]

    statuses = sum(together(clients, one), [])
    if set(statuses) != {200}:
        raise Fault(f"long_lines: {counted(statuses)}")


@attack("H4", "lines of 60 kB of control characters, 8 clients for 4 s, on a standard error that nobody reads",
        "queues in bytes as printed; 16 MiB at once, 2 MiB/s for each app", quick=True)
def control_characters(trial):
    reader, writer = os.pipe()
    try:
        with trial.host(["hello", "hostile"], stderr=writer, peak_mib=200) as host:
            os.close(writer)
            end = time.monotonic() + 4

            def one(_):
                statuses = []
                while time.monotonic() < end:
                    statuses.append(host.post("/hostile/panics", {"message": CONTROL})[0])
                return statuses

            with trial.beside(host):
                statuses = sum(together(8, one), [])
            trial.check(set(statuses) == {502}, f"panics with such a message: {counted(statuses)}")
            logs = host.metrics()["log_bytes"]
            trial.check(logs <= 8 * MIB, f"{logs / MIB:.1f} MiB of lines kept")
    finally:
        os.close(reader)


@attack("M17", "the log's file and memory under control characters", "4 MiB of an app in memory, 8 MiB on disk")
def log_files(trial):
    with trial.host(["hello", "hostile"], peak_mib=200) as host:
        with trial.beside(host):
            calls = together(8, lambda _: [host.post("/hostile/panics", {"message": CONTROL})[0] for _ in range(50)])
        trial.check({status for statuses in calls for status in statuses} == {502}, f"{counted(sum(calls, []))}")
        files = sum(path.stat().st_size for path in (host.data / "logs").rglob("*") if path.is_file())
        trial.check(files <= 10 * MIB, f"{files / MIB:.1f} MiB in logs/")
        printed = host.log_path.stat().st_size
        trial.check(printed <= 64 * MIB, f"{printed / MIB:.1f} MiB on standard error")


@attack("H5", "8 connections that announce 64 MiB and send nothing, 64 uploads in chunks that stop after 2 bytes",
        "room as bytes arrive; 408 after 10 s", quick=True)
def stalled_bodies(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=100, kept_mib=100) as host:
        announced = request("/v2/models/no-model/infer", f"content-length: {64 * MIB}\r\n")
        stopped = request("/hello/add", "transfer-encoding: chunked\r\n", chunk(b'{"'))
        with trial.beside(host):
            streams = []
            for head in [announced] * 8 + [stopped] * 64:
                streams.append(host.connect())
                streams[-1].sendall(head)
            posts = [host.post("/hello/add", {"a": 1, "b": 2})[0] for _ in range(20)]
            ends = [end_of(stream) for stream in streams]
        trial.check(posts == [200] * 20, f"20 posts beside: {counted(posts)}")
        trial.check(set(ends) == {408}, f"ends: {counted(ends)}")


def end_of(stream):
    """The status with which the host ends a request that does not go on; `none` if it keeps the connection open."""
    with stream:
        try:
            return status_of(stream)
        except TimeoutError:
            return "still open"
        except OSError:
            return 0


@attack("M7", "answers of 7 MiB that nobody reads, twice the budget", "charged to the app until read; then 503", quick=True)
def unread_answers(trial):
    with Host(trial.bench, ["hello"], *LITTLE) as host:
        budget = host.metrics()["sandbox_bytes_max"]
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=budget / MIB + 100, kept_mib=300) as host:
        body = str(7 * MIB).encode()
        head = request("/hostile/big_output", f"content-type: application/json\r\ncontent-length: {len(body)}\r\n", body)
        streams, statuses = [], []
        with trial.beside(host):
            for _ in range(int(2 * budget / (7 * MIB))):
                streams.append(host.connect())
                streams[-1].sendall(head)
                statuses.append(status_of(streams[-1]))
            held = host.metrics()["sandbox_bytes"]
        trial.check(set(statuses) == {200, 503}, counted(statuses))
        trial.check(held <= budget, f"{held / MIB:.0f} of {budget / MIB:.0f} MiB held")
        for stream in streams:
            stream.close()
        is_back = until(lambda: host.metrics()["sandbox_bytes"] == 0)
        left = host.metrics()["sandbox_bytes"] / MIB
        trial.check(is_back, "all given back" if is_back else f"{left:.0f} MiB are not given back")


def unread(host, count, head):
    """Sends a request on each of so many connections and reads its status alone. Returns the connections and statuses."""
    streams, statuses = [], []
    for _ in range(count):
        stream = host.connect()
        # As little as the kernel allows, so that the answer stays with the host.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stream.sendall(head)
        streams.append(stream)
    for stream in streams:
        try:
            statuses.append(status_of(stream))
        except OSError:
            statuses.append(0)
    return streams, statuses


@attack("M7-values", "120 clients ask for a value of 8 MiB and read nothing", "charged until read; then 503")
def unread_values(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=500, kept_mib=400) as host:
        path = "/api/v1/apps/hostile/kv/value?bucket=b&key=k"
        host.ask("PUT", path, b"x" * (8 * MIB))
        with trial.beside(host):
            streams, statuses = unread(host, 120, request(path, method="GET", token=host.token))
        trial.check(set(statuses) <= {200, 503}, counted(statuses))
        for stream in streams:
            stream.close()


@attack("M7-results", "60 clients ask for the results of a map, 20 of 4 MiB, and read nothing", "read from the disk as the client reads")
def unread_results(trial):
    with trial.host(["hello", "authored"], *LITTLE, peak_mib=500, kept_mib=400) as host:
        id_ = host.json("POST", "/api/v1/apps/authored/functions/text_of/maps")["id"]
        host.json("POST", f"/api/v1/maps/{id_}/inputs", f"{4 * MIB}\n" * 20)
        host.json("POST", f"/api/v1/maps/{id_}/close")
        is_done = until(lambda: host.json("GET", f"/api/v1/maps/{id_}")["state"] == "done")
        with trial.beside(host):
            streams, statuses = unread(host, 60, request(f"/api/v1/maps/{id_}/results", method="GET", token=host.token))
            time.sleep(3)
        trial.check(is_done and set(statuses) <= {200, 503}, counted(statuses))
        for stream in streams:
            stream.close()


@attack("M7-web", "200 clients of a web function that answers without end, and read nothing",
        "back-pressure; a share of the slots for each app")
def unread_web(trial):
    with trial.host(["hello", "stock_wasi"], *LITTLE, peak_mib=500, kept_mib=400) as host:
        with trial.beside(host):
            streams, statuses = unread(host, 200, request("/stock_wasi/flood", method="GET"))
            figures = host.metrics()
        slots, most = figures["slots_used"], figures["slots"]
        trial.check(slots < most, f"{slots:.0f} of {most:.0f} slots taken; {counted(statuses)}")
        for stream in streams:
            stream.close()


@attack("M7-feeds", "100 clients follow events and logs and read nothing while an app floods its log",
        "16 MiB for all followers; then `lost`")
def unread_feeds(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=300) as host:
        logs, statuses = unread(host, 50, request("/api/v1/logs?follow=true", method="GET", token=host.token))
        events, more = unread(host, 50, request("/api/v1/events", method="GET", token=host.token))
        with trial.beside(host):
            fill_log(host, 4, 8)
        trial.check(set(statuses + more) <= {200, 503}, counted(statuses + more))
        for stream in logs + events:
            stream.close()


@attack("H10", "40 kept maps of 16 inputs of 1 MiB; kill -9; a start takes all of them up",
        "a budget of maps, with a share for each app; taken up as it has room")
def kept_maps(trial):
    options = [*LITTLE, "--app-disk", "8GiB"] if trial.bench.has_option("--app-disk") else LITTLE
    # Space within an input is kept as it was sent.
    lines = (b'{"ms":' + b" " * MIB + b"600000}\n") * 16

    def make(host):
        id_ = host.json("POST", "/api/v1/apps/hostile/functions/sleeps_long/maps")["id"]
        host.json("POST", f"/api/v1/maps/{id_}/inputs", lines)
        return id_

    with Host(trial.bench, ["hello", "hostile"], *options) as host:
        before = host.rss_mib()
        host.forget_peak()
        ids = [make(host) for _ in range(40)]
        is_used = until(lambda: host.metrics()["slots_used"] >= 32)
        peak, data = host.peak_mib(), host.data
        kept = host.metrics()["map_bytes"] / MIB
        trial.check(peak - before <= 500, f"{len(ids)} maps, {before:.0f} → {peak:.0f} MiB, {kept:.0f} MiB of inputs held")
        trial.check(is_used and host.answers(), "another app answers")
        host.kill()
    with Host(trial.bench, ["hello", "hostile"], *options, data=data) as host:
        begin = host.peak_mib()
        trial.alone = trial.probe_alone(host)
        with trial.beside(host):
            until(lambda: host.metrics()["slots_used"] >= 32)
            time.sleep(3)
        peak = host.peak_mib()
        trial.check(peak - before <= 500, f"after kill -9 and a start: {begin:.0f} → {peak:.0f} MiB")
        statuses = [host.ask("DELETE", f"/api/v1/maps/{id_}")[0] for id_ in ids]
        trial.check(set(statuses) == {200}, f"cancelled: {counted(statuses)}")
        is_back = until(lambda: host.metrics()["slots_used"] == 0 and host.metrics()["map_bytes"] == 0)
        trial.check(is_back and host.answers(), "slots and bytes are free" if is_back else f"held: {host.metrics()['slots_used']} slots")
        trial.memory = f"{before:.0f}/{peak:.0f}/{host.rss_mib():.0f}"
