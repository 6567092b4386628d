//! The client: joins a room and shares its store.
//!
//! [`Client::open`] returns at once and joins in the background; it reconnects by itself. The
//! [`Store`] sets, gets and listens. Everything a client has to say goes through its dispatcher:
//! callbacks of one client never overlap, arrive in order, and run on a dispatch thread, or, in poll
//! mode, on the thread that calls [`Client::poll`]. Dispatch threads are shared by all clients of a
//! process, but a client with [`ThreadHooks`] has one of its own.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | what a client is told when it is opened |
//! | `listener` | the traits an app implements |
//! | `dispatch` | the queue of callbacks, how they are run, and poll mode |
//! | `pool` | the threads that run callbacks, shared by all clients |
//! | `api` | `Client`, `Action`, `Subscription` |
//! | `store` | `Store`: everything that can be asked of it |
//! | `update` | read, compute, compare and set, until it lands |
//! | `lock` | locks that are held: renewed in time, reported when lost |
//! | `cancellation` | requests that are taken back |
//! | `requests` | requests without an answer, and their deadlines |
//! | `task` | the life of the connection: join, requests, reconnect |
//! | `transport` | how a connection is opened, and the ways that can fail |
//! | `socket` | the open WebSocket: frames written and read |
//! | `runtime` | the one network thread all clients of a process share |
//!
//! ```no_run
//! use std::time::Duration;
//! use sessionstore::{Client, ClientOptions, KeyChange, Value};
//! let options = ClientOptions::new("ws://127.0.0.1:7350", "lobby");
//! let client = Client::open(options, ())?;
//! let store = client.join_wait(Duration::from_secs(10))?;
//! let listening = store.listen(&["spotlight"], |change: KeyChange<'_>| {
//!     if let KeyChange::Event(event) = change {
//!         println!("{} = {}", event.change.key, event.change.value.json());
//!     }
//! })?;
//! store.set("spotlight", Value::from("peer-1")).wait(Duration::from_secs(10))?;
//! listening.cancel_wait()?;
//! # Ok::<(), sessionstore::Error>(())
//! ```

pub(crate) mod api;
mod cancellation;
pub(crate) mod dispatch;
pub(crate) mod listener;
mod lock;
mod moment;
pub(crate) mod options;
mod pool;
mod requests;
mod runtime;
mod socket;
mod store;
mod task;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls_absent.rs"]
mod tls;
mod transport;
mod update;

#[cfg(feature = "cli")]
pub(crate) use tls::explain as explain_tls;

#[cfg(feature = "server")]
pub(crate) use dispatch::may_wait;

pub use api::{Action, Client, Subscription};
pub use cancellation::Cancellation;
pub use listener::{ConnectionState, KeyChange, KeyChangeListener, PeerChange, UpdateListener};
pub use lock::{Lock, LockOptions};
pub use options::{ClientOptions, Hook, ThreadHooks};
pub use store::{Selector, Store};
pub use update::Update;
