//! Signatures by the Standard Webhooks specification, which its libraries in many languages verify.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use ring::hmac;

use crate::core::error::{Error, ErrorCode};
use crate::server::options::{MAX_WEBHOOK_SECRETS, WEBHOOK_SECRET_BYTES};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Signs with each of its secrets.
pub(super) struct Signer(Vec<hmac::Key>);

impl Signer {
    /// Takes secrets with white space between them. What is wrong is told without quoting any.
    pub fn new(secrets: &str) -> Result<Signer, Error> {
        let keys: Vec<hmac::Key> = secrets.split_whitespace().map(key).collect::<Result<_, _>>().map_err(invalid)?;
        match keys.len() {
            0 => Err(invalid("is empty; receivers would have no way to know who calls")),
            count if count > MAX_WEBHOOK_SECRETS => Err(invalid("has more than four secrets in it")),
            _ => Ok(Signer(keys)),
        }
    }

    /// The header `webhook-signature` of a message that is sent at this time, in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let sign = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, format!("the webhooks' secret {why}"))
}

fn key(secret: &str) -> Result<hmac::Key, &'static str> {
    let encoded = secret.strip_prefix(PREFIX).ok_or("does not begin with whsec_")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "is not whsec_ and base64")?;
    if !WEBHOOK_SECRET_BYTES.contains(&bytes.len()) {
        return Err("has fewer than 24 or more than 64 bytes behind whsec_");
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and of its libraries' tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(secrets: &str, body: &str) -> String {
        let signer = Signer::new(secrets).expect("a secret");
        signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body.as_bytes())
    }

    #[test]
    fn signs_as_the_specification_does() {
        assert_eq!(sign(SECRET, r#"{"test": 2432232314}"#), SIGNATURE);
        assert_ne!(sign(SECRET, r#"{"test": 2432232315}"#), SIGNATURE);
    }

    #[test]
    fn signs_with_each_secret_while_they_are_changed() {
        let newer = format!("whsec_{}", STANDARD.encode([7; 32]));
        let both = sign(&format!("{newer}\n{SECRET}"), r#"{"test": 2432232314}"#);
        let parts: Vec<&str> = both.split(' ').collect();
        assert!(parts.len() == 2 && parts[1] == SIGNATURE && parts[0] != SIGNATURE, "{both}");
    }

    #[test]
    fn bad_secrets_are_refused_and_not_quoted() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        let five = vec![of(24); 5].join(" ");
        for (secret, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("hunter2hunter2hunter2hunter2hunter2", "whsec_"),
            ("whsec_hunter2?", "base64"),
            (&of(23), "24"),
            (&of(65), "64"),
            (&five, "four"),
        ] {
            let error = Signer::new(secret).map(drop).expect_err("refused");
            let said = error.message();
            assert!(error == ErrorCode::InvalidConfig && said.contains(why) && !said.contains("hunter2"), "{said}");
        }
        assert!(Signer::new(&of(24)).is_ok() && Signer::new(&of(64)).is_ok());
    }
}
