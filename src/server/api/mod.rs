//! The HTTP API for operators and back ends, on a thread of its own: however slow a request is, no room waits for it.
//!
//! The loops hand over sockets whose request is for `/v1`; hyper and axum do the rest, and ask the loops about
//! rooms (`operate`). The OpenAPI document is made from the handlers.
//!
//! | module | what it does |
//! |---|---|
//! | `caller` | tokens and their scopes |
//! | `answer` | bodies that are read and written, refusals |
//! | `rooms`, `keys`, `watch` | the handlers |
//! | `inspector` | the page for people |
//! | `socket` | a connection as hyper wants it |

mod answer;
mod caller;
mod inspector;
mod keys;
mod rooms;
mod socket;
mod watch;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{header, HeaderName, HeaderValue};
use axum::middleware::{from_fn, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinSet, LocalSet};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::OpenApi as Document;
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::metrics;
use super::options::{ServerOptions, MAX_API_CONNECTIONS, MAX_HEAD_BYTES};
use super::shard::{Shared, Ticket};
use super::stream::{Stream, Unbound};
use super::token::Verifier;
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Time;
use answer::Refusal;
use caller::{Caller, Scope};
use socket::Socket;

/// What the thread is told from outside.
pub(super) enum ToApi {
    /// A connection whose first request is for the API, and what was read of it.
    Serve {
        socket: Unbound,
        read: Vec<u8>,
        ticket: Ticket,
    },
    Stop,
}

/// Where connections are handed over.
pub(super) type Handle = UnboundedSender<ToApi>;

/// Whether this is for the API, or its page.
pub(super) fn has_path(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/") || inspector::has_path(path)
}

/// Refuses options that make no sense; returns whether there is an API.
pub(super) fn check(options: &ServerOptions) -> Result<bool, Error> {
    let invalid = |message: &'static str| Err(Error::new(ErrorCode::InvalidConfig, message));
    match &options.api_secret {
        None => Ok(false),
        Some(secret) if secret.is_empty() => invalid("api_secret is empty; leave it out for a server without the API"),
        Some(secret) if options.secret.as_ref() == Some(secret) => {
            invalid("api_secret is the same as secret; with one of its own no peer's token opens the API")
        }
        Some(_) => Ok(true),
    }
}

/// What the handlers know.
struct Context {
    shared: Arc<Shared>,
    verifier: Verifier,
    started_at: Time,
    /// Raised when the server stops.
    stopping: tokio::sync::watch::Receiver<bool>,
    document: Document,
}

type Shown = State<Arc<Context>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "SessionStore",
        description = "Rooms as operators and back ends reach them. Every request but that for this document needs a token: a JSON Web \
                       Token (HS256) signed with the server's API secret, whose claim `scope` lists `read`, `write` and `manage`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Token),
    security(("token" = [])),
    tags(
        (name = "server", description = "The server as a whole"),
        (name = "rooms", description = "Rooms, their peers and their locks"),
        (name = "keys", description = "What a room's store holds")
    )
)]
struct Described;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".into());
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn routes() -> (Router<Arc<Context>>, Document) {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(rooms::server))
        .routes(routes!(rooms::list))
        .routes(routes!(rooms::get, rooms::prepare, rooms::close))
        .routes(routes!(rooms::peers))
        .routes(routes!(rooms::kick))
        .routes(routes!(rooms::locks))
        .routes(routes!(rooms::release))
        .routes(routes!(keys::list))
        .routes(routes!(keys::get, keys::put, keys::remove))
        .routes(routes!(keys::transact))
        .routes(routes!(watch::watch))
        .routes(routes!(document))
        .split_for_parts()
}

/// The OpenAPI document of this server's API, as JSON.
pub fn openapi() -> String {
    let (_, document) = routes();
    document.to_pretty_json().unwrap_or_default()
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "An OpenAPI document", body = Object)))]
async fn document(State(context): Shown) -> Json<Document> {
    Json(context.document.clone())
}

/// What Prometheus reads; no part of the document, as it is not JSON and has its own.
async fn metrics(State(context): Shown, caller: Caller) -> Result<Response, Refusal> {
    if caller.needs_scope(Scope::Metrics).is_err() {
        caller.needs_scope(Scope::Read)?;
    }
    let text = metrics::render(&context.shared);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn router(shared: Arc<Shared>, stopping: tokio::sync::watch::Receiver<bool>) -> Router {
    let secret = shared.options.api_secret.clone().unwrap_or_default();
    let (router, document) = routes();
    let inspector = if shared.options.inspect { inspector::routes() } else { Router::new() };
    let context =
        Context { verifier: Verifier::new(&secret), started_at: shared.clock.now(), shared, stopping, document };
    let router = match context.shared.options.metrics {
        true => router.route("/metrics", axum::routing::get(metrics)),
        false => router,
    };
    router
        .fallback(|| async { Refusal::new(404, ErrorCode::NotFound, "nothing is here; see /v1/openapi.json") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(405, ErrorCode::UnknownMethod, "this method is not possible here; see /v1/openapi.json")
        })
        .layer(from_fn(stamp))
        .with_state(Arc::new(context))
        .merge(inspector)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id by which a request is found in the log: the client's own, if it can stand in a line, or a new one.
fn request_id(request: &Request) -> HeaderValue {
    let is_sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let own = request.headers().get(REQUEST_ID).filter(is_sane).cloned();
    let fresh = || crate::ids::uuid().ok().and_then(|id| HeaderValue::try_from(id).ok());
    own.or_else(fresh).unwrap_or(HeaderValue::from_static("none"))
}

/// What every answer has, and the line in the log: without the path, which has names of rooms and keys.
async fn stamp(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    // Set by browsers alone, and no page can change it (Fetch Metadata).
    let is_foreign = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let mut response = match is_foreign {
        true => Refusal::from(Error::from(ErrorCode::OriginNotAllowed)).into_response(),
        false => next.run(request).await,
    };
    tracing::debug!(
        request = id.to_str().unwrap_or_default(),
        %method,
        route = route.as_deref().unwrap_or("none"),
        status = response.status().as_u16(),
        "an operator's request"
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The life of the thread.
pub(super) fn run(runtime: tokio::runtime::Runtime, shared: Arc<Shared>, mut inbox: UnboundedReceiver<ToApi>) {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let shutdown = Duration::from_millis(shared.options.shutdown_ms);
    let handshake = Duration::from_millis(shared.options.handshake_timeout_ms);
    let router = router(shared, stopping.clone());
    let open = Arc::new(AtomicUsize::new(0));
    LocalSet::new().block_on(&runtime, async move {
        let mut connections = JoinSet::new();
        while let Some(ToApi::Serve { socket, read, ticket }) = inbox.recv().await {
            while connections.try_join_next().is_some() {}
            // Whoever is cut off here has not been answered, and comes again.
            let Some(place) = Place::take(&open) else { continue };
            let Ok(stream) = socket.bind() else { continue };
            let (router, stopping) = (router.clone(), stopping.clone());
            connections.spawn_local(async move {
                serve(stream, read, router, handshake, stopping).await;
                drop((ticket, place));
            });
        }
        // Fails when nobody waits for it.
        let _ = stop.send(true);
        let all_gone = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(shutdown, all_gone).await;
    });
}

/// One of the connections there may be at once.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Place> {
        let taken = open.fetch_add(1, Ordering::Relaxed);
        let place = Place(open.clone());
        (taken < MAX_API_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    stream: Stream,
    read: Vec<u8>,
    router: Router,
    head_timeout: Duration,
    mut stopping: tokio::sync::watch::Receiver<bool>,
) {
    let socket = TokioIo::new(Socket::new(stream, read));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A proxy would send whatever comes next on the same connection, and a join is not for this thread.
        .keep_alive(false)
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(socket, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What fails here is the client's connection, which it knows.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
