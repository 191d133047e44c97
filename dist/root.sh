# shellcheck shell=bash
# Debian roots to try packages in: made once below target/, used through an overlay that takes all writes. Sourced.

# Sets `lower` to a minimal Debian with these packages (comma-separated) besides. DEBIAN_MIRROR: another than the default.
debian_root() {
    local name=$1 packages=${2:-}
    lower=$out/roots/$name
    if [[ -e $lower.ready ]]; then return; fi
    if ! command -v debootstrap >/dev/null; then
        apt-get update -q
        apt-get install -y -q --no-install-recommends debootstrap
    fi
    mkdir -p "$out/roots"
    rm -rf "$lower"
    debootstrap --variant=minbase ${packages:+--include="$packages"} bookworm "$lower" ${DEBIAN_MIRROR:-} \
        >"$lower.log" 2>&1 || { tail -20 "$lower.log" >&2 && exit 1; }
    rm -f "$lower"/var/cache/apt/archives/*.deb
    touch "$lower.ready"
}

# Lays an overlay over `lower` at $1/root and sets `root`. To be called in a mount namespace of its own.
overlay() {
    root=$1/root
    mkdir -p "$1/upper" "$1/work" "$root"
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$1/upper,workdir=$1/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
}

# Runs a command in the root, as its user root or as $as; nothing of the caller's environment reaches it.
in_root() {
    env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LANG=C.UTF-8 \
        chroot ${as:+--userspec="$as:$as"} "$root" "$@"
}
