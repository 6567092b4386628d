//! The queue of callbacks of one client, how they are run, and poll mode.
//!
//! What a client has to tell is decided under locks and queued; callbacks run later with no lock
//! held, one at a time, in order. A listener that does not keep up costs bounded memory: when many
//! changes wait, older states of a key, and what is older of a peer, give way to the newest.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::listener::{ConnectionState, KeyChange, KeyChangeListener, PeerChange, UpdateListener};
use super::options::{Hook, ThreadHooks};
use super::pool::{Pool, Turn};
use super::store::Store;
use crate::core::replica::{KeyEvent, ListenerId};
use crate::core::room::Time;
use crate::core::wire::PeerInfo;
use crate::{Error, ErrorCode};

/// So many changes, of keys and of peers, may wait before older ones give way to newer ones. With
/// the usual limits (100 keys) it is far above what a listener that keeps up ever has waiting, and
/// at about 100 bytes each it is less than half a megabyte.
const COMPACT_ABOVE: usize = 4_096;

/// So many are taken from the queue at once: few enough that what waits may still be compacted, and
/// that a listener which cancels is not told of much for nothing.
const ITEMS_AT_ONCE: usize = 64;

/// After so many callbacks other clients get their turn on the thread. A thread takes them in about
/// 50 µs, in which going over to another client is next to nothing.
const ITEMS_PER_TURN: usize = 256;

/// An idle client keeps memory for so many callbacks: what usually waits at once.
const KEPT_ITEMS: usize = 8;

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// `WOULD_DEADLOCK` on a thread that is running a callback of any client.
pub(crate) fn may_wait() -> Result<(), Error> {
    if IN_CALLBACK.get() {
        return Err(ErrorCode::WouldDeadlock.into());
    }
    Ok(())
}

/// From now on nothing may wait on this thread, which is one of the library's: what an app has to say here, such as the
/// last word of a hook, would hold up everybody else.
pub(super) fn never_wait_here() {
    IN_CALLBACK.set(true);
}

/// Locks, also after a panic elsewhere: what these mutexes guard is whole between statements.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One registered listener.
pub(crate) struct ListenerCell {
    pub(crate) id: ListenerId,
    /// Taken out while a callback runs, so that no lock is held then.
    listener: Mutex<Option<Box<dyn KeyChangeListener>>>,
    cancelled: AtomicBool,
    done: Mutex<bool>,
    done_changed: Condvar,
}

impl ListenerCell {
    pub(crate) fn new(id: ListenerId, listener: Box<dyn KeyChangeListener>) -> Arc<ListenerCell> {
        Arc::new(ListenerCell {
            id,
            listener: Mutex::new(Some(listener)),
            cancelled: AtomicBool::new(false),
            done: Mutex::new(false),
            done_changed: Condvar::new(),
        })
    }

    /// From now on it hears nothing more. Returns whether this call was the first.
    pub(crate) fn cancel(&self) -> bool {
        !self.cancelled.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn tell(&self, change: KeyChange<'_>) {
        if self.is_cancelled() {
            return;
        }
        let Some(mut listener) = lock(&self.listener).take() else { return };
        let well = guarded(|| listener.on_change(change));
        self.put_back(listener, well);
    }

    /// Tells one change, and those for the same listener that follow it.
    fn tell_changes(self: &Arc<Self>, first: KeyEvent, items: &mut VecDeque<Item>) {
        let Some(mut listener) = lock(&self.listener).take() else { return };
        let mut next = Some(first);
        let mut well = true;
        while let Some(event) = next.take() {
            // A callback may have cancelled it.
            if well && !self.is_cancelled() {
                well = guarded(|| listener.on_change(KeyChange::Event(&event)));
            }
            if matches!(items.front(), Some(Item::Key(cell, _)) if Arc::ptr_eq(cell, self)) {
                if let Some(Item::Key(_, event)) = items.pop_front() {
                    next = Some(event);
                }
            }
        }
        self.put_back(listener, well);
    }

    fn put_back(&self, listener: Box<dyn KeyChangeListener>, well: bool) {
        if well {
            *lock(&self.listener) = Some(listener);
        } else {
            // A listener that panicked is not called again: it is not there any more. It still is to be cancelled.
            guarded(move || drop(listener));
        }
    }

    fn finish(&self) {
        let listener = lock(&self.listener).take();
        guarded(move || drop(listener));
        *lock(&self.done) = true;
        self.done_changed.notify_all();
    }
}

/// Runs a piece of the app's code, marking the thread, and keeps a panic from going further.
/// Returns whether it ended well.
pub(super) fn guarded(callback: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(|| in_callback(callback))).is_ok()
}

/// Runs a piece of the app's code, marking the thread: waiting in it is refused.
pub(super) fn in_callback<T>(callback: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IN_CALLBACK.set(self.0);
        }
    }
    let _before = Before(IN_CALLBACK.replace(true));
    callback()
}

/// What the update listener is told.
pub(crate) enum UpdateNotice {
    StoreAvailable(Store),
    State(ConnectionState, Option<Error>),
    Peer(PeerChange, Arc<PeerInfo>),
    Error(Error),
    /// When, in server time.
    TokenExpiring(Time),
}

/// One thing to be done where callbacks run.
pub(crate) enum Item {
    Key(Arc<ListenerCell>, KeyEvent),
    SnapshotEnd(Arc<ListenerCell>),
    /// The listener is refused, and ends.
    Refused(Arc<ListenerCell>, Error),
    /// The listener ends.
    Ended(Arc<ListenerCell>),
    /// An action result.
    Call(Box<dyn FnOnce() + Send>),
    Update(UpdateNotice),
    /// The client is closed; nothing follows.
    Last,
}

impl Item {
    /// Whether it is a change that may give way to a newer one.
    fn is_change(&self) -> bool {
        matches!(self, Item::Key(..) | Item::Update(UpdateNotice::Peer(..)))
    }
}

impl From<(Arc<ListenerCell>, Option<KeyEvent>)> for Item {
    fn from((cell, event): (Arc<ListenerCell>, Option<KeyEvent>)) -> Item {
        match event {
            Some(event) => Item::Key(cell, event),
            None => Item::SnapshotEnd(cell),
        }
    }
}

struct Queue {
    items: VecDeque<Item>,
    changes: usize,
    compact_above: usize,
    /// Something was queued that nobody was woken for yet.
    unannounced: bool,
    /// A thread runs callbacks now. It looks for more before it stops.
    running: bool,
    /// The last item was queued; nothing is taken after it.
    closed: bool,
    /// The client's handle is gone, so nobody may poll again.
    abandoned: bool,
    waker: Waker,
}

/// Who is told that there is something to run.
#[derive(Clone)]
enum Waker {
    /// Threads of this library's.
    Pool(Arc<Pool>),
    /// Poll mode: the app.
    Host(Hook),
    /// Nobody: everything was run.
    None,
}

impl Queue {
    /// Moves the first items over.
    fn take(&mut self, most: usize, items: &mut VecDeque<Item>) {
        let most = most.min(self.items.len());
        items.extend(self.items.drain(..most));
        self.changes -= items.iter().filter(|item| item.is_change()).count();
    }
}

/// The queue of one client.
pub(crate) struct Dispatcher {
    queue: Mutex<Queue>,
    /// Poll mode: a poll has ended.
    stopped_running: Condvar,
    update_listener: Mutex<Option<Box<dyn UpdateListener>>>,
    polled: bool,
    /// This very dispatcher, for the pool.
    own: Weak<Dispatcher>,
}

impl Dispatcher {
    /// A dispatcher in poll mode if there is a wake hook; with a thread of its own if there are hooks
    /// for it; else with the threads that all clients share.
    pub(crate) fn start(
        listener: Box<dyn UpdateListener>,
        wake: Option<Hook>,
        hooks: Option<ThreadHooks>,
    ) -> Result<Arc<Dispatcher>, Error> {
        let polled = wake.is_some();
        let waker = match (wake, hooks) {
            (Some(wake), _) => Ok(Waker::Host(wake)),
            (None, Some(hooks)) => Pool::own(hooks).map(Waker::Pool),
            (None, None) => Pool::shared().map(Waker::Pool),
        };
        let queue = Queue {
            items: VecDeque::new(),
            changes: 0,
            compact_above: COMPACT_ABOVE,
            unannounced: false,
            running: false,
            closed: false,
            abandoned: false,
            waker: waker?,
        };
        Ok(Arc::new_cyclic(|own| Dispatcher {
            queue: Mutex::new(queue),
            stopped_running: Condvar::new(),
            update_listener: Mutex::new(Some(listener)),
            polled,
            own: own.clone(),
        }))
    }

    pub(crate) fn is_polled(&self) -> bool {
        self.polled
    }

    /// Queues without waking anybody, so that it may be done under a lock; [`announce`] follows
    /// after the lock is released.
    ///
    /// [`announce`]: Dispatcher::announce
    pub(crate) fn push(&self, item: Item) {
        self.push_all(std::iter::once(item));
    }

    /// The same for many, which stay together. Returns whether so much waits that whoever runs the
    /// callbacks should be let go first.
    pub(crate) fn push_all(&self, items: impl Iterator<Item = Item>) -> bool {
        let mut queue = lock(&self.queue);
        for item in items {
            if queue.closed {
                // What is dropped may be the app's, which must not find the queue locked.
                drop(queue);
                drop(item);
                return false;
            }
            queue.closed = matches!(item, Item::Last);
            queue.changes += usize::from(item.is_change());
            queue.unannounced |= queue.items.is_empty();
            queue.items.push_back(item);
            if queue.changes > queue.compact_above {
                compact(&mut queue);
            }
        }
        queue.changes > queue.compact_above / 4
    }

    /// Wakes whoever runs the callbacks, if something new waits.
    pub(crate) fn announce(&self) {
        let mut queue = lock(&self.queue);
        if queue.running || !std::mem::take(&mut queue.unannounced) {
            return;
        }
        let waker = queue.waker.clone();
        drop(queue);
        self.wake(waker);
    }

    fn wake(&self, waker: Waker) {
        match waker {
            Waker::Host(wake) => wake(),
            Waker::Pool(pool) => {
                if let Some(own) = self.own.upgrade() {
                    pool.submit(own);
                }
            }
            Waker::None => {}
        }
    }

    /// Runs callbacks on this thread, at most `most` of them. Returns how many ran.
    pub(crate) fn poll(&self, most: usize) -> Result<usize, Error> {
        if !self.polled {
            return Err(Error::new(ErrorCode::WrongMode, "this client is not in poll mode, which is an option"));
        }
        may_wait()?;
        if !self.begin_running() {
            return Err(ErrorCode::Busy.into());
        }
        let (ran, more) = self.run_queue(most);
        if let Some(waker) = more {
            self.wake(waker);
        }
        Ok(ran)
    }

    /// Runs at most `most` items on this thread, which began running, and ends running. Returns how
    /// many ran, and who is to be woken if something is left.
    fn run_queue(&self, most: usize) -> (usize, Option<Waker>) {
        let mut ran = 0;
        let mut items = VecDeque::new();
        loop {
            let mut queue = lock(&self.queue);
            let wanted = if queue.abandoned { ITEMS_AT_ONCE } else { ITEMS_AT_ONCE.min(most.saturating_sub(ran)) };
            queue.take(wanted, &mut items);
            if items.is_empty() {
                return (ran, self.end_running(queue, ran));
            }
            drop(queue);
            ran = ran.saturating_add(items.len());
            self.run_all(&mut items);
        }
    }

    fn end_running(&self, mut queue: MutexGuard<'_, Queue>, ran: usize) -> Option<Waker> {
        (queue.running, queue.unannounced) = (false, false);
        let more = (!queue.items.is_empty()).then(|| queue.waker.clone());
        // A busy client needs its memory again at once.
        if more.is_none() && ran <= ITEMS_AT_ONCE {
            queue.items.shrink_to(KEPT_ITEMS);
        }
        // Nothing follows what is last, so its threads may end.
        let over = more.is_none() && queue.closed;
        let let_go = over.then(|| std::mem::replace(&mut queue.waker, Waker::None));
        drop(queue);
        drop(let_go);
        if self.polled {
            self.stopped_running.notify_all();
        }
        more
    }

    fn begin_running(&self) -> bool {
        !std::mem::replace(&mut lock(&self.queue).running, true)
    }

    /// Poll mode, after the client was freed: runs what is left on this thread, also inside a
    /// callback of another client, unless this one's callbacks are being run (here or elsewhere):
    /// who runs them then does it.
    pub(crate) fn drain_after_close(&self) {
        lock(&self.queue).abandoned = true;
        if self.polled && self.begin_running() {
            self.run_queue(usize::MAX);
        }
    }

    /// Waits until the listener's last callback has returned and it is dropped.
    pub(crate) fn wait_until_done(&self, cell: &ListenerCell, timeout: Duration) -> Result<(), Error> {
        may_wait()?;
        let deadline = Instant::now().checked_add(timeout);
        if self.polled {
            let mut queue = lock(&self.queue);
            while queue.running {
                queue = wait(&self.stopped_running, queue, deadline)?;
            }
            // Nobody runs callbacks now; the listener goes on this thread, which polls or could.
            queue.running = true;
            drop(queue);
            cell.finish();
            // If the client was freed meanwhile, what is left is run too.
            if let (_, Some(waker)) = self.run_queue(0) {
                self.wake(waker);
            }
            return Ok(());
        }
        let mut done = lock(&cell.done);
        while !*done {
            done = wait(&cell.done_changed, done, deadline)?;
        }
        Ok(())
    }

    /// Runs what was taken from the queue.
    fn run_all(&self, items: &mut VecDeque<Item>) {
        while let Some(item) = items.pop_front() {
            self.run(item, items);
        }
    }

    fn run(&self, item: Item, following: &mut VecDeque<Item>) {
        match item {
            Item::Key(cell, event) => cell.tell_changes(event, following),
            Item::SnapshotEnd(cell) => cell.tell(KeyChange::SnapshotEnd),
            Item::Refused(cell, error) => {
                cell.tell(KeyChange::Refused(&error));
                cell.cancel();
                cell.finish();
            }
            Item::Ended(cell) => cell.finish(),
            Item::Call(call) => {
                guarded(call);
            }
            Item::Update(notice) => self.update(notice),
            Item::Last => self.drop_update_listener(),
        }
    }

    fn update(&self, notice: UpdateNotice) {
        let Some(mut listener) = lock(&self.update_listener).take() else { return };
        let well = guarded(|| match &notice {
            UpdateNotice::StoreAvailable(store) => listener.on_store_available(store),
            UpdateNotice::State(state, error) => listener.on_connection_state(*state, error.as_ref()),
            UpdateNotice::Peer(change, peer) => listener.on_peer(*change, peer),
            UpdateNotice::Error(error) => listener.on_error(error),
            UpdateNotice::TokenExpiring(at) => listener.on_token_expiring(*at),
        });
        if well {
            *lock(&self.update_listener) = Some(listener);
        } else {
            guarded(move || drop(listener));
        }
    }

    fn drop_update_listener(&self) {
        let listener = lock(&self.update_listener).take();
        guarded(move || drop(listener));
    }
}

impl Turn for Dispatcher {
    fn take(&self) -> bool {
        // Whoever runs it already looks for more before it stops.
        self.begin_running() && self.run_queue(ITEMS_PER_TURN).1.is_some()
    }
}

/// Waits on a condition until a deadline; `None` is for ever.
pub(crate) fn wait<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Result<MutexGuard<'a, T>, Error> {
    let Some(deadline) = deadline else {
        return Ok(condition.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorCode::Timeout.into());
    }
    Ok(condition.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0)
}

/// Keeps the newest state of each (listener, key) and puts all of them first, in the order they
/// came: then everything an action result has promised is told before that result, and the order
/// of revisions holds. What comes before a listener's end-of-snapshot mark by that is the current value of its key.
/// What is told of peers stays where it is among the rest, see [`Peers`].
fn compact(queue: &mut Queue) {
    let mut newest: HashMap<(ListenerId, Arc<str>), (usize, u64, bool)> = HashMap::new();
    let mut kept: Vec<Option<(Arc<ListenerCell>, KeyEvent)>> = Vec::new();
    let mut others = Vec::new();
    let mut peers = Peers::default();
    let mut snapshots = HashSet::new();
    for item in std::mem::take(&mut queue.items) {
        match item {
            Item::Key(cell, _) if cell.is_cancelled() => {}
            Item::Key(cell, mut event) => {
                let place = newest.entry((cell.id, event.change.key.clone())).or_insert((kept.len(), 0, false));
                if let Some(old) = kept.get_mut(place.0).and_then(Option::take) {
                    event.replaced += old.1.replaced + 1;
                    event.snapshot |= old.1.snapshot;
                }
                place.0 = kept.len();
                kept.push(Some((cell, event)));
            }
            Item::Update(UpdateNotice::Peer(change, peer)) => peers.add(change, peer, &mut others),
            other => {
                if let Item::SnapshotEnd(cell) = &other {
                    snapshots.insert(cell.id);
                }
                others.push(Some(other));
            }
        }
    }
    let kept = kept.into_iter().flatten().map(|(cell, mut event)| {
        event.snapshot |= snapshots.contains(&cell.id);
        Item::Key(cell, event)
    });
    queue.items = kept.chain(others.into_iter().flatten()).collect();
    queue.changes = queue.items.iter().filter(|item| item.is_change()).count();
    queue.compact_above = COMPACT_ABOVE.max(queue.changes * 2);
}

/// What waits to be told of each peer, at most two changes: that the one who was known has left, and
/// who is there now. Who came and went meanwhile is not told at all.
#[derive(Default)]
struct Peers {
    /// Where among the items it is told that the peer is there.
    present: HashMap<Arc<str>, usize>,
}

impl Peers {
    fn add(&mut self, change: PeerChange, peer: Arc<PeerInfo>, items: &mut Vec<Option<Item>>) {
        let waiting = match change {
            PeerChange::Left => self.present.remove(&peer.peer_id),
            PeerChange::Joined | PeerChange::Updated => self.present.get(&peer.peer_id).copied(),
        };
        let before = waiting.and_then(|place| items.get_mut(place));
        match (change, before) {
            (PeerChange::Updated, Some(Some(Item::Update(UpdateNotice::Peer(_, before))))) => *before = peer,
            (PeerChange::Left, Some(before)) => {
                let was_known = !matches!(before.take(), Some(Item::Update(UpdateNotice::Peer(PeerChange::Joined, _))));
                if was_known {
                    items.push(Some(Item::Update(UpdateNotice::Peer(change, peer))));
                }
            }
            (change, _) => {
                if change != PeerChange::Left {
                    self.present.insert(peer.peer_id.clone(), items.len());
                }
                items.push(Some(Item::Update(UpdateNotice::Peer(change, peer))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::room::Change;
    use crate::Value;

    fn polled() -> Arc<Dispatcher> {
        Dispatcher::start(Box::new(()), Some(Arc::new(|| {})), None).unwrap()
    }

    fn event(key: &str, version: u64, snapshot: bool) -> KeyEvent {
        let value = Value::from(version as i64);
        let change = Change { value, version, ..Change::absent(key.into()) };
        KeyEvent { change: Arc::new(change), replaced: 0, snapshot }
    }

    type Log = Arc<Mutex<Vec<String>>>;

    fn cell(id: ListenerId, log: &Log) -> Arc<ListenerCell> {
        let log = log.clone();
        let listener = move |change: KeyChange<'_>| {
            lock(&log).push(match change {
                KeyChange::Event(event) => {
                    let mark = if event.snapshot { "*" } else { "" };
                    format!("{}={}{mark}+{}", event.change.key, event.change.version, event.replaced)
                }
                KeyChange::SnapshotEnd => "end".into(),
                KeyChange::Refused(error) => error.code().to_string(),
            })
        };
        ListenerCell::new(id, Box::new(listener))
    }

    #[test]
    fn a_listener_that_does_not_keep_up_gets_the_newest_before_the_results_that_promise_it() {
        let (dispatcher, log) = (polled(), Log::default());
        let slow = cell(1, &log);
        dispatcher.push(Item::Key(slow.clone(), event("a", 1, true)));
        dispatcher.push(Item::SnapshotEnd(slow.clone()));
        let own = log.clone();
        dispatcher.push(Item::Key(slow.clone(), event("b", 2, false)));
        dispatcher.push(Item::Call(Box::new(move || lock(&own).push("result".into()))));
        let last = COMPACT_ABOVE as u64 + 1;
        for version in 3..=last {
            dispatcher.push(Item::Key(slow.clone(), event("a", version, false)));
        }
        dispatcher.poll(usize::MAX).unwrap();
        let told = lock(&log).clone();
        let (first, rest) = told.split_at(2);
        assert_eq!(first[0], "b=2*+0", "all that comes before the end of the snapshot belongs to it");
        assert!(first[1].starts_with("a=") && first[1].contains('*'), "{first:?}");
        assert_eq!(&rest[..2], ["end", "result"]);
        // Nothing is lost uncounted: events told and events replaced make up all that came.
        let numbers = told.iter().filter_map(|line| line.split_once('+')?.1.parse::<u64>().ok());
        assert_eq!(numbers.map(|replaced| replaced + 1).sum::<u64>(), last);
        let newest = told.iter().rfind(|line| line.starts_with("a=")).unwrap();
        assert!(newest.starts_with(&format!("a={last}")), "{newest}");
    }

    #[test]
    fn a_listener_that_does_not_keep_up_is_told_of_each_peer_what_it_has_to_know() {
        struct Told(Log);
        impl UpdateListener for Told {
            fn on_peer(&mut self, change: PeerChange, peer: &Arc<PeerInfo>) {
                lock(&self.0).push(format!("{change:?} {} {}", peer.peer_id, peer.name));
            }
        }
        let log = Log::default();
        let dispatcher = Dispatcher::start(Box::new(Told(log.clone())), Some(Arc::new(|| {})), None).unwrap();
        let tell = |change, id: &str, name: &str| {
            let (peer_id, name, empty) = (id.into(), name.into(), Arc::<str>::from(""));
            let (user_id, role, metadata) = (empty.clone(), empty.clone(), empty);
            let peer = PeerInfo { peer_id, user_id, name, role, metadata, joined_at: 0 };
            dispatcher.push(Item::Update(UpdateNotice::Peer(change, Arc::new(peer))));
        };
        let result = |text: &'static str| {
            let own = log.clone();
            dispatcher.push(Item::Call(Box::new(move || lock(&own).push(text.into()))));
        };
        use PeerChange::{Joined, Left, Updated};
        tell(Joined, "new", "first");
        tell(Updated, "known", "first");
        result("a result");
        tell(Left, "gone", "");
        tell(Left, "back", "before");
        tell(Updated, "updated and gone", "");
        tell(Left, "updated and gone", "");
        for round in 0..COMPACT_ABOVE {
            let name = round.to_string();
            tell(Joined, &format!("passing {round}"), "");
            tell(Updated, "new", &name);
            tell(Updated, "known", &name);
            tell(Joined, "back", &name);
            tell(Updated, "back", "renamed");
            tell(Left, &format!("passing {round}"), "");
            tell(Left, "back", "renamed");
        }
        assert!(lock(&dispatcher.queue).items.len() < 2 * COMPACT_ABOVE, "what waits is bounded");
        tell(Joined, "back", "now");
        result("another");
        compact(&mut lock(&dispatcher.queue));
        assert_eq!(lock(&dispatcher.queue).changes, 6);
        assert_eq!(dispatcher.poll(usize::MAX).unwrap(), 8);
        let last = COMPACT_ABOVE - 1;
        let expected = [
            &format!("Joined new {last}"),
            &format!("Updated known {last}"),
            "a result",
            "Left gone ",
            "Left back before",
            "Left updated and gone ",
            "Joined back now",
            "another",
        ];
        assert_eq!(*lock(&log), expected);
        assert_eq!(lock(&dispatcher.queue).changes, 0);
    }

    #[test]
    fn a_panicking_listener_is_not_called_again_and_others_go_on() {
        let (dispatcher, log) = (polled(), Log::default());
        let bad = ListenerCell::new(1, Box::new(|_: KeyChange<'_>| panic!("an app's bug")));
        let good = cell(2, &log);
        for version in 1..=2 {
            dispatcher.push(Item::Key(bad.clone(), event("a", version, false)));
            dispatcher.push(Item::Key(good.clone(), event("a", version, false)));
        }
        assert_eq!(dispatcher.poll(usize::MAX).unwrap(), 4);
        assert!(lock(&bad.listener).is_none());
        assert_eq!(*lock(&log), ["a=1+0", "a=2+0"]);
    }

    #[test]
    fn a_closed_client_that_is_still_there_is_polled_to_its_end_little_by_little() {
        let (dispatcher, log) = (polled(), Log::default());
        for nth in 0..3 {
            let own = log.clone();
            dispatcher.push(Item::Call(Box::new(move || lock(&own).push(nth.to_string()))));
        }
        dispatcher.push(Item::Last);
        assert_eq!((dispatcher.poll(1).unwrap(), dispatcher.poll(2).unwrap()), (1, 2));
        assert_eq!(*lock(&log), ["0", "1", "2"]);
        assert_eq!((dispatcher.poll(5).unwrap(), dispatcher.poll(5).unwrap()), (1, 0));
    }

    #[test]
    fn what_comes_after_the_end_is_dropped_with_nothing_locked() {
        struct Asks(Arc<Dispatcher>);
        impl Drop for Asks {
            fn drop(&mut self) {
                self.0.announce();
            }
        }
        let dispatcher = polled();
        dispatcher.push(Item::Last);
        let asks = Asks(dispatcher.clone());
        dispatcher.push(Item::Call(Box::new(move || drop(asks))));
    }

    #[test]
    fn polling_inside_a_callback_or_twice_at_once_is_refused() {
        let dispatcher = polled();
        let own = dispatcher.clone();
        dispatcher.push(Item::Call(Box::new(move || {
            assert_eq!(own.poll(1).unwrap_err(), ErrorCode::WouldDeadlock);
            let other = own.clone();
            let elsewhere = std::thread::spawn(move || other.poll(1).unwrap_err().code());
            assert_eq!(elsewhere.join().unwrap(), ErrorCode::Busy);
        })));
        assert_eq!(dispatcher.poll(usize::MAX).unwrap(), 1);
    }
}
