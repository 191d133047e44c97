#!/usr/bin/env bash
# Packs target/dist/bireme_VERSION_amd64.deb, for Debian 12 and newer and Ubuntu 22.04 and newer.
#
#   dist/deb.sh [--binary PATH] [--fast]      --binary: this one, not a new release build; --fast: gzip, for tests
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse "$@"
if ! command -v dh >/dev/null; then
    apt-get update -q
    apt-get install -y -q --no-install-recommends debhelper
fi

lay_out /usr/bin
work=$out/deb
rm -rf "$work"
mkdir -p "$work"
cp -r dist/debian "$work/debian"
mv "$stage" "$work/stage" && stage=$work/stage
# Debian has the texts of its own, which debian/copyright points to.
rm "$stage"/share/doc/bireme/LICENSE-*
cp "$stage/lib/systemd/system/bireme.service" dist/bireme.default "$work/debian/"
cat >"$work/debian/changelog" <<END
bireme ($version) unstable; urgency=medium

  * CHANGELOG.md of the sources has the changes.

 -- The Bireme developers <maintainers@bireme.invalid>  $(date -u -R --date="@$SOURCE_DATE_EPOCH")
END
# One thread, so that the bytes do not depend on the machine.
compression='-Zxz --threads-max=1'
if [[ -n $is_fast ]]; then compression='-Zgzip -z1'; fi
(cd "$work" && DEB_COMPRESSION=$compression dh binary >dh.log 2>&1) || { cat "$work/dh.log" >&2 && exit 1; }
package=$out/bireme_${version}_amd64.deb
mv "$work/bireme_${version}_amd64.deb" "$package"
seal "$package"
# Half a minute.
if [[ -z $is_fast ]] && command -v lintian >/dev/null; then
    lintian --allow-root --profile debian --fail-on error,warning "$package"
fi
