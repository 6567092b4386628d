//! Which web pages may connect.

use crate::core::error::{Error, ErrorCode};

/// Origins that may connect, as browsers write them; all when there is none.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    /// Reads what an administrator wrote; `INVALID_CONFIG` with what is wrong.
    pub fn new(origins: &[String]) -> Result<Origins, Error> {
        origins.iter().map(|origin| normal(origin)).collect::<Result<_, _>>().map(Origins)
    }

    /// Whether a request may go on that has this `Origin` header. One without is no browser's: whoever
    /// could leave the header out could also write what it likes into it.
    pub fn allow(&self, header: Option<&str>) -> bool {
        self.0.is_empty() || header.is_none_or(|origin| self.0.iter().any(|have| have.eq_ignore_ascii_case(origin)))
    }
}

/// An origin as browsers write it: without the port that its scheme has anyway.
fn normal(origin: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        let message = format!(
            "the allowed origin {origin:?} {why}; it looks like https://example.org or https://example.org:8443"
        );
        Error::new(ErrorCode::InvalidConfig, message)
    };
    let lower = origin.trim().to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*@,;\"'<>\\".contains(&byte));
    if scheme.is_empty() || !is_word(scheme) {
        return Err(wrong("has no scheme"));
    }
    if rest.contains(['/', '?', '#']) {
        return Err(wrong("has a path"));
    }
    // In an IPv6 address the colons are within brackets.
    let (host, port) =
        match rest.rfind(']').map_or_else(|| rest.rfind(':'), |end| rest[end..].find(':').map(|at| end + at)) {
            Some(colon) => (&rest[..colon], Some(&rest[colon + 1..])),
            None => (rest, None),
        };
    if host.is_empty() || !is_word(host) {
        return Err(wrong("has no host name (patterns such as *.example.org are not possible)"));
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port @ 1..)) => Some(port),
        Some(_) => return Err(wrong("has a port that is no number from 1 to 65535")),
    };
    Ok(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Result<Origins, Error> {
        Origins::new(&list.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_origin_is_allowed_as_a_whole() {
        let origins =
            origins(&["https://Example.org", "http://[::1]:8080", "https://other.example:443"]).expect("read");
        let allowed = [
            None,
            Some("https://example.org"),
            Some("https://EXAMPLE.ORG"),
            Some("http://[::1]:8080"),
            Some("https://other.example"),
        ];
        for header in allowed {
            assert!(origins.allow(header), "{header:?}");
        }
        for header in [
            "http://example.org",
            "https://example.org:8443",
            "https://example.org.evil.example",
            "https://evil-example.org",
            "https://sub.example.org",
            "http://[::1]",
            "null",
            "",
        ] {
            assert!(!origins.allow(Some(header)), "{header}");
        }
        assert!(Origins::default().allow(Some("null")));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        for (origin, why) in [
            ("example.org", "scheme"),
            ("", "scheme"),
            ("://x", "scheme"),
            ("https://", "host"),
            ("https://*.example.org", "patterns"),
            ("https://x/", "path"),
            ("https://x:0", "port"),
            ("https://x:y", "port"),
            ("https://[::1]:", "port"),
        ] {
            let error = origins(&[origin]).expect_err(origin);
            assert_eq!(error, ErrorCode::InvalidConfig);
            assert!(error.message().contains(why), "{error}");
        }
    }
}
