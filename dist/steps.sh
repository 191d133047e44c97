# shellcheck shell=bash
# Steps of a script, each with its command, what it must print and its time. Sourced by the scripts that try Bireme out.

steps_started=$(date +%s%N)
steps_last=$steps_started
steps_table=()
steps_output=$(mktemp)

# Runs a command that must end with a status (0 without `!STATUS` in front) and print a text; shows both, and the time.
# $title: name in the table, where the command itself does not say enough.
try() {
    local status=0 expected=0 text
    if [[ $1 == !* ]]; then expected=${1#!} && shift; fi
    text=$1 && shift
    printf '\n$ %s\n' "$*"
    "$@" >"$steps_output" 2>&1 || status=$?
    # Cargo's progress is long and the same everywhere.
    grep -vE '^ +(Compiling|Updating|Locking|Adding|Downloaded|Downloading|Running|Doc-tests) |^$' "$steps_output" |
        sed -n '41{s/.*/…/p;q}; p' || true
    took "${title:-$*}"
    if [[ $status -ne $expected ]]; then
        printf '%s: status %s, expected %s\n' "$0" "$status" "$expected" >&2 && exit 1
    fi
    if [[ -n $text ]] && ! grep -qF -- "$text" "$steps_output"; then
        printf '%s: nothing said `%s`\n' "$0" "$text" >&2 && exit 1
    fi
}

# Ends the step of this name: its time is that since the step before.
took() {
    local now
    now=$(date +%s%N)
    printf '# %d ms\n' $(((now - steps_last) / 1000000))
    steps_table+=("$(printf '%8d ms  %s' $(((now - steps_last) / 1000000)) "$1")")
    steps_last=$now
}

# Prints the steps with their times, and the sum as a figure of this name.
steps_end() {
    printf '\n'
    printf '%s\n' "${steps_table[@]}"
    local all=$(((steps_last - steps_started) / 1000000))
    printf '\nFIGURE %s %d.%d\n' "$1" $((all / 1000)) $((all / 100 % 10))
    rm -f "$steps_output"
}

# Replaces text in a file by a sed script, which must change it.
edit() {
    local file=$1 script=$2 before
    before=$(mktemp)
    printf '\n$ sed -i %q %s\n' "$script" "$file"
    cp "$file" "$before"
    sed -i "$script" "$file"
    if cmp -s "$before" "$file"; then
        printf '%s: the edit changed nothing\n' "$0" >&2 && exit 1
    fi
    rm "$before"
}
