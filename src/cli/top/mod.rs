//! `sstore top`: a server's rooms and what happens in them, live in the terminal.
//!
//! | module | what it does |
//! |---|---|
//! | `state` | what is known, and what keys do to it |
//! | `view` | how that looks |

mod state;
mod view;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use ratatui::crossterm::event::{Event, EventStream};
use tokio::sync::mpsc::{channel, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::api::{self, Api, ApiArguments};
use super::events::{Events, Happening};
use super::exit::{Exit, Failure};
use super::output;
use super::rooms::all_rooms;
use super::signals::Signals;
use super::span::Span;
use state::{Asked, Look, Order, Stream, Top};

/// How often the screen is drawn at most when something happened on the server: faster than anybody reads.
const FRAME: Duration = Duration::from_millis(100);

/// Between two attempts to watch a room.
const AGAIN: Duration = Duration::from_secs(1);

/// Shortest pause between two looks, in milliseconds: each asks the server for all of its rooms.
const MIN_INTERVAL_MS: u64 = 100;

/// What waits to be taken in; who brings more waits.
const WAITING: usize = 256;

/// Show a server's rooms live, and what happens in one
///
/// Rooms are sorted by what changes most (s sorts by something else); enter opens one with its peers, its locks and the
/// values of its keys as they change. Nothing is joined, so nobody notices. If the server goes away, it says so and
/// tries again. Without a terminal on stdout it prints one snapshot and ends. Needs a token with the scope read, from
/// `sstore token --api`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only rooms whose names begin with this
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// What rooms are sorted by at first
    #[arg(long, value_enum, default_value_t = Order::Changes)]
    sort: Order,
    /// How long between two looks at the list of rooms, which rates are measured over
    #[arg(long, value_name = "TIME", default_value_t = Span::from_ms(1_000))]
    interval: Span,
    #[command(flatten)]
    api: ApiArguments,
}

/// What the helpers of the screen have to say.
enum Told {
    Looked(Result<Look, Failure>),
    /// Of the room that was opened as this one in the order of those that were.
    Happened(u64, Result<Happening, Failure>),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.interval.ms() < MIN_INTERVAL_MS {
        return Err(Failure::usage(format!("the interval is {MIN_INTERVAL_MS}ms at least")));
    }
    arguments.api.run(async |api| {
        let begin = Instant::now();
        let mut top = Top::new(api.base(), arguments.sort);
        let looks = Looks { api: Arc::new(api), prefix: arguments.prefix.clone(), begin };
        // Before the screen is taken, so that what is wrong from the start is told as with any other subcommand.
        top.saw(looks.look().await?);
        if io::stdout().is_terminal() {
            return show(&mut top, looks, arguments.interval.duration()).await;
        }
        tokio::time::sleep(arguments.interval.duration()).await;
        top.saw(looks.look().await?);
        output::print_line(&view::plain(&top))
    })
}

/// Looks at the server.
#[derive(Clone)]
struct Looks {
    api: Arc<Api>,
    prefix: String,
    begin: Instant,
}

impl Looks {
    async fn look(&self) -> Result<Look, Failure> {
        let server = self.api.get("/v1/server").await?;
        let at = self.begin.elapsed();
        let rooms = all_rooms(&self.api, &self.prefix).await?;
        let rooms = rooms.iter().map(|room| api::parse(room.get())).collect::<Result<_, _>>()?;
        Ok(Look { server, rooms, at })
    }

    /// Looks again and again.
    async fn go_on(self, interval: Duration, tell: Sender<Told>) {
        loop {
            tokio::time::sleep(interval).await;
            if tell.send(Told::Looked(self.look().await)).await.is_err() {
                return;
            }
        }
    }
}

/// Watches a room again and again.
async fn watch(api: Arc<Api>, room: String, number: u64, tell: Sender<Told>) {
    loop {
        let lost = async {
            let mut events = Events::of_room(&api, &room).await?;
            loop {
                let happening = events.next().await?;
                if tell.send(Told::Happened(number, Ok(happening))).await.is_err() {
                    return Ok(());
                }
            }
        };
        let Err(failure) = lost.await else { return };
        if tell.send(Told::Happened(number, Err(failure))).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The screen, which is given back however this ends; when it panics, by the hook that came with it.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn take() -> Result<Screen, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(error) => {
                // Some of it may be done.
                let _ = ratatui::try_restore();
                Err(Failure::system("the terminal cannot be used", &error))
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Fails when the terminal is gone.
        let _ = ratatui::try_restore();
    }
}

async fn show(top: &mut Top, looks: Looks, interval: Duration) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::system("watching for signals", &error))?;
    let (tell, mut told) = channel(WAITING);
    let mut helpers = JoinSet::new();
    helpers.spawn(looks.clone().go_on(interval, tell.clone()));
    let mut watching = JoinSet::new();
    let mut opened = 0;
    let mut screen = Screen::take()?;
    let gone = |error: io::Error| Failure::system("the terminal cannot be used", &error);
    let mut keys = EventStream::new();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_old = true;
    loop {
        tokio::select! {
            _ = signals.next() => return Ok(()),
            _ = frames.tick() => {
                if std::mem::take(&mut is_old) {
                    let now = looks.begin.elapsed();
                    screen.0.draw(|frame| view::draw(frame, top, now)).map_err(gone)?;
                }
            }
            event = keys.next() => {
                is_old = true;
                let asked = match event {
                    None => return Ok(()),
                    Some(Err(error)) => return Err(gone(error)),
                    Some(Ok(Event::Key(key))) => top.press(key),
                    // Of another size, for one.
                    Some(Ok(_)) => Asked::Nothing,
                };
                match (asked, &top.open) {
                    (Asked::Quit, _) => return Ok(()),
                    (Asked::Open, Some(open)) => {
                        opened += 1;
                        watching.spawn(watch(looks.api.clone(), open.name.clone(), opened, tell.clone()));
                    }
                    (Asked::Close, _) => watching.abort_all(),
                    _ => {}
                }
                frames.reset_immediately();
            }
            first = told.recv() => {
                is_old = true;
                take(top, opened, first, &mut told)?;
            }
            // They go on for ever; one that panicked must not go unnoticed.
            Some(Err(error)) = helpers.join_next() => return Err(fault(error)),
            Some(Err(error)) = watching.join_next(), if !watching.is_empty() => {
                if error.is_panic() {
                    return Err(fault(error));
                }
            }
        }
    }
}

/// Takes in what has been told so far. A token that no longer counts ends this.
fn take(top: &mut Top, opened: u64, first: Option<Told>, told: &mut Receiver<Told>) -> Result<(), Failure> {
    let mut next = first;
    // No more than wait already, so that keys are heard too.
    for _ in 0..WAITING {
        match next {
            None => return Ok(()),
            Some(Told::Looked(Ok(look))) => top.saw(look),
            Some(Told::Looked(Err(failure)) | Told::Happened(_, Err(failure))) if failure.exit == Exit::Token => {
                return Err(failure);
            }
            Some(Told::Looked(Err(failure))) => top.missed(failure.to_string()),
            // What is left of a room that was closed is of no interest.
            Some(Told::Happened(number, happened)) => {
                if let Some(open) = top.open.as_mut().filter(|_| number == opened) {
                    match happened {
                        Ok(happening) => open.happened(happening),
                        Err(failure) => open.stream = Stream::Lost(failure.to_string()),
                    }
                }
            }
        }
        next = told.try_recv().ok();
    }
    Ok(())
}

fn fault(error: tokio::task::JoinError) -> Failure {
    Failure::system("a part of this program failed", &io::Error::other(error))
}
