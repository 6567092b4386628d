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
