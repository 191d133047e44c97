#!/usr/bin/env bash
# Every page of the installed Rust documentation through `docs-search::scrape`, as one durable map whose host is killed with -9 on its
# way, restarted, and killed again. Checks that each page ends with exactly one result. Prints `violations: N`.
#
#   benches/docs-map.sh                  all pages (about 48,000), 3 kills
#   PAGES=2000 KILLS=1 benches/docs-map.sh
#
# Needs: cargo with the wasm32-wasip2 target, the rust-docs component, python3.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
bireme=${BIREME:-}
if [ -z "$bireme" ]; then
    cargo build --quiet --release --locked -p bireme
    bireme=$root/target/release/bireme
fi
kills=${KILLS:-3}
export BIREME_TOKEN=the-token-of-this-bench
docs=$(rustc --print sysroot)/share/doc/rust/html
[ -d "$docs" ] || { echo 'no Rust documentation: rustup component add rust-docs' >&2; exit 1; }

data=$(mktemp -d)
host= site= map=
cleanup() {
    for pid in $map $host $site; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
    rm -rf "$data"
}
trap cleanup EXIT

port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
site_port=$(port)
python3 - "$site_port" "$docs" <<'PY' &
import functools, http.server, sys

class Site(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_):
        # A host that is killed leaves its connections behind.
        pass

Server(("127.0.0.1", int(sys.argv[1])), functools.partial(Site, directory=sys.argv[2])).serve_forever()
PY
site=$!

(cd "$docs" && find . -name '*.html' | sort | sed 's#^\./##') > "$data/paths"
if [ -n "${PAGES:-}" ]; then
    head -n "$PAGES" "$data/paths" > "$data/some" && mv "$data/some" "$data/paths"
fi
python3 - "http://127.0.0.1:$site_port/" "$data/paths" > "$data/inputs.jsonl" <<'PY'
import json, sys, urllib.parse
for path in open(sys.argv[2]):
    print(json.dumps(sys.argv[1] + urllib.parse.quote(path.strip())))
PY
pages=$(wc -l < "$data/inputs.jsonl")
component=$("$bireme" build --json examples/docs-search | python3 -c 'import json,sys; print(json.load(sys.stdin)["path"])')
"$bireme" inspect --json "$component" > "$data/inspect.json"

address=127.0.0.1:$(port)
serve() {
    "$bireme" --data "$data/host" serve "$component" --grant "site=http://127.0.0.1:$site_port" --listen "$address" >>"$data/host.log" 2>&1 &
    host=$!
}
ready() {
    for _ in $(seq 300); do
        if python3 -c "import urllib.request; urllib.request.urlopen('http://$address/readyz', timeout=1)" 2>/dev/null; then return; fi
        sleep 0.05
    done
    echo 'the host does not answer' >&2; tail -5 "$data/host.log" >&2; exit 1
}
settled() {
    python3 - "$address" <<'PY'
import json, os, sys, urllib.request
token = {"authorization": "Bearer " + os.environ["BIREME_TOKEN"]}
calls = json.load(urllib.request.urlopen(urllib.request.Request(f"http://{sys.argv[1]}/api/v1/calls?kind=map", headers=token)))["calls"]
counts = calls[0]["counts"] if calls else {}
print(counts.get("done", 0) + counts.get("failed", 0) + counts.get("dead", 0))
PY
}

serve; ready
started=$(date +%s.%N)
"$bireme" map docs-search::scrape --inputs "$data/inputs.jsonl" --host "http://$address" --keep-going --json --quiet > "$data/results.jsonl" 2>"$data/map.log" &
map=$!
for kill in $(seq "$kills"); do
    until [ "$(settled 2>/dev/null || echo 0)" -ge $((pages * kill / (kills + 1))) ]; do
        kill -0 "$map" 2>/dev/null || break
        sleep 0.2
    done
    at=$(settled)
    kill -9 "$host"; wait "$host" 2>/dev/null || true
    before=$(date +%s.%N)
    serve; ready
    echo "kill $kill at $at of $pages pages; the next host answered after $(python3 -c "print(f'{$(date +%s.%N) - $before:.2f}')") s"
done
wait "$map" || true
map=
ended=$(date +%s.%N)

python3 - "$data/results.jsonl" "$pages" "$kills" "$started" "$ended" "$address" <<'PY'
import collections, json, os, sys, urllib.request
token = {"authorization": "Bearer " + os.environ["BIREME_TOKEN"]}
path, pages, kills, started, ended, address = sys.argv[1:]
pages, kills = int(pages), int(kills)
seen, states, attempts = collections.Counter(), collections.Counter(), collections.Counter()
for line in open(path):
    line = json.loads(line)
    if "index" in line:
        seen[line["index"]] += 1
        states[line["state"]] += 1
        attempts[line["attempt"]] += 1
violations = sum(1 for index in range(pages) if seen[index] != 1) + sum(1 for index in seen if not 0 <= index < pages)
violations += sum(count for attempt, count in attempts.items() if attempt > kills + 3)
shown = json.load(urllib.request.urlopen(urllib.request.Request(f"http://{address}/api/v1/calls?kind=map", headers=token)))["calls"][0]["counts"]
for name in ("done", "failed", "dead"):
    violations += shown[name] != states[name]
violations += shown["accepted"] != pages
seconds = float(ended) - float(started)
print(f"{pages} pages, {dict(states)}, attempts {dict(sorted(attempts.items()))}, {seconds:.1f} s, {pages / seconds:.0f} pages/s")
print(f"violations: {violations}")
sys.exit(violations > 0)
PY
