//! A token, as it is; and a header and claims, each on a line, as somebody would sign them who has the secret. Without
//! the secret nobody is let in, and whatever is signed is taken or refused with a sentence that does not repeat it.
#![no_main]

use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use sessionstore::server::token::{OpenClaims, Verifier};
use sessionstore::ErrorCode;

const SECRET: &str = "a secret that the input does not have";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let verifier = Verifier::new(SECRET);
    let refused = verifier.verify(text).err().expect("nobody else can sign");
    assert!(refused == ErrorCode::Unauthorized || refused == ErrorCode::TokenExpired, "{refused}");

    // On an open server nobody signs; what has no room is no token.
    match OpenClaims::read(text) {
        Ok(_) => assert!(text.split('.').count() == 3, "{text}"),
        Err(error) => assert_eq!(error, ErrorCode::Unauthorized),
    }

    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, text));
    let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
    match verifier.verify(&format!("{message}.{signature}")) {
        Ok(taken) => {
            assert!(header.contains("HS256"), "{header}");
            assert!(taken.expires_at() > 0);
        }
        Err(error) => {
            assert!(error == ErrorCode::Unauthorized || error == ErrorCode::TokenExpired, "{error}");
            // Claims have a brace, and no sentence has one: without it the input may be just what a sentence says.
            assert!(!claims.contains('{') || !error.message().contains(claims), "{error}");
        }
    }
});
