#!/bin/sh
# Makes CSessionStore.xcframework beside Package.swift: the library for macOS, iOS and its simulator, as dynamic
# frameworks, because two static libraries of Rust in one app would clash. CLIENT_ONLY=1 makes the small build for
# phones, which has no server; the Swift package then has no `Server`.
#
# It needs a Mac with Xcode and rustup. The project's tests run on Linux: there this script is only checked for its
# syntax, it was never run.
# usage: xcframework.sh
set -eu

fail() {
    echo "xcframework: $*" >&2
    exit 1
}
[ "$(uname)" = Darwin ] || fail "this needs a Mac: frameworks are made by Xcode's tools."
for tool in cargo rustup xcodebuild lipo install_name_tool; do
    command -v "$tool" >/dev/null || fail "$tool is missing."
done

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
out=$project/build/xcframework
features=client,server,tls12,durable
profile=release
# Optimized for size; docs/size.md.
[ "${CLIENT_ONLY:-0}" = 0 ] || { features=client,tls profile=phone; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$project/Cargo.toml" | head -n 1)
# As in Package.swift.
export MACOSX_DEPLOYMENT_TARGET=13.0 IPHONEOS_DEPLOYMENT_TARGET=16.0

# A framework of the libraries for some targets: NAME MINIMUM TARGET...
framework() {
    name=$1
    minimum=$2
    shift 2
    libraries=
    for target in "$@"; do
        rustup target add "$target"
        # One kind of library only: as a Rust library too it would not be optimized as a whole.
        cargo rustc --manifest-path "$project/Cargo.toml" --locked --profile "$profile" --lib --crate-type cdylib \
            --target-dir "$project/target/xcframework" --target "$target" --no-default-features --features "$features"
        libraries="$libraries $project/target/xcframework/$target/$profile/libsessionstore.dylib"
    done
    bundle=$out/$name/CSessionStore.framework
    inside=$bundle
    info=$bundle
    library=@rpath/CSessionStore.framework/CSessionStore
    if [ "$name" = macos ]; then
        # Frameworks of macOS have versions.
        inside=$bundle/Versions/A
        info=$inside/Resources
        library=@rpath/CSessionStore.framework/Versions/A/CSessionStore
    fi
    mkdir -p "$inside/Headers" "$inside/Modules" "$info"
    # shellcheck disable=SC2086 # One library a word.
    lipo -create $libraries -output "$inside/CSessionStore"
    install_name_tool -id "$library" "$inside/CSessionStore"
    cp "$project/include/sessionstore.h" "$inside/Headers/"
    printf 'framework module CSessionStore [system] {\n    header "sessionstore.h"\n    export *\n}\n' \
        >"$inside/Modules/module.modulemap"
    cat >"$info/Info.plist" <<END_OF_PLIST
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>CFBundleExecutable</key><string>CSessionStore</string>
    <key>CFBundleIdentifier</key><string>sessionstore.CSessionStore</string>
    <key>CFBundleName</key><string>CSessionStore</string>
    <key>CFBundlePackageType</key><string>FMWK</string>
    <key>CFBundleShortVersionString</key><string>$version</string>
    <key>CFBundleVersion</key><string>$version</string>
    <key>MinimumOSVersion</key><string>$minimum</string>
</dict>
</plist>
END_OF_PLIST
    if [ "$name" = macos ]; then
        ln -s A "$bundle/Versions/Current"
        for part in CSessionStore Headers Modules Resources; do ln -s "Versions/Current/$part" "$bundle/$part"; done
    fi
    frameworks="$frameworks -framework $bundle"
}

rm -rf "$out"
frameworks=
framework macos 13.0 aarch64-apple-darwin x86_64-apple-darwin
framework ios 16.0 aarch64-apple-ios
framework simulator 16.0 aarch64-apple-ios-sim x86_64-apple-ios
rm -rf "$here/CSessionStore.xcframework"
# shellcheck disable=SC2086 # One argument a word.
xcodebuild -create-xcframework $frameworks -output "$here/CSessionStore.xcframework"
[ "${CLIENT_ONLY:-0}" = 0 ] || : >"$here/CSessionStore.xcframework/client-only"
echo "xcframework: $here/CSessionStore.xcframework is made."
