"""Slots, places in line and the store's queue: one app asks for all of them."""

import json
import threading
import time

from host import LITTLE, LITTLE_MIB, MIB, Fault, counted, request, together, until
from trial import attack

SLEEPS = "/api/v1/apps/hostile/functions/sleeps_long/maps"


def make_maps(host, count, inputs):
    """Makes durable maps, each with so many inputs that sleep; returns their ids and the statuses of those refused."""
    ids, refused = [], []
    for _ in range(count):
        status, text = host.post(SLEEPS)
        if status != 201:
            refused.append(status)
            continue
        ids.append(json.loads(text)["id"])
        status, _ = host.post(f"/api/v1/maps/{ids[-1]}/inputs", "600000\n" * inputs)
        if status != 200:
            refused.append(status)
    return ids, refused


def cancel(host, ids):
    statuses = [host.ask("DELETE", f"/api/v1/maps/{id_}")[0] for id_ in ids]
    if set(statuses) - {200}:
        raise Fault(f"cancelling: {counted(statuses)}")


def steady(host, name):
    """The value of a metric once it no longer grows."""
    last = -1.0

    def is_steady():
        nonlocal last
        now = host.metrics()[name]
        is_same, last = now == last and now > 0, now
        return is_same

    until(is_steady)
    return last


def sleeping_maps(trial, host, count):
    """Makes maps of 64 sleeping inputs, checks that slots are left, and cancels the maps."""
    with trial.beside(host):
        ids, refused = make_maps(host, count, 64)
        used = steady(host, "slots_used")
        # The other app is measured with the slots as they stay, too.
        time.sleep(4)
        figures = host.metrics()
    slots, waiting = figures["slots"], figures["calls_waiting"]
    trial.check(used < slots, f"{used:.0f} of {slots:.0f} slots taken by {len(ids)} maps")
    trial.check(not refused, f"{waiting:.0f} calls wait; refused: {counted(refused)}")
    cancel(host, ids)


@attack("H1", "durable maps whose inputs sleep for 10 minutes, twice as many as there are slots",
        "a quarter of the slots in equal shares", quick=True)
def maps_take_slots(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=500, kept_mib=400) as host:
        sleeping_maps(trial, host, 2 * int(host.metrics()["slots"]) // 64 + 2)


@attack("H2", "1,000 such maps of 64 inputs: all that an app may have open, 64,000 calls",
        "above 256 waiting durable calls of an app each of its maps starts one input")
def maps_fill_the_line(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=LITTLE_MIB, kept_mib=LITTLE_MIB) as host:
        sleeping_maps(trial, host, 1_000)


@attack("H2-calls", "3,000 clients that call a function which sleeps",
        "places in line in equal shares; 503 for the app that has used its own up")
def calls_fill_the_line(trial):
    with trial.host(["hello", "hostile"], peak_mib=800, kept_mib=700) as host:
        head = request("/hostile/sleeps_long", "content-type: application/json\r\ncontent-length: 4\r\n", b"8000")
        with trial.beside(host):
            streams = []
            for _ in range(3_000):
                streams.append(host.connect())
                streams[-1].sendall(head)
            time.sleep(2)
            figures = host.metrics()
        used, slots, waiting = (figures[name] for name in ["slots_used", "slots", "calls_waiting"])
        trial.check(used < slots, f"{used:.0f} of {slots:.0f} slots, {waiting:.0f} in line")
        for stream in streams:
            stream.close()


@attack("bomb", "calls and maps that spawn themselves without end, and 4 that spawn 10,000 calls each; then `stop`",
        "depth 4, 10,000 spawns for each call; a share of slots and of writes for each app")
def fork_bomb(trial):
    with trial.host(["hello", "spawning"], *LITTLE, peak_mib=600, kept_mib=500) as host:
        with trial.beside(host):
            for function, body in [("bomb", {}), ("map_bomb", {"width": 8}), *[("spawn_all", {})] * 4]:
                host.json("POST", f"/api/v1/apps/spawning/functions/{function}/calls", body)
            time.sleep(6)
            figures = host.metrics()
            list_ = host.json("GET", "/api/v1/calls?app=spawning&limit=1000")["calls"]
            stopped = host.ask("DELETE", "/api/v1/apps/spawning")[0]
        waiting, maps = figures["durable_calls_waiting"], figures["durable_maps_open"]
        trial.check(stopped == 200, f"{len(list_)} or more calls, {waiting:.0f} wait, {maps:.0f} maps are open; `stop` answers {stopped}")


@attack("M11", "writes of 8 MiB values, 6 at a time, for 4 s", "a share of the queue of writes for each app", quick=True)
def writes_flood(trial):
    with trial.host(["hello", "hostile"], peak_mib=600, kept_mib=500) as host:
        end, value = time.monotonic() + 4, b"x" * (8 * MIB)

        def write(writer):
            statuses = []
            while time.monotonic() < end:
                statuses.append(host.ask("PUT", f"/api/v1/apps/hostile/kv/value?bucket=b&key={writer}", value)[0])
            return statuses

        def accept(_):
            statuses = []
            while time.monotonic() < end:
                statuses.append(host.post("/api/v1/apps/hello/functions/square/calls", 3)[0])
                time.sleep(0.02)
            return statuses

        with trial.beside(host):
            results = together(7, lambda index: accept(index) if index == 6 else write(index))
        trial.check(set(results[6]) == {202}, f"durable calls of the other app: {counted(results[6])}")
        trial.note(f"8 MiB writes: {counted(sum(results[:6], []))}")
        until(lambda: host.metrics()["durable_calls_waiting"] == 0)


@attack("M12", "guests that read 8 MiB values, 8 at a time, for 8 s", "large values are read off the threads of the runtime")
def reads_flood(trial):
    with trial.host(["hello", "hostile", "stock_wasi"], peak_mib=700, kept_mib=600) as host:
        end = time.monotonic() + 8

        def read(_):
            statuses = []
            while time.monotonic() < end:
                statuses.append(host.get("/stock_wasi/draft2/in-turn")[0])
            return statuses

        with trial.beside(host):
            statuses = sum(together(8, read), [])
        trial.check(set(statuses) <= {200, 503, 504} and 200 in statuses, f"calls that read 800 MiB: {counted(statuses)}")


@attack("H8", "retention of a map with 1,000 result files", "files go in steps; writes of others are between them")
def retention_of_files(trial):
    with trial.host(["hello", "authored"], "--keep", "authored=2s", peak_mib=500, kept_mib=400) as host:
        created = host.json("POST", "/api/v1/apps/authored/functions/text_of/maps")["id"]
        host.json("POST", f"/api/v1/maps/{created}/inputs", "300000\n" * 1_000)
        host.json("POST", f"/api/v1/maps/{created}/close")
        done = until(lambda: '"state":"open"' not in host.get(f"/api/v1/maps/{created}")[1], 240)
        times_ms, statuses = [], []
        with trial.beside(host):

            def accept_meanwhile():
                begin = time.monotonic()
                statuses.append(host.post("/api/v1/apps/hello/functions/square/calls", 3)[0])
                times_ms.append((time.monotonic() - begin) * 1_000)
                return is_gone(host, created)

            gone = until(accept_meanwhile, 240)

        def files():
            return sum(path.is_file() for path in (host.data / "results").rglob("*"))

        left = files()
        trial.check(done and gone, "the map ended and was deleted" if done and gone else "the map was not deleted")
        is_empty = until(lambda: files() == 0)
        trial.check(is_empty, f"no file left ({left} as the map went)" if is_empty else f"{left} files left")
        trial.check(set(statuses) == {202}, f"accepts of the other app: {counted(statuses)}, slowest {max(times_ms):.0f} ms")


@attack("H9", "retry-failed as retention deletes 16 maps of 3,000 inputs",
        "a tombstone first: a map is retried as a whole, or the retry is refused")
def retry_beside_retention(trial):
    with trial.host(["hello", "authored"], "--keep", "authored=2s", peak_mib=600, kept_mib=500) as host:
        lines = "".join(json.dumps({"n": n, "bad": 1_000}) + "\n" for n in range(1, 3_001))

        def make(_):
            id_ = host.json("POST", "/api/v1/apps/authored/functions/slow_square/maps")["id"]
            host.json("POST", f"/api/v1/maps/{id_}/inputs", lines)
            host.json("POST", f"/api/v1/maps/{id_}/close")
            return id_

        maps = together(16, make)
        begun, end = threading.Event(), time.monotonic() + 150

        def retry_in_time(index):
            # Retention comes every minute and is over within a second: all retry as the first map goes.
            while not begun.is_set() and time.monotonic() < end:
                if is_gone(host, maps[index]):
                    begun.set()
            return retry(host, maps[index])

        results = together(len(maps), retry_in_time)
        wrong = [text for _, found in results for text in found]
        answered = sum((statuses for statuses, _ in results), [])
        trial.check(begun.is_set() and not wrong, f"retries answered: {counted(answered)}" if not wrong else f"wrong: {wrong[0]}")
        gone = until(lambda: all(is_gone(host, id_) for id_ in maps), 150)
        trial.check(gone, "all deleted at the end" if gone else "not all were deleted")


def is_gone(host, id_):
    return host.get(f"/api/v1/maps/{id_}")[0] in (404, 410)


def retry(host, id_):
    """Retries the failed inputs of a map until that is refused, or done once. Returns the statuses, and what is wrong."""
    statuses = []
    for _ in range(400):
        statuses.append(host.post(f"/api/v1/maps/{id_}/retry-failed")[0])
        if statuses[-1] in (200, 404, 410):
            break
    if statuses[-1] != 200:
        return statuses, []
    # Retried: the three that failed run again and fail again, and every outcome is there.
    until(lambda: is_gone(host, id_) or host.json("GET", f"/api/v1/maps/{id_}")["state"] != "open")
    status, text = host.get(f"/api/v1/maps/{id_}")
    results, outcomes = host.get(f"/api/v1/maps/{id_}/results")
    if status != 200 or results != 200:
        return statuses, [f"retried, then {status} and {results}"]
    counts, count = json.loads(text)["counts"], outcomes.count('"index"')
    is_whole = (counts["accepted"], counts["done"], counts["failed"] + counts["dead"], count) == (3_000, 2_997, 3, 3_000)
    return statuses, [] if is_whole else [f"{counts} with {count} outcomes"]
