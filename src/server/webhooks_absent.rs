//! In the place of `webhooks` in builds without HTTP: whoever asks for them is told.

use tokio::runtime::Runtime;

use super::notice::Notice;
use super::options::ServerOptions;
use crate::core::error::{Error, ErrorCode};

pub(super) enum Webhooks {}

impl Webhooks {
    pub fn new(options: &ServerOptions) -> Result<Option<Webhooks>, Error> {
        if options.webhook.is_none() {
            return Ok(None);
        }
        let message = "this build has no webhooks; build it with the feature `http`";
        Err(Error::new(ErrorCode::InvalidConfig, message))
    }

    pub fn push(&self, _: Vec<Notice>) {
        match *self {}
    }

    pub fn finish(&self) {
        match *self {}
    }

    pub fn run(&self, _: Runtime) {
        match *self {}
    }
}
