"""One attack as a row of the table: what was seen, and whether each count kept to its bound."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from host import PATIENCE_S, Host, until

ATTACKS = {}
ALONE_S = 0.7
# Descriptors that a host may keep after an attack: log files, the store's, connections that close.
DESCRIPTORS_KEPT = 24


class Skipped(Exception):
    """An attack that this machine or this binary does not allow; the message says why."""


class Attack:
    def __init__(self, name, what, bound, act, is_quick, namespaces):
        self.name, self.what, self.bound, self.act, self.is_quick = name, what, bound, act, is_quick
        self.namespaces = namespaces


def attack(name, what, bound, quick=False, namespaces=None):
    """Registers a function of a `Trial` as an attack. `namespaces`: `mount`, or `network` for both, of its own."""

    def register(act):
        ATTACKS[name] = Attack(name, what, bound, act, quick, namespaces)
        return act

    return register


class Trial:
    def __init__(self, bench, attack):
        self.bench, self.attack = bench, attack
        self.seen, self.over, self.memory, self.latency = [], [], "", ""

    def note(self, text):
        self.seen.append(text)

    def check(self, is_ok, text):
        """Notes something counted; it is over its bound if not `is_ok`."""
        self.seen.append(text if is_ok else f"**{text}**")
        if not is_ok:
            self.over.append(text)
        return is_ok

    @contextmanager
    def host(self, apps, *options, peak_mib=300, kept_mib=200, **more):
        """A host; at the end of the block it must be back: another app answers, memory, descriptors and slots are free."""
        with Host(self.bench, apps, *options, **more) as host:
            self.check(host.answers(), "a good call before" if host.answers() else "no good call before")
            self.seen.pop()
            self.alone = self.probe_alone(host)
            begin = Figures(host)
            host.forget_peak()
            yield host
            self.settle(host, begin, peak_mib, kept_mib)

    def probe_alone(self, host):
        with probe(host) as alone:
            time.sleep(ALONE_S)
        return alone

    def small_disk(self, mebibytes):
        """Mounts a file system of this size, in the mount namespace of this attack."""
        disk = self.bench.work / f"data-disk-{self.attack.name}"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", disk], capture_output=True, text=True)
        if mounted.returncode != 0:
            raise Skipped(f"no file system can be mounted: {mounted.stderr.strip()}")
        return disk

    def own_network(self, names, addresses=()):
        """Gives this attack's network namespace a loopback with these addresses, names, and a name server at 127.0.0.1."""
        commands = [["ip", "link", "set", "lo", "up"]]
        commands += [["ip", "addr", "add", address, "dev", "lo"] for address in addresses]
        files = {
            "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n" + "".join(f"{at} {name}\n" for name, at in names.items()),
            "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:20 attempts:1\n",
            "/etc/nsswitch.conf": "hosts: files dns\n",
        }
        for path, text in files.items():
            own = self.bench.work / f"{self.attack.name}-{Path(path).name}"
            own.write_text(text)
            commands.append(["mount", "--bind", str(own), os.path.realpath(path)])
        for command in commands:
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode != 0:
                raise Skipped(f"`{' '.join(command)}`: {ran.stderr.strip()}")

    @contextmanager
    def beside(self, host):
        """Another app's calls during the block: each must be answered."""
        with probe(host) as during:
            yield
        statuses = dict(during["statuses"])
        good = statuses.pop("200", 0)
        bad = ", ".join(f"{count} × {status}" for status, count in statuses.items())
        self.check(good > 0 and not bad, f"other app {good} × 200" + (f", {bad}" if bad else ""))
        alone, p99 = self.alone, during["p99_ms"]
        if alone["p99_ms"] is not None and p99 is not None:
            slow = p99 > max(3 * alone["p99_ms"], alone["p99_ms"] + 50)
            pair = lambda one: f"{one['p50_ms']:.0f}/{one['p99_ms']:.0f}"
            self.latency = f"{pair(alone)} → {pair(during)}{' (slow)' if slow else ''}"

    def settle(self, host, begin, peak_mib, kept_mib):
        if not self.check(host.is_alive(), "the host lives" if host.is_alive() else f"the host ended: {host.process.poll()}"):
            return
        self.seen.pop()
        if not host.answers():
            self.check(False, "no good call after")
        end = None

        def is_back():
            nonlocal end
            end = Figures(host)
            return end.slots == 0 and end.descriptors <= begin.descriptors + DESCRIPTORS_KEPT

        until(is_back)
        peak = host.peak_mib()
        self.memory = f"{begin.rss_mib:.0f}/{peak:.0f}/{end.rss_mib:.0f}"
        for value, most, text in [
            (end.slots, 0, "slots held"),
            (end.descriptors, begin.descriptors + DESCRIPTORS_KEPT, "descriptors"),
            (peak - begin.rss_mib, peak_mib, "MiB more at the peak"),
            (end.rss_mib - begin.rss_mib, kept_mib, "MiB more at the end"),
        ]:
            if value > most:
                self.check(False, f"{value:.0f} {text} (bound {most:.0f})")
        if "a task panicked" in host.log():
            self.check(False, "a panic of the host in its log")

    def row(self):
        result = "OVER" if self.over else "ok"
        cells = [self.attack.name, self.attack.what, self.attack.bound, "; ".join(self.seen), self.memory, self.latency, result]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


class Figures:
    def __init__(self, host):
        self.rss_mib, self.descriptors = host.rss_mib(), host.descriptors()
        self.slots = host.metrics().get("slots_used", 0)


@contextmanager
def probe(host):
    """Calls of another app during the block; the dictionary has the figures after it."""
    figures = {}
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), host.address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield figures
    finally:
        try:
            said, _ = process.communicate(timeout=3 * PATIENCE_S)
            figures.update(json.loads(said))
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            process.wait()
            figures.update({"statuses": {"none": 1}, "p50_ms": None, "p99_ms": None})


HEADER = """| | attack | bound | seen | RSS before/peak/end, MiB | other app p50/p99 alone → during, ms | result |
|---|---|---|---|---|---|---|"""
