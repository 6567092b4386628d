#!/bin/sh
# Installs the Debian packages in a tree with nothing but Debian, and uses them: packaging/test-deb.sh DIRECTORY
# `make test-deb` runs it after `make deb`.
set -eu

fail() {
    echo "test-deb: $*" >&2
    exit 1
}
cd "$(dirname "$0")/.."
mkdir -p "$1"
work=$(cd "$1" && pwd)
packages=target/debian/packages
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
abi=$(sed -n 's/^const ABI: u32 = \([0-9]*\);$/\1/p' build.rs)
# The packages need the C library that they were built with, or a newer one: that of the system they were built on.
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ -n "$release" ] && grep -q '^ID=debian$' /etc/os-release || fail "packages for Debian are made and tested on Debian."

. mk/debian-tree.sh
trap 'rm -rf --one-file-system "$work/server" "$work/programmer"' EXIT
trap 'exit 1' INT TERM HUP

# $1: tree, $2: packages; made once.
base_tree() {
    [ "$(cat "$work/$1-base/.made" 2>/dev/null)" != "$release $2" ] || return 0
    debian_tree_make "$work/$1-base" "$release" "$2" "$work/$1.log"
    echo "$release $2" >"$work/$1-base/.made"
}
# One tree is a server as Debian installs it, with what the unit is looked at with; the other is for programmers.
base_tree server systemd,strace
base_tree programmer gcc,g++,libc6-dev,make,cmake,pkg-config

# $1: tree, made anew from its base; the rest are packages.
clean_tree() {
    tree=$work/$1
    rm -rf --one-file-system "$tree"
    cp -a --reflink=auto "$work/$1-base" "$tree"
    shift
    for package in "$@"; do
        set -- "$packages/$package"_*.deb
        [ -f "$1" ] && [ $# -eq 1 ] || fail "there is not one package $package in $packages."
        cp "$1" "$tree/"
    done
}
in_tree() {
    debian_tree_run "$tree" "" "$@"
}
# Runs in the tree; what it says is shown when it fails.
run() {
    in_tree "$@" >"$work/last.log" 2>&1 || {
        cat "$work/last.log" >&2
        fail "in the tree this failed: $*"
    }
}

# 1. The program with its service, where there is nothing else.
clean_tree server sstore
find "$tree" -xdev | sort >"$work/before"
run dpkg --install /sstore_"$version"-1_"$(dpkg --print-architecture)".deb
rm "$tree"/sstore_*.deb
run sstore --version
[ "$(cat "$work/last.log")" = "sstore $version" ] || fail "the installed sstore is $(cat "$work/last.log")."
for file in usr/share/man/man1/sstore.1.gz usr/share/man/man1/sstore-serve.1.gz usr/share/bash-completion/completions/sstore \
    usr/share/zsh/vendor-completions/_sstore usr/share/fish/vendor_completions.d/sstore.fish usr/share/doc/sstore/copyright \
    usr/share/doc/sstore/licences.txt; do
    [ -s "$tree/$file" ] || fail "the package sstore has no $file."
done
run dpkg-query --show --showformat '${Conffiles}' sstore
grep -q /etc/sstore/sstore.toml "$work/last.log" || fail "/etc/sstore/sstore.toml is not a configuration file of the package."
[ -L "$tree/etc/systemd/system/multi-user.target.wants/sstore.service" ] || fail "the service is not enabled."

# The unit is right, and systemd says of its sandbox: little is open. 2 of 10 is what it calls OK.
run systemd-analyze verify --man=no --recursive-errors=no sstore.service
[ ! -s "$work/last.log" ] || fail "of sstore.service systemd says: $(cat "$work/last.log")"
run systemd-analyze security --offline=yes --threshold=20 --no-pager sstore.service
grep 'Overall exposure' "$work/last.log"

# What the unit starts runs with the settings that are installed, and makes no system call that the unit forbids:
# rooms are kept, certificates read, clients served, signals obeyed.
unit=$(find "$tree/lib/systemd/system" "$tree/usr/lib/systemd/system" -name sstore.service | head -n 1)
start=$(sed -n 's/^ExecStart=//p' "$unit")
# As a user of no privileges, as the unit does it: SQLite does more for root.
mkdir -p "$tree/var/lib/sstore"
run chown nobody /var/lib/sstore
mkfifo "$tree/url" "$tree/log"
# shellcheck disable=SC2086 # A command with arguments.
in_tree strace --user=nobody --follow-forks --quiet=all --output=/calls --trace=all $start >"$tree/url" 2>"$tree/log" &
tracer=$!
exec 3<"$tree/url" 4<"$tree/log"
read -r url <&3 || fail "the service does not start: $(cat <&4)"
# The first that was traced.
server=$(sed -n '1s/^\([0-9]*\) .*$/\1/p' "$tree/calls")
run sstore set --url "$url" --room lobby spotlight '"peer-1"'
run sstore lock --url "$url" --room lobby turn true
[ -n "$(ls -A "$tree/var/lib/sstore")" ] || fail "the service keeps no rooms."
# Reload, then stop, as systemd does it.
[ -n "$server" ] || fail "the server was not found beneath strace."
kill -HUP "$server"
line=
while [ "${line%were read again*}" = "$line" ]; do
    read -r line <&4 || fail "the service ended instead of reading its rules again."
done
kill -TERM "$server"
wait "$tracer" || fail "the service does not end well: $(cat <&4)"
exec 3<&- 4<&-
in_tree systemd-analyze syscall-filter --no-pager >"$work/groups"
awk -v unit="$unit" '
    # A group begins with its name; its members, calls and other groups, are indented.
    FILENAME == ARGV[1] {
        if ($0 ~ /^@/) group = $1
        else if ($1 != "" && $1 !~ /^#/) members[group] = members[group] " " $1
        next
    }
    FILENAME == ARGV[2] {
        if (sub(/^SystemCallFilter=/, "")) {
            value = 1
            if (sub(/^~/, "")) value = 0
            count = split($0, words, " ")
            for (i = 1; i <= count; i++) allow(words[i], value)
        }
        next
    }
    {
        sub(/^[0-9]+ +/, "")
        if (match($0, /^[a-z0-9_]+\(/)) {
            call = substr($0, 1, RLENGTH - 1)
            if (!(call in told) && !allowed[call]) { print call; told[call] }
            calls++
        }
    }
    END { if (calls < 100) print "(strace saw almost nothing)" }
    function allow(word, value, parts, count, i) {
        if (word !~ /^@/) { allowed[word] = value; return }
        count = split(members[word], parts, " ")
        for (i = 1; i <= count; i++) allow(parts[i], value)
    }' "$work/groups" "$unit" "$tree/calls" >"$work/forbidden"
# That the program is started at all comes before the filter is in force for it.
grep -v -x -e execve "$work/forbidden" >"$work/forbidden-calls" || :
[ ! -s "$work/forbidden-calls" ] || fail "the unit forbids what the server does: $(tr '\n' ' ' <"$work/forbidden-calls")"

# Purged, it leaves nothing.
rm "$tree/url" "$tree/log" "$tree/calls"
rm -r "$tree/var/lib/sstore"
run dpkg --purge sstore
find "$tree" -xdev | sort >"$work/after"
grep -v -e '/sstore_[^/]*\.deb$' "$work/before" | comm -13 - "$work/after" |
    grep -v -e '/var/lib/dpkg/' -e '/var/log/' -e '/var/cache/' -e "^$tree/run/" >"$work/left" || :
[ ! -s "$work/left" ] || fail "what was purged leaves: $(tr '\n' ' ' <"$work/left")"

# 2. The libraries, used by programs in C and C++.
clean_tree programmer "libsessionstore$abi" libsessionstore-dev
run sh -c 'dpkg --install /*.deb'
cp -r tests/consumer "$tree/consumer"
in_tree sh /consumer/use.sh /usr /used >"$work/last.log" 2>&1 || {
    cat "$work/last.log" >&2
    fail "programs cannot be built with the installed packages."
}
cat "$work/last.log"
# Whoever only runs programs needs the one package.
run dpkg --remove libsessionstore-dev
run /used/shared
echo "test-deb: $(cd "$packages" && echo ./*.deb) installed in clean trees of Debian $release, and used"
