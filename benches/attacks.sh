#!/usr/bin/env bash
# Attacks on a host, and what holds each: one table of attack, bound, result, as Markdown. Each attack has a host of its own; after it
# another app answers, and memory, descriptors and slots are back. Ends with status 1 if a count is over its bound, never by the clock.
#
#   benches/attacks.sh [BIREME]             all of them; the binary, built for release where none is given
#   benches/attacks.sh --quick [BIREME]     those that take seconds: 80 s together
#   benches/attacks.sh [BIREME] NAME…       single ones; --list has the names
#
# Linux, python3. As root, or where the kernel lets users make namespaces, also those that need a small disk or a network of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

options=() names=() bireme=
for argument; do
    case $argument in
        --*) options+=("$argument") ;;
        */*) bireme=$(realpath "$argument") ;;
        *) names+=("$argument") ;;
    esac
done
if [[ -z $bireme && " ${options[*]} " != *" --list "* ]]; then
    cargo build --release --locked >&2
    bireme=$PWD/target/release/bireme
fi
export PYTHONDONTWRITEBYTECODE=1
exec python3 benches/attacks --bireme "$bireme" "${options[@]}" "${names[@]}"
