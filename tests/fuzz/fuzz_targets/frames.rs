//! The frame decoder: bytes as a client or a server might send them, whole and cut in pieces. Where
//! the cuts are must make no difference, and no message is larger than allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sessionstore::frames::decode_all;

/// Small, so that the limit is met often.
const MAX_MESSAGE: usize = 300;

fuzz_target!(|data: &[u8]| {
    // The first byte says whose bytes they are, and how long the pieces are.
    let Some((&length, bytes)) = data.split_first() else { return };
    let from_server = length >= 128;
    let whole = decode_all(from_server, &[bytes], MAX_MESSAGE);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(length % 64) + 1).collect();
    let cut = decode_all(from_server, &pieces, MAX_MESSAGE);
    assert_eq!(whole.1, cut.1, "the same bytes are refused or not");
    assert_eq!(whole.0, cut.0, "and say the same before that");
    for event in whole.0.iter().filter_map(|event| event.strip_prefix("Text(\"")) {
        // Debug text escapes a byte as at most ten.
        assert!(event.len() <= MAX_MESSAGE * 10, "a message beyond the limit");
    }
});
