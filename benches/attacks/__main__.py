"""Runs the attacks and prints their table; see benches/attacks.sh."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import addresses
import compiler
import connections
import disk
import memory
import slots
from host import Bench, Fault, remove, say
from trial import ATTACKS, HEADER, Skipped, Trial

# Longest run of one attack in namespaces of its own.
WITHIN_S = 600
THEMES = [memory, connections, slots, disk, compiler, addresses]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bireme", required=True)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--list", action="store_true")
    # A directory with compiled guests: the run of one attack in namespaces of its own, by this same script.
    arguments.add_argument("--within", help=argparse.SUPPRESS)
    arguments.add_argument("names", nargs="*")
    options = arguments.parse_args()
    attacks = sorted(ATTACKS.values(), key=lambda attack: THEMES.index(sys.modules[attack.act.__module__]))
    if options.list:
        for attack in attacks:
            print(f"{attack.name:10} {'quick' if attack.is_quick else '':6} {attack.what}")
        return 0
    unknown = [name for name in options.names if name not in ATTACKS]
    if unknown:
        sys.exit(f"no attack `{unknown[0]}`; --list has the names")
    chosen = [attack for attack in attacks if attack.name in options.names or not options.names]
    if options.quick:
        chosen = [attack for attack in chosen if attack.is_quick]
    # Ten thousand connections, the host's side is another process.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    if options.within:
        return int(not run(Bench(options.bireme, options.within), ATTACKS[options.names[0]]))
    begin, over = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="attacks-") as work:
        bench = Bench(options.bireme, work)
        bench.compile()
        version = subprocess.run([options.bireme, "--version"], capture_output=True, text=True).stdout.strip()
        print(f"{version}\n\n{HEADER}", flush=True)
        for attack in chosen:
            started = time.monotonic()
            is_ok = run_within(bench, attack) if attack.namespaces else run(bench, attack)
            if not is_ok:
                over.append(attack.name)
            say(f"{attack.name}: {time.monotonic() - started:.1f} s")
            for directory in bench.work.glob("data-*"):
                remove(directory)
    result = f"OVER a bound: {', '.join(over)}" if over else "every count within its bound"
    print(f"\n{len(chosen)} attacks in {time.monotonic() - begin:.0f} s; {result}")
    return int(bool(over))


def run(bench, attack):
    """Runs an attack and prints its row; returns whether it kept to its bounds."""
    trial = Trial(bench, attack)
    try:
        attack.act(trial)
    except Skipped as why:
        skipped(attack, why)
        return True
    except (Fault, OSError, subprocess.TimeoutExpired) as error:
        trial.check(False, f"{type(error).__name__}: {error}".replace("\n", " ")[:500])
    print(trial.row(), flush=True)
    return not trial.over


def run_within(bench, attack):
    """Runs an attack in namespaces of its own."""
    namespaces = {"mount": ["--mount"], "network": ["--mount", "--net"]}[attack.namespaces]
    if os.geteuid() != 0:
        namespaces = ["--user", "--map-root-user", *namespaces]
    if subprocess.run(["unshare", *namespaces, "true"], capture_output=True).returncode != 0:
        skipped(attack, "this user may make no namespace")
        return True
    script = [sys.executable, str(Path(__file__).parent), "--bireme", bench.bireme, "--within", str(bench.work), attack.name]
    return subprocess.run(["unshare", *namespaces, *script], timeout=WITHIN_S).returncode == 0


def skipped(attack, why):
    print(f"| {attack.name} | {attack.what} | {attack.bound} | not possible here: {why} | | | skipped |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
