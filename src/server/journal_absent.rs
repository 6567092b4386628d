//! In the place of `journal` in builds without it: there is no such journal, and whoever asks for one is told.

use std::path::Path;
use std::sync::Arc;

use super::keeper::{Found, Keep};
use crate::core::error::{Error, ErrorCode};
use crate::core::limits::Limits;
use crate::core::room::Time;

pub(super) enum Journal {}

impl Journal {
    pub fn open(_: &Path, _: bool, _: Time, _: &Arc<Limits>) -> Result<(Journal, Found), Error> {
        let message = "this build keeps no rooms; build it with the feature `durable`, or leave out data_dir";
        Err(Error::new(ErrorCode::InvalidConfig, message))
    }

    pub fn next_id(&self) -> i64 {
        match *self {}
    }

    pub fn commit(&self, _: &mut Vec<Keep>) -> Result<(), Error> {
        match *self {}
    }

    pub fn close(&self) {
        match *self {}
    }
}
