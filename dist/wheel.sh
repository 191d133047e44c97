#!/usr/bin/env bash
# Packs a wheel with the host, the Python SDK and client, and the base of Python apps: target/dist/bireme-VERSION-….whl.
#
#   dist/wheel.sh [--binary PATH] [--fast]      --binary: this one, not a new release build; --fast: is accepted
#
# The wheel serves every Python from 3.10 on; its platform tag has the C library that the binary was linked with.
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"

base=$PWD/target/python
python/base/build.sh --if-needed

tools=$out/wheel-tools
if ! cmp -s dist/wheel-requirements.txt "$tools/requirements.txt"; then
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r dist/wheel-requirements.txt
    cp dist/wheel-requirements.txt "$tools/requirements.txt"
fi

tree=$out/wheel
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/licenses"
cp -r python/pyproject.toml python/bireme "$tree/"
find "$tree" -name __pycache__ -prune -exec rm -rf {} +
mkdir "$tree/bireme/_base"
cp "$base/py-base.wasm" "$base/py-std.zip" "$tree/bireme/_base/"
strip --strip-all -o "$tree/bin/bireme" "$binary"
cp README.md LICENSE-MIT LICENSE-APACHE "$tree/"
dist/third_party.py >"$tree/licenses/THIRD-PARTY.txt"
sed -i "s/^version = .*/version = \"$version\"/" "$tree/pyproject.toml"
cat >>"$tree/pyproject.toml" <<'TOML'

[tool.hatch.build.targets.wheel.shared-scripts]
"bin/bireme" = "bireme"

[tool.hatch.build.targets.wheel.force-include]
"licenses/THIRD-PARTY.txt" = "bireme/_base/THIRD-PARTY.txt"
TOML

rm -f "$out"/bireme-*.whl
(cd "$tree" && "$tools/bin/hatchling" build --target wheel --directory "$out" >/dev/null)
# The oldest C library that has every symbol of the binary.
glibc=$(objdump --dynamic-syms "$tree/bin/bireme" | sed -n 's/.*GLIBC_\(2\.[0-9]*\).*/\1/p' | sort -uV | tail -n 1)
"$tools/bin/wheel" tags --remove --python-tag py3 --abi-tag none \
    --platform-tag "manylinux_${glibc/./_}_x86_64" "$out"/bireme-*.whl >/dev/null
package=$(echo "$out"/bireme-*.whl)
stage=$tree seal "$package"
