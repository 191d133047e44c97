#!/usr/bin/env bash
# Tests of the Python package against a real host: python/test.sh [PYTEST ARGUMENTS]. Builds the host and two components
# first; BIREME_BINARY names another host, PYTHON another interpreter. Tools come from PyPI, held to their digests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -z ${BIREME_BINARY:-} ]]; then
    cargo build --manifest-path ../Cargo.toml --package bireme --locked
    export BIREME_BINARY=$PWD/../target/debug/bireme
fi
venv=$PWD/../target/python-tests
wanted=$(sha256sum tests/requirements.txt)
if [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]]; then
    "${PYTHON:-python3}" -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
    echo "$wanted" >"$venv/installed"
fi
export PYTHONPATH=$PWD PATH=$venv/bin:$PATH
pyright
mypy
pytest "$@"
