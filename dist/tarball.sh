#!/usr/bin/env bash
# Packs a tarball for any Linux on x86-64: target/dist/bireme-VERSION-x86_64-linux.tar.gz, to be unpacked below /usr/local.
#
#   dist/tarball.sh [--binary PATH] [--fast]      --binary: this one, not a new release build; --fast: larger, for tests
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"

lay_out /usr/local/bin
cp dist/INSTALL dist/bireme.default "$stage/share/doc/bireme/"
name=bireme-$version-x86_64-linux
package=$out/$name.tar.gz level=9
if [[ -n $is_fast ]]; then level=1; fi
# gzip, because a minimal system cannot unpack xz.
tar --create --file - --directory "$stage" --transform "s|^\.|$name|" --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
    --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=gnu . |
    gzip -n "-$level" >"$package"
seal "$package"
