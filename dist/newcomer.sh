#!/usr/bin/env bash
# A newcomer on a bare Debian: installs the .deb, serves and calls a stock component without Rust, gets Rust and a C compiler by
# the commands that `bireme doctor` prints, then goes through benches/newcomer.sh. Needs root, the network, and dist/smoke.sh
# first, which makes the package and the component.
#
#   dist/newcomer.sh [--lines N] [--rust download|machine]
#
# --lines: inputs of the durable map, 200,000. --rust: `download` runs the command for rustup as it is printed; `machine`, the
# default, lends the root this machine's ~/.rustup and ~/.cargo instead, for machines that do not reach Rust's servers.
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=dist/root.sh
source dist/root.sh

if [[ ${1:-} != --inside ]]; then
    lines=200000 rust=machine
    while [[ $# -gt 0 ]]; do
        case $1 in
            --lines) lines=$2 && shift 2 ;;
            --rust) rust=$2 && shift 2 ;;
            *) printf 'usage: %s [--lines N] [--rust download|machine]\n' "$0" >&2 && exit 2 ;;
        esac
    done
    debian_root bookworm
    work=$(mktemp -d -p "$out")
    trap 'rm -rf "$work"' EXIT
    # No network of its own: packages and crates are fetched.
    unshare --mount --pid --fork --kill-child "$0" --inside "$work" "$lower" "$lines" "$rust"
    exit
fi

work=$2 lower=$3 lines=$4 rust=$5
# shellcheck source=dist/steps.sh
source dist/steps.sh
overlay "$work"
# Name servers, for the packages and crates to be fetched.
cp /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/packages" "$root/bireme/benches" "$root/bireme/dist"
cp "$out/bireme_${version}_amd64.deb" "$root/packages/"
cp target/it/guests/wasm32-wasip2/release/stock_wasi.wasm "$root/packages/stock.wasm"
cp benches/newcomer.sh "$root/bireme/benches/"
cp dist/steps.sh "$root/bireme/dist/"

try 'Setting up bireme' in_root dpkg --install "/packages/bireme_${version}_amd64.deb"
check_serve root

# Commands are run as they are printed; only questions are answered beforehand.
echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/90newcomer"
try !1 'apt-get install build-essential' in_root bireme doctor
rustup=$(sed -n '/sh\.rustup\.rs/{s/^ *fix: //p;q}' "$steps_output")
try '' in_root apt-get update -q
title='apt-get install build-essential' \
    try 'Setting up gcc' in_root env DEBIAN_FRONTEND=noninteractive apt-get install build-essential
if [[ $rust == download ]]; then
    try 'Rust is installed now' in_root sh -c "$rustup -s -- -y"
    try '' in_root sh -c '. "$HOME/.cargo/env" && rustup target add wasm32-wasip2'
else
    # Through overlays of their own, so that this machine's stay as they are.
    for name in .cargo .rustup; do
        mkdir -p "$root/root/$name" "$work/$name.upper" "$work/$name.work"
        mount -t overlay overlay -o "lowerdir=$HOME/$name,upperdir=$work/$name.upper,workdir=$work/$name.work" \
            "$root/root/$name"
    done
    printf '\n# In place of `%s`: ~/.rustup and ~/.cargo of this machine, with its crates\n' "$rustup"
    took 'Rust, lent by this machine'
fi
mount --rbind /dev "$root/dev"
title='bireme doctor' try 'ok       rust target' in_root sh -c 'PATH=$HOME/.cargo/bin:$PATH bireme doctor'
steps_end newcomer_setup_s
in_root sh -c "PATH=\$HOME/.cargo/bin:\$PATH exec /bireme/benches/newcomer.sh /usr/bin/bireme $lines"
