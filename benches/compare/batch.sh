#!/usr/bin/env bash
# The batcher: the way from a guest through it to a worker and back with a model that computes nothing; and with a real one,
# what batching brings 64 guests, how a quiet app fares beside one that floods, what waiting requests weigh, how a full queue
# refuses. Prints tables, then lines `FIGURE name value` and `RATIO name value`.
#
#   benches/compare/batch.sh             all of it: about 4 minutes on two cores, once it is built
#   ROUNDS=2 benches/compare/batch.sh    fewer rounds of the parts with the real model
#
# Needs: cargo with the wasm32-wasip2 target, and a package registry for the model on the first run.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
data=$root/target/compare/batch
mkdir -p "$data"

cargo build --quiet --release --locked -p bireme -p bireme-benches --bins
if [ ! -e "$data/models/all-minilm-l6-v2/model.safetensors" ]; then
    target/release/bireme --data "$data" models pull all-minilm-l6-v2
fi

# The criterion part of it is not what is asked here.
cargo bench --quiet --locked -p bireme-benches --bench inference -- --bench nothing 2>&1 | grep -E '^FIGURE|load average'
target/release/bireme-batch "$data/models" "${ROUNDS:-5}"
