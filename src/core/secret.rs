//! Secrets by which a peer comes back as itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret that a client has drawn and says when it joins: from then on, only who says it too is this peer. 128
/// random bits, as many as the peer ids that they guard have. It is shown by no [`Debug`](fmt::Debug).
///
/// ```
/// use sessionstore::core::secret::Secret;
/// let secret = Secret::new([7; 16]);
/// assert_eq!(Secret::parse(&secret.to_hex()), Some(secret));
/// assert_eq!(format!("{secret:?}"), "Secret");
/// ```
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Secret([u8; 16]);

impl Secret {
    /// A secret of random bytes, which the caller has drawn.
    pub fn new(random: [u8; 16]) -> Secret {
        Secret(random)
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Secret> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|number| Secret(number.to_be_bytes()))
    }

    /// As 32 hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Takes as long whichever bits differ, so that how long a refusal takes tells nothing.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        std::hint::black_box(u128::from_be_bytes(self.0) ^ u128::from_be_bytes(other.0)) == 0
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
