# Sourced by the scripts that take something newer than the host's from Debian forky, into a folder of the user's cache.
# Such a script defines `fill FOLDER`, which makes it, and `report`, which prints what is in $root; then it calls
# `provide`, which makes it once. `as_root` stands before what takes root.

suite=forky
as_root=()

fail() { printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
say() { printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2; }

quietly() { # quietly COMMAND...: its output only when it fails
    "$@" >"$work/output" 2>&1 || { tail -n 40 "$work/output" >&2; fail "failed: $*"; }
}

cached() { # cached NAME: where it is kept
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/nuropb-rmq/$1"
}

discard() { # what an interrupted run left, its mounts first
    local mounted
    while read -r mounted; do
        "${as_root[@]}" umount --lazy "$mounted"
    done < <(awk -v under="$root.tmp/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r)
    "${as_root[@]}" rm -rf --one-file-system "$root.tmp"
}

provide() { # reports what is in $root, and makes it when it is not there
    if [[ $root != /* ]]; then root=$PWD/$root; fi
    if [[ -d $root ]] && ! rmdir "$root" 2>/dev/null; then
        report
        return
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$(dirname "$root")"
    # One at a time: another run may be making it right now.
    exec 9>"$root.lock"
    flock 9
    if ! [[ -d $root ]]; then
        discard
        fill "$root.tmp"
        "${as_root[@]}" mv "$root.tmp" "$root"
        rm -f "$root.lock"
    fi
    report
}
