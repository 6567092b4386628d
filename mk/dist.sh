#!/bin/sh
# Makes the archive that users download, of what is built: mk/dist.sh DIRECTORY TARGET
# What is in it is in a fixed order, with the time of the last commit and without owners: the same tree built twice
# with the same compiler gives the same archive.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$top"

fail() {
    echo "dist: $*" >&2
    exit 1
}
git rev-parse --git-dir >/dev/null 2>&1 || fail "what belongs into the archive is what git knows of; this is no checkout."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
name=sessionstore-$version-$2
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --pretty=%ct)}

rm -rf "${out:?}/$name" "$out/$name.tar.gz" "$out/$name.tar.gz.sha256"
make --no-print-directory install-strip CARGO=: DESTDIR="$out" PREFIX="/$name"
# Beside it what the tree has for users, at the places where its pages look for each other.
git ls-files -z -- README.md LICENSE CHANGELOG.md ABI.md CONTRIBUTING.md docs bindings |
    tar --create --null --files-from=- | tar --extract --directory "$out/$name"
tar --create --directory "$out" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --format=ustar "$name" | gzip -9 --no-name >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
rm -rf "${out:?}/$name"
echo "$out/$name.tar.gz"
