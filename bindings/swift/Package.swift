// swift-tools-version: 5.9
import PackageDescription
#if canImport(Foundation)
import Foundation
#endif

// On Apple's systems the library comes as an XCFramework, which xcframework.sh puts beside this file; elsewhere it is
// one of the system's, found by pkg-config.
let xcframework = "CSessionStore.xcframework"
let library: Target =
    FileManager.default.fileExists(atPath: "\(Context.packageDirectory)/\(xcframework)")
    ? .binaryTarget(name: "CSessionStore", path: xcframework)
    : .systemLibrary(name: "CSessionStore", pkgConfig: "sessionstore")

// What language mode 5 does not check by itself. And a library without a server has no `Server`.
let clientOnly = FileManager.default.fileExists(atPath: "\(Context.packageDirectory)/\(xcframework)/client-only")
let strict: [SwiftSetting] =
    [.enableExperimentalFeature("StrictConcurrency")] + (clientOnly ? [.define("SESSIONSTORE_CLIENT_ONLY")] : [])

let package = Package(
    name: "SessionStore",
    platforms: [.macOS(.v13), .iOS(.v16), .tvOS(.v16), .watchOS(.v9)],
    products: [
        .library(name: "SessionStore", targets: ["SessionStore"]),
        .library(name: "SessionStoreCompatibility", targets: ["SessionStoreCompatibility"]),
    ],
    targets: [
        library,
        .target(name: "SessionStore", dependencies: ["CSessionStore"], swiftSettings: strict),
        .target(name: "SessionStoreCompatibility", dependencies: ["SessionStore"], swiftSettings: strict),
        .executableTarget(name: "everyone", dependencies: ["SessionStore"], swiftSettings: strict),
        .testTarget(
            name: "SessionStoreTests", dependencies: ["SessionStore", "SessionStoreCompatibility", "CSessionStore"],
            swiftSettings: strict),
    ],
    swiftLanguageVersions: [.v5, .version("6")]
)
