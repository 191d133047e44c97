#!/usr/bin/env bash
# A map over many tiny inputs, from a file of JSON Lines to a file of results: durable on a host, in memory, and the same task
# through Ray, Celery and RQ on Redis, and a pool of processes. Rounds are interleaved. Prints a table and lines `RATIO name value`.
#
#   benches/compare/map.sh               3 rounds of 1,000,000 inputs for us, fewer for those that are slower
#   INPUTS=100000 ROUNDS=1 benches/compare/map.sh
#
# Needs: cargo with the wasm32-wasip2 target, python3 with venv, redis-server (Debian: apt-get install redis-server), package registries.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
here=benches/compare/map
data=$root/target/compare/map
inputs=${INPUTS:-1000000}
rounds=${ROUNDS:-3}
mkdir -p "$data"

cargo build --quiet --release --locked -p bireme
bireme=$root/target/release/bireme
if [ ! -e "$data/venv/bin/rq" ]; then
    python3 -m venv "$data/venv"
    "$data/venv/bin/pip" install --quiet -r "$here/requirements.txt"
fi
python=$data/venv/bin/python
command -v redis-server >/dev/null || { echo 'redis-server is missing: apt-get install redis-server' >&2; exit 1; }

seq "$inputs" > "$data/inputs.jsonl"
component=$("$bireme" build --json examples/hello | "$python" -c 'import json,sys; print(json.load(sys.stdin)["path"])')

host= redis=
cleanup() {
    for pid in $host $redis; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
    "$data/venv/bin/ray" stop --force >/dev/null 2>&1 || true
}
trap cleanup EXIT

port() { "$python" -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
redis_port=$(port)
# Nothing of it is synced to disk: a head start that its users often take.
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$data" >"$data/redis.log" 2>&1 &
redis=$!

results=$data/rounds.tsv
: > "$results"
now() { date +%s.%N; }
note() { printf '%s\t%s\t%s\t%s\n' "$@" >> "$results"; }

durable() {
    rm -rf "$data/host"
    local address
    address=127.0.0.1:$(port)
    "$bireme" --data "$data/host" serve "$component" --listen "$address" >"$data/host.log" 2>&1 &
    host=$!
    for _ in $(seq 200); do "$python" - "$address" <<'PY' && break || sleep 0.1
import sys, urllib.request
try:
    urllib.request.urlopen("http://" + sys.argv[1] + "/readyz", timeout=1)
except OSError:
    sys.exit(1)
PY
    done
    local started ended
    started=$(now)
    "$bireme" map "$app::square" --inputs "$data/inputs.jsonl" --host "http://$address" --quiet > "$data/durable.jsonl"
    ended=$(now)
    local peak
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$host/status")
    kill "$host"; wait "$host" || true; host=
    local bytes
    bytes=$(stat -c %s "$data/host/store.redb")
    note durable "$inputs" "$(awk "BEGIN { print $ended - $started }")" "$peak MiB host, $((bytes / inputs)) bytes of disk an input"
}

memory() {
    local started ended
    started=$(now)
    "$bireme" --data "$data/local" map "$component::square" --inputs "$data/inputs.jsonl" --quiet > "$data/memory.jsonl"
    ended=$(now)
    note memory "$inputs" "$(awk "BEGIN { print $ended - $started }")" ''
    cmp "$data/durable.jsonl" "$data/memory.jsonl"
}

rival() {
    local line
    line=$("$python" "$here/rivals.py" "$@" 2>>"$data/rivals.log")
    # shellcheck disable=SC2086
    set -- $line
    note "$1" "$2" "$3" ''
}

app=$("$bireme" inspect --json "$component" | "$python" -c 'import json,sys; d=json.load(sys.stdin); print(d["app"]["name"])')
for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    durable
    memory
    rival pool 200000
    rival ray 20000
    rival ray-actors 20000
    rival celery 10000 "redis://127.0.0.1:$redis_port/0"
    rival rq 5000 "redis://127.0.0.1:$redis_port/1"
done

"$python" - "$results" <<'PY'
import statistics, sys
from collections import defaultdict

rates, beside = defaultdict(list), {}
for line in open(sys.argv[1]):
    name, tasks, seconds, more = line.rstrip("\n").split("\t")
    rates[name].append(int(tasks) / float(seconds))
    beside[name] = more
print(f"{'':16} {'tasks/s median':>15} {'min':>10} {'max':>10}")
for name, values in rates.items():
    print(f"{name:16} {statistics.median(values):15,.0f} {min(values):10,.0f} {max(values):10,.0f}  {beside[name]}")
for name in rates:
    if name != "durable":
        ratio = statistics.median(rates["durable"]) / statistics.median(rates[name])
        print(f"RATIO durable_over_{name.replace('-', '_')} {ratio:.2f}")
PY
"$data/venv/bin/pip" list 2>/dev/null | grep -Ei '^(ray|celery|rq|redis) ' | tr '\n' ';'
redis-server --version | cut -d' ' -f3
uname -sr; nproc; uptime
