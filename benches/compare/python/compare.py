"""Measures one function in each of several hosts; see ../python.sh."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable

import bireme

BIREME, COMPONENT = sys.argv[1:3]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
MAP = int(os.environ.get("MAP", "100000"))
CALLS = int(os.environ.get("CALLS", "3000"))
EDITS = int(os.environ.get("EDITS", "20"))

APP = '''from bireme import App

app = App("pyhello")


@app.function
def greet(name: str) -> str:
    return f"Hello, {name}!"


@app.function(batched=(64, "10ms"))
def greet_batched(names: list[str]) -> list[str]:
    return [f"Hello, {name}!" for name in names]


@app.function
def edit() -> int:
    return 0
'''
PROCESS = "import json, sys; name = json.load(sys.stdin); print(json.dumps(f'Hello, {name}!'))"


class Host:
    """A host with both apps."""

    def __init__(self, *words: str) -> None:
        began = time.monotonic()
        self.log = open(os.path.join(os.environ["BIREME_DATA"], "log"), "w")
        self.process = subprocess.Popen(
            [BIREME, "--json", *words, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout is not None
        said: dict[str, str] = {}
        while "listening" not in said:
            said = json.loads(self.process.stdout.readline())
        self.url = f"http://{said['listening']}"
        self.started = time.monotonic() - began
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def rss(self) -> int:
        """Resident KiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def sequential(call: Callable[[str], Any], count: int) -> list[float]:
    """Times calls one after the other."""
    times = []
    for n in range(count):
        began = time.perf_counter()
        assert f"n{n}" in str(call(f"n{n}"))
        times.append(time.perf_counter() - began)
    return times


def main() -> None:
    data = pathlib.Path(os.environ["BIREME_DATA"])
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)
        print(f"  {name} {value:.3g}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        app = pathlib.Path(place) / "pyhello"
        app.mkdir()
        (app / "pyproject.toml").write_text('[project]\nname = "pyhello"\n')
        (app / "app.py").write_text(APP)
        shutil.rmtree(data / "db", ignore_errors=True)
        host = Host("serve")
        for target in (str(app), COMPONENT):
            subprocess.run([BIREME, "deploy", target, "--host", host.url, "--accept"], check=True, capture_output=True)
        connected = bireme.connect(host.url)
        functions = {
            "rust": bireme.Function.lookup("hello", "greet", host=connected),
            "python": bireme.Function.lookup("pyhello", "greet", host=connected),
            "python_batched": bireme.Function.lookup("pyhello", "greet_batched", host=connected),
        }
        note("rss_mib_before", host.rss() / 1024)
        for _ in range(ROUNDS):
            for name in ("rust", "python"):
                cpu = host.cpu()
                times = sequential(functions[name].remote, CALLS)
                note(f"{name}_calls_s", CALLS / sum(times))
                note(f"{name}_p50_us", statistics.median(times) * 1e6)
                note(f"{name}_p99_us", statistics.quantiles(times, n=100)[98] * 1e6)
                note(f"{name}_host_cpu_us", (host.cpu() - cpu) / CALLS * 1e6)
            note("process_calls_s", 30 / sum(sequential(in_process, 30)))
            for name, function in functions.items():
                for count in (10_000, MAP):
                    if name == "python" and count > 10_000:
                        continue
                    began, first, done = time.monotonic(), 0.0, 0
                    for _ in function.map((f"n{n}" for n in range(count)), ordered=False, progress=False):
                        first = first or time.monotonic() - began
                        done += 1
                    assert done == count
                    note(f"{name}_map_{count}_inputs_s", count / (time.monotonic() - began))
                    note(f"{name}_map_{count}_first_ms", first * 1e3)
        note("rss_mib_after", host.rss() / 1024)
        host.end()
        again = Host("serve")
        note("start_with_both_apps_ms", again.started * 1e3)
        again.end()
        for took in edits(app):
            note("python_edit_ms", took * 1e3)
    ray(note)
    print(f"\n{'':40}{'min':>10}{'median':>10}{'max':>10}")
    for name, values in figures.items():
        print(f"{name:40}{min(values):10.4g}{statistics.median(values):10.4g}{max(values):10.4g}")
    for name, values in figures.items():
        print(f"FIGURE {name} {statistics.median(values):.4g}")


def in_process(name: str) -> Any:
    """Calls the function in a CPython process of its own."""
    done = subprocess.run([sys.executable, "-c", PROCESS], input=json.dumps(name), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def edits(app: pathlib.Path) -> list[float]:
    """Times edits from the save to the answer."""
    host = Host("dev", str(app))
    connected = bireme.connect(host.url)
    times = []
    for n in range(EDITS + 1):
        began = time.monotonic()
        if n:
            (app / "app.py").write_text(APP.replace("return 0", f"return {n}"))
        while True:
            try:
                if bireme.Function.lookup("pyhello", "edit", host=connected).remote() == n:
                    break
            except bireme.Error:
                pass
            time.sleep(0.002)
        times.append(time.monotonic() - began)
    host.end()
    return times[1:]


def ray(note: Callable[[str, float], None]) -> None:
    """The same as tasks of Ray, if it is installed."""
    try:
        import ray as library
    except ImportError:
        print("ray: not installed", file=sys.stderr)
        return
    began = time.monotonic()
    library.init(num_cpus=os.cpu_count(), logging_level="ERROR", include_dashboard=False)

    @library.remote
    def greet(name: str) -> str:
        return f"Hello, {name}!"

    assert library.get(greet.remote("a")) == "Hello, a!"
    note("ray_start_ms", (time.monotonic() - began) * 1e3)
    for _ in range(ROUNDS):
        times = sequential(lambda name: library.get(greet.remote(name)), 1_000)
        note("ray_calls_s", 1_000 / sum(times))
        began = time.monotonic()
        assert len(library.get([greet.remote(f"n{n}") for n in range(10_000)])) == 10_000
        note("ray_map_10000_inputs_s", 10_000 / (time.monotonic() - began))
    library.shutdown()


main()
