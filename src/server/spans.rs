//! Spans for traces: what a loop does, as OpenTelemetry has it. They have the names that log lines have, and like them
//! no keys, values, tokens or secrets.

use std::fmt::Display;

use tracing::field::Empty;
use tracing::span::EnteredSpan;
use tracing::{trace_span, Span};

use crate::core::error::Error;

/// The target of all spans, so that whoever collects them can tell them from log lines.
macro_rules! target {
    () => {
        "sessionstore::trace"
    };
}

/// One request, from when it was understood until it is answered or refused.
pub(super) fn request(room: &str, peer: &str, id: impl Display, method: &'static str) -> EnteredSpan {
    let span = trace_span!(
        target: target!(), "request", otel.kind = "server", otel.status_code = Empty, room, peer, request = %id, method,
        error = Empty
    );
    span.entered()
}

/// The request that is being handled is refused.
pub(super) fn refused(error: &Error) {
    Span::current().record("error", error.code().name()).record("otel.status_code", "ERROR");
}

/// What a room has to say is written to all whom it concerns, or to some of them.
pub(super) fn fan_out(room: &str) -> EnteredSpan {
    trace_span!(target: target!(), "fan_out", room).entered()
}

/// What happened in a turn of a loop is kept.
pub(super) fn journal_commit() -> EnteredSpan {
    trace_span!(target: target!(), "journal_commit").entered()
}
