"""Components that keep a compiler busy."""

import threading
import time
from pathlib import Path

from host import Fault, attached, leb128, metadata, renamed, until
from trial import Skipped, attack

LOCALS, LOOPS = 40_000, 10


def bomb(document):
    """A component of 4.7 MB that Cranelift works on for minutes: each of many loops changes each of many locals."""
    loop = b"".join(b"\x20" + leb128(n) + b"\x20" + leb128((n + 1) % LOCALS) + b"\x6a\x21" + leb128(n) for n in range(LOCALS))
    code = (b"\x03\x40" + loop + b"\x20\x00\x0d\x00\x0b") * LOOPS
    body = b"\x01" + leb128(LOCALS) + b"\x7f" + code + b"\x0b"
    section = lambda id_, content: bytes([id_]) + leb128(len(content)) + content
    module = b"\0asm\x01\0\0\0" + section(1, b"\x01\x60\0\0") + section(3, b"\x01\0") + section(10, b"\x01" + leb128(len(body)) + body)
    component = b"\0asm\x0d\0\x01\0" + section(1, module)
    return attached(component, document | {"app": document["app"] | {"name": "bomb"}})


def children(pid):
    """The ids of a process's descendants."""
    found, parents = [], {pid}
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            stats.append((int(path.parent.name), int(fields[1])))
    while parents:
        parents = {child for child, parent in stats if parent in parents}
        found += parents
    return found


def compiles(host):
    """Processes under the compiler process: the compiles under way."""
    compilers = [pid for pid in children(host.pid) if b"compiler" in words(pid)]
    # A fork has the words of the process that it comes from.
    return [pid for child in compilers for pid in children(child)]


def words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2]
    except OSError:
        return []


DEPLOY = "/api/v1/apps?accept=all"


@attack("H12", "a component of 4.7 MB that compiles for minutes; changes of other apps meanwhile",
        "a process of its own within `--compile-max`", quick=True)
def compile_bomb(trial):
    if not trial.bench.has_option("--compile-max"):
        raise Skipped("this binary has no `--compile-max`")
    hello = trial.bench.guest("hello").read_bytes()
    with trial.host(["hello"], "--compile-max", "5s,2GiB", peak_mib=200) as host:
        answer = []
        sender = threading.Thread(target=lambda: answer.append(host.post(DEPLOY, bomb(metadata(hello)))))
        first, second = renamed(hello, "first"), renamed(hello.replace(b"Small functions", b"Other functions"), "first")
        with trial.beside(host):
            sender.start()
            if not until(lambda: compiles(host), 20):
                raise Fault(f"no compile began: {answer}")
            began = time.monotonic()
            statuses = [host.post(DEPLOY, first)[0], host.post(DEPLOY, second)[0]]
            statuses.append(host.post("/api/v1/apps/first/rollback")[0])
            statuses.append(host.ask("DELETE", "/api/v1/apps/first")[0])
            took_s = time.monotonic() - began
            was_under_way = sender.is_alive()
            sender.join()
        trial.check(statuses == [201, 201, 200, 200], f"2 deploys, rollback, stop of another app: {statuses}, {took_s:.1f} s")
        if not was_under_way:
            trial.note("the compile was over before them")
        status, text = answer[0]
        trial.check(status == 422 and "compile-limit" in text, f"the bomb: {status}")
        is_over = until(lambda: not compiles(host), 30)
        trial.check(is_over, "no compile left" if is_over else "a compile goes on")


@attack("H12-left", "8 clients send such a component and hang up", "a compile ends with its client", quick=True)
def compile_and_leave(trial):
    if not trial.bench.has_option("--compile-max"):
        raise Skipped("this binary has no `--compile-max`")
    hello = trial.bench.guest("hello").read_bytes()
    with trial.host(["hello"], "--compile-max", "60s,2GiB", peak_mib=300) as host:
        component = bomb(metadata(hello))
        head = f"POST {DEPLOY} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {host.token}\r\ncontent-type: application/wasm\r\n"
        with trial.beside(host):
            streams = []
            for _ in range(8):
                streams.append(host.connect())
                streams[-1].sendall(f"{head}content-length: {len(component)}\r\n\r\n".encode() + component)
            began = until(lambda: compiles(host), 20)
            for stream in streams:
                stream.close()
            is_over = until(lambda: not compiles(host), 30)
        trial.check(began and is_over, "no compile left" if is_over else f"{len(compiles(host))} compiles go on")
        deployed = host.post(DEPLOY, renamed(hello, "next"))
        trial.check(deployed[0] == 201, f"a deploy after: {deployed[0]}")
