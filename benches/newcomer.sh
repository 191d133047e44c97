#!/usr/bin/env bash
# A newcomer's first hour, as a script: a new app, its test, deployed, called, edited, broken, found in the log, mended, rolled
# back; developed with `bireme dev`; mapped over many lines while the host is killed. Prints the transcript and a table of times;
# ends with status 1 at the first step that is not as it should be.
#
#   benches/newcomer.sh [BIREME [LINES]]      the binary, built for release where none is given; lines to map, 20,000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=dist/steps.sh
source dist/steps.sh

bireme=${1:-}
if [[ -z $bireme ]]; then
    cargo build --release --locked
    bireme=$PWD/target/release/bireme
fi
bireme=$(realpath "$bireme")
work=$(mktemp -d)
lines=${2:-20000}
host_pid= dev_pid=
# Called by the trap.
clean_up() {
    for pid in $host_pid $dev_pid; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
    rm -rf "$work"
}
trap clean_up EXIT

# A home of its own: nothing that an earlier try left helps this one, but cargo's registry.
export BIREME_DATA=$work/data
unset BIREME_HOST BIREME_LISTEN BIREME_GUEST_TARGET_DIR CARGO_TARGET_DIR
cd "$work"
bireme() { "$bireme" "$@"; }

# Waits until a file has a line that begins so, at most five minutes, and prints the rest of the line.
wait_for() {
    local begin=$1 file=$2
    for _ in $(seq 6000); do
        if grep -q "^$begin" "$file"; then sed -n "s|^$begin||p" "$file" | head -1 && return; fi
        sleep 0.05
    done
    printf '%s: `%s` is not in %s:\n' "$0" "$begin" "$file" >&2
    cat "$file" >&2
    return 1
}
# Starts a host at this address; sets its pid and its URL.
serve() {
    printf '\n$ bireme serve --listen %s &\n' "$1"
    "$bireme" serve --listen "$1" >serve.out 2>serve.err &
    host_pid=$!
    address=$(wait_for 'listening on ' serve.out) || { cat serve.err >&2 && exit 1; }
    printf 'listening on %s\n' "$address"
    took 'bireme serve'
}
# Repeats a command until it prints a text, at most five minutes.
until_said() {
    local text=$1
    shift
    for _ in $(seq 3000); do
        if "$@" >until.out 2>&1 && grep -qF -- "$text" until.out; then break; fi
        sleep 0.1
    done
    cat until.out
}

try 'created words' bireme new words --template transform
try 'test result: ok. 1 passed' bireme test words
try '"longest":"decks"' bireme run words::words --text 'a ship with two decks'

# The loop of edits: a change, a mistake, the mistake mended. The version before goes on serving meanwhile.
printf '\n$ bireme dev words &\n'
"$bireme" dev words --listen 127.0.0.1:0 >dev.out 2>&1 &
dev_pid=$!
dev=$(wait_for 'listening on ' dev.out)
call_dev=(bireme call --host "$dev" words::words --text 'of oars')
title='bireme dev: the first answer' try '"longest":"oars"' until_said '"longest"' "${call_dev[@]}"
cp words/src/lib.rs good.rs
edit words/src/lib.rs 's|count: words.len(),|count: words.len() * 10,|'
title='an edit: the answer changes' try '"count":20' until_said '"count":20' "${call_dev[@]}"
edit words/src/lib.rs 's|count: words.len() \* 10,|count: words.length(),|'
title='a mistake: the error is shown' try 'no method named `length`' until_said 'no method named' cat dev.out
title='a mistake: the version before answers' try '"count":20' "${call_dev[@]}"
printf '\n$ cp good.rs words/src/lib.rs\n'
cp good.rs words/src/lib.rs
title='mended: the answer changes' try '"count":2,' until_said '"count":2,' "${call_dev[@]}"
kill -TERM $dev_pid
title='bireme dev ends' try '' wait $dev_pid
dev_pid=

serve 127.0.0.1:0
export BIREME_HOST=$address

try 'is live on' bireme deploy words -m 'first'
try '"count":5' bireme call words::words --text 'a ship with two decks'

# A change, with a slip in it.
edit words/src/lib.rs 's|let longest = longest.context("the text has no words")?.to_string();|log::info!(count = words.len(); "words were counted");\n    let longest = words[3].to_owned();|'
try 'is live on' bireme deploy words -m 'the fourth word is enough'
try '"longest":"two"' bireme call words::words --text 'a ship with two decks'
try !1 'error[crashed]' bireme call words::words --text 'of oars'
try 'index out of bounds: the len is 2 but the index is 3 (src/lib.rs:' bireme logs words --source system
try 'words were counted count=2' bireme logs words --level info --search counted -n 1
try 'crashed: the function panicked or trapped' bireme explain crashed

edit words/src/lib.rs 's|let longest = words\[3\].to_owned();|let longest = longest.context("the text has no words")?.to_string();|'
try 'test result: ok. 1 passed' bireme test words
try 'is live on' bireme deploy words -m 'the longest again'
try '"longest":"oars"' bireme call words::words --text 'of oars'
try '(live)' bireme history words
try 'is live again' bireme rollback words
try '"longest":"two"' bireme call words::words --text 'a ship with two decks'
try 'is live again' bireme rollback words
try '"longest":"oars"' bireme call words::words --text 'of oars' --receipt

# A durable map, with the host killed once a tenth of the results are there.
printf '\n$ seq %s | sed … >lines.jsonl\n' "$lines"
seq "$lines" | sed 's|.*|{"text": "of oars&"}|' >lines.jsonl
printf '\n$ bireme map words::words --inputs lines.jsonl --host %s >results.jsonl &\n' "$BIREME_HOST"
"$bireme" map words::words --inputs lines.jsonl --host "$BIREME_HOST" >results.jsonl 2>map.err &
map_pid=$!
for _ in $(seq 30000); do
    if (($(wc -l <results.jsonl) * 10 >= lines)) || ! kill -0 $map_pid 2>/dev/null; then break; fi
    sleep 0.01
done
kill -KILL $host_pid
wait $host_pid || true
printf '\n$ kill -9 HOST\n'
read_before=$(wc -l <results.jsonl)
printf '%s of %s results were read by then\n' "$read_before" "$lines"
if ((read_before >= lines)); then
    printf '%s: the map was done before the kill\n' "$0" >&2 && exit 1
fi
took 'bireme map, until the host is killed'
serve "${BIREME_HOST#http://}"
title='bireme map, from the new host on' try '' wait $map_pid
cat map.err
# Complete, in order, each input's own result.
seq "$lines" | sed 's|.*|{"count":2,"longest":"oars&"}|' >expected.jsonl
title='every result is there, in order' try '' cmp results.jsonl expected.jsonl
try 'done' bireme ps --kind map
kill -TERM $host_pid
title='bireme serve ends' try '' wait $host_pid
host_pid=

steps_end newcomer_s
