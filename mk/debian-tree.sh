# Trees of another Debian release, for tools that this system does not have. To be sourced, by scripts that have
# a function `fail`, which says a sentence and exits.
#
# Everything is mounted in a mount namespace of its own, which ends with the command that runs in it: however that
# ends, nothing stays mounted.

# debian_tree_make TREE RELEASE PACKAGES LOG: makes a tree with these packages (with commas between them) from the
# mirror that apt uses. TREE is made anew.
debian_tree_make() {
    [ "$(id -u)" = 0 ] || fail "a tree of Debian $2 needs root (chroot and mounts); run this as root, in a container."
    command -v apt-get >/dev/null || fail "this needs Debian's debootstrap, and there is no apt-get here."
    if ! command -v debootstrap >/dev/null; then
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap; } \
            >"$4" 2>&1 || fail "debootstrap cannot be installed; see $4."
    fi
    debian_tree_mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian Debian //p' | head -n 1)
    [ -n "$debian_tree_mirror" ] || fail "apt knows no mirror of Debian to make the tree from."
    rm -rf --one-file-system "$1"
    unshare --mount --propagation private \
        debootstrap --variant=minbase --include="$3" "$2" "$1" "$debian_tree_mirror" >"$4" 2>&1 ||
        fail "no tree of Debian $2 could be made from the mirror that apt uses; see $4."
}

# debian_tree_cached NAME RELEASE PACKAGES PREPARE: makes a tree once, in the user's cache for all clones, and says in
# `debian_tree` where it is. PREPARE is a command that is given the new tree; when it fails, there is none.
debian_tree_cached() {
    debian_tree_cache=${XDG_CACHE_HOME:-$HOME/.cache}/sessionstore
    debian_tree=$debian_tree_cache/debian-$2-$1
    [ ! -d "$debian_tree" ] || return 0
    mkdir -p "$debian_tree_cache"
    echo "A tree of Debian $2 is made in $debian_tree, once." >&2
    # Under its name a tree is complete: it is made under another, so that one that was interrupted is nobody's, and two
    # that are made at once do not meet.
    (
        new=$debian_tree.$$
        log=$debian_tree_cache/debootstrap-$1.log
        trap 'rm -rf --one-file-system "$new"' EXIT
        trap 'exit 1' INT TERM HUP
        debian_tree_make "$new" "$2" "$3" "$log"
        "$4" "$new" >>"$log" 2>&1 || fail "the tree of Debian $2 cannot be prepared; see $log."
        rm -f "$new"/var/cache/apt/archives/*.deb
        mv -T "$new" "$debian_tree" 2>/dev/null || [ -d "$debian_tree" ] || fail "the tree cannot be put at $debian_tree."
    ) || exit 1
}

# debian_tree_run TREE DIRECTORY COMMAND...: runs a command in the tree, with /proc and /dev, and with DIRECTORY (none
# if it is empty) under its own name, in which it starts. The environment is the caller's but for paths of this system.
debian_tree_run() {
    # shellcheck disable=SC2016 # Expanded by the inner shell.
    unshare --mount --propagation private sh -c '
        set -e
        tree=$1
        directory=$2
        shift 2
        mount --rbind /proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        if [ -n "$directory" ]; then
            mkdir -p "$tree$directory"
            mount --rbind "$directory" "$tree$directory"
        fi
        exec chroot "$tree" env -u PYTHONPATH -u PYTHONHOME -u PIP_FIND_LINKS -C "${directory:-/}" \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 "$@"
    ' sh "$@"
}
