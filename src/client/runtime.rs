//! The one network thread that all clients of a process share.
//!
//! It starts with the first client and ends after the last; nothing else in the process changes.

use std::future::Future;
use std::sync::{mpsc, Arc, Mutex, PoisonError, Weak};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::{Error, ErrorCode};

/// Keeps the network thread running. The thread is told to end when the last of these goes, and
/// is not waited for: the last may go on that very thread.
pub(crate) struct NetworkThread {
    handle: Handle,
    _running: oneshot::Sender<()>,
}

static CURRENT: Mutex<Weak<NetworkThread>> = Mutex::new(Weak::new());

impl NetworkThread {
    /// The running thread, or a new one.
    pub(crate) fn get() -> Result<Arc<NetworkThread>, Error> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = current.upgrade() {
            return Ok(running);
        }
        let refused = |what: &str| Error::new(ErrorCode::OutOfResources, format!("the system refused {what}"));
        let (running, ended) = oneshot::channel::<()>();
        // The thread comes first: where it is refused there is no runtime, which must not be dropped within another's.
        let (hand_over, handed_over) = mpsc::channel::<Runtime>();
        std::thread::Builder::new()
            .name("sessionstore-net".into())
            .spawn(move || {
                super::dispatch::never_wait_here();
                let Ok(runtime) = handed_over.recv() else { return };
                let _ = runtime.block_on(ended);
                // A host name being resolved must not hold up the end of the thread.
                runtime.shutdown_background();
            })
            .map_err(|_| refused("a thread"))?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Only host names are resolved on these.
            .max_blocking_threads(4)
            .thread_name("sessionstore-dns")
            .build()
            .map_err(|_| refused("the descriptors of an event loop"))?;
        let handle = runtime.handle().clone();
        if let Err(mpsc::SendError(runtime)) = hand_over.send(runtime) {
            runtime.shutdown_background();
            return Err(refused("a thread"));
        }
        let thread = Arc::new(NetworkThread { handle, _running: running });
        *current = Arc::downgrade(&thread);
        Ok(thread)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}
