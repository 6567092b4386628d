//! The threads that run callbacks, shared by all clients of a process.
//!
//! As many run at once as there are cores, so a thousand clients that are told the same do not need
//! a thousand threads. A callback that takes its time must not hold up other clients' callbacks all
//! the same: when clients wait and no thread gets to the next one, another thread is added.
//! Threads beyond the first end when they have had nothing to do for a while.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::dispatch::{guarded, lock, never_wait_here};
use super::options::ThreadHooks;
use crate::{Error, ErrorCode};

/// When no thread gets to the next client for so long, those that run count as held up, and others
/// take their place. Far above what callbacks take that only note what they are told, and far
/// below what people notice.
const PATIENCE: Duration = Duration::from_millis(2);

/// A thread ends after so long without work: it then is there for the next of whatever comes a few
/// times a minute, and an app that is left alone has one thread.
const IDLE: Duration = Duration::from_secs(10);

/// Whose turn it can be.
pub(super) trait Turn: Send + Sync {
    /// Runs some of what waits. Returns whether there is more.
    fn take(&self) -> bool;
}

/// Keeps the threads. When the last of these goes they are told to end, and not waited for: the last
/// may go on one of them.
pub(super) struct Pool {
    inner: Arc<Inner>,
}

static SHARED: Mutex<Weak<Pool>> = Mutex::new(Weak::new());

impl Pool {
    /// The threads that all clients share, of which one is there at once.
    pub(super) fn shared() -> Result<Arc<Pool>, Error> {
        let mut shared = lock(&SHARED);
        if let Some(pool) = shared.upgrade() {
            return Ok(pool);
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let pool = Pool::start(cores, usize::MAX, None)?;
        *shared = Arc::downgrade(&pool);
        Ok(pool)
    }

    /// One thread for one client, from before its first callback until after its last.
    pub(super) fn own(hooks: ThreadHooks) -> Result<Arc<Pool>, Error> {
        Pool::start(1, 1, Some(hooks))
    }

    fn start(at_once: usize, most_threads: usize, hooks: Option<ThreadHooks>) -> Result<Arc<Pool>, Error> {
        let state = Mutex::new(State::default());
        let inner = Arc::new(Inner { state, called: Condvar::new(), at_once, most_threads, hooks });
        if !inner.add_thread(&mut lock(&inner.state)) {
            return Err(Error::new(ErrorCode::OutOfResources, "the system refused a thread for callbacks"));
        }
        Ok(Arc::new(Pool { inner }))
    }

    /// Hands in somebody who is not waiting for a turn already.
    pub(super) fn submit(&self, turn: Arc<dyn Turn>) {
        let mut state = lock(&self.inner.state);
        state.waiting.push_back(turn);
        self.inner.provide(&mut state);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.inner.state).ended = true;
        self.inner.called.notify_all();
    }
}

struct Inner {
    state: Mutex<State>,
    /// Wakes threads that rest.
    called: Condvar,
    /// How many turns are run at once, those that are held up not counted.
    at_once: usize,
    most_threads: usize,
    hooks: Option<ThreadHooks>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<dyn Turn>>,
    threads: usize,
    /// Threads that rest and were not called.
    resting: usize,
    /// Threads that were called, or started, and are on their way.
    coming: usize,
    /// Turns that are being run.
    running: usize,
    /// Those of them that are held up.
    held_up: usize,
    /// Turns begun so far; each has its number.
    begun: u64,
    /// The turns up to this one that are still being run are held up.
    held_up_to: u64,
    /// A thread is watching whether those who wait get their turn.
    watched: bool,
    ended: bool,
}

impl Inner {
    /// Sees to it that there are threads for those who wait, or at least one that watches.
    fn provide(self: &Arc<Self>, state: &mut State) {
        let room = state.running - state.held_up + state.coming < self.at_once;
        let unseen = state.coming == 0 && !state.watched;
        if state.waiting.len() <= state.coming || !(room || unseen) {
            return;
        }
        if state.resting > 0 {
            state.resting -= 1;
            state.coming += 1;
            self.called.notify_one();
        } else {
            // If the system refuses another thread, those that are there go on.
            self.add_thread(state);
        }
    }

    fn add_thread(self: &Arc<Self>, state: &mut State) -> bool {
        if state.threads == self.most_threads {
            return false;
        }
        let own = self.clone();
        let started = std::thread::Builder::new().name("sessionstore-cb".into()).spawn(move || {
            never_wait_here();
            own.run();
        });
        if started.is_ok() {
            state.threads += 1;
            state.coming += 1;
        }
        started.is_ok()
    }

    fn run(self: &Arc<Self>) {
        if let Some(hooks) = &self.hooks {
            guarded(|| (hooks.started)());
        }
        let mut state = lock(&self.state);
        while let Some(mut awake) = self.rest(state) {
            while !awake.waiting.is_empty() {
                awake = if awake.running - awake.held_up < self.at_once {
                    self.run_next(awake)
                } else if awake.watched {
                    break;
                } else {
                    self.watch(awake)
                };
            }
            awake.resting += 1;
            state = awake;
        }
        if let Some(hooks) = &self.hooks {
            guarded(|| (hooks.stopping)());
        }
    }

    /// Waits until this thread is called; `None` when it is to end.
    fn rest<'a>(&self, mut state: MutexGuard<'a, State>) -> Option<MutexGuard<'a, State>> {
        loop {
            if state.coming > 0 {
                state.coming -= 1;
                return Some(state);
            }
            if state.ended {
                return None;
            }
            if state.threads == 1 {
                state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (now, rested) = self.called.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = now;
            if rested.timed_out() && state.coming == 0 && state.threads > 1 {
                state.resting -= 1;
                state.threads -= 1;
                return None;
            }
        }
    }

    fn run_next<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(turn) = state.waiting.pop_front() else { return state };
        state.begun += 1;
        state.running += 1;
        let number = state.begun;
        // This turn may take long, so the next must not depend on this thread.
        self.provide(&mut state);
        drop(state);
        // Let go of before the lock is taken: it may be the last that holds this pool.
        let again = turn.take().then_some(turn);
        let mut state = lock(&self.state);
        state.running -= 1;
        state.held_up -= usize::from(number <= state.held_up_to);
        state.waiting.extend(again);
        state
    }

    /// Waits a little; if nobody got a turn meanwhile, the threads that run are held up.
    fn watch<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let before = state.begun;
        state.watched = true;
        drop(state);
        std::thread::sleep(PATIENCE);
        let mut state = lock(&self.state);
        state.watched = false;
        if state.begun == before {
            state.held_up = state.running;
            state.held_up_to = state.begun;
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Far above what anything here takes.
    const SAFETY: Duration = Duration::from_secs(30);

    struct Once<F>(Mutex<Option<F>>);

    impl<F: FnOnce() + Send> Turn for Once<F> {
        fn take(&self) -> bool {
            if let Some(once) = lock(&self.0).take() {
                once();
            }
            false
        }
    }

    fn submit(pool: &Pool, once: impl FnOnce() + Send + 'static) {
        pool.submit(Arc::new(Once(Mutex::new(Some(once)))));
    }

    fn threads(pool: &Pool) -> usize {
        lock(&pool.inner.state).threads
    }

    #[test]
    fn many_turns_need_no_more_threads_than_may_run_at_once() {
        let pool = Pool::start(2, usize::MAX, None).unwrap();
        let (done, ended) = mpsc::channel();
        for _ in 0..1_000 {
            let done = done.clone();
            submit(&pool, move || done.send(()).unwrap());
        }
        (0..1_000).for_each(|_| ended.recv_timeout(SAFETY).unwrap());
        // Two that run and one that watches; on a busy machine a moment's standstill may add one or two.
        assert!(threads(&pool) < 20, "{} threads", threads(&pool));
    }

    #[test]
    fn turns_that_are_held_up_hold_up_nobody_else() {
        const HELD_UP: usize = 10;
        let pool = Pool::start(2, usize::MAX, None).unwrap();
        let (begun, beginning) = mpsc::channel();
        let release = Arc::new((Mutex::new(false), Condvar::new()));
        for _ in 0..HELD_UP {
            let (begun, release) = (begun.clone(), release.clone());
            submit(&pool, move || {
                begun.send(()).unwrap();
                let released = lock(&release.0);
                drop(release.1.wait_while(released, |released| !*released).unwrap());
            });
        }
        (0..HELD_UP).for_each(|_| beginning.recv_timeout(SAFETY).expect("each begins though the others wait"));
        let (done, ended) = mpsc::channel();
        submit(&pool, move || done.send(()).unwrap());
        ended.recv_timeout(SAFETY).expect("one more is run");
        assert!(threads(&pool) > HELD_UP);
        *lock(&release.0) = true;
        release.1.notify_all();
        // Once they go on, they count as any other: as many as may run at once do.
        for _ in 0..100 {
            let (done, ended) = mpsc::channel();
            submit(&pool, move || done.send(()).unwrap());
            ended.recv_timeout(SAFETY).expect("turns go on");
        }
        let deadline = std::time::Instant::now() + SAFETY;
        while lock(&pool.inner.state).running > 0 {
            assert!(std::time::Instant::now() < deadline, "some turn does not end");
            std::thread::yield_now();
        }
        assert_eq!(lock(&pool.inner.state).held_up, 0);
    }

    #[test]
    fn threads_end_with_the_pool_and_a_thread_of_its_own_is_one_with_its_hooks() {
        let (told, heard) = mpsc::channel();
        let (starts, stops) = (told.clone(), told.clone());
        let hooks = ThreadHooks {
            started: Arc::new(move || starts.send("started").unwrap()),
            stopping: Arc::new(move || stops.send("stopping").unwrap()),
        };
        let pool = Pool::own(hooks).unwrap();
        for _ in 0..10 {
            let told = told.clone();
            submit(&pool, move || told.send("turn").unwrap());
        }
        let mut words = ["turn"; 12];
        (words[0], words[11]) = ("started", "stopping");
        let before_the_end: Vec<_> = (0..11).map(|_| heard.recv_timeout(SAFETY).unwrap()).collect();
        assert_eq!(before_the_end, words[..11]);
        assert_eq!(threads(&pool), 1);
        drop((pool, told));
        assert_eq!(heard.recv_timeout(SAFETY).unwrap(), words[11]);
        assert_eq!(heard.recv_timeout(SAFETY), Err(mpsc::RecvTimeoutError::Disconnected), "the thread has ended");
    }
}
