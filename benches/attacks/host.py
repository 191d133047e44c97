"""A host of its own for one attack: a fresh data directory, a free port; ended by its process id."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GUESTS = ROOT / "target/it/guests/wasm32-wasip2/release"
MIB = 1 << 20
# Patience with a loaded machine; only a fault meets it.
PATIENCE_S = 60
GUEST_NAMES = ["hello", "hostile", "spawning", "authored", "stock_wasi"]
# The smallest memory of a host, so that its budgets are soon used up.
LITTLE_MIB = 1_280
LITTLE = ["--memory-max", f"{LITTLE_MIB}MiB"]


class Fault(Exception):
    """An attack that cannot go on: what it needs is not as it should be."""


class Bench:
    """Binary and guests of a run, and their compiled code, shared by all hosts."""

    def __init__(self, bireme, work):
        self.bireme, self.work = bireme, Path(work)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("BIREME_")}
        self.options = subprocess.run([bireme, "serve", "--help"], env=self.env, capture_output=True, text=True).stdout
        self.artifacts = self.work / "artifacts"

    def guest(self, name):
        path = GUESTS / f"{name}.bireme.wasm"
        if not path.exists():
            crate = ROOT / ("examples/hello" if name == "hello" else f"host/tests/guests/{name.replace('_', '-')}")
            env = self.env | {"BIREME_GUEST_TARGET_DIR": str(ROOT / "target/it/guests")}
            built = subprocess.run([self.bireme, "--json", "build", crate], env=env, check=True, stdout=subprocess.PIPE)
            path = Path(json.loads(built.stdout)["path"])
        return path

    def compile(self):
        """Compiles every guest once, so that no attack waits for it."""
        self.artifacts.mkdir(mode=0o700)
        with Host(self, GUEST_NAMES):
            pass

    def has_option(self, option):
        return option in self.options


class Host:
    """A running `bireme serve`."""

    def __init__(self, bench, apps, *options, data=None, prefix=(), stderr=None, has_own_disk=False):
        self.bench = bench
        self.data = Path(data) if data else Path(tempfile.mkdtemp(prefix="data-", dir=bench.work))
        # On a file system that is mounted over it, a host has its own compiled code.
        if not has_own_disk and not (self.data / "artifacts").exists():
            (self.data / "artifacts").symlink_to(bench.artifacts)
        self.log_path = self.data.with_suffix(".log")
        env = bench.env
        if "authored" in apps:
            options = [*options, "--secret", "API_KEY=a secret of this bench"]
        serve = [bench.bireme, "--json", "--data", self.data, "serve", "--listen", "127.0.0.1:0", *options]
        command = [str(part) for part in [*prefix, *serve, *[app if isinstance(app, Path) else bench.guest(app) for app in apps]]]
        begin = time.monotonic()
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr or log, cwd=bench.work
            )
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=PATIENCE_S)
            raise Fault(f"no host: {self.log()[-2_000:]}")
        self.started_s = time.monotonic() - begin
        self.address = json.loads(line)["listening"].removeprefix("http://")
        self.name, port = self.address.rsplit(":", 1)
        self.port = int(port)
        self.token = self.read_token()

    def read_token(self):
        printed = subprocess.run([self.bench.bireme, "--data", self.data, "token"], env=self.bench.env, capture_output=True, text=True)
        # In a mount namespace of its own, its data directory is seen through /proc alone.
        return printed.stdout.strip() or self.inside("token").read_text().strip()

    def inside(self, name=""):
        """Path of a file in the data directory as the host sees it."""
        return Path(f"/proc/{self.pid}/root{self.data}") / name

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()

    def connect(self, timeout=PATIENCE_S):
        return socket.create_connection((self.name, self.port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """Sends a request; returns its status and body. Status 0: no answer."""
        if not isinstance(body, (bytes, str, type(None))):
            body = json.dumps(body)
        head = {"authorization": f"Bearer {self.token}", "content-type": "application/json", **(headers or {})}
        connection = http.client.HTTPConnection(self.name, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, head)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body=b"", **more):
        return self.ask("POST", path, body, **more)

    def raw(self, data, timeout=PATIENCE_S):
        """Sends bytes; returns the status of the answer, 0 if there is none."""
        try:
            with self.connect(timeout) as stream:
                stream.sendall(data)
                return status_of(stream)
        except OSError:
            return 0

    def json(self, method, path, body=None):
        status, text = self.ask(method, path, body)
        if status >= 300 or status == 0:
            raise Fault(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text)

    def answers(self, app="hello"):
        status, text = self.post(f"/{app}/add", {"a": 1, "b": 2})
        return (status, text.strip()) == (200, "3")

    def metrics(self):
        status, text = self.get("/metrics")
        if status != 200:
            raise Fault(f"/metrics: {status} {text[:300]}")
        lines = re.findall(r"^bireme_(\w+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in lines}

    def status(self, name):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1])

    def rss_mib(self):
        return self.status("VmRSS") / 1024

    def peak_mib(self):
        return self.status("VmHWM") / 1024

    def forget_peak(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_s(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_alive(self):
        return self.process.poll() is None


def status_of(stream):
    """Reads the status line of an answer; 0 if the connection ends before."""
    read = b""
    while len(read) < 12:
        part = stream.recv(12 - len(read))
        if not part:
            return 0
        read += part
    return int(read[9:12])


def request(path, headers="", body=b"", method="POST", token=None):
    """A request as bytes, with no header but these."""
    token = f"authorization: Bearer {token}\r\n" if token else ""
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{token}{headers}\r\n".encode() + body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def until(is_true, seconds=PATIENCE_S):
    """Waits until it is true; returns whether it is."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def together(count, work):
    """Runs `work(n)` in threads, one for each n; returns the results in order."""
    results = [None] * count

    def run(index):
        results[index] = work(index)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10 * PATIENCE_S)
    return results


def counted(values):
    """`3 × 200, 1 × 503` of a list of statuses; 0 is `no answer`."""
    kinds = sorted(set(values), key=str)
    return ", ".join(f"{values.count(kind)} × {kind or 'no answer'}" for kind in kinds) or "none"


def renamed(component, name):
    """A component of the SDK as an app of another name."""
    mark = b"bireme:metadata"
    start = component.rindex(mark)
    document = json.loads(component[start + len(mark) :])
    document["app"]["name"] = name
    return attached(strip(component, start), document)


def strip(component, start):
    """A component without its last section, whose name starts there. Before it: an id, 0, and two lengths in LEB128."""
    length = len(component) - (start - 1)
    section = b"\x00" + leb128(length)
    begin = start - 1 - len(section)
    if component[begin : start - 1] != section:
        raise Fault("the metadata is not the component's last section")
    return component[:begin]


def attached(code, document):
    content = leb128(len(b"bireme:metadata")) + b"bireme:metadata" + json.dumps(document).encode()
    return code + b"\x00" + leb128(len(content)) + content


def metadata(component):
    return json.loads(component[component.rindex(b"bireme:metadata") + len(b"bireme:metadata") :])


def leb128(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


def say(text):
    print(text, file=sys.stderr, flush=True)
