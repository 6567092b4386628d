#!/bin/sh
# Installs SessionStore, moves what was installed to another place, and builds programs there that know nothing of
# this tree: by CMake and by pkg-config, with the shared and with the static library, in C and C++.
# usage: tests/consumer/run.sh DIRECTORY, which is emptied first; run by `make test-install`
set -eu

fail() {
    echo "test-install: $*" >&2
    exit 1
}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
rm -rf "$1"
mkdir -p "$1"
work=$(cd "$1" && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml" | head -n 1)

# What is built already is installed, as root would do it.
make_install() {
    make -C "$top" --no-print-directory "$@" CARGO=: PREFIX=/opt/sessionstore DESTDIR="$work/stage" >"$work/make.log" 2>&1 || {
        cat "$work/make.log" >&2
        fail "make $* failed."
    }
}
run() {
    "$@" >"$work/last.log" 2>&1 || {
        cat "$work/last.log" >&2
        fail "this failed: $*"
    }
}

make_install install-strip

# 1. Everything is there, and nothing else.
(cd "$work/stage" && find . -type f -o -type l) | sort >"$work/files"
for file in include/sessionstore.h lib/libsessionstore.a lib/libsessionstore.so lib/libsessionstore.so.0 \
    "lib/libsessionstore.so.$version" lib/pkgconfig/sessionstore.pc lib/cmake/SessionStore/SessionStoreConfig.cmake \
    lib/cmake/SessionStore/SessionStoreConfigVersion.cmake bin/sstore share/man/man1/sstore.1 \
    share/man/man1/sstore-serve.1 share/bash-completion/completions/sstore share/zsh/site-functions/_sstore \
    share/fish/vendor_completions.d/sstore.fish share/doc/sessionstore/LICENSE share/doc/sessionstore/licences.txt; do
    grep -qxF "./opt/sessionstore/$file" "$work/files" || fail "$file was not installed."
done
grep -v '^\./opt/sessionstore/\(share/man/man1/sstore-[a-z-]*\.1\|include/sessionstore\.hpp\)$' "$work/files" >"$work/others"
[ "$(wc -l <"$work/others")" -eq 15 ] || fail "these and no more were to be installed: $(tr '\n' ' ' <"$work/others")"
sh "$top/tests/c/library.sh" "$work/stage/opt/sessionstore/lib" "$work/stage/opt/sessionstore/include" >/dev/null

# 2. What is taken away again is all of it; what is others' stays.
echo theirs >"$work/stage/opt/sessionstore/lib/theirs"
make_install uninstall
left=$(cd "$work/stage" && find . -type f -o -type l)
[ "$left" = ./opt/sessionstore/lib/theirs ] || fail "after \`make uninstall\` there should be one file of others, but there are: $left"
make_install install-strip
rm "$work/stage/opt/sessionstore/lib/theirs"

# 3. Moved to where nothing knows of.
mkdir -p "$work/moved"
mv "$work/stage/opt/sessionstore" "$work/moved/here"
prefix=$work/moved/here
! grep -rIlF "$work/stage" "$prefix" >"$work/last.log" || fail "these say where they were installed: $(cat "$work/last.log")"
! grep -rlF /opt/sessionstore "$prefix" >"$work/last.log" || fail "these say where they were installed: $(cat "$work/last.log")"

# The program and its manual.
[ "$("$prefix/bin/sstore" --version)" = "sstore $version" ] || fail "sstore is of another version than $version."
for page in "$prefix"/share/man/man1/*.1; do
    man --warnings --encoding=UTF-8 --local-file "$page" 2>"$work/warnings" >"$work/page" || fail "$page is none."
    grep -q SYNOPSIS "$work/page" || fail "$page has no synopsis."
    # Long words are not wrong.
    ! grep -v "can't break line" "$work/warnings" || fail "of $page man says this."
done
run bash -c 'source "$1" && complete -p sstore && COMP_WORDS=(sstore wat) COMP_CWORD=1 && _sstore sstore wat sstore &&
    [ "${COMPREPLY[*]}" = watch ]' bash "$prefix/share/bash-completion/completions/sstore"
for shell in zsh fish; do
    for file in "$prefix"/share/$shell/*/*sstore*; do
        grep -q transact "$file" && ! grep -q bench-floor "$file" || fail "$file has not the subcommands that it should."
        # Where the shell is, it says whether it understands the file.
        ! command -v $shell >/dev/null || run $shell -n "$file"
    done
done

# 4. The programs, with both libraries, and where there is only the static one.
sh "$here/use.sh" "$prefix" "$work/both"
rm "$prefix"/lib/libsessionstore.so*
sh "$here/use.sh" "$prefix" "$work/only-static" static
