#!/bin/sh
# Builds and tests the Swift package in language modes 5 and 6, and the Swift of the pages in docs, with the library in
# DIRECTORY: test.sh DIRECTORY. `test.sh DIRECTORY everyone` only builds that program, `test.sh DIRECTORY docs` makes the
# reference.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
cd "$project"
scratch=build/swift

fail() {
    echo "swift: $*" >&2
    exit 1
}
[ -f "$1/libsessionstore.so" ] || fail "there is no libsessionstore.so in $1."

# The library as programs find it, alone, so that nothing else is found beside it.
lib=$project/$scratch/lib
mkdir -p "$lib"
soname=$(readelf -d "$1/libsessionstore.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
cp "$1/libsessionstore.so" "$lib/libsessionstore.so.new"
mv "$lib/libsessionstore.so.new" "$lib/$soname"
ln -sf "$soname" "$lib/libsessionstore.so"

# $1: command, $2: language mode; then more for the command
swift() {
    command=$1
    mode=$2
    shift 2
    # 6 is what the package asks for where there is a compiler for it, and its tests check that it is so.
    [ "$mode" = 6 ] || set -- "$@" -Xswiftc -swift-version -Xswiftc "$mode"
    SESSIONSTORE_LANGUAGE_MODE=$mode sh mk/swift.sh swift "$command" --scratch-path "$scratch/$mode" \
        -Xswiftc -warnings-as-errors -Xlinker "-L$lib" -Xlinker -rpath -Xlinker "$lib" "$@"
}

# The reference of both modules; a link in a comment that leads nowhere fails it.
reference() {
    rm -rf "$scratch/reference" "$scratch/docs"
    mkdir -p "$scratch/reference/symbols" "$scratch/docs"
    for module in SessionStore SessionStoreCompatibility; do
        mkdir -p "$scratch/reference/symbols/$module"
        sh mk/swift.sh swiftc -swift-version 6 -package-name sessionstore -module-name "$module" -parse-as-library \
            -I bindings/swift/Sources/CSessionStore -I "$scratch/reference" -emit-module \
            -o "$scratch/reference/$module.swiftmodule" -emit-symbol-graph \
            -emit-symbol-graph-dir "$scratch/reference/symbols/$module" "bindings/swift/Sources/$module"/*.swift
        # It is beside the compiler, which need not be on the PATH of whoever has it.
        sh mk/swift.sh sh -c 'exec "$(dirname "$(readlink -f "$(command -v swift)")")/docc" "$@"' docc convert \
            --fallback-display-name "$module" --fallback-bundle-identifier sessionstore \
            --additional-symbol-graph-dir "$scratch/reference/symbols/$module" --warnings-as-errors \
            --output-path "$scratch/docs/$module"
    done
}

case ${2:-test} in
test) ;;
everyone)
    swift build 6 --package-path bindings/swift --product everyone
    exit
    ;;
docs)
    reference
    exit
    ;;
*) fail "what is $2?" ;;
esac

# An authority, a server's and a client's certificate, for this machine.
certificates=$scratch/certificates
mkdir -p "$certificates"
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
        -keyout "$certificates/ca.key" -out "$certificates/ca.pem"
    for name in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
            -keyout "$certificates/$name.key" -out "$certificates/$name.csr"
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' \
            >"$certificates/$name.ext"
        openssl x509 -req -in "$certificates/$name.csr" -CA "$certificates/ca.pem" -CAkey "$certificates/ca.key" \
            -CAcreateserial -days 2 -extfile "$certificates/$name.ext" -out "$certificates/$name.pem"
    done
} >"$certificates/openssl.log" 2>&1 || fail "no certificates could be made; see $certificates/openssl.log."

sh -n bindings/swift/xcframework.sh

reference

# With a library that has no server.
sh mk/swift.sh swiftc -typecheck -swift-version 6 -package-name sessionstore -module-name SessionStore \
    -I bindings/swift/Sources/CSessionStore -DSESSIONSTORE_CLIENT_ONLY bindings/swift/Sources/SessionStore/*.swift

for mode in 5 6; do
    swift test "$mode" --package-path bindings/swift
done

# The guide's program, as a package of its own, together with what the page for users of the original shows.
guide=$scratch/guide
rm -rf "$guide"
mkdir -p "$guide"
awk -v guide="$guide" '
    /^<!-- file: .* -->$/ { file = guide "/" $3; next }
    /^<!-- output -->$/ { file = guide "/expected.txt"; next }
    /^```/ {
        if (writing) { file = ""; writing = 0 }
        else if (file != "") {
            writing = 1
            directory = file
            sub("/[^/]*$", "", directory)
            system("mkdir -p \"" directory "\"")
        }
        next
    }
    writing { print >>file }
' docs/swift.md docs/coming-from-the-original.md
sed -i "s|path/to/sessionstore|$project|" "$guide/Package.swift"
swift build 6 --package-path "$guide" -Xswiftc -swift-version -Xswiftc 6
sh mk/swift.sh "$scratch/6/debug/Lobby" >"$guide/output.txt" || fail "the program of docs/swift.md failed."
# Whether Ada listens before Bob comes is nobody's promise.
for text in expected output; do grep -v '^spotlight: nobody$' "$guide/$text.txt" >"$guide/$text.compared"; done
diff "$guide/expected.compared" "$guide/output.compared" || fail "docs/swift.md prints something else than it says."
echo "swift: the package passed in language modes 5 and 6, and so did docs/swift.md."
