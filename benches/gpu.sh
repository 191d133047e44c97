#!/usr/bin/env bash
# What a CUDA device does with Bireme: every kernel and model against the CPU, then the figures, then the same texts through
# sentence-transformers on the same card, then from guests.
#
#   benches/gpu.sh              on a machine that can build and has a GPU: `pack`, then `run`
#   benches/gpu.sh pack [DIR]   builds what is needed and lays it into DIR (target/gpu)
#   benches/gpu.sh run [DIR]    runs it; needs the driver alone. DIR can be carried elsewhere, and holds this script: gpu.sh run
#
#   DEVICE=1           another device than 0
#   SHAPES="bge-base"  models with random weights of these shapes, beside the one that was packed: minilm bge-base bge-large
#   PYTHON=…           a Python with torch and sentence-transformers; without one the comparison is left out, and said so
#
# Ends with status 1 at the first kernel or model whose results are not those of the CPU.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

pack() {
    local out
    mkdir -p "$1"
    out=$(realpath "$1")
    cd "$here/.."
    step 'build'
    cargo build --release --locked -p bireme -p bireme-benches --bins
    cp target/release/bireme target/release/bireme-gpu "$out"
    # The kernels' own tests: with a device in the environment they run there rather than on the CPU.
    local tests
    tests=$(cargo test --release --locked -p bireme-kernels --test cuda --no-run --message-format json |
        sed -n 's/.*"executable":"\([^"]*cuda-[^"]*\)".*/\1/p' | tail -1)
    cp "$tests" "$out/kernel-tests"
    step 'model and function'
    # The real model, from wherever it is reachable, and a function that embeds.
    export BIREME_DATA=$out/data
    target/release/bireme models pull all-minilm-l6-v2
    local built
    built=$(target/release/bireme build --json examples/docs-search | python3 -c 'import json, sys; print(json.load(sys.stdin)["path"])')
    cp "$built" "$out/docs-search.wasm"
    local book
    book=$(rustc --print sysroot)/share/doc/rust/html/book
    python3 benches/gpu/texts.py "$book" >"$out/texts.txt"
    cp benches/gpu.sh benches/gpu/rival.py "$out"
    strip "$out/bireme" "$out/bireme-gpu" "$out/kernel-tests"
    du -sh "$out"
}

run() {
    cd "$1"
    local device=${DEVICE:-0} model=data/models/all-minilm-l6-v2 real=()
    if [[ -d $model ]]; then real=(--model "$model" --texts texts.txt); fi
    # Beside a toolkit that is not in the loader's path: PyTorch's wheels bring cuBLASLt along.
    local python=${PYTHON:-python3} cublas
    cublas=$("$python" -c 'import nvidia, pathlib; print(*(str(p.parent) for r in nvidia.__path__ for p in pathlib.Path(r).rglob("libcublasLt.so.1[23]")), sep=":")' 2>/dev/null || true)
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}${cublas:+:$cublas}

    step 'parity of every kernel with its CPU twin'
    BIREME_CUDA_DEVICE=$device ./kernel-tests twins products --test-threads 1
    step 'parity of models, then kernels and models by the clock'
    local shapes=()
    for shape in ${SHAPES:-bge-base}; do shapes+=(--shape "$shape"); done
    ./bireme-gpu --device "$device" "${real[@]}" "${shapes[@]}" | tee figures.txt
    if [[ ! -d $model ]]; then
        printf '\nno model was packed: the comparison and the guests are left out\n' && return
    fi

    step 'sentence-transformers, half precision, on the same card'
    if "$python" -c 'import torch, sentence_transformers; assert torch.cuda.is_available()' 2>/dev/null; then
        HF_HUB_OFFLINE=1 "$python" rival.py "$model" texts.txt "cuda:$device" | tee rival.txt
        awk '$1 == "FIGURE" && FNR == NR { ours[$2] = $3 }
             $1 == "FIGURE" && FNR != NR && ours[$2] { printf "RATIO gpu_%s_vs_sentence_transformers %.2f\n", $2, ours[$2] / $3 }' \
            figures.txt rival.txt
    else
        printf 'left out: %s has no torch with CUDA, or no sentence-transformers\n' "$python"
    fi

    step 'end to end, from guests'
    # 32 texts a call, as a scraper hands them over.
    awk '{ gsub(/[\\"]/, "\\\\&"); printf "%s\"%s\"", NR % 32 == 1 ? (NR > 1 ? "]}\n" : "") "{\"texts\":[" : ",", $0 } END { print "]}" }' \
        texts.txt >calls.jsonl
    local texts started ended
    texts=$(wc -l <texts.txt)
    for round in 1 2 3; do
        started=$(date +%s%N)
        ./bireme map --data data --device "cuda:$device" docs-search.wasm::embed --inputs calls.jsonl >vectors.jsonl
        ended=$(date +%s%N)
        printf 'round %s: %s texts in %s ms, start and loading included\n' "$round" "$texts" $(((ended - started) / 1000000))
    done
    awk -v texts="$texts" -v ms=$(((ended - started) / 1000000)) 'BEGIN { printf "FIGURE guests_mixed_per_s %.0f\n", texts * 1000 / ms }'
    rm -f vectors.jsonl
}

# The script lies beside what it runs, once that was carried away.
packed=$here/../target/gpu
if [[ -e $here/kernel-tests ]]; then packed=$here; fi
case ${1:-all} in
pack) pack "${2:-$packed}" ;;
run) run "${2:-$packed}" ;;
all)
    pack "$packed"
    run "$packed"
    ;;
*) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
