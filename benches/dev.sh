#!/usr/bin/env bash
# The edit loop: one-line edits of a web app under `bireme dev`, each timed from the save to the new answer over HTTP.
#
#   benches/dev.sh [BIREME]             the binary; built for release where none is given
#   EDITS=50 benches/dev.sh             more edits than 20
#
# Needs: python3. The first build of the app (about 2 minutes of CPU time) is not measured; what it leaves is kept in
# BIREME_GUEST_TARGET_DIR, else in target/compare/dev.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bireme=${1:-}
if [[ -z $bireme ]]; then
    (cd "$root" && cargo build --release --locked)
    bireme=$root/target/release/bireme
fi
bireme=$(realpath "$bireme")
export BIREME_GUEST_TARGET_DIR=${BIREME_GUEST_TARGET_DIR:-$root/target/compare/dev}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BIREME_DATA=$work/data
unset BIREME_HOST BIREME_LISTEN CARGO_TARGET_DIR

cd "$work"
"$bireme" new --template web edited >new.out
python3 - "$bireme" "${EDITS:-20}" <<'PYTHON'
import json
import os
import subprocess
import sys
import time
import urllib.request

bireme, edits = sys.argv[1], int(sys.argv[2])
source = "edited/src/lib.rs"
with open(source) as file:
    original = file.read()
line = 'format!("hello, {name}")'
if line not in original:
    sys.exit("dev.sh: the template has another line now")


def event(dev):
    """Returns the next version that is live."""
    said = {"building": None}
    while "building" in said:
        line = dev.stdout.readline()
        said = json.loads(line) if line else sys.exit("dev.sh: bireme ended")
    if "live" not in said or "error" in said:
        sys.exit(f"dev.sh: no version: {said}")
    return said


def answer(address):
    with urllib.request.urlopen(f"http://{address}/edited/hello/Ada") as reply:
        return json.load(reply)["text"]


def figure(name, values):
    values = sorted(values)
    at = lambda part: values[min(len(values) - 1, int(part * len(values)))]
    print(f"FIGURE dev_{name}_p50_ms {at(0.5):.0f}")
    print(f"FIGURE dev_{name}_p90_ms {at(0.9):.0f}")
    print(f"FIGURE dev_{name}_max_ms {values[-1]:.0f}")


load = os.getloadavg()[0]
with open("dev.err", "w") as err:
    dev = subprocess.Popen(
        [bireme, "--json", "dev", "edited", "--listen", "127.0.0.1:0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True,
    )
try:
    address = json.loads(dev.stdout.readline())["listening"]
    event(dev)
    answer(address)
    parts = {part: [] for part in ["total", "cargo", "ours", "swap", "compile", "describe", "link"]}
    for n in range(1, edits + 1):
        text = original.replace(line, f'format!("hello {n}, {{name}}")')
        saved = time.perf_counter()
        with open(source, "w") as file:
            file.write(text)
        said = event(dev)
        new = answer(address)
        total = (time.perf_counter() - saved) * 1e3
        if new != f"hello {n}, Ada":
            sys.exit(f"dev.sh: edit {n} is not what answers: {new}")
        cargo = said["build_us"] / 1e3
        parts["total"].append(total)
        parts["cargo"].append(cargo)
        parts["ours"].append(total - cargo)
        for part in ["swap", "compile", "describe", "link"]:
            parts[part] += [said[f"{part}_us"] / 1e3] if f"{part}_us" in said else []
    for name, values in parts.items():
        if values:
            figure(name, values)
    print(f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after", file=sys.stderr)
finally:
    dev.terminate()
    dev.wait()
PYTHON
