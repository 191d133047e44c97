#!/usr/bin/env bash
# Makes the base of Python apps from the SDK in `python/bireme` and the contract in `wit/`:
#
#   python/base/build.sh [OUT]        # OUT: target/python
#   python/base/build.sh --check      # makes it twice, and fails where the two differ
#   python/base/build.sh --if-needed [OUT]        # only where a source is newer than it
#
# OUT/py-base.wasm  CPython, the SDK and the loader
# OUT/py-std.zip    what is left of the standard library, for the host to serve while an app is loaded
#
# Needs Python 3.10 or newer with `venv`, a C compiler, and a registry for the two pinned packages.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/target/python/tools

is_check=
if [ "${1:-}" = --check ]; then
    is_check=1
    shift
fi
is_if_needed=
if [ "${1:-}" = --if-needed ]; then
    is_if_needed=1
    shift
fi
out=${1:-$root/target/python}
newer() {
    find "$here" "$root/python/bireme/_sdk" "$root/python/bireme/__init__.py" "$root/python/bireme/testing.py" "$root/wit" \
        -type f -not -name '*.pyc' -newer "$out/py-base.wasm" -print -quit
}
if [ -n "$is_if_needed" ] && [ -f "$out/py-base.wasm" ] && [ -f "$out/py-std.zip" ] && [ -z "$(newer)" ]; then
    exit
fi
mkdir -p "$out" "$tools"

# The stamp is the list itself, so that a changed pin is installed.
if ! cmp -s "$here/requirements.txt" "$tools/requirements.txt"; then
    python3 -m venv --clear "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/requirements.txt"
fi
"${CC:-cc}" -O2 -shared -fPIC -o "$tools/fixed.so" "$here/fixed.c"

make_base() {
    rm -rf "$tools/stage"
    mkdir -p "$tools/stage/bireme"
    cp "$root/python/bireme/__init__.py" "$root/python/bireme/testing.py" "$tools/stage/bireme/"
    cp -r "$root/python/bireme/_sdk" "$tools/stage/bireme/"
    cp "$here"/bireme_base.py "$here"/common_modules.py "$here"/finder.py "$tools/stage/"
    find "$tools/stage" -name __pycache__ -prune -exec rm -rf {} +
    # Its own words are those of a toolchain, so they are shown only where it fails.
    if ! (cd "$tools/stage" && env -u VIRTUAL_ENV LD_PRELOAD="$tools/fixed.so" "$tools/venv/bin/componentize-py" \
        --quiet --wit-path "$root/wit" --world py-base componentize bireme_base --python-path . --output "$1") \
        >"$tools/componentize.log" 2>&1; then
        cat "$tools/componentize.log" >&2
        exit 1
    fi
}

make_base "$out/py-base.wasm"
"$tools/venv/bin/python" "$here/standard_library.py" "$out/py-std.zip" "$root/python/bireme"
if [ -n "$is_check" ]; then
    make_base "$tools/again.wasm"
    cmp "$out/py-base.wasm" "$tools/again.wasm"
    echo "two builds are the same"
fi
(cd "$out" && sha256sum py-base.wasm py-std.zip && stat --format='%n %s bytes' py-base.wasm py-std.zip)
