# shellcheck shell=bash
# Shared by tarball.sh and deb.sh: the binary's choice and one staged tree for both packages. Sourced, not run.
#
# Packages of one commit and one binary are the same bytes each time: times are those of the commit, owners are root,
# order is fixed.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
out=$PWD/target/dist
stage=$out/stage
is_fast=
binary=

parse() {
    while [[ $# -gt 0 ]]; do
        case $1 in
            --binary) binary=$(realpath "$2") && shift 2 ;;
            --fast) is_fast=1 && shift ;;
            *) printf 'usage: %s [--binary PATH] [--fast]\n' "$0" >&2 && exit 2 ;;
        esac
    done
    if [[ -z $binary ]]; then
        cargo build --release --locked
        binary=${CARGO_TARGET_DIR:-target}/release/bireme
    fi
}

# Lays out an installation below $stage, as below /usr: the binary without symbols, which $out/bireme-VERSION.debug has.
# $1: directory of the binary on the machine where it is installed.
lay_out() {
    local bindir=$1 debug=$out/bireme-$version.debug
    rm -rf "$stage"
    mkdir -p "$stage/bin" "$stage/share/man/man1" "$stage/lib/systemd/system" "$stage/lib/sysusers.d" \
        "$stage/share/bash-completion/completions" "$stage/share/zsh/site-functions" \
        "$stage/share/fish/vendor_completions.d" "$stage/share/doc/bireme"
    objcopy --only-keep-debug "$binary" "$debug"
    chmod 644 "$debug"
    strip --strip-all -o "$stage/bin/bireme" "$binary"
    # Debuggers and backtraces find the symbols by this name, beside the binary or below /usr/lib/debug.
    objcopy --add-gnu-debuglink="$debug" "$stage/bin/bireme"
    chmod 755 "$stage/bin/bireme"
    "$stage/bin/bireme" man "$stage/share/man/man1" >/dev/null
    gzip -9n "$stage"/share/man/man1/*.1
    "$stage/bin/bireme" completions bash >"$stage/share/bash-completion/completions/bireme"
    "$stage/bin/bireme" completions zsh >"$stage/share/zsh/site-functions/_bireme"
    "$stage/bin/bireme" completions fish >"$stage/share/fish/vendor_completions.d/bireme.fish"
    sed "s|@bindir@|$bindir|" dist/bireme.service >"$stage/lib/systemd/system/bireme.service"
    cp dist/bireme.sysusers "$stage/lib/sysusers.d/bireme.conf"
    cp README.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$stage/share/doc/bireme/"
    dist/third_party.py >"$stage/share/doc/bireme/THIRD-PARTY.txt"
    gzip -9n "$stage/share/doc/bireme/THIRD-PARTY.txt"
    chmod -R u=rwX,go=rX "$stage"
    find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

# Prints a package's size and writes its SHA-256 beside it.
seal() {
    local package=$1 name
    name=$(basename "$package")
    (cd "$(dirname "$package")" && sha256sum "$name" >"$name.sha256" && cat "$name.sha256")
    printf '%s: %s bytes; binary %s bytes, with symbols %s\n' "$name" "$(stat -c %s "$package")" \
        "$(stat -c %s "$stage/bin/bireme")" "$(stat -c %s "$binary")"
}
