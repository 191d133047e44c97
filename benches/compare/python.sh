#!/usr/bin/env bash
# The same function in Python on Bireme, in Rust on Bireme, as a CPython process for each call, and as tasks of Ray: sequential calls,
# maps, memory, and the time of an edit. Rounds are interleaved. Prints a table and lines `FIGURE name value`.
#
#   benches/compare/python.sh [BIREME]       the binary; built for release where none is given
#   MAP=10000 ROUNDS=1 benches/compare/python.sh
#   RAY=0 benches/compare/python.sh          without Ray, which is a download of 70 MB
#
# Needs: cargo with the wasm32-wasip2 target, python3 with venv, a registry for Python packages.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
data=$root/target/compare/python
mkdir -p "$data"
bireme=${1:-}
if [[ -z $bireme ]]; then
    cargo build --quiet --release --locked -p bireme
    bireme=$root/target/release/bireme
fi
bireme=$(realpath "$bireme")
python/base/build.sh --if-needed >/dev/null
if [ ! -e "$data/venv/bin/python" ]; then python3 -m venv "$data/venv"; fi
if [[ ${RAY:-1} != 0 && ! -e $data/venv/bin/ray ]]; then
    "$data/venv/bin/pip" install --quiet "$(grep '^ray' benches/compare/map/requirements.txt)"
fi
export BIREME_DATA=$data/data
unset BIREME_HOST BIREME_LISTEN
"$bireme" python install target/python/py-base.wasm >/dev/null
component=$("$bireme" build --json examples/hello | python3 -c 'import json,sys; print(json.load(sys.stdin)["path"])')
PYTHONPATH=$root/python exec "$data/venv/bin/python" benches/compare/python/compare.py "$bireme" "$component"
