//! Random ids, for the server and the client alike.

/// A random UUID (version 4) as text: 36 characters.
///
/// Errors: `OUT_OF_RESOURCES` when the system gives no random bytes.
pub(crate) fn uuid() -> Result<String, crate::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| crate::Error::new(crate::ErrorCode::OutOfResources, "the system gives no random bytes"))?;
    // Version and variant, RFC 9562 section 5.4.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = |range: std::ops::Range<usize>| bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)))
}
