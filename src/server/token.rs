//! Tokens: HS256 JSON Web Tokens that name the room, the user and the role.
//!
//! The signature is compared in constant time: jsonwebtoken computes the right one and compares the two by
//! `ring::constant_time::verify_slices_are_equal`, so how long a refusal takes says nothing about the right
//! signature or the secret.
//!
//! Servers only verify. For the shell, and for those who have no application yet, [`sign`] makes tokens.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::options::TOKEN_LEEWAY_S;
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Time;

/// What a token says.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// The room it opens.
    pub room_id: String,
    /// Who the user is.
    pub user_id: String,
    /// The role in the room.
    pub role: String,
    /// Seconds since 1970.
    #[serde(deserialize_with = "numeric_date")]
    exp: u64,
}

/// What a token says of one who joins an open server, where nobody signs anything.
#[derive(Debug, Deserialize)]
pub struct OpenClaims {
    /// The room it is for.
    pub room_id: String,
    /// Who the user says it is; may be left out.
    #[serde(default)]
    pub user_id: String,
    /// The role it wants; may be left out.
    pub role: Option<String>,
}

impl OpenClaims {
    /// Reads the claims, whoever signed them; `UNAUTHORIZED` if there are none.
    pub fn read(token: &str) -> Result<OpenClaims, Error> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.insecure_disable_signature_validation();
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let read = jsonwebtoken::decode(token, &DecodingKey::from_secret(&[]), &validation);
        read.map(|token| token.claims).map_err(|_| refused("the token is not a JSON Web Token with the claim room_id"))
    }
}

impl Claims {
    /// When a connection with this token ends.
    pub fn expires_at(&self) -> Time {
        self.exp.saturating_add(TOKEN_LEEWAY_S).saturating_mul(1_000)
    }
}

/// Whole seconds of a time as tokens have it: RFC 7519 lets a NumericDate have a fraction.
pub fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole =
        number.as_u64().or_else(|| number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64));
    whole.ok_or_else(|| D::Error::custom("a time before 1970"))
}

/// Checks tokens against one secret.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    /// A verifier for tokens that are signed with this secret.
    pub fn new(secret: &str) -> Verifier {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = TOKEN_LEEWAY_S;
        validation.validate_nbf = true;
        // Whom else a token is for is the business of who made it: what counts here is that it is signed for this server.
        validation.validate_aud = false;
        Verifier { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// The claims of a valid token; `TOKEN_EXPIRED` or `UNAUTHORIZED`. Neither repeats the token.
    pub fn verify(&self, token: &str) -> Result<Claims, Error> {
        self.verify_as(
            token,
            "the token lacks one of the claims room_id, user_id, role, exp, or one has the wrong type",
        )
    }

    /// The same for other claims; `lacking` says which are needed.
    pub fn verify_as<C: DeserializeOwned>(&self, token: &str, lacking: &'static str) -> Result<C, Error> {
        match jsonwebtoken::decode::<C>(token, &self.key, &self.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::ExpiredSignature => ErrorCode::TokenExpired.into(),
                ErrorKind::ImmatureSignature => refused("the token is not valid yet"),
                ErrorKind::InvalidSignature => refused("the token is signed with another secret"),
                ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => refused("the token is not HS256"),
                ErrorKind::MissingRequiredClaim(_) => refused("the token has no exp claim, or one that is no time"),
                // Of algorithms that there are, `none` among them, the library knows some only.
                ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_err() => refused("the token is not HS256"),
                ErrorKind::Json(_) => refused(lacking),
                _ => refused("the token is not a JSON Web Token"),
            }),
        }
    }
}

/// A token with these claims.
///
/// Web clients of the hosted original read the claims as plain base64, in which `-` and `_` do not occur. They come of
/// bytes beyond ASCII, and of `>`, `?`, `~` and DEL; so those are escaped in the JSON.
#[cfg(feature = "cli")]
pub(crate) fn sign(secret: &str, claims: &serde_json::Value) -> Result<String, Error> {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::value::RawValue;
    let internal = |_| Error::from(ErrorCode::Internal);
    let claims = claims.to_string();
    let mut escaped = String::new();
    for unit in claims.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() && !b">?~\x7f".contains(&byte) => escaped.push(byte.into()),
            _ => escaped += &format!("\\u{unit:04x}"),
        }
    }
    let claims = RawValue::from_string(escaped).map_err(internal)?;
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|_| ErrorCode::Internal.into())
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorCode::Unauthorized, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{encode, EncodingKey, Header};
    use serde_json::json;

    fn token(secret: &str, algorithm: Algorithm, claims: serde_json::Value) -> String {
        encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("encoded")
    }

    fn verify(token: &str) -> Result<Claims, Error> {
        Verifier::new("right").verify(token)
    }

    const FAR: u64 = 4_000_000_000;

    #[cfg(feature = "cli")]
    #[test]
    fn signs_what_it_takes_in_plain_base64() {
        for name in ["lobby", ">?~", "\u{7f}\"\\", "Zoë 🎲 ÿÿÿ???"] {
            for shift in ["", "x", "xx"] {
                let name = format!("{shift}{name}");
                let claims = json!({"room_id": name, "user_id": name, "role": "host", "exp": FAR});
                let token = sign("right", &claims).expect("signed");
                let claims = verify(&token).expect("good");
                assert_eq!((&*claims.room_id, &*claims.user_id, &*claims.role), (&*name, &*name, "host"));
                let payload = token.split('.').nth(1).expect("claims");
                assert!(payload.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}: {payload}");
            }
        }
    }

    #[test]
    fn times_may_have_a_fraction() {
        for exp in [json!(FAR), json!(4e9), json!(4_000_000_000.999)] {
            let claims = json!({"room_id": "r", "user_id": "u", "role": "host", "exp": exp, "nbf": 1.5});
            let claims = verify(&token("right", Algorithm::HS256, claims)).expect("good");
            assert_eq!(claims.expires_at(), (FAR + TOKEN_LEEWAY_S) * 1_000, "{exp}");
        }
        let expired = json!({"room_id": "r", "user_id": "u", "role": "host", "exp": 1_000.5});
        assert_eq!(verify(&token("right", Algorithm::HS256, expired)).expect_err("refused"), ErrorCode::TokenExpired);
    }

    #[test]
    fn takes_a_good_token_and_says_what_is_wrong_with_others() {
        let good = json!({"room_id": "r", "user_id": "u", "role": "host", "exp": FAR, "other": 1, "aud": "x"});
        let claims = verify(&token("right", Algorithm::HS256, good.clone())).expect("good");
        assert_eq!((&*claims.room_id, &*claims.user_id, &*claims.role), ("r", "u", "host"));

        let mut bad = vec![
            token("wrong", Algorithm::HS256, good.clone()),
            token("right", Algorithm::HS512, good.clone()),
            token("right", Algorithm::HS256, json!({"room_id": "r", "user_id": "u", "exp": FAR})),
            token("right", Algorithm::HS256, json!({"room_id": "r", "user_id": "u", "role": "r"})),
            token(
                "right",
                Algorithm::HS256,
                json!({"room_id": "r", "user_id": "u", "role": "r", "exp": FAR, "nbf": FAR}),
            ),
            String::new(),
            "a.b.c".into(),
        ];
        // The unsigned kind: {"alg":"none"} with the same claims.
        let signed = token("right", Algorithm::HS256, good);
        let claims = signed.split('.').nth(1).unwrap_or_default();
        bad.push(format!("eyJhbGciOiJub25lIn0.{claims}."));
        for bad in bad {
            assert_eq!(verify(&bad).expect_err("refused"), ErrorCode::Unauthorized, "{bad}");
        }
        let claims = |exp: serde_json::Value| json!({"room_id": "r", "user_id": "u", "role": "host", "exp": exp});
        for wrong in [json!("4000000000"), json!(-1), json!(-0.5), json!(null), json!([FAR])] {
            let error = verify(&token("right", Algorithm::HS256, claims(wrong))).expect_err("refused");
            assert_eq!(error, ErrorCode::Unauthorized);
            assert!(error.message().ends_with("exp, or one has the wrong type"), "{error}");
        }
        let expired = claims(json!(1_000));
        assert_eq!(verify(&token("right", Algorithm::HS256, expired)).expect_err("refused"), ErrorCode::TokenExpired);
    }
}
