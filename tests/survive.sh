#!/usr/bin/env bash
# Kills the host while a client works with its durable calls and maps, and checks that nothing which was acknowledged is lost,
# doubled or changed.
#
#   tests/survive.sh                      30 kills, 200 inputs for each
#   tests/survive.sh --kills 1000         by night
#   tests/survive.sh --seed 7             what was drawn before, again
#   tests/survive.sh --kills 0 --cancels 10000
#
# The last line is `violations: N`; it exits with 1 if there are any, and keeps the data directory.
# Built for debugging, because only that build has fail points.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
unset BIREME_DATA BIREME_HOST BIREME_LISTEN
cargo build --quiet --locked -p bireme-survive
exec "${CARGO_TARGET_DIR:-target}/debug/bireme-survive" "$@"
