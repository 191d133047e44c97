"""The disk: full, damaged, read by others, large at a start."""

import os
import stat

from host import MIB, Fault, Host, counted, renamed, until
from trial import Skipped, attack

DEPLOY = "/api/v1/apps?accept=all"


def put(host, app, key, data):
    return host.ask("PUT", f"/api/v1/apps/{app}/kv/value?bucket=b&key={key}", data)[0]


def delete(host, app, key):
    return host.ask("DELETE", f"/api/v1/apps/{app}/kv/value?bucket=b&key={key}")[0]


def fill(directory):
    """Takes every byte that is left, as another program would."""
    with (directory / "filler").open("ab", buffering=0) as file:
        for size in [MIB, 4_096, 1]:
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                pass


@attack("H7", "one app fills a disk of 400 MiB, another program takes the rest",
        "deleting, stopping and rolling back always work; one line a minute", quick=True, namespaces="mount")
def full_disk(trial):
    disk = trial.small_disk(400)
    options = ["--app-disk", "1TiB"] if trial.bench.has_option("--app-disk") else []
    hello = trial.bench.guest("hello").read_bytes()
    versions = [renamed(hello, "evil"), renamed(hello.replace(b"Small functions", b"Other functions"), "evil")]
    data, statuses = disk / "data", {}
    data.mkdir()
    with Host(trial.bench, ["hello"], *options, data=data) as host:
        deployed = [host.post(DEPLOY, version)[0] for version in versions]
        kept = 0
        while (status := put(host, "evil", f"k{kept}", b"x" * 4 * MIB)) == 200 and kept < 200:
            kept += 1
        fill(disk)
        lines = host.log().count("\n")
        refused = [put(host, "hello", "k", b"x" * 1_000) for _ in range(500)]
        accept = host.post("/api/v1/apps/hello/functions/square/calls", 3)[0]
        lines = host.log().count("\n") - lines
        text = f"{kept} × 4 MiB, then {status}; others' writes: {counted(refused)}; accept: {accept}"
        trial.check(deployed == [201, 201] and status == 507, text)
        trial.check(lines <= 20, f"{lines} lines of log for 500 refused writes")
        statuses["delete"] = delete(host, "evil", "k0")
        fill(disk)
        trial.check(host.answers(), "calls of another app run" if host.answers() else "no call runs")
        host.kill()
    fill(disk)
    with trial.host(["hello"], *options, data=data) as host:
        with trial.beside(host):
            statuses["delete after kill -9"] = delete(host, "evil", "k1")
            fill(disk)
            statuses["rollback"] = host.post("/api/v1/apps/evil/rollback")[0]
            statuses["stop"] = host.ask("DELETE", "/api/v1/apps/evil")[0]
            rest = [delete(host, "evil", f"k{index}") for index in range(2, kept)]
        statuses["deletes"] = 200 if set(rest) <= {200} else counted(rest)
        trial.check(set(statuses.values()) == {200}, ", ".join(f"{what} {status}" for what, status in statuses.items()))
        (disk / "filler").unlink()
        back = until(lambda: put(host, "hello", "new", b"x" * MIB) == 200, 30)
        trial.check(back, "with room, writes go on" if back else "with room, writes are still refused")


@attack("D-quota", "one app writes until it is refused, another goes on", "`--app-disk`", quick=True)
def quota(trial):
    if not trial.bench.has_option("--app-disk"):
        raise Skipped("this binary has no `--app-disk`")
    with trial.host(["hello", "hostile"], "--app-disk", "16MiB") as host:
        with trial.beside(host):
            statuses = [put(host, "hostile", f"k{index}", b"x" * MIB) for index in range(40)]
            other = [put(host, "hello", f"k{index}", b"x" * 100_000) for index in range(20)]
        trial.check(statuses.count(200) in range(12, 17) and set(statuses) == {200, 507}, f"of 1 MiB each: {counted(statuses)}")
        trial.check(set(other) == {200}, f"other app's: {counted(other)}")
        trial.check(delete(host, "hostile", "k0") == 200, "it deletes")


@attack("H13", "3 bytes of an open map's row are damaged", "the row is set aside, counted, and the host goes on", quick=True)
def damaged_row(trial):
    with Host(trial.bench, ["hello", "hostile"], "--drain", "1s") as host:
        map_ = host.json("POST", "/api/v1/apps/hostile/functions/sleeps_long/maps")["id"]
        host.json("POST", f"/api/v1/maps/{map_}/inputs", "600000\n")
        data = host.data
    flipped = flip(data / "store.redb", bytes.fromhex(map_.replace("-", "")) + b"h")
    if not flipped:
        raise Fault("the row was not found in the file")
    with trial.host(["hello", "hostile"], data=data) as host:
        rows = host.metrics().get("quarantined_rows")
        status, text = host.get(f"/api/v1/maps/{map_}")
        with trial.beside(host):
            made = host.json("POST", "/api/v1/apps/hostile/functions/same/maps")["id"]
            host.json("POST", f"/api/v1/maps/{made}/inputs", "1\n2\n")
            host.json("POST", f"/api/v1/maps/{made}/close")
            done = until(lambda: host.json("GET", f"/api/v1/maps/{made}")["state"] == "done")
        trial.check(rows == 1, f"{rows or 0:.0f} row set aside; the map itself answers {status}")
        trial.check(done, "a new map of the app runs")


def flip(path, key):
    """Flips the first 3 bytes of a row's value in every leaf page of redb's file that has it; returns how many."""
    data, flipped = bytearray(path.read_bytes()), 0
    for page in range(0, len(data), 4_096):
        count = int.from_bytes(data[page + 2 : page + 4], "little")
        ends = page + 4 + 8 * count
        if data[page] != 1 or not 0 < count < 1_000 or ends > len(data):
            continue
        offsets = [int.from_bytes(data[page + 4 + 4 * n : page + 8 + 4 * n], "little") for n in range(2 * count)]
        starts = [ends - page, *offsets[: count - 1]]
        for index in range(count):
            if offsets[index] <= len(data) - page and data[page + starts[index] : page + offsets[index]] == key:
                begin = page + (offsets[count + index - 1] if index else offsets[count - 1])
                for byte in range(begin, begin + 3):
                    data[byte] ^= 0xFF
                flipped += 1
    path.write_bytes(data)
    return flipped


@attack("M2", "files of a new data directory, as other users see them", "modes 0700 and 0600", quick=True)
def modes(trial):
    before = os.umask(0o022)
    try:
        data = trial.bench.work / "data-of-its-own"
        with trial.host(["hello", "authored"], data=data, has_own_disk=True) as host:
            host.json("POST", "/api/v1/apps/authored/functions/text_of/calls?wait=30", 300_000)
            host.ask("PUT", "/api/v1/apps/hello/kv/value?bucket=b&key=k", b"x")
            open_to = []
            paths = [data, *data.rglob("*")]
            for path in paths:
                mode = stat.S_IMODE(path.lstat().st_mode)
                if mode & 0o077 and not path.is_symlink():
                    open_to.append(f"{path.relative_to(data)} {mode:o}")
            # Below a directory that only its owner can enter, nothing else is open.
            is_closed = stat.S_IMODE(data.stat().st_mode) == 0o700
            trial.check(is_closed, f"the directory: {stat.S_IMODE(data.stat().st_mode):o}")
            trial.check(not open_to, f"{len(paths)} files" if not open_to else f"open: {', '.join(open_to[:6])}")
    finally:
        os.umask(before)


@attack("M4", "kill -9 over a database of 256 MiB", "a start takes no longer for its size")
def start_after_kill(trial):
    options = ["--app-disk", "1GiB"] if trial.bench.has_option("--app-disk") else []
    times_s = []
    with Host(trial.bench, ["hello"], *options) as host:
        data = host.data
        host.kill()
    for count in [0, 64]:
        with Host(trial.bench, ["hello"], *options, data=data) as host:
            statuses = [put(host, "hello", f"k{index}", os.urandom(4 * MIB)) for index in range(count)]
            if set(statuses) - {200}:
                raise Fault(f"writes: {counted(statuses)}")
            host.kill()
        with trial.host(["hello"], *options, data=data, peak_mib=300) as host:
            times_s.append(host.started_s)
        size = (data / "store.redb").stat().st_size
    trial.check(True, f"start after kill -9: {times_s[0]:.1f} s empty, {times_s[1]:.1f} s with {size // MIB} MiB")
