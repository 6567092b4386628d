//! The end of a journal's log, as it is looked through before SQLite reads it: never more is missed than is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::server::wal;

fuzz_target!(|data: &[u8]| {
    let check = wal::check_log(&mut &*data).expect("memory can be read");
    // A frame that ends too early counts as a whole one.
    assert!(check.dropped <= data.len() as u64 + 65_536 + 24, "{check:?}");
    assert!(check.dropped > 0 || !check.is_damaged, "{check:?}");
});
