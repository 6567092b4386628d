//! WebSocket frames of a client. The decoder is the server's own business, so its source is read
//! from where it is rather than made public for this.

use std::hint::black_box;
use std::ops::ControlFlow;

use sessionstore::core::wire;

use super::{text, Cases, Work, KEY, VALUE_BYTES};

#[allow(dead_code)]
#[path = "../../src/frames.rs"]
mod frames;

pub const CASES: Cases =
    &[("decode a frame with a set", || decoding(1)), ("decode 64 frames of one read", || decoding(64))];

/// As the server's default has it.
const MAX_MESSAGE_BYTES: usize = 64 * 1_024;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn decoding(count: usize) -> Work {
    let mut request = Vec::new();
    wire::write_set(&mut request, 12_345, KEY, &text(VALUE_BYTES), None);
    let length = u16::try_from(request.len()).expect("a short message");
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&MASK);
    frame.extend(request.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    let bytes = frame.repeat(count);
    // A read brings new bytes each time; decoding unmasks them where they lie.
    let (mut buffer, mut decoder) = (bytes.clone(), frames::Decoder::default());
    Box::new(move || {
        buffer.copy_from_slice(&bytes);
        let mut found = 0;
        let decoded = decoder.decode(black_box(&mut buffer), MAX_MESSAGE_BYTES, &mut |event| {
            found += usize::from(matches!(event, frames::Event::Text(_)));
            ControlFlow::Continue(())
        });
        assert_eq!((found, decoded), (count, Ok(bytes.len())));
        found
    })
}
