//! C programs, compiled against the shared library that was built with the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with the shared library under the name that programs look for.
fn library() -> PathBuf {
    let built = std::env::current_exe().expect("this test").parent().expect("its directory").to_owned();
    let (built, name) = match cfg!(target_os = "macos") {
        true => (built.join("libsessionstore.dylib"), "libsessionstore.0.dylib"),
        false => (built.join("libsessionstore.so"), "libsessionstore.so.0"),
    };
    assert!(built.exists(), "{} was not built", built.display());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compiled-library-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    // Another test of this process may have made them already.
    let _ = std::os::unix::fs::symlink(&built, directory.join(name));
    let _ = std::os::unix::fs::symlink(&built, directory.join(built.file_name().expect("a name")));
    directory
}

/// Compiles a C program against the shared library.
pub fn compile(source: &Path, name: &str) -> PathBuf {
    let (library, program) = (library(), Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    cc.arg("-o").arg(&program).arg(source).arg("-L").arg(&library).arg("-lsessionstore");
    cc.arg(format!("-Wl,-rpath,{}", library.display()));
    let ended = cc.output().expect("a C compiler");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    program
}
