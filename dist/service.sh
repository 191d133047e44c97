#!/usr/bin/env bash
# Runs the .deb's service under a real systemd, booted in a container: start, deployment, a model, a crash, a drain, an
# upgrade. Needs root, and dist/smoke.sh first, which makes the package and the component.
set -euo pipefail
# shellcheck source=dist/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=dist/root.sh
source dist/root.sh

if [[ ${1:-} != --inside ]]; then
    if ! command -v systemd-nspawn >/dev/null; then
        apt-get update -q
        apt-get install -y -q --no-install-recommends systemd-container
    fi
    debian_root bookworm-systemd systemd,systemd-sysv,dbus
    work=$(mktemp -d -p "$out")
    trap 'rm -rf "$work"' EXIT
    unshare --mount --pid --fork --kill-child --mount-proc "$0" --inside "$work" "$lower"
    exit
fi

work=$2 lower=$3
# shellcheck source=dist/steps.sh
source dist/steps.sh
overlay "$work"
mkdir "$root/packages"
cp "$out/bireme_${version}_amd64.deb" "$out/bireme-$version-x86_64-linux.tar.gz" "$root/packages/"
cp target/it/guests/wasm32-wasip2/release/stock_wasi.wasm "$root/packages/stock.wasm"
try 'Setting up bireme' in_root dpkg --install "/packages/bireme_${version}_amd64.deb"
# Workers say what they could not confine.
echo RUST_LOG=bireme=info >>"$root/etc/default/bireme"
umount "$root/proc" "$root/tmp"

touch "$work/console"
# Containers have a filter of calls, too, in which Landlock's are missing.
systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --private-network \
    --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' \
    >"$work/console" 2>&1 </dev/null &
nspawn=$!
for _ in $(seq 600); do
    if grep -q 'Multi-User System' "$work/console" || ! kill -0 $nspawn 2>/dev/null; then break; fi
    sleep 0.1
done
took 'boot'
leader=$(pgrep --parent $nspawn) || { cat "$work/console" >&2 && exit 1; }

in_container() { nsenter --target "$leader" --all -- "$@"; }
fetch() { nsenter --target "$leader" --net -- curl --silent --show-error --fail --max-time 60 "$@"; }
address=http://127.0.0.1:8080

try '' in_container systemd-analyze verify --man=no bireme.service
try !1 'disabled' in_container systemctl is-enabled bireme
try 'multi-user.target.wants' in_container systemctl enable --now bireme
# `systemctl` returned after READY=1, so the port accepts.
# Other users of the machine have no token; root reads that of the service.
try !22 '401' fetch $address/api/v1/apps
try '[]' in_container bireme apps --json
try "StatusText=listening on $address" in_container systemctl show --property=StatusText bireme
try 'is live on' in_container bireme deploy /packages/stock.wasm
try 'stock at /fine' fetch $address/stock/fine
try 'no app yet' in_container journalctl --no-pager --unit=bireme

# The small random model of the integration tests, where they have run.
model=target/it/shared/models/all-minilm-l6-v2
if [[ -d $model ]]; then
    install -d -m 700 "$root/var/lib/bireme/models"
    cp -rL "$model" "$root/var/lib/bireme/models/"
    in_container chown -R bireme: /var/lib/bireme/models
    try '"embedding"' fetch --json '{"model": "all-minilm-l6-v2", "input": "oars"}' $address/v1/embeddings
else
    printf '\nskipped: the model, which the integration tests make\n'
fi

main() { in_container systemctl show --property=MainPID --value bireme; }
before=$(main)
try '' in_container systemctl kill --signal=KILL --kill-whom=main bireme
for _ in $(seq 600); do
    if [[ $(main) != "$before" ]] && in_container systemctl --quiet is-active bireme; then break; fi
    sleep 0.1
done
took 'restart after SIGKILL'
try 'NRestarts=1' in_container systemctl show --property=NRestarts bireme
try 'stock at /fine' fetch $address/stock/fine

before=$(main)
try 'Setting up bireme' in_container dpkg --install "/packages/bireme_${version}_amd64.deb"
if [[ $(main) == "$before" ]]; then
    printf '%s: the upgrade did not restart the service\n' "$0" >&2 && exit 1
fi
try 'stock at /fine' fetch $address/stock/fine

try '' in_container systemctl stop bireme
try 'Result=success' in_container systemctl show --property=Result --property=ExecMainStatus bireme
# The unit lets workers confine themselves. Read once all that was said is in the journal.
in_container journalctl --sync
if in_container journalctl --no-pager --unit=bireme | grep 'does not shut the worker in'; then exit 1; fi
try 'Overall exposure level' in_container sh -c 'systemd-analyze security --no-pager bireme | tail -1'
try 'Removing bireme' in_container dpkg --purge bireme
try !2 'No such file' in_container ls /var/lib/bireme

# The same from the tarball, by the commands of its INSTALL.
commands() { sed -n "/^$1/,/^[A-Z]/{/^    /p}" dist/INSTALL; }
try '' in_container sh -c 'tar -xf /packages/bireme-*.tar.gz -C /usr/local --strip-components=1'
title='the tarball: service' try 'multi-user.target.wants' in_container sh -e -c "$(commands 'As a service')"
try '[]' in_container bireme apps --json
try 'argv[]=/usr/local/bin/bireme serve' in_container systemctl show --property=ExecStart bireme
title='the tarball: removal' try '' in_container sh -e -c "$(commands 'To remove it')"
try !3 '' in_container systemctl --quiet is-active bireme
try 'store.redb' in_container ls /var/lib/bireme
kill -KILL "$leader"
steps_end service_s
