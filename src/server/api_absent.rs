//! Builds without the feature `http` have no API, and say so.

use super::options::ServerOptions;
use crate::core::error::{Error, ErrorCode};

/// Refuses options that this build has no code for.
pub(super) fn check(options: &ServerOptions) -> Result<bool, Error> {
    match options.api_secret {
        None => Ok(false),
        Some(_) => {
            let message = "api_secret is set, but this build has no HTTP API; build it with the feature http";
            Err(Error::new(ErrorCode::InvalidConfig, message))
        }
    }
}
