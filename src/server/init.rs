//! `GET /init`: what the hosted original's web client asks before it connects.
//!
//! It is told where the WebSocket is, and that it need not offer media. What it refuses, it refuses with a status and a
//! JSON body that pages of any origin may read: to everything else, that client gives its page no answer at all.

use serde_json::json;

use super::handshake::{bearer, DEFAULT_ROLE};
use super::http::{self, Head, Response};
use super::origin::Origins;
use super::token::{OpenClaims, Verifier};
use crate::core::error::{Error, ErrorCode};
use crate::core::names;

/// The value of the query parameter `dialect` of those who were sent here.
pub(super) const DIALECT: &str = "original";

/// Where the WebSocket is, as clients see it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Scheme, host, and the path before `/ws`; none: the host that a request was sent to.
    public: Option<String>,
    scheme: &'static str,
}

impl Endpoint {
    /// Reads what an administrator wrote; `INVALID_CONFIG` with what is wrong.
    pub fn new(public_url: Option<&str>, is_tls: bool) -> Result<Endpoint, Error> {
        let scheme = if is_tls { "wss" } else { "ws" };
        Ok(Endpoint { public: public_url.map(public).transpose()?, scheme })
    }

    fn url(&self, head: &Head<'_>) -> Result<String, Error> {
        if let Some(public) = &self.public {
            return Ok(format!("{public}/ws"));
        }
        let host = head.header("host").filter(|host| is_host(host));
        let host = host.ok_or_else(|| Error::new(ErrorCode::MalformedMessage, "the header Host names no host"))?;
        Ok(format!("{}://{host}/ws", self.scheme))
    }
}

/// Whether this can stand for host and port in a URL (RFC 3986, 3.2.2), and for nothing else.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte))
}

fn public(url: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        let message = format!("the public URL {url:?} {why}; it looks like https://rooms.example.org");
        Error::new(ErrorCode::InvalidConfig, message)
    };
    let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let scheme = match &*scheme.to_ascii_lowercase() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(wrong("has another scheme than https, http, wss or ws")),
    };
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if !is_host(host) {
        return Err(wrong("has no host name, or more than one"));
    }
    if !path.bytes().all(|byte| byte == b'/' || is_host(std::str::from_utf8(&[byte]).unwrap_or(""))) {
        return Err(wrong("has something else than a path behind the host"));
    }
    Ok(format!("{scheme}://{host}{path}"))
}

/// The answer to a request for `/init`.
pub(super) fn read(
    head: &Head<'_>,
    origins: &Origins,
    verifier: Option<&Verifier>,
    endpoint: &Endpoint,
) -> Result<Response, Response> {
    // Without credentials, and with nothing in it that is not the asker's own: every page may read the answer, also
    // that it may not connect.
    let cors = "Access-Control-Allow-Origin: *\r\n";
    match head.method {
        "GET" => {}
        "OPTIONS" => {
            let response = Response::json(204, "");
            let extra = format!(
                "{cors}Access-Control-Allow-Methods: GET\r\nAccess-Control-Allow-Headers: authorization\r\n\
                 Access-Control-Max-Age: 7200\r\n"
            );
            return Ok(response.with(extra));
        }
        _ => {
            let error = Error::new(ErrorCode::MalformedMessage, "only GET is possible here");
            return Err(Response::refusal(405, &error).with("Allow: GET, OPTIONS\r\n"));
        }
    }
    let answer = || -> Result<serde_json::Value, Error> {
        if !origins.allow(head.header_or_empty("origin")) {
            return Err(ErrorCode::OriginNotAllowed.into());
        }
        let token = head.header("authorization").and_then(bearer);
        let token = token.ok_or_else(|| Error::new(ErrorCode::Unauthorized, "there is no token"))?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("dialect", DIALECT);
        match verifier {
            Some(verifier) => drop(verifier.verify(token)?),
            None => {
                let claims = OpenClaims::read(token)?;
                names::check_room(&claims.room_id)?;
                names::check_user_id(&claims.user_id)?;
                let role = claims.role.as_deref().unwrap_or(DEFAULT_ROLE);
                names::check_role(role)?;
                query.append_pair("room", &claims.room_id).append_pair("role", role);
                query.append_pair("user_id", &claims.user_id);
            }
        }
        let url = format!("{}?{}", endpoint.url(head)?, query.finish());
        Ok(json!({"endpoint": url, "config": {"enabledFlags": ["nonWebRTCDisableOffer"]}}))
    };
    match answer() {
        Ok(body) => Ok(Response::json(200, body.to_string()).with(cors)),
        Err(error) => {
            let status = http::status(error.code());
            let body = json!({"code": status, "name": error.code().name(), "message": error.message()});
            Err(Response { reason: Some(error.code()), ..Response::json(status, body.to_string()).with(cors) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str, headers: &str, origins: &Origins, secret: Option<&str>, public_url: Option<&str>) -> Response {
        let bytes = format!("{line} HTTP/1.1\r\nHost: rooms.example.org:7350\r\n{headers}\r\n");
        let head = Head::parse(bytes.as_bytes()).expect("valid").expect("complete");
        let endpoint = Endpoint::new(public_url, false).expect("a public URL");
        let verifier = secret.map(Verifier::new);
        read(&head, origins, verifier.as_ref(), &endpoint).unwrap_or_else(|refusal| refusal)
    }

    fn token(secret: &str, claims: serde_json::Value) -> String {
        use jsonwebtoken::{encode, EncodingKey, Header};
        let key = EncodingKey::from_secret(secret.as_bytes());
        format!("Authorization: Bearer {}\r\n", encode(&Header::default(), &claims, &key).expect("encoded"))
    }

    fn endpoint(response: &Response) -> String {
        assert_eq!(response.status, 200, "{}", response.body);
        let body: serde_json::Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(body["config"]["enabledFlags"][0], "nonWebRTCDisableOffer");
        body["endpoint"].as_str().expect("a URL").to_owned()
    }

    #[test]
    fn says_where_the_websocket_is() {
        let any = Origins::default();
        let open = token("any", json!({"room_id": "a room", "role": "host", "user_id": "u&1"}));
        let answer = ask("GET /init?peer_id=p", &open, &any, None, None);
        assert_eq!(
            endpoint(&answer),
            "ws://rooms.example.org:7350/ws?dialect=original&room=a+room&role=host&user_id=u%261"
        );
        let least = token("any", json!({"room_id": "r"}));
        let answer = ask("GET /init", &least, &any, None, Some("https://proxy.example.org/store/"));
        assert_eq!(endpoint(&answer), "wss://proxy.example.org/store/ws?dialect=original&room=r&role=guest&user_id=");

        let signed = token("secret", json!({"room_id": "r", "user_id": "u", "role": "host", "exp": 4_000_000_000_u64}));
        let answer = ask("GET /init", &signed, &any, Some("secret"), None);
        // Where tokens count, only they say who somebody is.
        assert_eq!(endpoint(&answer), "ws://rooms.example.org:7350/ws?dialect=original");
        assert!(answer.extra.contains("Access-Control-Allow-Origin: *"));
    }

    #[test]
    fn every_refusal_can_be_read_by_the_page() {
        let some = Origins::new(&["https://example.org".into()]).expect("an origin");
        let any = Origins::default();
        let open = token("any", json!({"room_id": "r"}));
        let late = token("secret", json!({"room_id": "r", "user_id": "u", "role": "host", "exp": 1_000}));
        let endless = token("any", json!({"room_id": "r".repeat(200)}));
        let foreign = format!("{open}Origin: https://evil.example\r\n");
        for (headers, origins, secret, status, name) in [
            ("", &any, None, 401, "UNAUTHORIZED"),
            ("Authorization: Bearer x\r\n", &any, None, 401, "UNAUTHORIZED"),
            ("Authorization: Basic x\r\n", &any, None, 401, "UNAUTHORIZED"),
            (&*open, &any, Some("secret"), 401, "UNAUTHORIZED"),
            (&*late, &any, Some("secret"), 401, "TOKEN_EXPIRED"),
            (&*endless, &any, None, 400, "INVALID_ROOM"),
            (&*foreign, &some, None, 403, "ORIGIN_NOT_ALLOWED"),
        ] {
            let answer = ask("GET /init", headers, origins, secret, None);
            assert_eq!(answer.status, status, "{headers}: {}", answer.body);
            let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!((body["code"].as_u64(), body["name"].as_str()), (Some(u64::from(status)), Some(name)));
            assert!(answer.extra.contains("Access-Control-Allow-Origin: *"), "{headers}");
        }
        let preflight = ask("OPTIONS /init", "Origin: https://evil.example\r\n", &some, None, None);
        assert_eq!((preflight.status, &*preflight.body), (204, ""));
        assert!(preflight.extra.contains("Access-Control-Allow-Headers: authorization"));
        assert_eq!(ask("POST /init", &open, &any, None, None).status, 405);
    }

    #[test]
    fn a_public_url_is_a_place_and_nothing_else() {
        for (url, read) in [
            ("https://example.org", "wss://example.org"),
            ("HTTP://example.org:80/", "ws://example.org:80"),
            ("wss://[::1]:7350/a/b", "wss://[::1]:7350/a/b"),
        ] {
            assert_eq!(public(url).expect(url), read);
        }
        for url in ["example.org", "ftp://example.org", "https://", "https:///path", "https://a b", "https://a/?room=r"]
        {
            assert_eq!(public(url).expect_err(url), ErrorCode::InvalidConfig);
        }
        for host in ["", "a/b", "a@b", "a\"b", "a b"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
