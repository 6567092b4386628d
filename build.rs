//! What the shared library needs of the linker, and the server that `make conformance` builds.

/// The one number of the ABI: it changes when a program compiled against an older header would
/// break, and never otherwise.
const ABI: u32 = 0;

/// Makes a server that says again what it is told; see `ECHOES` in src/frames.rs.
const CONFORMANCE: &str = "SESSIONSTORE_BUILD_FOR_CONFORMANCE";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={CONFORMANCE}");
    if std::env::var_os(CONFORMANCE).is_some() {
        println!("cargo:rustc-cfg=sessionstore_echo");
    }
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arguments: Vec<String> = match os.as_str() {
        "linux" => vec![
            format!("-Wl,-soname,libsessionstore.so.{ABI}"),
            // Threads and thread-local data outlive dlclose().
            "-Wl,-z,nodelete".into(),
            // Also loads where pages are 16 KB.
            "-Wl,-z,max-page-size=16384".into(),
        ],
        // Android looks libraries up by their plain name.
        "android" => {
            vec!["-Wl,-soname,libsessionstore.so".into(), "-Wl,-z,nodelete".into(), "-Wl,-z,max-page-size=16384".into()]
        }
        "macos" | "ios" => vec![format!("-Wl,-install_name,@rpath/libsessionstore.{ABI}.dylib")],
        _ => vec![],
    };
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}
