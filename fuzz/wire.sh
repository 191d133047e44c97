#!/usr/bin/env bash
# Broken frames through the wire's readers, under the address sanitizer.
#
#   fuzz/wire.sh [COUNT [SEED]]     1,000,000 frames, seed 1
#
# Needs nothing but the pinned toolchain: RUSTC_BOOTSTRAP lets it take the sanitizer's flag.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
host=$(rustc -vV | sed -n 's/^host: //p')

# An explicit target keeps the sanitizer out of proc macros.
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo build --quiet --release --locked --target "$host" \
    --config profile.release.debug-assertions=true --config profile.release.overflow-checks=true \
    --manifest-path "$root/fuzz/wire/Cargo.toml" --target-dir "$root/target/fuzz-wire"
time "$root/target/fuzz-wire/$host/release/fuzz-wire" "${1:-1000000}" ${2:+"$2"}
