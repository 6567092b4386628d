//! Who asks, and what its token lets it do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::Refusal;
use super::Context;
use crate::core::error::{Error, ErrorCode};
use crate::core::names;
use crate::core::room::Time;
use crate::server::handshake::bearer;
use crate::server::operate::Who;
use crate::server::token::numeric_date;

/// What a token may let its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// See rooms, their peers and what their stores hold.
    Read,
    /// Write keys, and prepare rooms.
    Write,
    /// Remove peers, take locks away, close rooms.
    Manage,
    /// Read the metrics.
    Metrics,
}

impl Scope {
    const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Manage, Scope::Metrics];

    fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Manage => "manage",
            Scope::Metrics => "metrics",
        }
    }
}

/// What a token says.
#[derive(Deserialize)]
struct Claims {
    /// Words with spaces between them, as in RFC 8693, 4.2.
    scope: String,
    sub: Option<String>,
    name: Option<String>,
    /// The only room it is for.
    room_id: Option<String>,
    /// By whose rules it reads and writes keys.
    role: Option<String>,
    #[serde(deserialize_with = "numeric_date")]
    exp: u64,
}

/// Who asks.
pub(super) struct Caller {
    pub who: Who,
    pub scopes: Vec<Scope>,
    /// The only room it may know of.
    pub room: Option<String>,
    /// When its token expires.
    pub expires_at: Time,
}

impl Caller {
    /// Refuses with `FORBIDDEN` what the token is not for, and with `INVALID_ROOM` what is no room.
    pub fn needs(&self, scope: Scope, room: &str) -> Result<(), Refusal> {
        self.needs_scope(scope)?;
        names::check_room(room)?;
        match &self.room {
            Some(only) if only != room => Err(Error::new(ErrorCode::Forbidden, "the token is for another room").into()),
            _ => Ok(()),
        }
    }

    pub fn needs_scope(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let message = format!("the token lacks the scope \"{}\"", scope.name());
        Err(Error::new(ErrorCode::Forbidden, message).into())
    }
}

impl FromRequestParts<Arc<Context>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Caller, Refusal> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let token = header.and_then(bearer);
        let token = token.ok_or_else(|| Error::new(ErrorCode::Unauthorized, "there is no token in Authorization"))?;
        let lacking = "the token lacks one of the claims scope, exp, or one has the wrong type";
        let claims: Claims = context.verifier.verify_as(token, lacking)?;
        // Clients know from it that somebody is the author, though no peer.
        let user_id = claims.sub.filter(|sub| !sub.is_empty()).unwrap_or_else(|| "api".into());
        let name = claims.name.unwrap_or_default();
        names::check_user_id(&user_id)?;
        names::check_peer_name(&name)?;
        claims.role.as_deref().map_or(Ok(()), names::check_role)?;
        let words: Vec<&str> = claims.scope.split_ascii_whitespace().collect();
        Ok(Caller {
            who: Who { user_id: user_id.into(), name: name.into(), role: claims.role.map(Arc::from) },
            scopes: Scope::ALL.into_iter().filter(|scope| words.contains(&scope.name())).collect(),
            room: claims.room_id,
            expires_at: claims.exp.saturating_mul(1_000),
        })
    }
}
