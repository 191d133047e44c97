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
    # Without these a program that wants no output writes to a file.
    mount -t tmpfs tmpfs "$root/dev"
    local device
    for device in null zero full random urandom; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mount -t tmpfs tmpfs "$root/tmp"
}

# Runs a command in the root, as its user root or as $as; nothing of the caller's environment reaches it.
in_root() {
    env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LANG=C.UTF-8 \
        chroot ${as:+--userspec="$as:$as"} "$root" "$@"
}

# Serves /packages/stock.wasm as a user, with these arguments, calls it and stops the host, which must end with status 0. To be
# called with `root`, `work` and the functions of steps.sh.
check_serve() {
    local user=$1 said=$work/serve.out address serving
    shift
    printf '\n$ bireme serve /packages/stock.wasm%s &\n' "${*:+ $*}"
    as=$user in_root sh -c 'echo $$ >&3; exec "$@"' sh bireme serve /packages/stock.wasm "$@" \
        --listen 127.0.0.1:0 >"$said" 2>&1 3>"$work/serve.pid" &
    serving=$!
    for _ in $(seq 600); do
        if grep -q '^listening on ' "$said" || ! kill -0 $serving 2>/dev/null; then break; fi
        sleep 0.05
    done
    address=$(sed -n 's/^listening on //p' "$said")
    if [[ -z $address ]]; then cat "$said" >&2 && exit 1; fi
    took 'bireme serve'
    try 'stock at /fine' curl --silent --show-error --fail "$address/stock/fine"
    try '"stock"' in_root bireme apps --host "$address" --json "$@"
    kill -TERM "$(<"$work/serve.pid")"
    title='bireme serve ends' try '' wait $serving
}
