//! Sets, their answers and changes in exactly the form in which [`wire::write_set`](super::wire::write_set),
//! [`wire::write_state_result`](super::wire::write_state_result) and [`wire::write_changes`](super::wire::write_changes)
//! write them, read without a JSON parser.
//!
//! Nearly all that a server is asked are sets, nearly all that a client hears are changes and answers to sets, and
//! nearly all of them are written by this library. Reading these as what they are takes a quarter of the time
//! of a parser that must be prepared for anything. Whatever differs by one byte is left to that parser:
//! this one never says that a message is wrong, only that it is not for it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::limits::MAX_REQUEST_ID_BYTES;
use super::room::{Author, Cause, Change};
use super::value::Value;
use super::wire::{
    self, ClientMessage, Known, Request, States, CHANGES_BEGIN, CHANGES_END, REQUEST_BEGIN, SNAPSHOT_END,
};

/// The states of a message, each with how many it replaced, and whether they are a snapshot; `None` when it is for the
/// other parser.
pub(super) fn changes(text: &str, known: &mut Known) -> Option<(States, bool)> {
    let mut rest = Rest(text.strip_prefix(CHANGES_BEGIN)?);
    let mut states = States::new();
    loop {
        let (change, replaced) = rest.state(known)?;
        states.push((Arc::new(change), replaced));
        match rest.0 {
            CHANGES_END => return Some((states, false)),
            SNAPSHOT_END => return Some((states, true)),
            _ => rest.skip(",")?,
        }
    }
}

/// The answer to a request that is a key's state, and the number of the request; `None` when it is for the other parser.
pub(super) fn answer(text: &str, known: &mut Known) -> Option<(u64, Change)> {
    let mut rest = Rest(text.strip_prefix(REQUEST_BEGIN)?);
    let is_text = rest.skips("\"");
    let id = rest.number()?;
    if is_text {
        rest.skip("\"")?;
    }
    rest.skip(",\"result\":")?;
    // Of an answer it does not count whether the state stands for others.
    let (change, _) = rest.state(known)?;
    (rest.0 == "}").then_some((id, change))
}

/// A request to set a key; `None` when it is for the other parser.
pub(super) fn set(text: &str) -> Option<Request<'_>> {
    let mut rest = Rest(text.strip_prefix(REQUEST_BEGIN)?);
    let id = rest.0;
    rest.string()?;
    let id = id.get(..id.len() - rest.0.len())?;
    if id.len() > MAX_REQUEST_ID_BYTES {
        return None;
    }
    rest.skip(",\"method\":\"set-metadata\",\"params\":{\"key\":")?;
    let key = Cow::Borrowed(rest.string()?);
    rest.skip(",\"data\":")?;
    let value = rest.value()?;
    let mut expected = None;
    if rest.skips(",\"if_change_version\":") {
        expected = Some(rest.number()?);
    }
    let id = serde_json::from_str(id).ok()?;
    (rest.0 == "}}").then_some(Request { id: Some(id), message: Ok(ClientMessage::Set { key, value, expected }) })
}

/// What is left of the text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn skips(&mut self, text: &str) -> bool {
        self.skip(text).is_some()
    }

    fn state(&mut self, known: &mut Known) -> Option<(Change, u64)> {
        self.skip("{\"key\":")?;
        let key = known.key(self.string()?).ok()?;
        self.skip(",\"data\":")?;
        let value = self.value()?;
        self.skip(",\"change_version\":")?;
        let version = self.number()?;
        let (mut author, mut updated_at, mut expires_at, mut replaced) = (None, 0, 0, 0);
        let mut cause = Cause::Written;
        if self.skips(",\"updated_by\":") {
            author = Some(self.author(known)?);
        }
        if self.skips(",\"updated_at\":") {
            updated_at = self.number()?;
        }
        if self.skips(",\"expires_at\":") {
            expires_at = self.number()?;
        }
        if self.skips(",\"reason\":") {
            cause = wire::cause(self.string()?);
        }
        if self.skips(",\"replaced\":") {
            replaced = self.number()?;
        }
        self.skip("}")?;
        Some((Change { key, value, version, updated_at, author, cause, expires_at }, replaced))
    }

    fn author(&mut self, known: &mut Known) -> Option<Arc<Author>> {
        let before = self.0;
        if let Some((author, length)) = known.same_author(before) {
            self.0 = before.get(length..)?;
            return Some(author);
        }
        let peer_id = self.string()?;
        self.skip(",\"author\":{\"user_id\":")?;
        let user_id = self.string()?;
        self.skip(",\"name\":")?;
        let name = self.string()?;
        self.skip("}")?;
        let author = known.author(peer_id, user_id, name);
        known.last_author(before.get(..before.len() - self.0.len())?, &author);
        Some(author)
    }

    /// The text of a string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.strip_prefix('"')?;
        let (text, after) = text.split_at_checked(memchr::memchr(b'"', text.as_bytes())?)?;
        // A fold has no early end, so that it is done many bytes at a time.
        let is_plain = text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'\\'));
        self.0 = after.strip_prefix('"')?;
        is_plain.then_some(text)
    }

    fn value(&mut self) -> Option<Value> {
        let before = self.0;
        if before.starts_with('"') {
            self.string()?;
            return Some(Value::from_plain_string(before.get(..before.len() - self.0.len())?));
        }
        // As it is of keys that are not set, of which a snapshot may have many.
        if self.skips("null,") {
            self.0 = before.get("null".len()..)?;
            return Some(Value::null());
        }
        let mut values = serde_json::Deserializer::from_str(before).into_iter::<&RawValue>();
        let value = Value::from_raw(values.next()?.ok()?).ok()?;
        self.0 = before.get(values.byte_offset()..)?;
        Some(value)
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut digits) = (0u64, 0);
        for digit in self.0.bytes().map_while(|byte| byte.is_ascii_digit().then(|| byte - b'0')) {
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            digits += 1;
        }
        // JSON has no leading zeros.
        if digits == 0 || digits > 1 && self.0.starts_with('0') {
            return None;
        }
        self.0 = self.0.get(digits..)?;
        Some(number)
    }
}
