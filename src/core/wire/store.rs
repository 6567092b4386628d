//! What is asked of a store beyond setting, getting and listening: conditions, merges, transactions,
//! locks, and queries. Both directions of each message stand together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::error::{Error, ErrorCode};
use crate::core::limits::DEFAULT_LOCK_TTL_MS;
use crate::core::merge::Merge;
use crate::core::room::{Change, Lease, Room};
use crate::core::value::Value;
use crate::core::write::{Check, Expiry, LockGuard, Operation, Transaction, Write};

use super::from_client::{request, ClientMessage};
use super::from_server::{result, write_state, Body, Known, WireState};
use super::{number, object, string, write_key_array, Text};

// ------------------------------------------------------------------ writes

/// The params of `set-metadata`, `merge-metadata` and `touch-metadata`, and a write of `transact`.
#[derive(Deserialize)]
pub(super) struct WriteParams<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    op: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    cap: Option<usize>,
    if_change_version: Option<u64>,
    ttl_ms: Option<Ttl>,
    bind: Option<bool>,
    #[serde(borrow)]
    lock: Option<LockParams<'a>>,
}

/// `"keep"`, `"never"`, or milliseconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ttl {
    Ms(u64),
    Word(TtlWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TtlWord {
    Keep,
    Never,
}

impl From<Ttl> for Expiry {
    fn from(ttl: Ttl) -> Expiry {
        match ttl {
            Ttl::Ms(ms) => Expiry::After(ms),
            Ttl::Word(TtlWord::Keep) => Expiry::Keep,
            Ttl::Word(TtlWord::Never) => Expiry::Never,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct LockParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    token: u64,
}

impl<'a> From<LockParams<'a>> for LockGuard<'a> {
    fn from(params: LockParams<'a>) -> LockGuard<'a> {
        LockGuard { name: params.name, token: params.token }
    }
}

fn malformed_params(message: &'static str) -> Error {
    Error::new(ErrorCode::MalformedMessage, message)
}

impl<'a> WriteParams<'a> {
    /// A `set-metadata`: as a rule a plain one.
    pub(super) fn set(self) -> Result<ClientMessage<'a>, Error> {
        if self.ttl_ms.is_none() && self.bind.is_none() && self.lock.is_none() {
            let value = self.data.map_or(Ok(Value::null()), Value::from_raw)?;
            return Ok(ClientMessage::Set { key: self.key, value, expected: self.if_change_version });
        }
        self.write("set")
    }

    /// A request with one write, which does `op`, or what the params say for an empty one.
    pub(super) fn write(mut self, op: &'static str) -> Result<ClientMessage<'a>, Error> {
        let lock = self.lock.take().map(LockGuard::from);
        if !op.is_empty() {
            self.op = Some(Text(op.into()));
        }
        Ok(ClientMessage::Write { write: self.read()?, lock })
    }

    fn read(self) -> Result<Write<'a>, Error> {
        if self.lock.is_some() {
            return Err(malformed_params("a lock of a transaction is one of its checks"));
        }
        let value = || self.data.map_or(Ok(Value::null()), Value::from_raw);
        let operation = match self.op.as_ref().map_or("", |op| &*op.0) {
            "set" => Operation::Set(value()?),
            "touch" if self.ttl_ms.is_some() => Operation::Touch,
            "touch" => return Err(malformed_params("a touch needs ttl_ms")),
            "add" => Operation::Merge(Merge::Add(value()?)),
            "patch" => Operation::Merge(Merge::Patch(value()?)),
            "set-add" => Operation::Merge(Merge::SetAdd(values(self.data)?)),
            "set-remove" => Operation::Merge(Merge::SetRemove(values(self.data)?)),
            "append" => Operation::Merge(Merge::Append { values: values(self.data)?, cap: self.cap }),
            _ => return Err(malformed_params("op is set, touch, add, patch, set-add, set-remove or append")),
        };
        Ok(Write {
            key: self.key,
            operation,
            expected: self.if_change_version,
            expiry: self.ttl_ms.map(Expiry::from),
            bound: self.bind,
        })
    }
}

/// The elements of an array.
fn values(data: Option<&RawValue>) -> Result<Vec<Value>, Error> {
    let elements: Option<Vec<&RawValue>> = data.and_then(|data| serde_json::from_str(data.get()).ok());
    let elements = elements.ok_or_else(|| malformed_params("the data of this op is an array of values"))?;
    elements.into_iter().map(Value::from_raw).collect()
}

/// The members of a write, without the braces.
fn write_members(out: &mut Vec<u8>, write: &Write<'_>, names_op: bool) {
    put!(out, "\"key\":");
    string(out, &write.key);
    let (op, data): (&str, Option<Cow<'_, str>>) = match &write.operation {
        Operation::Set(value) => ("set", Some(value.json().into())),
        Operation::Touch => ("touch", None),
        Operation::Merge(Merge::Add(value)) => ("add", Some(value.json().into())),
        Operation::Merge(Merge::Patch(value)) => ("patch", Some(value.json().into())),
        Operation::Merge(Merge::SetAdd(values)) => ("set-add", Some(array(values).into())),
        Operation::Merge(Merge::SetRemove(values)) => ("set-remove", Some(array(values).into())),
        Operation::Merge(Merge::Append { values, .. }) => ("append", Some(array(values).into())),
    };
    if names_op {
        put!(out, ",\"op\":\"", op, "\"");
    }
    if let Some(data) = data {
        put!(out, ",\"data\":", data);
    }
    if let Operation::Merge(Merge::Append { cap: Some(cap), .. }) = &write.operation {
        put!(out, ",\"cap\":");
        number(out, *cap as u64);
    }
    if let Some(expected) = write.expected {
        put!(out, ",\"if_change_version\":");
        number(out, expected);
    }
    match write.expiry {
        Some(Expiry::After(ms)) => {
            put!(out, ",\"ttl_ms\":");
            number(out, ms);
        }
        Some(Expiry::Keep) => put!(out, ",\"ttl_ms\":\"keep\""),
        Some(Expiry::Never) => put!(out, ",\"ttl_ms\":\"never\""),
        None => {}
    }
    if let Some(bound) = write.bound {
        put!(out, ",\"bind\":", if bound { "true" } else { "false" });
    }
}

fn array(values: &[Value]) -> String {
    let texts: Vec<&str> = values.iter().map(Value::json).collect();
    format!("[{}]", texts.join(","))
}

fn lock_members(out: &mut Vec<u8>, lock: &LockGuard<'_>) {
    put!(out, "\"name\":");
    string(out, &lock.name);
    put!(out, ",\"token\":");
    number(out, lock.token);
}

/// The method that a write is asked for with.
pub fn write_method(write: &Write<'_>) -> &'static str {
    match write.operation {
        Operation::Set(_) => "set-metadata",
        Operation::Touch => "touch-metadata",
        Operation::Merge(_) => "merge-metadata",
    }
}

/// Writes the params of a write, for [`write_request`](super::write_request) with its [`write_method`].
pub fn write_write(out: &mut Vec<u8>, write: &Write<'_>, lock: Option<&LockGuard<'_>>) {
    write_members(out, write, matches!(write.operation, Operation::Merge(_)));
    if let Some(lock) = lock {
        put!(out, ",\"lock\":{");
        lock_members(out, lock);
        put!(out, "}");
    }
}

// ------------------------------------------------------------------ transactions

#[derive(Deserialize)]
pub(super) struct TransactParams<'a> {
    #[serde(borrow, default)]
    checks: Vec<CheckParams<'a>>,
    #[serde(borrow, default)]
    writes: Vec<WriteParams<'a>>,
}

#[derive(Deserialize)]
struct CheckParams<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    change_version: Option<u64>,
    exists: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    equals: Option<&'a RawValue>,
    #[serde(borrow)]
    lock: Option<LockParams<'a>>,
}

/// A value that is there, `null` too: an absent key equals that.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> TransactParams<'a> {
    pub(super) fn read(self) -> Result<Transaction<'a>, Error> {
        let checks = self.checks.into_iter().enumerate();
        let checks = checks.map(|(nth, check)| check.read().map_err(|error| error.at_check(nth)));
        let writes = self.writes.into_iter().enumerate();
        let writes = writes.map(|(nth, write)| write.read().map_err(|error| error.at_write(nth)));
        Ok(Transaction { checks: checks.collect::<Result<_, _>>()?, writes: writes.collect::<Result<_, _>>()? })
    }
}

impl<'a> CheckParams<'a> {
    fn read(self) -> Result<Check<'a>, Error> {
        let key = self.key.map(|key| key.0);
        match (key, self.change_version, self.exists, self.equals, self.lock) {
            (Some(key), Some(version), None, None, None) => Ok(Check::Version { key, version }),
            (Some(key), None, Some(true), None, None) => Ok(Check::Exists { key }),
            (Some(key), None, Some(false), None, None) => Ok(Check::Absent { key }),
            (Some(key), None, None, Some(value), None) => Ok(Check::Equals { key, value: Value::from_raw(value)? }),
            (None, None, None, None, Some(lock)) => Ok(Check::Lock(lock.into())),
            _ => Err(malformed_params("a check is a key with change_version, exists or equals, or it is a lock")),
        }
    }
}

/// Reads a transaction that somebody wrote down as one JSON text. Stricter than the wire, where later versions may say
/// more: a condition whose name is misspelt must not be passed over.
pub fn parse_transaction(text: &str) -> Result<Transaction<'_>, Error> {
    let params = object::<TransactParams<'_>>("the transaction", text)?;
    let Fields { checks, writes } = object("the transaction", text)?;
    check_fields("checks", &checks, &["key", "change_version", "exists", "equals", "lock"])?;
    let of_writes = ["key", "op", "data", "cap", "if_change_version", "ttl_ms", "bind", "lock"];
    check_fields("writes", &writes, &of_writes)?;
    params.read()
}

/// The names of all fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default)]
    checks: Vec<BTreeMap<Cow<'a, str>, IgnoredAny>>,
    #[serde(borrow, default)]
    writes: Vec<BTreeMap<Cow<'a, str>, IgnoredAny>>,
}

fn check_fields(what: &str, all: &[BTreeMap<Cow<'_, str>, IgnoredAny>], known: &[&str]) -> Result<(), Error> {
    let is_unknown = |fields: &BTreeMap<Cow<'_, str>, IgnoredAny>| fields.keys().any(|name| !known.contains(&&**name));
    let Some(nth) = all.iter().position(is_unknown) else { return Ok(()) };
    let message = format!("{what}[{nth}] has a field that there is not; there are {}", known.join(", "));
    Err(Error::new(ErrorCode::MalformedMessage, message))
}

/// Writes the params of `transact`, for [`write_request`](super::write_request).
pub fn write_transact(out: &mut Vec<u8>, transaction: &Transaction<'_>) {
    put!(out, "\"checks\":[");
    for (nth, check) in transaction.checks.iter().enumerate() {
        put!(out, if nth > 0 { ",{" } else { "{" });
        write_check(out, check);
        put!(out, "}");
    }
    put!(out, "],\"writes\":[");
    for (nth, write) in transaction.writes.iter().enumerate() {
        put!(out, if nth > 0 { ",{" } else { "{" });
        write_members(out, write, true);
        put!(out, "}");
    }
    put!(out, "]");
}

fn write_check(out: &mut Vec<u8>, check: &Check<'_>) {
    let key = match check {
        Check::Version { key, .. } | Check::Exists { key } | Check::Absent { key } | Check::Equals { key, .. } => key,
        Check::Lock(lock) => {
            put!(out, "\"lock\":{");
            lock_members(out, lock);
            return put!(out, "}");
        }
    };
    put!(out, "\"key\":");
    string(out, key);
    match check {
        Check::Version { version, .. } => {
            put!(out, ",\"change_version\":");
            number(out, *version);
        }
        // Nothing equals what is absent but an absent key.
        Check::Equals { value, .. } if !value.is_null() => put!(out, ",\"equals\":", value.json()),
        Check::Exists { .. } => put!(out, ",\"exists\":true"),
        _ => put!(out, ",\"exists\":false"),
    }
}

/// States of several keys at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: u64,
    /// The states.
    pub states: Vec<Arc<Change>>,
}

#[derive(Deserialize)]
struct WireSnapshot<'a> {
    revision: u64,
    #[serde(borrow)]
    values: Vec<WireState<'a>>,
}

/// The answer to `transact` and `read-metadata`.
pub fn write_states_result(out: &mut Vec<u8>, id: &RawValue, revision: u64, states: &[Arc<Change>]) {
    result(out, id, |out| {
        put!(out, "{\"revision\":");
        number(out, revision);
        put!(out, ",\"values\":[");
        for (nth, state) in states.iter().enumerate() {
            if nth > 0 {
                put!(out, ",");
            }
            write_state(out, state, 0);
        }
        put!(out, "]}");
    });
}

/// Reads the result of `transact` and `read-metadata`.
pub fn parse_states(body: Body<'_>, known: &mut Known) -> Result<Snapshot, Error> {
    let WireSnapshot { revision, values } = body.read("the result")?;
    let states = values.into_iter().map(|state| state.change(known).map(Arc::new)).collect::<Result<_, _>>()?;
    Ok(Snapshot { revision, states })
}

// ------------------------------------------------------------------ queries

#[derive(Deserialize)]
pub(super) struct ReadParams<'a> {
    #[serde(borrow)]
    keys: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    prefixes: Option<Vec<Text<'a>>>,
}

impl<'a> ReadParams<'a> {
    /// The keys and the prefixes, of which one may be left out.
    pub(super) fn read(self) -> Result<(Vec<Text<'a>>, Vec<Text<'a>>), Error> {
        if self.keys.is_none() && self.prefixes.is_none() {
            return Err(malformed_params("there are neither keys nor prefixes"));
        }
        Ok((self.keys.unwrap_or_default(), self.prefixes.unwrap_or_default()))
    }
}

#[derive(Deserialize)]
pub(super) struct PrefixParams<'a> {
    #[serde(borrow, default)]
    pub(super) prefix: Cow<'a, str>,
}

/// How much of its limits a store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Usage {
    /// The store's revision.
    pub revision: u64,
    /// Keys that are set.
    pub keys: usize,
    /// The most there may be.
    pub max_keys: usize,
    /// Bytes of keys and values together.
    pub bytes: usize,
    /// The most there may be.
    pub max_bytes: usize,
    /// The most bytes of one value.
    pub max_value_bytes: usize,
}

impl Usage {
    /// Of a room.
    pub fn of(room: &Room) -> Usage {
        let (keys, bytes) = room.usage();
        let limits = room.limits();
        Usage {
            revision: room.revision(),
            keys,
            max_keys: limits.max_keys,
            bytes,
            max_bytes: limits.max_store_bytes,
            max_value_bytes: limits.max_value_bytes,
        }
    }
}

/// The answer to `usage`.
pub fn write_usage_result(out: &mut Vec<u8>, id: &RawValue, usage: &Usage) {
    let members = [
        ("{\"revision\":", usage.revision),
        (",\"keys\":", usage.keys as u64),
        (",\"max_keys\":", usage.max_keys as u64),
        (",\"bytes\":", usage.bytes as u64),
        (",\"max_bytes\":", usage.max_bytes as u64),
        (",\"max_value_bytes\":", usage.max_value_bytes as u64),
    ];
    result(out, id, |out| {
        for (name, value) in members {
            put!(out, name);
            number(out, value);
        }
        put!(out, "}");
    });
}

/// Reads the result of `usage`.
pub fn parse_usage(body: Body<'_>) -> Result<Usage, Error> {
    body.read("the result")
}

/// The answer to `key-list`.
pub fn write_keys_result(out: &mut Vec<u8>, id: &RawValue, revision: u64, states: &[Arc<Change>]) {
    result(out, id, |out| {
        put!(out, "{\"revision\":");
        number(out, revision);
        put!(out, ",\"keys\":");
        write_key_array(out, states.iter().map(|state| &*state.key));
        put!(out, "}");
    });
}

#[derive(Deserialize)]
struct WireKeys {
    keys: Vec<String>,
}

/// Reads the result of `key-list`.
pub fn parse_keys(body: Body<'_>) -> Result<Vec<String>, Error> {
    body.read::<WireKeys>("the result").map(|list| list.keys)
}

/// Writes `read-metadata`.
pub fn write_read(out: &mut Vec<u8>, id: u64, keys: &[String], prefixes: &[String]) {
    request(out, id, "read-metadata", |out| {
        put!(out, "\"keys\":");
        write_key_array(out, keys.iter().map(|key| &**key));
        put!(out, ",\"prefixes\":");
        write_key_array(out, prefixes.iter().map(|prefix| &**prefix));
    });
}

/// Writes `key-list`.
pub fn write_key_list(out: &mut Vec<u8>, id: u64, prefix: &str) {
    request(out, id, "key-list", |out| {
        put!(out, "\"prefix\":");
        string(out, prefix);
    });
}

// ------------------------------------------------------------------ locks

#[derive(Deserialize)]
pub(super) struct AcquireParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    ttl_ms: Option<u64>,
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct HeldParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    token: u64,
    ttl_ms: Option<u64>,
}

impl<'a> From<AcquireParams<'a>> for ClientMessage<'a> {
    fn from(params: AcquireParams<'a>) -> ClientMessage<'a> {
        let AcquireParams { name, ttl_ms, wait_ms } = params;
        let (ttl_ms, wait_ms) = (ttl_ms.unwrap_or(DEFAULT_LOCK_TTL_MS), wait_ms.unwrap_or(0));
        ClientMessage::Acquire { name, ttl_ms, wait_ms }
    }
}

impl<'a> HeldParams<'a> {
    pub(super) fn renew(self) -> ClientMessage<'a> {
        let ttl_ms = self.ttl_ms.unwrap_or(DEFAULT_LOCK_TTL_MS);
        ClientMessage::Renew { lock: LockGuard { name: self.name, token: self.token }, ttl_ms }
    }

    pub(super) fn release(self) -> ClientMessage<'a> {
        ClientMessage::Release { lock: LockGuard { name: self.name, token: self.token } }
    }
}

/// Writes `lock-acquire`.
pub fn write_acquire(out: &mut Vec<u8>, id: u64, name: &str, ttl_ms: u64, wait_ms: u64) {
    request(out, id, "lock-acquire", |out| {
        put!(out, "\"name\":");
        string(out, name);
        put!(out, ",\"ttl_ms\":");
        number(out, ttl_ms);
        put!(out, ",\"wait_ms\":");
        number(out, wait_ms);
    });
}

/// Writes `lock-renew`.
pub fn write_renew(out: &mut Vec<u8>, id: u64, lock: &LockGuard<'_>, ttl_ms: u64) {
    request(out, id, "lock-renew", |out| {
        lock_members(out, lock);
        put!(out, ",\"ttl_ms\":");
        number(out, ttl_ms);
    });
}

/// Writes `lock-release`.
pub fn write_release(out: &mut Vec<u8>, id: u64, lock: &LockGuard<'_>) {
    request(out, id, "lock-release", |out| lock_members(out, lock));
}

/// The answer to `lock-acquire` and `lock-renew`.
pub fn write_lease_result(out: &mut Vec<u8>, id: &RawValue, lease: &Lease) {
    result(out, id, |out| {
        put!(out, "{\"name\":");
        string(out, &lease.name);
        put!(out, ",\"token\":");
        number(out, lease.token);
        put!(out, ",\"expires_at\":");
        number(out, lease.expires_at);
        put!(out, "}");
    });
}

/// Reads the result of `lock-acquire` and `lock-renew`.
pub fn parse_lease(body: Body<'_>) -> Result<Lease, Error> {
    #[derive(Deserialize)]
    struct WireLease<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        token: u64,
        expires_at: u64,
    }
    let WireLease { name, token, expires_at } = body.read("the result")?;
    Ok(Lease { name: name.into(), token, expires_at })
}
