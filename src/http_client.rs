//! Requests to other servers by HTTP/1.1, with or without TLS.
//!
//! Redirects are answers like any other: a request goes only where it was told to. A connection is kept for a while
//! for the next request to the same place. Everything happens on the runtime that [`HttpClient::send`] is called on.

use std::error::Error as Cause;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio::time::{timeout_at, Instant};
use tower_service::Service;

use crate::quiet::Quiet;
use crate::tls;
use crate::{Error, ErrorCode};

/// How long a connection is kept for the next request, in milliseconds. Servers keep theirs for 5 to 75 seconds;
/// one that was closed meanwhile is noticed and costs a new one.
const IDLE_MS: u64 = 30_000;

/// Largest head of an answer, in bytes. Servers accept 8 to 16 KiB of each other.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Where a request may go, or what is wrong with it, as the end of a sentence. The URL is not in it: it may have a
/// password or a token.
pub(crate) fn check_url(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is no URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("does not begin with http:// or https://");
    }
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("has a user or a password in it; leave them out");
    }
    if authority.host().is_empty() {
        return Err("has no host");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("has a port that is none");
    }
    Ok(uri)
}

/// Sends requests.
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<QuietConnector>, Full<Bytes>>,
}

/// Makes connections that do not kill a host program when their other end is gone.
#[derive(Clone)]
struct QuietConnector(HttpConnector);

impl Service<Uri> for QuietConnector {
    type Response = TokioIo<Quiet>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { connecting.await.map(|stream| TokioIo::new(stream.into_inner().into())) })
    }
}

/// Why there is no answer, or not all of it. As text it is the end of a sentence, with nothing of the request in it.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nothing came in time, in milliseconds.
    TimedOut(u128),
    /// No connection was made, so that nothing was sent.
    Unreached(Box<dyn Cause + Send + Sync>),
    /// The connection broke, or what came is no answer.
    Broken(Box<dyn Cause + Send + Sync>),
}

/// The beginning of an answer.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    deadline: Instant,
}

impl HttpClient {
    /// For requests to this URL, and others with the same scheme. With the authorities of a file, or those that the
    /// system trusts; `option` names the option that has the file. `identity` is the certificate to show to a server
    /// that asks for one, and its key.
    ///
    /// Errors: `INVALID_CONFIG` with the file and the reason; `TLS_FAILED` when the system has no authorities.
    pub fn new(
        url: &Uri,
        ca: Option<&Path>,
        identity: Option<(&Path, &Path)>,
        option: &str,
    ) -> Result<HttpClient, Error> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidConfig, message);
        let roots = match ca {
            Some(path) => tls::authorities(path).map_err(invalid)?,
            None if url.scheme_str() == Some("https") => tls::system_authorities(option)?,
            // A system without authorities can do without TLS.
            None => RootCertStore::empty(),
        };
        let config = tls::client_config(roots, identity).map_err(invalid)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(QuietConnector(connector));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Ok(HttpClient { client })
    }

    /// Sends a request and waits for the head of its answer, whatever its status; the rest of the answer has the
    /// time that is left.
    pub async fn send(&self, request: Request<Full<Bytes>>, timeout: Duration) -> Result<Answer, Unanswered> {
        let deadline = Instant::now() + timeout;
        match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body, deadline })
            }
            Ok(Err(error)) if error.is_connect() => Err(Unanswered::Unreached(error.into())),
            Ok(Err(error)) => Err(Unanswered::Broken(error.into())),
            Err(_) => Err(Unanswered::TimedOut(timeout.as_millis())),
        }
    }
}

impl Answer {
    /// The rest of the answer, if it has at most so many bytes. Once it was read, the connection serves again.
    pub async fn body(self, most: usize) -> Result<Bytes, Unanswered> {
        match timeout_at(self.deadline, Limited::new(self.body, most).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(Unanswered::Broken(error)),
            Err(_) => Err(Unanswered::Broken("the answer did not end in time".into())),
        }
    }

    /// The next bytes of an answer that goes on, however long it takes until they come; `None` at its end.
    #[cfg(feature = "cli")]
    pub async fn more(&mut self) -> Result<Option<Bytes>, Unanswered> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    // What may come behind the body says nothing here.
                    Err(_) => continue,
                },
                Some(Err(error)) => return Err(Unanswered::Broken(error.into())),
                None => return Ok(None),
            }
        }
    }
}

impl Unanswered {
    /// What went wrong, if it is more than that nothing came.
    #[cfg(feature = "cli")]
    pub fn cause(&self) -> Option<&(dyn Cause + 'static)> {
        match self {
            Unanswered::TimedOut(_) => None,
            Unanswered::Unreached(cause) | Unanswered::Broken(cause) => Some(&**cause),
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::TimedOut(ms) => write!(f, "nothing was answered within {ms} ms"),
            Unanswered::Unreached(cause) | Unanswered::Broken(cause) => {
                // What is above the last cause says that something failed.
                let mut cause: &(dyn Cause + 'static) = &**cause;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                fmt::Display::fmt(cause, f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_http_and_have_no_secrets_in_their_host() {
        for good in ["http://127.0.0.1:80/x", "https://hooks.example.org", "https://[::1]:8443/a?b=c"] {
            assert_eq!(check_url(good).map(|uri| uri.scheme_str().is_some()), Ok(true), "{good}");
        }
        let bad = [
            ("", "no URL"),
            ("hooks.example.org", "http://"),
            ("/hooks", "http://"),
            ("ftp://example.org/", "http://"),
            ("ws://example.org/", "http://"),
            ("https://ada:lovelace@example.org/", "password"),
            ("https://ada@example.org/", "password"),
            ("https://", "no URL"),
            ("https://:443/", "no "),
            ("https://example.org:99999/", "port"),
            ("https://example.org:0/", "port"),
            ("https://example.org/ x", "no URL"),
            ("https://bücher.example/", "no URL"),
        ];
        for (url, why) in bad {
            let message = check_url(url).expect_err(url);
            assert!(message.contains(why), "{url}: {message}");
        }
    }
}
