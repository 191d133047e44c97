"""Connections: many, idle, slow, broken; what pages may ask; how long a host takes to stop."""

import json
import signal
import time

from host import LITTLE, PATIENCE_S, Host, chunk, counted, request, status_of, together, until
from trial import attack

UPLOAD = "/api/v1/apps/hostile/functions/same/maps"


@attack("D3", "10,000 idle connections", "4,096 of 64 KiB; the one idle for longest gives way")
def idle_connections(trial):
    with trial.host(["hello", "hostile"], peak_mib=320, kept_mib=256) as host:
        streams, refused, cpu_s = [], 0, host.cpu_s()
        with trial.beside(host):
            for _ in range(10_000):
                try:
                    streams.append(host.connect(timeout=10))
                except OSError:
                    refused += 1
            posts = [host.post("/hello/add", {"a": 1, "b": 2})[0] for _ in range(20)]
            cpu_s = host.cpu_s() - cpu_s
            descriptors, open_ = host.descriptors(), host.metrics()["http_connections"]
        close_all(streams)
        trial.check(posts == [200] * 20, f"20 posts beside: {counted(posts)}")
        text = f"{len(streams)} connected, {open_:.0f} open at the end; {cpu_s:.1f} s of CPU"
        trial.check(len(streams) + refused == 10_000 and open_ <= 4_096, text)
        trial.check(descriptors <= 4_096 + 100, f"{descriptors} descriptors")


def close_all(streams):
    for stream in streams:
        stream.close()


@attack("D7", "1,000 idle connections and a flood of writes under a limit of 256 open files",
        "half the limit is for connections; the store keeps its own")
def few_descriptors(trial):
    prefix = ["prlimit", "--nofile=256:256"]
    with trial.host(["hello", "hostile", "authored"], prefix=prefix, peak_mib=300) as host:
        streams = []
        with trial.beside(host):
            for _ in range(1_000):
                try:
                    streams.append(host.connect(timeout=10))
                except OSError:
                    pass
            end = time.monotonic() + 8

            def write(writer):
                statuses, index = [], 0
                while time.monotonic() < end:
                    index += 1
                    path = f"/api/v1/apps/hostile/kv/value?bucket=b&key={writer}-{index % 50}"
                    statuses.append(host.ask("PUT", path, b"x" * 100_000)[0])
                    statuses.append(host.post("/api/v1/apps/authored/functions/text_of/calls", 200_000)[0])
                return statuses

            statuses = sum(together(6, write), [])
        close_all(streams)
        trial.check(host.is_alive(), f"{len(streams)} connected; writes and durable calls: {counted(statuses)}")
        trial.check(set(statuses) <= {200, 202, 503} and 202 in statuses, "200, 202 or 503 alone")
        until(lambda: host.metrics()["durable_calls_waiting"] == 0)


@attack("M3", "SIGTERM with a durable call of an hour, a call that waits, and two clients that wait 60 s",
        "one deadline, `--drain`", quick=True)
def stop_while_waiting(trial):
    with Host(trial.bench, ["hello", "authored"], "--drain", "3s") as host:
        spawn = "/api/v1/apps/authored/functions/nap_alone/calls"
        call = host.json("POST", spawn, 3_500_000)["id"]
        until(lambda: host.json("GET", f"/api/v1/calls/{call}")["state"] == "leased")
        answers = []

        def wait(path):
            answers.append(host.get(path, timeout=PATIENCE_S)[0])

        def act(index):
            if index == 3:
                time.sleep(1)
                host.process.send_signal(signal.SIGTERM)
                begin = time.monotonic()
                host.process.wait(timeout=PATIENCE_S)
                return time.monotonic() - begin
            if index == 2:
                answers.append(host.post("/authored/nap_alone", 3_500_000)[0])
            else:
                wait(f"/api/v1/calls/{call}?wait=60")
            return None

        took_s = together(4, act)[3]
        data = host.data
        trial.check(host.process.returncode == 0, f"status {host.process.returncode} after {took_s:.1f} s (`--drain 3s`)")
        trial.check(answers == [503] * 3, f"those who waited: {counted(answers)}")
    with trial.host(["hello", "authored"], "--drain", "1s", data=data) as host:
        state = host.json("GET", f"/api/v1/calls/{call}")["state"]
        trial.check(state in ("leased", "accepted", "waiting"), f"after a restart the call is `{state}`")
        host.ask("DELETE", f"/api/v1/calls/{call}")


@attack("M3-idle", "SIGTERM to an idle host with one client that waits 60 s", "the wait ends at once", quick=True)
def stop_while_idle(trial):
    with Host(trial.bench, ["hello", "authored"]) as host:
        call = host.json("POST", "/api/v1/apps/authored/functions/patient/calls", {})["id"]
        until(lambda: host.json("GET", f"/api/v1/calls/{call}")["state"] == "waiting")

        def act(index):
            if index == 0:
                return host.get(f"/api/v1/calls/{call}?wait=60")[0]
            time.sleep(1)
            host.process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            host.process.wait(timeout=PATIENCE_S)
            return time.monotonic() - begin

        status, took_s = together(2, act)
        trial.check(host.process.returncode == 0, f"status {host.process.returncode} after {took_s:.1f} s; the client got {status}")


@attack("M6", "pages of this host and of other ports ask for what is the operator's", "403 for any page", quick=True)
def pages(trial):
    with trial.host(["hello", "hostile"]) as host:
        statuses = []
        for path in ["/", "/metrics", "/api/v1/apps", "/v1/models", "/v2"]:
            for site in ["same-origin", "same-site", "cross-site"]:
                statuses.append(host.get(path, headers={"sec-fetch-site": site})[0])
        statuses.append(host.get("/hostile/", headers={"sec-fetch-site": "same-site"})[0])
        statuses.append(host.get("/", headers={"origin": "http://evil.example"})[0])
        statuses.append(host.get("/", headers={"host": "evil.example"})[0])
        # 421: a host that is not this one.
        trial.check(statuses[:-1] == [403] * 17 and statuses[-1] == 421, counted(statuses))


@attack("M8", "200 slow bodies for a web function", "408 after 30 s under 64 KiB/s; a share of slots for each app")
def slow_bodies(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=500, kept_mib=400) as host:
        streams = []
        with trial.beside(host):
            for _ in range(200):
                streams.append(host.connect())
                streams[-1].sendall(request("/hostile/upload", "content-length: 1000000\r\n", b"x"))
            slots, end = 0, time.monotonic() + 40
            while time.monotonic() < end:
                for stream in streams:
                    try:
                        stream.send(b"x")
                    except OSError:
                        pass
                slots = max(slots, host.metrics()["slots_used"])
                time.sleep(2)
        most = host.metrics()["slots"]
        ends = [end_of(stream) for stream in streams]
        trial.check(slots < most, f"{slots:.0f} of {most:.0f} slots taken")
        trial.check("still open" not in ends, f"ends: {counted(ends)}")


def end_of(stream):
    """The status with which the host has ended a request; `cut` if the connection ended without one."""
    with stream:
        stream.settimeout(15)
        try:
            return status_of(stream) or "cut"
        except TimeoutError:
            return "still open"
        except OSError:
            return "cut"


@attack("D1", "a component drops its outparam and goes on", "502; nothing of the host panics", quick=True)
def dropped_outparam(trial):
    with trial.host(["hello", "hostile", "stock_wasi"], peak_mib=100) as host:
        with trial.beside(host):
            paths = ["/stock_wasi/drop/sleep", "/stock_wasi/drop/spin", "/stock_wasi/trap/before"]
            statuses = sum(together(8, lambda n: [host.get(paths[(n + i) % 3])[0] for i in range(15)]), [])
        trial.check(set(statuses) == {502}, counted(statuses))


@attack("D8", "bodies that break off or are malformed", "400 as the client's fault, or the connection ends", quick=True)
def broken_bodies(trial):
    with trial.host(["hello", "hostile"]) as host:
        broken = b"2\r\nab\r\nzz\r\n"
        chunked = "transfer-encoding: chunked\r\nconnection: close\r\n"
        with trial.beside(host):
            paths = ["/hostile/upload", "/hello/add"]
            statuses = [host.raw(request(path, chunked, broken)) for path in paths for _ in range(20)]
            cut = []
            for _ in range(100):
                with host.connect() as stream:
                    stream.sendall(request("/hostile/upload", "content-length: 1000\r\n", b"half"))
                cut.append("cut")
        trial.check(set(statuses) == {400}, f"malformed: {counted(statuses)}; broken off: {len(cut)}")


@attack("D9", "media types in odd case, compressed bodies", "answered by their meaning; 415 for an encoding", quick=True)
def media_types(trial):
    with trial.host(["hello", "hostile"]) as host:
        odd = {"content-type": "Application/JSON; Charset=utf-8"}
        status = host.post("/hello/add", {"a": 1, "b": 2}, headers=odd)[0]
        own = "/api/v1/apps/hello/functions"
        paths = ["/hello/add", "/api/v1/apps", f"{own}/add/calls", f"{own}/square/maps", "/v2/models/m/infer", "/v1/embeddings"]
        refused = [host.post(path, {"a": 1, "b": 2}, headers={"content-encoding": "gzip"})[0] for path in paths]
        trial.check(status == 200, f"`Application/JSON`: {status}")
        trial.check(set(refused) == {415}, f"gzip: {counted(refused)}")


@attack("H6", "a line of 48 MiB that does not end, in chunks of 4 KiB, 8 times",
        "room out of the bodies'; 64 MiB for a line; time linear", quick=True)
def endless_lines(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=400, kept_mib=300) as host:
        head = request(UPLOAD, "transfer-encoding: chunked\r\n", token=host.token)
        part = b"".join(chunk(b" " * 4_096) for _ in range(256))

        def send(mebibytes):
            """The status, and what was sent of it."""
            with host.connect() as stream:
                sent = 0
                try:
                    stream.sendall(head)
                    for _ in range(mebibytes):
                        stream.sendall(part)
                        sent += 1
                    stream.sendall(chunk(b"1\n") + chunk(b""))
                    return status_of(stream), sent
                except OSError:
                    # Refused: what is left of the line is not read.
                    return "cut", sent

        with trial.beside(host):
            cpu = host.cpu_s()
            send(16)
            once = host.cpu_s() - cpu
            cpu = host.cpu_s()
            send(48)
            thrice = host.cpu_s() - cpu
            ends = together(8, lambda _: send(48))
        trial.check(True, f"16 MiB {once:.1f} s of CPU, 48 MiB {thrice:.1f} s")
        trial.check(True, f"then 8 × 48 MiB: {counted([status for status, _ in ends])}, {sum(sent for _, sent in ends)} MiB taken")
        is_over = until(lambda: host.metrics()["durable_maps_open"] == 0)
        trial.check(is_over, "no map open" if is_over else f"{host.metrics()['durable_maps_open']:.0f} maps open")


@attack("H6-chunks", "upload in chunks of 1 byte, 8 at a time", "each costs what it weighs", quick=True)
def tiny_chunks(trial):
    with trial.host(["hello", "hostile"], *LITTLE, peak_mib=150) as host:
        part, end = chunk(b" ") * 4_096, time.monotonic() + 3

        def send(_):
            sent = 0
            with host.connect() as stream:
                try:
                    stream.sendall(request(UPLOAD, "transfer-encoding: chunked\r\n", token=host.token))
                    while time.monotonic() < end:
                        stream.sendall(part)
                        sent += 4_096
                    stream.sendall(chunk(b"1\n") + chunk(b""))
                    return status_of(stream), sent
                except OSError:
                    return 0, sent

        with trial.beside(host):
            ends = together(8, send)
        trial.check({status for status, _ in ends} <= {201, 503}, counted([status for status, _ in ends]))
        trial.note(f"{sum(sent for _, sent in ends) // 1_000} thousand chunks")


@attack("D6", "1,000 uploads of inputs that are cut", "a stream that breaks closes its map", quick=True)
def cut_uploads(trial):
    with trial.host(["hello", "hostile"], peak_mib=150) as host:
        head = request(UPLOAD, "transfer-encoding: chunked\r\n", chunk(b"1\n2"), token=host.token)

        def cut(_):
            for _ in range(125):
                with host.connect() as stream:
                    stream.sendall(head)
                    # The map is there once its line is.
                    stream.settimeout(PATIENCE_S)
                    stream.recv(16)

        with trial.beside(host):
            together(8, cut)
        is_over = until(lambda: host.metrics()["durable_maps_open"] == 0)
        trial.check(is_over, "no map open" if is_over else f"{host.metrics()['durable_maps_open']:.0f} maps open")
        made = host.post("/api/v1/apps/hostile/functions/same/maps")
        trial.check(made[0] == 201, f"one more map: {made[0]}")
        if made[0] == 201:
            host.ask("DELETE", f"/api/v1/maps/{json.loads(made[1])['id']}")
