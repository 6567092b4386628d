//! The one table of error codes: the same numbers on the wire, in C and in every wrapper.

use std::borrow::Cow;
use std::fmt;

use super::room::Change;
use std::sync::Arc;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])* $variant:ident = $number:literal, $name:literal, $retry:literal, $advice:literal; )*) => {
        /// What went wrong, as a stable number.
        ///
        /// 1–99 are the caller's mistake, 100–199 concern the connection or the state of an
        /// object, 200–299 are refusals by the room, 900 and above are faults of this library.
        /// Numbers are never reused; new ones may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $( $(#[doc = $doc])* $variant = $number, )*
        }

        impl ErrorCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [ErrorCode] = &[$( ErrorCode::$variant, )*];

            /// The code of a number, if this version knows it.
            pub fn from_number(number: i32) -> Option<ErrorCode> {
                match number { $( $number => Some(ErrorCode::$variant), )* _ => None }
            }

            /// The stable name, in capitals, such as `VALUE_TOO_LARGE`.
            pub fn name(self) -> &'static str {
                match self { $( ErrorCode::$variant => $name, )* }
            }

            /// One sentence that says what happened and what to do.
            pub fn advice(self) -> &'static str {
                match self { $( ErrorCode::$variant => $advice, )* }
            }

            /// Whether the same call may succeed later without being changed.
            pub fn is_retryable(self) -> bool {
                match self { $( ErrorCode::$variant => $retry, )* }
            }
        }
    };
}

codes! {
    /// A pointer that must not be NULL was NULL.
    NullArgument = 1, "NULL_ARGUMENT", false, "A required pointer is NULL; pass a valid one.";
    /// An argument has a value outside its range.
    InvalidArgument = 2, "INVALID_ARGUMENT", false, "An argument is out of its range; see the function's documentation.";
    /// A text is not valid UTF-8.
    InvalidUtf8 = 3, "INVALID_UTF8", false, "The text is not valid UTF-8; encode it as UTF-8.";
    /// A value is not valid JSON.
    InvalidJson = 4, "INVALID_JSON", false, "The value is not valid JSON; strings need quotes.";
    /// A key breaks the rules for keys.
    InvalidKey = 5, "INVALID_KEY", false, "A key is 1 to 256 bytes of UTF-8 without control characters.";
    /// A room name breaks the rules for rooms.
    InvalidRoom = 6, "INVALID_ROOM", false, "A room name is 1 to 128 bytes of UTF-8 without control characters.";
    /// A peer's id, name, role, user id or metadata breaks its rules.
    InvalidPeer = 7, "INVALID_PEER", false, "A peer's id, name, role, user id or metadata is too long or has characters that are not allowed.";
    /// The server's address is not a usable URL.
    InvalidUrl = 8, "INVALID_URL", false, "The URL is not usable; it looks like ws://host:port or ws://host:port/path, or wss:// for TLS.";
    /// An options or callback struct has an impossible `struct_size`.
    InvalidStructSize = 9, "INVALID_STRUCT_SIZE", false, "struct_size is not one this library knows; initialize the struct with its _INIT macro.";
    /// An option or flag is set that this version does not know.
    UnknownOption = 10, "UNKNOWN_OPTION", false, "A flag or field is set that this version of the library does not know; clear it or update the library.";
    /// A value is of another type than the one asked for.
    WrongType = 11, "WRONG_TYPE", false, "The value is of another type; ask for its kind first.";
    /// Waiting here would wait for the calling thread itself.
    WouldDeadlock = 12, "WOULD_DEADLOCK", false, "This call would wait for the thread it was made on; use the asynchronous form inside callbacks.";
    /// The library is used in a forked child process.
    Forked = 13, "FORKED", false, "The library was loaded before fork(); call exec() in the child, or start the library after forking.";
    /// A message names a method the server does not have.
    UnknownMethod = 14, "UNKNOWN_METHOD", false, "The server has no such method; see docs/protocol.md.";
    /// A message is not a request of the protocol.
    MalformedMessage = 15, "MALFORMED_MESSAGE", false, "The message is not a JSON-RPC request this server understands; see docs/protocol.md.";
    /// The server's configuration cannot be used.
    InvalidConfig = 16, "INVALID_CONFIG", false, "The configuration has an error; the message names it.";
    /// The call does not fit the mode of the client, such as polling one that is not in poll mode.
    WrongMode = 17, "WRONG_MODE", false, "This call does not fit the client's mode; see the poll mode flag of the client's options.";
    /// Two calls that exclude each other were made at once, such as two polls of one client.
    Busy = 18, "BUSY", true, "Another thread is in this call already; let one thread do it.";
    /// A lock's name breaks the rules for locks.
    InvalidLock = 19, "INVALID_LOCK", false, "A lock's name is 1 to 200 bytes of UTF-8 without control characters.";

    /// A request came before the peer joined, or after it left.
    NotJoined = 100, "NOT_JOINED", false, "Join the room first.";
    /// The object was closed.
    Closed = 101, "CLOSED", false, "The client, server or subscription is closed; open a new one.";
    /// The time given to a call ran out.
    Timeout = 102, "TIMEOUT", true, "The time given ran out, and nothing was applied; try again, or give more time.";
    /// The connection broke.
    ConnectionLost = 103, "CONNECTION_LOST", true, "The connection broke; the client makes a new one by itself.";
    /// No connection to the server could be made.
    ConnectionFailed = 104, "CONNECTION_FAILED", true, "The server cannot be reached; check that it runs and that address and port are right.";
    /// The host name of the server does not resolve.
    HostNotFound = 105, "HOST_NOT_FOUND", true, "The host name does not resolve; check its spelling and the network.";
    /// What answered at the address is not a SessionStore server.
    HandshakeFailed = 106, "HANDSHAKE_FAILED", true, "The server did not accept the WebSocket handshake; check that the URL is a SessionStore server's.";
    /// The client was away for too long, or its session has ended; it joined anew.
    SessionLost = 107, "SESSION_LOST", false, "The client was away for longer than the grace period, or its session is over: it is a new peer; locks and keys that went with the old one are gone.";
    /// Another connection came with the same peer id.
    Replaced = 108, "REPLACED", false, "Another connection joined with this peer id; give each client a peer id of its own.";
    /// The server is shutting down.
    ShuttingDown = 109, "SHUTTING_DOWN", true, "The server is shutting down; come back in a moment.";
    /// The address to listen on is in use.
    AddressInUse = 110, "ADDRESS_IN_USE", true, "Another program listens on that address and port; choose another port, or port 0 for any free one.";
    /// The address to listen on cannot be used.
    AddressUnavailable = 111, "ADDRESS_UNAVAILABLE", false, "The address cannot be listened on; check that it belongs to this machine and that the port is allowed.";
    /// Too many requests wait for their answer.
    QueueFull = 112, "QUEUE_FULL", true, "Too many requests wait for their answer; wait for some of them.";
    /// The client sent nothing, not even an answer to a ping, for too long.
    IdleTimeout = 113, "IDLE_TIMEOUT", true, "Nothing was heard for longer than the idle time-out; connect again.";
    /// The client did not read what it was sent.
    SlowReader = 114, "SLOW_READER", true, "The connection's queue was full and nothing was read; read faster and connect again.";

    /// A request was sent, and what became of it cannot be known.
    OutcomeUnknown = 115, "OUTCOME_UNKNOWN", false, "The request was sent, but its answer is lost: it may have been applied or not; look at the current state.";
    /// The peer id is in use, and the secret that goes with it was not presented.
    PeerInUse = 116, "PEER_IN_USE", true, "A peer with this id is in the room; use another peer id, or wait until it has left.";
    /// TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it.
    TlsFailed = 117, "TLS_FAILED", true, "No secure connection can be made; the message says whether the certificate, the host name or the URL is at fault.";
    /// The directory for the data of a server cannot be used.
    DataDirectoryUnusable = 118, "DATA_DIRECTORY_UNUSABLE", true, "The data directory cannot be read or written, or another server uses it; the message says which.";
    /// What a server kept is not what it wrote.
    DataDamaged = 119, "DATA_DAMAGED", false, "What the data directory holds is damaged; put back a copy of it, or move it away to begin without.";
    /// A newer version of the server wrote what is kept.
    DataNewer = 120, "DATA_NEWER", false, "A newer version of SessionStore wrote the data directory; use that version, or another directory.";

    /// The app took the request back.
    Cancelled = 121, "CANCELLED", false, "The request was taken back before it changed anything; ask again if it is wanted after all.";

    /// The token is missing, malformed, or signed with another secret.
    Unauthorized = 200, "UNAUTHORIZED", false, "The token is missing or wrong; get a valid one for this server.";
    /// The token has expired.
    TokenExpired = 201, "TOKEN_EXPIRED", false, "The token has expired; get a fresh one.";
    /// A value is larger than the limit.
    ValueTooLarge = 202, "VALUE_TOO_LARGE", false, "The value is larger than the room allows (1,024 bytes of compact JSON unless configured).";
    /// The store has as many keys as it may have.
    TooManyKeys = 203, "TOO_MANY_KEYS", false, "The store has as many keys as it may have (100 unless configured); remove one first.";
    /// Keys and values together would be larger than the limit.
    StoreFull = 204, "STORE_FULL", false, "Keys and values together would exceed the store's limit (65,536 bytes unless configured); remove or shorten some first.";
    /// The key has another version than the one expected.
    VersionConflict = 205, "VERSION_CONFLICT", false, "The key was changed in between; look at its current value and try again.";
    /// A message is larger than the server accepts.
    MessageTooLarge = 206, "MESSAGE_TOO_LARGE", false, "The message is larger than the server accepts; values may be 1,024 bytes unless configured.";
    /// The peer listens to as many keys as it may.
    TooManyListenedKeys = 207, "TOO_MANY_LISTENED_KEYS", false, "Too many keys are listened to at once; stop listening to some.";
    /// The room has as many peers as it may have.
    RoomFull = 208, "ROOM_FULL", true, "The room has as many peers as it may have; try again when somebody has left.";
    /// The server has as many connections as it may have.
    ServerFull = 209, "SERVER_FULL", true, "The server has as many connections as it may have; try again later.";
    /// The peer id is in use in a way that cannot be taken over.
    PeerMismatch = 210, "PEER_MISMATCH", false, "That peer id belongs to another user in this room; use another peer id.";
    /// The room's rules do not allow it.
    Forbidden = 211, "FORBIDDEN", false, "The room's rules do not allow this to your role; the message names the rule.";
    /// A check of a transaction failed.
    CheckFailed = 212, "CHECK_FAILED", false, "A check of the transaction failed and nothing was changed; look at the current state and try again.";
    /// Somebody holds the lock.
    LockHeld = 213, "LOCK_HELD", true, "The lock is held; wait for it, or try again later.";
    /// The lock is not held with this token.
    LockLost = 214, "LOCK_LOST", false, "The lock is not held with this token (any more); acquire it again.";
    /// A sum leaves the range of numbers.
    NumberOverflow = 215, "NUMBER_OVERFLOW", false, "The sum would leave the range of 64-bit integers (or of doubles); nothing was changed.";
    /// The key is one that only the server writes.
    ReservedKey = 216, "RESERVED_KEY", false, "Keys that begin with $lock/ show who holds a lock and cannot be written; use the lock instead.";
    /// The key is absent.
    KeyAbsent = 217, "KEY_ABSENT", false, "The key is absent; set it first.";
    /// The room has as many locks as it may have.
    TooManyLocks = 218, "TOO_MANY_LOCKS", true, "The room, or this peer, has as many locks held, or as many waiting for one, as it may have; release some first.";
    /// A web page of this origin may not connect.
    OriginNotAllowed = 219, "ORIGIN_NOT_ALLOWED", false, "Web pages from this origin may not connect to this server; add the origin to the server's allowed origins.";
    /// The connection asks more than it may.
    RateLimited = 220, "RATE_LIMITED", true, "Too many requests, or too many bytes of them, came too fast; this one changed nothing: wait as long as the error says, then try again.";
    /// Too many connections come from one address.
    TooManyConnections = 221, "TOO_MANY_CONNECTIONS", true, "The server has as many connections from this address as it takes; close some, or try again later.";
    /// The server has as many rooms as it may have.
    TooManyRooms = 222, "TOO_MANY_ROOMS", true, "The server has as many rooms as it may have; join one that is open, or try again later.";
    /// The peer was removed from the room by whoever runs it.
    Kicked = 223, "KICKED", false, "An operator removed this peer from the room; join again only if its users may.";
    /// The room was closed by whoever runs it.
    RoomClosed = 224, "ROOM_CLOSED", false, "An operator closed the room and its store is gone; joining again begins a new session.";
    /// The room has a session already.
    RoomOpen = 225, "ROOM_OPEN", false, "The room has a session already, so it cannot be prepared any more; write into it instead.";
    /// There is no such room, peer or lock.
    NotFound = 226, "NOT_FOUND", false, "There is no such room, peer or lock; the message says which.";

    /// A fault of the library or the server.
    Internal = 900, "INTERNAL", false, "This is a fault of SessionStore; please report it with the message.";
    /// The library panicked; the object is not usable any more.
    Panic = 901, "PANIC", false, "The library caught a fault of its own; free this object, and please report it with the message.";
    /// The system refused a resource: memory, a thread, a descriptor.
    OutOfResources = 902, "OUT_OF_RESOURCES", true, "The system refused a thread, memory or a descriptor; free some and try again.";
    /// The server answered with a code this version does not know.
    Unknown = 999, "UNKNOWN", false, "The server answered with an error this version does not know; the message says more.";
}

/// An error with its code, a sentence for people, and for conflicts the current state of the key.
///
/// ```
/// use sessionstore::{Error, ErrorCode};
/// let error = Error::new(ErrorCode::InvalidKey, "the key is empty");
/// assert_eq!(error.code().number(), 5);
/// assert_eq!(error.to_string(), "INVALID_KEY (5): the key is empty");
/// ```
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: ErrorCode,
    message: Cow<'static, str>,
    current: Option<Arc<Change>>,
    /// Which check, or which write, of a transaction.
    part: Option<Part>,
    retry_after_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Check(usize),
    Write(usize),
}

impl ErrorCode {
    /// The number of this code.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl Error {
    /// An error with its own sentence.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner { code, message: message.into(), current: None, part: None, retry_after_ms: None }))
    }

    /// A conflict, with what the key holds now.
    pub fn conflict(current: Arc<Change>) -> Error {
        let message = format!("the key has version {}", current.version);
        Error::new(ErrorCode::VersionConflict, message).with_current(current)
    }

    /// What a request is refused with whose peer asks faster than it may.
    pub fn too_fast(retry_after_ms: u64) -> Error {
        let message = format!("too much was asked too fast; try again in {retry_after_ms} ms");
        Error::new(ErrorCode::RateLimited, message).with_retry_after_ms(retry_after_ms)
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The sentence for people. It holds no value, token or secret.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        self.0.code.is_retryable()
    }

    /// For [`ErrorCode::VersionConflict`], and for [`ErrorCode::CheckFailed`], what the key holds now; for
    /// [`ErrorCode::LockHeld`], the key that shows who holds the lock.
    pub fn current(&self) -> Option<&Arc<Change>> {
        self.0.current.as_ref()
    }

    /// Which check of a transaction failed, counted from 0.
    pub fn check(&self) -> Option<usize> {
        match self.0.part {
            Some(Part::Check(nth)) => Some(nth),
            _ => None,
        }
    }

    /// Which write of a transaction was refused, counted from 0.
    pub fn write(&self) -> Option<usize> {
        match self.0.part {
            Some(Part::Write(nth)) => Some(nth),
            _ => None,
        }
    }

    /// For [`ErrorCode::RateLimited`], and for a server that is full, how long to wait before trying again, in
    /// milliseconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.0.retry_after_ms
    }

    /// The same error with how long to wait.
    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Error {
        self.0.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The same error under another code: what is malformed on the wire is a wrong argument at home.
    pub fn with_code(mut self, code: ErrorCode) -> Error {
        self.0.code = code;
        self
    }

    /// The same error of a transaction's check.
    pub fn at_check(mut self, nth: usize) -> Error {
        self.0.part = Some(Part::Check(nth));
        self
    }

    /// The same error of a transaction's write.
    pub fn at_write(mut self, nth: usize) -> Error {
        self.0.part = Some(Part::Write(nth));
        self
    }

    /// The same error with what the key holds now.
    pub fn with_current(mut self, current: Arc<Change>) -> Error {
        self.0.current = Some(current);
        self
    }
}

/// The error with the code's own advice as its sentence.
impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Error {
        Error::new(code, code.advice())
    }
}

/// Errors are equal when their codes are.
impl PartialEq<ErrorCode> for Error {
    fn eq(&self, other: &ErrorCode) -> bool {
        self.0.code == *other
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        match self.0.part {
            Some(Part::Check(nth)) => write!(f, " (checks[{nth}])"),
            Some(Part::Write(nth)) => write!(f, " (writes[{nth}])"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_in_order_and_found_again() {
        for pair in ErrorCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{} before {}", pair[0], pair[1]);
        }
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
            assert!(code.advice().ends_with('.') || code.advice().ends_with(')'), "{code}");
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }

    #[test]
    fn the_part_of_a_transaction_is_shown() {
        let error = Error::new(ErrorCode::WrongType, "the key holds an array");
        assert_eq!(error.clone().at_write(2).to_string(), "WRONG_TYPE (11): the key holds an array (writes[2])");
        assert_eq!(error.at_check(0).to_string(), "WRONG_TYPE (11): the key holds an array (checks[0])");
    }
}
