#!/usr/bin/env bash
# A newcomer's first minutes, as a script: a new app, its test, deployed, called, edited, broken, found in the log, mended,
# rolled back. Prints the transcript and what each step took; ends with status 1 at the first step that is not as it should be.
#
#   benches/newcomer.sh [BIREME]        the binary; built for release where none is given
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
host_pid=
# Called by the trap.
clean_up() {
    if [[ -n $host_pid ]]; then kill "$host_pid" 2>/dev/null && wait "$host_pid" || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

# A home of its own: nothing that an earlier try left helps this one, but cargo's registry.
export BIREME_DATA=$work/data
unset BIREME_HOST BIREME_LISTEN BIREME_GUEST_TARGET_DIR CARGO_TARGET_DIR
cd "$work"
bireme() { "$bireme" "$@"; }

try 'created words' bireme new words --template transform
try 'test result: ok. 1 passed' bireme test words
try '"longest":"decks"' bireme run words::words --text 'a ship with two decks'

printf '\n$ bireme serve &\n'
"$bireme" serve --listen 127.0.0.1:0 >serve.out 2>serve.err &
host_pid=$!
for _ in $(seq 200); do
    if grep -q '^listening on ' serve.out; then break; fi
    sleep 0.05
done
BIREME_HOST=$(sed -n 's/^listening on //p' serve.out)
export BIREME_HOST
printf 'listening on %s\n' "$BIREME_HOST"
took 'bireme serve'

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

steps_end newcomer_s
