//! Random ids, for the server and the client alike.

#[cfg(feature = "client")]
use crate::core::secret::Secret;
use crate::{Error, ErrorCode};

/// A secret for this peer to come back with.
///
/// Errors: `OUT_OF_RESOURCES` when the system gives no random bytes.
#[cfg(feature = "client")]
pub(crate) fn secret() -> Result<Secret, Error> {
    random().map(Secret::new)
}

/// A random UUID (version 4) as text: 36 characters.
///
/// Errors: `OUT_OF_RESOURCES` when the system gives no random bytes.
pub(crate) fn uuid() -> Result<String, Error> {
    let mut bytes = random()?;
    // Version and variant: RFC 9562, section 5.4.
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

fn random() -> Result<[u8; 16], Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorCode::OutOfResources, "the system gives no random bytes"))?;
    Ok(bytes)
}
