//! Webhooks: a program of the administrator is told when rooms open and close.
//!
//! The loops hand in what happened, once it is kept, and never wait for anything here. One thread of its own sends
//! it, by the Standard Webhooks specification: signed, under an id that stays the same when it is sent again, and
//! only to the one URL, redirects being refusals.
//!
//! | module | what it does |
//! |---|---|
//! | `queue` | which is sent next, when one is tried again, which are dropped |
//! | `payload` | what is in one |
//! | `signature` | that it is from here |

mod payload;
mod queue;
mod signature;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::header::{HeaderMap, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::clock::Clock;
use super::notice::Notice;
use super::options::{ServerOptions, MAX_WEBHOOK_ANSWER_BYTES, MAX_WEBHOOK_BYTES, WEBHOOK_WARNING_MS};
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Time;
use crate::http_client::{check_url, HttpClient};
use queue::{Fate, Message, Outcome, Queue};
use signature::Signer;

const AGENT: &str = concat!("SessionStore/", env!("CARGO_PKG_VERSION"));

/// Sends webhooks. The loops of a server share it with the thread that [runs](Webhooks::run) it.
pub(super) struct Webhooks {
    url: Uri,
    signer: Signer,
    client: HttpClient,
    timeout: Duration,
    /// What those that wait when the server stops may take.
    shutdown: Duration,
    clock: Clock,
    state: Mutex<State>,
    /// There is something to send, something was sent, or the loops have ended.
    changed: Notify,
}

struct State {
    queue: Queue,
    /// Whether the last that was sent was not taken.
    is_failing: bool,
    /// Whether nothing will be pushed any more.
    is_finishing: bool,
    /// Whether nothing is sent any more: attempts that are broken off are nobody's failure.
    is_over: bool,
}

/// What a receiver made of a webhook.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Taken,
    /// Why not; it may be taken later.
    NotNow {
        why: String,
        retry_after_ms: Option<u64>,
    },
    /// Why not, and never.
    Refused(String),
}

impl Webhooks {
    /// `None` if the options have none.
    ///
    /// Errors: `INVALID_CONFIG` with what is wrong; `TLS_FAILED` when the system has no authorities to trust.
    pub fn new(options: &ServerOptions) -> Result<Option<Webhooks>, Error> {
        let Some(webhook) = &options.webhook else { return Ok(None) };
        let bad_url = |why| Error::new(ErrorCode::InvalidConfig, format!("the webhooks' URL {why}"));
        let url = check_url(&webhook.url).map_err(bad_url)?;
        let state = State {
            queue: Queue::new(webhook.retry_ms, MAX_WEBHOOK_BYTES),
            is_failing: false,
            is_finishing: false,
            is_over: false,
        };
        Ok(Some(Webhooks {
            signer: Signer::new(&webhook.secret)?,
            client: HttpClient::new(&url, webhook.ca.as_deref(), None, "webhook.ca; sstore serve: --webhook-ca")?,
            url,
            timeout: Duration::from_millis(webhook.timeout_ms),
            shutdown: Duration::from_millis(options.shutdown_ms),
            clock: Clock::start(),
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// Takes what is to be told, in the order in which it happened. Waits for nothing but other threads that do the
    /// same.
    pub fn push(&self, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut state = self.state();
        for notice in notices {
            // A system without random numbers starts no server; there were some then.
            let Ok(id) = crate::ids::uuid() else { continue };
            state.queue.push(now, Message { id: format!("msg_{id}"), notice });
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing will be pushed any more. What waits is tried once more at once, and the thread ends.
    pub fn finish(&self) {
        let mut state = self.state();
        state.is_finishing = true;
        state.queue.hurry(self.clock.now());
        drop(state);
        self.changed.notify_one();
    }

    /// Sends until the loops have ended, and then what waits, in the time there is for it.
    pub fn run(self: &Arc<Self>, runtime: Runtime) {
        runtime.block_on(self.send_all());
        // Asking for the address of a host may take long, and cannot be broken off.
        runtime.shutdown_background();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_all(self: &Arc<Self>) {
        let mut end = None;
        let (mut dropped, mut warned_at) = (0, None);
        loop {
            let now = self.clock.now();
            let (ready, wake_at, is_empty) = {
                let mut state = self.state();
                let ready: Vec<_> = std::iter::from_fn(|| state.queue.next(now)).collect();
                if state.is_finishing && end.is_none() {
                    end = Some(Instant::now() + self.shutdown);
                }
                dropped += state.queue.take_dropped();
                (ready, state.queue.next_at(), state.queue.len() == 0)
            };
            for (number, message) in ready {
                tokio::spawn(Attempt { webhooks: self.clone(), number, message, answer: None }.run());
            }
            let pause = Duration::from_millis(WEBHOOK_WARNING_MS);
            if dropped > 0 && warned_at.is_none_or(|at: Instant| at.elapsed() >= pause || is_empty || end.is_some()) {
                tracing::warn!(dropped, "too many webhooks wait; the oldest were dropped");
                (dropped, warned_at) = (0, Some(Instant::now()));
            }
            if let Some(end) = end {
                let next = wake_at.map(|at| Instant::now() + self.clock.until(at));
                let is_over = next.is_none_or(|next| next > end) && !self.state().queue.is_sending();
                if is_empty || is_over || Instant::now() >= end {
                    break;
                }
            }
            // What was dropped is told in time, even if nothing else happens.
            let warn_at = warned_at.filter(|_| dropped > 0).map(|at| at + pause);
            let wake_at = wake_at.map(|at| Instant::now() + self.clock.until(at));
            let first = [wake_at, end, warn_at].into_iter().flatten().min();
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(first), if first.is_some() => {}
            }
        }
        let mut state = self.state();
        state.is_over = true;
        let lost = state.queue.len();
        drop(state);
        if lost > 0 {
            tracing::warn!(lost, "the server stops; these webhooks were not taken");
        }
    }

    /// Sends one and says what became of it.
    async fn send(&self, message: &Message) -> Answer {
        let body = payload::write(&message.notice);
        // Receivers compare it with their own clocks, so it is the system's time, whatever was done to that.
        let now = SystemTime::now();
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signer.sign(&message.id, timestamp, &body))
            .body(Full::from(body));
        // Fails for nothing: the URL is one, and the headers are ASCII.
        let Ok(request) = request else { return Answer::Refused("no request can be made of it".into()) };
        match self.client.send(request, self.timeout).await {
            Ok(head) => {
                let answer = judge(head.status, &head.headers, now);
                // What it says besides counts for nothing, and neither does what goes wrong with that.
                let _ = head.body(MAX_WEBHOOK_ANSWER_BYTES).await;
                answer
            }
            Err(why) => Answer::NotNow { why: why.to_string(), retry_after_ms: None },
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// One attempt, which is settled however it ends.
struct Attempt {
    webhooks: Arc<Webhooks>,
    number: u64,
    message: Arc<Message>,
    answer: Option<Answer>,
}

impl Attempt {
    async fn run(mut self) {
        self.answer = Some(self.webhooks.send(&self.message).await);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let fault = || Answer::NotNow { why: "there was a fault".into(), retry_after_ms: None };
        let answer = self.answer.take().unwrap_or_else(fault);
        let outcome = match &answer {
            Answer::NotNow { retry_after_ms, .. } => Outcome::Again { retry_after_ms: *retry_after_ms },
            Answer::Taken | Answer::Refused(_) => Outcome::Over,
        };
        let is_failure = matches!(answer, Answer::NotNow { .. });
        let webhooks = &self.webhooks;
        let mut state = webhooks.state();
        if state.is_over {
            return;
        }
        let was_failing = std::mem::replace(&mut state.is_failing, is_failure);
        let fate = state.queue.settle(webhooks.clock.now(), self.number, outcome, random());
        drop(state);
        webhooks.changed.notify_one();
        let Message { id, notice } = &*self.message;
        let (kind, room) = (payload::kind(notice), &*notice.room);
        match (answer, fate) {
            (Answer::Refused(why), _) => tracing::warn!(%id, kind, room, %why, "a webhook was refused, and given up"),
            (Answer::NotNow { why, .. }, Fate::GivenUp) => {
                tracing::warn!(%id, kind, room, %why, "a webhook was not taken for a day, and given up");
            }
            (Answer::NotNow { why, .. }, _) if !was_failing => {
                tracing::warn!(%id, kind, room, %why, "a webhook was not taken; it is sent again, like those that follow");
            }
            (Answer::NotNow { why, .. }, _) => tracing::debug!(%id, kind, room, %why, "a webhook was not taken"),
            (Answer::Taken, _) if was_failing => tracing::info!(%id, kind, room, "webhooks are taken again"),
            (Answer::Taken, _) => tracing::debug!(%id, kind, room, "a webhook was taken"),
        }
    }
}

/// So that not all come again together; should the system have no random number, some do.
fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}

/// What a status means.
fn judge(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Answer {
    let why = format!("the receiver answered {}", status.as_u16());
    match status {
        _ if status.is_success() => Answer::Taken,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Answer::NotNow { why, retry_after_ms: retry_after_ms(headers, now) }
        }
        _ if status.is_server_error() => Answer::NotNow { why, retry_after_ms: retry_after_ms(headers, now) },
        _ if status.is_redirection() => Answer::Refused(format!("{why}; redirects are not followed")),
        _ => Answer::Refused(why),
    }
}

/// What `Retry-After` says, as seconds or as a date.
fn retry_after_ms(headers: &HeaderMap, now: SystemTime) -> Option<Time> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let wait = httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default();
    Some(wait.as_millis() as Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        let mut headers = HeaderMap::new();
        retry_after.map(|text| headers.insert(RETRY_AFTER, text.parse().expect("a header")));
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        judge(StatusCode::from_u16(status).expect("a status"), &headers, now)
    }

    #[test]
    fn statuses_mean_what_the_manual_says() {
        for taken in [200, 201, 202, 204, 299] {
            assert_eq!(answer(taken, None), Answer::Taken, "{taken}");
        }
        for later in [408, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(answer(later, None), Answer::NotNow { retry_after_ms: None, .. }), "{later}");
        }
        for never in [301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(answer(never, Some("1")), Answer::Refused(_)), "{never}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked = |text| match answer(503, Some(text)) {
            Answer::NotNow { retry_after_ms, .. } => retry_after_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked("120"), Some(120_000));
        assert_eq!(asked("18446744073709551615"), Some(u64::MAX));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10_000));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0), "it has passed");
        for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}
