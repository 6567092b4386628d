//! Waking one task of the same thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Remembers that it was raised until the one task that waits for it has noticed.
#[derive(Default)]
pub(super) struct Signal {
    raised: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn raise(&self) {
        if !self.raised.replace(true) {
            if let Some(waker) = self.waiting.take() {
                waker.wake();
            }
        }
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        match &mut *waiting {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    pub async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }
}
