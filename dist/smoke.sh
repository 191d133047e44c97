#!/usr/bin/env bash
# Installs the .deb and the tarball in a bare Debian, serves a stock wasi:http component from each, upgrades and removes
# them. The bare Debian has no Rust, compiler, certificates or network. Needs root.
#
#   dist/smoke.sh [--binary PATH] [--fast] [--here]      --binary, --fast: as in deb.sh; --here: in an overlay over this
#                                                        machine, which needs no debootstrap (100 s, network, once)
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=dist/root.sh
source dist/root.sh

if [[ ${1:-} != --inside ]]; then
    lower="" arguments=()
    for argument; do
        if [[ $argument == --here ]]; then lower=/; else arguments+=("$argument"); fi
    done
    parse "${arguments[@]}"
    arguments=(--binary "$binary" ${is_fast:+--fast})
    dist/deb.sh "${arguments[@]}"
    dist/tarball.sh "${arguments[@]}"
    if [[ -z $lower ]]; then debian_root bookworm; fi
    work=$(mktemp -d -p "$out")
    trap 'rm -rf "$work"' EXIT
    # The integration tests build it there as well.
    BIREME_DATA=$work/build BIREME_GUEST_TARGET_DIR=$PWD/target/it/guests "$binary" build host/tests/guests/stock-wasi
    cp target/it/guests/wasm32-wasip2/release/stock_wasi.wasm "$work/stock.wasm"
    # The child ends with this shell, and its mounts and its network with it.
    unshare --mount --net --pid --fork --kill-child "$0" --inside "$work" "$lower"
    exit
fi

work=$2 lower=$3
# shellcheck source=dist/steps.sh
source dist/steps.sh
ip link set lo up
overlay "$work"
mkdir -p "$root/packages"
cp "$out/bireme_${version}_amd64.deb"* "$out/bireme-$version-x86_64-linux.tar.gz"* "$work/stock.wasm" "$root/packages/"
chmod -R a+rX "$root/packages"

if [[ $lower != / ]]; then
    try !127 'rustc' in_root sh -c 'rustc'
    try !127 'cc' in_root sh -c 'cc'
    try !2 'No such file' in_root ls /etc/ssl/certs/ca-certificates.crt
fi

try 'OK' in_root sh -c 'cd /packages && sha256sum --check *.sha256'
try 'Setting up bireme' in_root dpkg --install "/packages/bireme_${version}_amd64.deb"
try "bireme $version" in_root bireme --version
if [[ $lower != / ]]; then
    try !1 'https://sh.rustup.rs' in_root bireme doctor
fi
try '.SH SYNOPSIS' in_root zgrep '^.SH' /usr/share/man/man1/bireme-serve.1.gz
try '_bireme' in_root bash -c 'source /usr/share/bash-completion/completions/bireme && complete -p bireme'
try '#compdef bireme' in_root head -1 /usr/share/zsh/vendor-completions/_bireme
try 'complete -c bireme' in_root grep -m 3 '^complete' /usr/share/fish/vendor_completions.d/bireme.fish
try 'bireme' in_root stat --format='%U %a' /var/lib/bireme
check_serve bireme --data /var/lib/bireme

printf '\n$ echo BIREME_KEEP=30d >>/etc/default/bireme\n'
echo BIREME_KEEP=30d >>"$root/etc/default/bireme"
try 'Preparing to unpack' in_root dpkg --install "/packages/bireme_${version}_amd64.deb"
try 'BIREME_KEEP=30d' in_root tail -1 /etc/default/bireme
try 'db' in_root ls /var/lib/bireme
try 'Removing bireme' in_root dpkg --remove bireme
try !127 'bireme' in_root sh -c 'bireme --version'
try 'BIREME_KEEP=30d' in_root tail -1 /etc/default/bireme
try 'db' in_root ls /var/lib/bireme
try 'Purging configuration files' in_root dpkg --purge bireme
try !2 'No such file' in_root ls /var/lib/bireme
try !2 'No such file' in_root ls /etc/default/bireme
try '' in_root sh -c '! dpkg --listfiles bireme 2>/dev/null && ! ls /usr/share/man/man1/bireme* 2>/dev/null'

# The commands of its INSTALL.
before=$(in_root find /usr/local ! -type d)
try '' in_root sh -c 'tar -xf /packages/bireme-*-x86_64-linux.tar.gz -C /usr/local --strip-components=1'
try "bireme $version" in_root bireme --version
try '.SH SYNOPSIS' in_root zgrep '^.SH' /usr/local/share/man/man1/bireme-serve.1.gz
try 'ExecStart=/usr/local/bin/bireme serve' in_root grep '^Exec' /usr/local/lib/systemd/system/bireme.service
check_serve root --data /root/data
removal=$(sed -n '/rm -rf bin/,/bireme.conf$/p' dist/INSTALL)
title='removal, as in INSTALL' try '' in_root sh -c "$removal"
if [[ $(in_root find /usr/local ! -type d) != "$before" ]]; then
    printf '%s: the tarball left files below /usr/local\n' "$0" >&2 && exit 1
fi
steps_end smoke_s
