//! A TCP proxy whose connections break in every way that networks have.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use socket2::SockRef;

use super::SAFETY;

/// Between two pieces of a throttled way.
const PACE: Duration = Duration::from_millis(1);

/// How a text frame begins.
const TEXT_FRAME: u8 = 0x81;

/// A direction in which bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToClient,
    ToServer,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order, as when a program ends: FIN.
    Closed,
    /// At once, what was on its way included: RST.
    Reset,
}

/// Who goes on believing in a connection of which the other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Believer {
    Client,
    Server,
    /// Neither is gone, but they do not reach each other any more.
    Both,
}

/// A TCP proxy: what goes through it can be stalled, throttled, cut, lost, led elsewhere.
pub struct Cable {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    /// Connections are refused, or rather closed at once.
    is_cut: bool,
    ended: bool,
    flows: [Flow; 2],
    /// How many frames broke their connection.
    broken: usize,
    lines: Vec<Arc<Line>>,
}

/// What holds for one way of all connections.
#[derive(Default)]
struct Flow {
    is_stalled: bool,
    /// Bytes that a stalled way holds.
    held: usize,
    /// Bytes are written so many at a time.
    piece: Option<usize>,
    /// The next frame is written but for its end, and then the connection ends.
    breaks: Option<Ending>,
    /// The next message is lost, although the connection stands: what no network does, for a planted fault.
    loses: bool,
}

/// One connection from a client, and the one to the server that it is carried on.
struct Line {
    client: TcpStream,
    server: TcpStream,
    /// Nothing more is carried, nor is an end told.
    lost: AtomicBool,
    over: AtomicBool,
    ways_ended: AtomicUsize,
}

/// What is to be done with bytes that arrived.
enum Next {
    Write(usize),
    /// Written, and then this is the end.
    Break(usize, Ending),
    Skip(usize),
    Forget,
    Stop,
}

impl Cable {
    pub fn to(target: SocketAddr) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port is known");
        let flows = Default::default();
        let state = State { target, is_cut: false, ended: false, flows, broken: 0, lines: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut now = own.state.lock().unwrap();
                if now.ended {
                    return;
                }
                let server = if now.is_cut { None } else { TcpStream::connect(now.target).ok() };
                let Some(server) = server else { continue };
                // What a piece is, is for the cable alone to say.
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (lost, over, ways_ended) = Default::default();
                let line = Arc::new(Line { client, server, lost, over, ways_ended });
                now.lines.push(line.clone());
                drop(now);
                for way in [Way::ToClient, Way::ToServer] {
                    let (shared, line) = (own.clone(), line.clone());
                    std::thread::spawn(move || shared.carry(&line, way));
                }
            }
        });
        Cable { address, shared }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Breaks every connection, without a word, and lets none be made.
    pub fn cut(&self) {
        self.cut_by(Ending::Closed);
    }

    /// The same, and how.
    pub fn cut_by(&self, ending: Ending) {
        let mut state = self.shared.state.lock().unwrap();
        state.is_cut = true;
        state.flows = Default::default();
        state.lines.drain(..).for_each(|line| line.end(ending));
        self.shared.changed.notify_all();
    }

    /// Connections can be made again.
    pub fn mend(&self) {
        self.shared.state.lock().unwrap().is_cut = false;
    }

    /// New connections go to another server.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.state.lock().unwrap().target = target;
    }

    /// What the server says is held back.
    pub fn stall(&self) {
        self.stall_way(Way::ToClient);
    }

    /// What goes this way is held back.
    pub fn stall_way(&self, way: Way) {
        let flow = &mut self.shared.state.lock().unwrap().flows[way as usize];
        (flow.is_stalled, flow.held) = (true, 0);
    }

    /// Bytes go this way so many at a time, with a moment between them.
    pub fn throttle(&self, way: Way, piece: usize) {
        self.shared.state.lock().unwrap().flows[way as usize].piece = Some(piece.max(1));
    }

    /// The next frame that goes this way breaks its connection: it arrives but for its last byte.
    pub fn break_within_frame(&self, way: Way, ending: Ending) {
        self.shared.state.lock().unwrap().flows[way as usize].breaks = Some(ending);
    }

    /// How many frames did.
    pub fn broken_frames(&self) -> usize {
        self.shared.state.lock().unwrap().broken
    }

    /// The next message of the server is lost, although its connection stands. No network does that: it is
    /// a fault to be planted.
    pub fn lose_message(&self) {
        self.shared.state.lock().unwrap().flows[Way::ToClient as usize].loses = true;
    }

    /// Every connection there is is lost, and only one side may learn of it. New ones can be made.
    pub fn half_open(&self, believer: Believer) {
        let mut state = self.shared.state.lock().unwrap();
        for line in state.lines.iter().filter(|line| !line.lost.swap(true, Ordering::SeqCst)) {
            let _ = match believer {
                Believer::Client => line.server.shutdown(Shutdown::Both),
                Believer::Server => line.client.shutdown(Shutdown::Both),
                Believer::Both => Ok(()),
            };
        }
        // They are kept until whoever believes in them gives up.
        state.flows.iter_mut().for_each(|flow| flow.held = 0);
        self.shared.changed.notify_all();
    }

    /// Everything flows again, what was held included, and connections can be made.
    pub fn let_go(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.is_cut = false;
        state.flows = Default::default();
        self.shared.changed.notify_all();
    }

    /// Waits until a stalled cable holds something.
    pub fn wait_until_held(&self) {
        let state = self.shared.state.lock().unwrap();
        let nothing_held = |state: &mut State| state.flows.iter().all(|flow| flow.held == 0);
        let (_state, waited) = self.shared.changed.wait_timeout_while(state, SAFETY, nothing_held).unwrap();
        assert!(!waited.timed_out(), "nothing was said that could be held");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().ended = true;
        self.cut();
        // Wakes who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Line {
    fn end(&self, ending: Ending) {
        self.over.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            let _ = match ending {
                Ending::Closed => stream.shutdown(Shutdown::Both),
                // Wakes who reads; the last to let go of the socket closes it, and then it is reset.
                Ending::Reset => {
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                    stream.shutdown(Shutdown::Read)
                }
            };
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// Carries what goes one way until the connection ends.
    fn carry(&self, line: &Arc<Line>, way: Way) {
        let (mut from, mut to) = match way {
            Way::ToClient => (&line.server, &line.client),
            Way::ToServer => (&line.client, &line.server),
        };
        let mut buffer = [0; 16 * 1024];
        'carry: while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let (length, breaks) = match self.next(line, way, rest) {
                    Next::Write(length) => (length, None),
                    Next::Break(length, ending) => (length, Some(ending)),
                    Next::Skip(length) => {
                        rest = &rest[length..];
                        continue;
                    }
                    Next::Forget => continue 'carry,
                    Next::Stop => break 'carry,
                };
                let (now, later) = rest.split_at(length);
                let written = to.write_all(now);
                if let Some(ending) = breaks {
                    line.end(ending);
                }
                if breaks.is_some() || written.is_err() {
                    break 'carry;
                }
                rest = later;
            }
        }
        let mut state = self.state.lock().unwrap();
        // Of a lost connection the other side learns nothing.
        if !line.is_over() && !line.is_lost() {
            line.end(Ending::Closed);
            // The other way may be stalled.
            self.changed.notify_all();
        }
        if line.ways_ended.fetch_add(1, Ordering::SeqCst) == 1 {
            state.lines.retain(|other| !Arc::ptr_eq(other, line));
        }
    }

    /// Waits while the way is stalled.
    fn next(&self, line: &Line, way: Way, bytes: &[u8]) -> Next {
        let waiting = bytes.len();
        let mut state = self.state.lock().unwrap();
        let mut is_first = true;
        loop {
            let flow = &mut state.flows[way as usize];
            if line.is_over() {
                return Next::Stop;
            }
            if line.is_lost() {
                return Next::Forget;
            }
            if flow.is_stalled {
                if std::mem::take(&mut is_first) {
                    flow.held += waiting;
                    self.changed.notify_all();
                }
                state = self.changed.wait(state).unwrap();
                continue;
            }
            // Whoever sends writes whole frames, none of them shorter than two bytes.
            if waiting > 1 {
                if let Some(ending) = flow.breaks.take() {
                    state.broken += 1;
                    return Next::Break(waiting - 1, ending);
                }
            }
            if let (true, &[TEXT_FRAME, length, high, low, ..]) = (flow.loses, bytes) {
                flow.loses = false;
                let length = match length {
                    126 => 4 + usize::from(u16::from_be_bytes([high, low])),
                    _ => 2 + usize::from(length),
                };
                return Next::Skip(length.min(waiting));
            }
            let Some(piece) = flow.piece else { return Next::Write(waiting) };
            let _ = self.changed.wait_timeout(state, PACE).unwrap();
            return Next::Write(piece.min(waiting));
        }
    }
}
