//! How the subcommands of operators reach a server: by its HTTP API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::credential::{Credential, OperatorToken};
use super::exit::Failure;
use super::span::{above_zero, Span};
use super::DEFAULT_PORT;
use crate::client::explain_tls;
use crate::http_client::{check_url, Answer, HttpClient, Unanswered};
use crate::{Error, ErrorCode};

const AGENT: &str = concat!("sstore/", env!("CARGO_PKG_VERSION"));

/// Largest answer that is read, in bytes: a page of a thousand rooms takes half a MiB, and a room in full with a
/// thousand peers, each with all the metadata it may have, 3 MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ApiArguments {
    /// The server
    #[arg(long, env = "SSTORE_API_URL", value_name = "URL", default_value_t = format!("http://127.0.0.1:{DEFAULT_PORT}"))]
    url: String,
    #[command(flatten)]
    token: OperatorToken,
    /// Trust the authorities in this file of certificates (PEM) instead of the system's, for https://
    #[arg(long, env = "SSTORE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate (PEM) to show to a server that asks for one
    #[arg(long, env = "SSTORE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate
    #[arg(long, env = "SSTORE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// How long to wait for each answer of the server
    #[arg(long, value_name = "TIME", value_parser = above_zero, default_value_t = Span::from_ms(10_000))]
    timeout: Span,
}

/// A server's HTTP API.
pub(super) struct Api {
    client: HttpClient,
    /// The URL, without a slash at its end.
    base: String,
    token: HeaderValue,
    timeout: Duration,
}

/// A room in short.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Room {
    pub room: String,
    pub session_id: String,
    pub started_at: u64,
    pub revision: u64,
    pub peers: usize,
    pub connections: usize,
    pub keys: usize,
    pub bytes: usize,
}

/// One of its peers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Peer {
    pub peer_id: String,
    pub user_id: String,
    pub name: String,
    pub role: String,
    pub joined_at: u64,
    pub connected: bool,
}

/// What bounds a room.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Bounds {
    pub max_keys: usize,
    pub max_store_bytes: usize,
    pub max_peers: usize,
}

impl ApiArguments {
    /// Gets ready to ask. Inside a runtime only, and nothing is sent yet.
    fn open(&self) -> Result<Api, Failure> {
        let bad = |why: &str| Failure::from(Error::new(ErrorCode::InvalidUrl, format!("the URL {why}")));
        let uri = check_url(&self.url).map_err(bad)?;
        if uri.query().is_some() || self.url.contains('#') {
            return Err(bad("has something behind its path; leave that out"));
        }
        let identity = self.client_cert.as_deref().zip(self.client_key.as_deref());
        if uri.scheme_str() == Some("http") && (self.ca_file.is_some() || identity.is_some()) {
            return Err(bad("begins with http://, for which there are no certificates; write https://"));
        }
        let token = self.token.0.as_ref().map(Credential::read).transpose()?;
        let refused = |message: &'static str| Failure::from(Error::new(ErrorCode::Unauthorized, message));
        let token = token.ok_or_else(|| {
            refused(
                "there is no token; make one with `sstore token --api`, and give it in SSTORE_API_TOKEN or by \
                 --api-token-file",
            )
        })?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| refused("the token has characters that no token has"))?;
        token.set_sensitive(true);
        let client = HttpClient::new(&uri, self.ca_file.as_deref(), identity, "--ca-file")?;
        let base = self.url.trim_end_matches('/').to_owned();
        Ok(Api { client, base, token, timeout: self.timeout.duration() })
    }

    /// Does something with the API, inside a runtime of its own.
    pub(super) fn run<T>(&self, act: impl AsyncFnOnce(Api) -> Result<T, Failure>) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::system("starting", &error))?;
        let outcome = runtime.block_on(async { act(self.open()?).await });
        // Who looks a host name up is not waited for.
        runtime.shutdown_background();
        outcome
    }
}

/// A room, a key or the like as a part of a path.
pub(super) fn segment(text: &str) -> String {
    // Made for forms, where a space is a plus; one that is meant is encoded.
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A room's path.
pub(super) fn room_path(room: &str) -> String {
    format!("/v1/rooms/{}", segment(room))
}

impl Api {
    /// Where the server is, as it is shown.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request; what comes back says that it was done.
    pub(super) async fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer, Failure> {
        let is_change = method != Method::GET;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, self.token.clone())
            .header(USER_AGENT, AGENT);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default())).map_err(|_| {
            Error::new(ErrorCode::InvalidUrl, "no request can be made of the URL and the names; check them")
        })?;
        let answer = self.client.send(request, self.timeout).await;
        let answer = answer.map_err(|error| unanswered(&error, is_change))?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(refusal(answer).await)
    }

    /// Asks for something and gives it as it came.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let answer = self.send(Method::GET, path, None).await?;
        read(answer, false).await
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        parse(&self.text(path).await?)
    }

    /// Sends something and gives the answer as it came.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<String, Failure> {
        let body = serde_json::to_string(body).map_err(|_| Error::from(ErrorCode::Internal))?;
        read(self.send(Method::POST, path, Some(body)).await?, true).await
    }

    /// Removes something.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }
}

/// Reads an answer that is understood, or says that it is not.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| foreign("200"))
}

async fn read(answer: Answer, is_change: bool) -> Result<String, Failure> {
    let body = answer.body(MAX_ANSWER_BYTES).await.map_err(|error| unanswered(&error, is_change))?;
    String::from_utf8(body.into()).map_err(|_| foreign("200"))
}

/// What answers is something else.
pub(super) fn foreign(status: &str) -> Failure {
    let message = format!(
        "what answers at this URL (HTTP status {status}) is no HTTP API of a SessionStore server; check the URL"
    );
    Error::new(ErrorCode::HandshakeFailed, message).into()
}

/// Why a request was refused, as the server says it.
async fn refusal(answer: Answer) -> Failure {
    #[derive(Deserialize)]
    struct Told {
        code: i32,
        message: String,
    }
    let status = answer.status;
    let body = answer.body(MAX_ANSWER_BYTES).await.unwrap_or_else(|_| Bytes::new());
    match serde_json::from_slice(&body) {
        Ok(Told { code, message }) => match ErrorCode::from_number(code).unwrap_or(ErrorCode::Unknown) {
            // A SessionStore server, but no path of its API: the URL has one too many.
            ErrorCode::MalformedMessage if status == StatusCode::NOT_FOUND => foreign(status.as_str()),
            code => Error::new(code, message).into(),
        },
        Err(_) => foreign(status.as_str()),
    }
}

/// Why there is no answer. A change that was sent may have been made.
pub(super) fn unanswered(error: &Unanswered, is_change: bool) -> Failure {
    if let Some(error) = error.cause().and_then(explain_tls) {
        return error.into();
    }
    let (code, what) = match error {
        Unanswered::Unreached(_) => (ErrorCode::ConnectionFailed, "the server cannot be reached"),
        _ if is_change => (ErrorCode::OutcomeUnknown, "it is not known whether it was done"),
        Unanswered::TimedOut(_) => (ErrorCode::Timeout, "the server is silent"),
        Unanswered::Broken(_) => (ErrorCode::ConnectionLost, "the connection to the server broke"),
    };
    Error::new(code, format!("{what}: {error}")).into()
}

/// A file to read, where - is stdin.
pub(super) fn read_file(path: &Path) -> Result<String, Failure> {
    let read = match path {
        path if path.as_os_str() == "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(room_path("a/b c+d?é#%"), "/v1/rooms/a%2Fb%20c%2Bd%3F%C3%A9%23%25");
    }
}
