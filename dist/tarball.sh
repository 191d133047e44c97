#!/usr/bin/env bash
# Packs a tarball for any Linux on x86-64: target/dist/bireme-VERSION-x86_64-linux.tar.xz, to be unpacked below /usr/local.
#
#   dist/tarball.sh [--binary PATH] [--fast]      --binary: this one, not a new release build; --fast: gzip, for tests
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"

lay_out /usr/local/bin
cp dist/INSTALL dist/bireme.default "$stage/share/doc/bireme/"
name=bireme-$version-x86_64-linux
if [[ -n $is_fast ]]; then
    package=$out/$name.tar.gz compressor='gzip -1n'
else
    # One thread, so that the bytes do not depend on the machine.
    package=$out/$name.tar.xz compressor='xz -9 --threads=1'
fi
tar --create --file - --directory "$stage" --transform "s|^\.|$name|" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
    --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=gnu . | $compressor >"$package"
seal "$package"
