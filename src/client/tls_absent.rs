//! In the place of `tls` in builds without it: `wss://` is refused with a sentence.

use tokio::net::TcpStream;

use super::options::ClientOptions;
use crate::{Error, ErrorCode};

/// There is no other.
pub(crate) type Stream = TcpStream;

#[derive(Clone, Debug)]
pub(crate) enum Trust {}

impl Trust {
    pub(crate) fn new(_: &ClientOptions) -> Result<Trust, Error> {
        let message = "this build has no TLS, so it speaks ws:// only; build it with the feature `tls`";
        Err(Error::new(ErrorCode::InvalidUrl, message))
    }

    pub(crate) async fn connect(&self, _: &str, _: TcpStream) -> Result<Stream, Error> {
        match *self {}
    }
}

pub(crate) fn explain(_: &(dyn std::error::Error + 'static)) -> Option<Error> {
    None
}
