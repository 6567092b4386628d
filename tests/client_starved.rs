//! A client for which the system has no thread is refused, wherever it is opened. Alone in its process, which is begun again
//! with little memory.
#![cfg(target_os = "linux")]

use std::process::Command;

use sessionstore::{Client, ClientOptions, ErrorCode};

const STARVED: &str = "SESSIONSTORE_TEST_STARVED";

#[test]
fn without_a_thread_a_client_is_refused_also_within_a_runtime() {
    let name = "without_a_thread_a_client_is_refused_also_within_a_runtime";
    if std::env::var_os(STARVED).is_none() {
        let own = std::env::current_exe().expect("this program");
        let again = Command::new(own).args([name, "--exact", "--nocapture"]).env(STARVED, "1").output().expect("runs");
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("this process has memory");
        let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
        // Less than a thread's stack on top of what there is.
        let most = pages * 4_096 + 1_000_000;
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a struct of numbers, which the system reads.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let refused = Client::open(ClientOptions::new("ws://127.0.0.1:1", "room"), ());
        assert_eq!(refused.map(drop).unwrap_err(), ErrorCode::OutOfResources);
    });
}
