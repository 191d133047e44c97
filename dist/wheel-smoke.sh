#!/usr/bin/env bash
# Installs the wheel into a fresh environment on a machine without Rust, and goes through benches/python_newcomer.py there.
# Needs root, and Python with `venv`.
#
#   dist/wheel-smoke.sh [--binary PATH] [--pages DIR [--count N]]      --binary: as in wheel.sh; --pages: HTML pages for the map,
#                                                                      Debian's python3-doc unless given
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=dist/root.sh
source dist/root.sh

if [[ ${1:-} != --inside ]]; then
    arguments=() pages="" count=4000
    while [[ $# -gt 0 ]]; do
        case $1 in
            --binary) arguments+=("$1" "$2") && shift 2 ;;
            --pages) pages=$(realpath "$2") && shift 2 ;;
            --count) count=$2 && shift 2 ;;
            *) printf 'usage: %s [--binary PATH] [--pages DIR [--count N]]\n' "$0" >&2 && exit 2 ;;
        esac
    done
    dist/wheel.sh "${arguments[@]}"
    if [[ -z $pages ]]; then
        # Unpacked, not installed.
        pages=$out/python3-doc
        if [[ ! -d $pages ]]; then
            (cd "$out" && apt-get download -q python3-doc python3.11-doc && for package in python3*-doc_*.deb; do
                dpkg-deb --extract "$package" "$pages"
            done)
        fi
    fi
    work=$(mktemp -d -p "$out")
    trap 'rm -rf "$work"' EXIT
    unshare --mount --net --pid --fork --kill-child "$0" --inside "$work" "$pages" "$count"
    exit
fi

work=$2 pages=$3 count=$4 lower=/
# shellcheck source=dist/steps.sh
source dist/steps.sh
ip link set lo up
overlay "$work"
mkdir -p "$root/try"
cp "$out"/bireme-*.whl benches/python_newcomer.py "$root/try/"
cp -r "$pages" "$root/try/pages"

try !127 '' in_root sh -c 'rustc --version'
try !127 '' in_root sh -c 'cargo --version'
title='python3 -m venv' try '' in_root python3 -m venv /try/env
title='pip install bireme-….whl' try '' in_root sh -c '/try/env/bin/pip install --no-index --quiet /try/bireme-*.whl'
title='bireme --version' try "bireme $version" in_root /try/env/bin/bireme --version
title='bireme python show' try 'py-base.wasm' in_root /try/env/bin/bireme python show
try 'words on' in_root sh -c "PATH=/try/env/bin:\$PATH exec python /try/python_newcomer.py /try/pages --pages $count"
grep -E '^ +[0-9]+ ms|^FIGURE|words on' "$steps_output" || true
steps_end wheel_smoke_s
