//! The floor: the least that delivering to everybody in a room can cost with tokio's TCP.
//!
//! Length-prefixed frames, one thread, no store and no JSON. It does what makes delivery cheap:
//! what came in one turn is kept once per room and written once per connection, straight to the
//! socket; only what a socket does not take is copied and waited for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use slab::Slab;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::wire::{
    floor_frame, FLOOR_ACK, FLOOR_JOINED, FLOOR_LEAVE, FLOOR_OBSERVE, FLOOR_SET, FLOOR_STATE, FLOOR_WRITE,
};

/// One read takes what 64 sets need many times over; one buffer serves every connection.
const READ_BYTES: usize = 64 * 1024;
/// A frame longer than this is not of this protocol.
const MAX_FRAME_BYTES: usize = 4096;

#[derive(Default)]
struct Room {
    observers: Vec<usize>,
    /// Frames of this turn, for every observer.
    batch: Vec<u8>,
    dirty: bool,
}

struct Connection {
    socket: Rc<OwnedWriteHalf>,
    room: Option<usize>,
    /// Acknowledgements of this turn.
    acks: Vec<u8>,
    /// What the socket did not take; while there is any, a task waits for the socket.
    parked: Vec<u8>,
}

#[derive(Default)]
struct Floor {
    rooms: Vec<Room>,
    names: HashMap<Vec<u8>, usize>,
    connections: Slab<Connection>,
    dirty_rooms: Vec<usize>,
    /// Connections with acknowledgements of this turn.
    answered: Vec<usize>,
    joined: Vec<u8>,
    joined_with_state: Vec<u8>,
}

struct Shared {
    floor: RefCell<Floor>,
    buffer: RefCell<Vec<u8>>,
    dirty: Notify,
}

/// Serves for ever on the listener. Who asks for the state is sent so many bytes.
pub(crate) fn serve(listener: StdListener, state_bytes: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        let mut floor = Floor::default();
        floor_frame(&mut floor.joined, FLOOR_JOINED, b"");
        floor_frame(&mut floor.joined_with_state, FLOOR_JOINED, &vec![b'x'; state_bytes]);
        let buffer = RefCell::new(vec![0; READ_BYTES]);
        let shared = Rc::new(Shared { floor: RefCell::new(floor), buffer, dirty: Notify::new() });
        tokio::task::spawn_local(flush_turns(shared.clone()));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            tokio::task::spawn_local(read(shared.clone(), reader, Rc::new(writer)));
        }
    })
}

async fn read(shared: Rc<Shared>, mut reader: OwnedReadHalf, writer: Rc<OwnedWriteHalf>) {
    let id = shared.floor.borrow_mut().connections.insert(Connection {
        socket: writer,
        room: None,
        acks: Vec::new(),
        parked: Vec::new(),
    });
    let mut partial = Vec::new();
    while let Ok(true) = poll_fn(|context| {
        let mut buffer = shared.buffer.borrow_mut();
        let mut space = ReadBuf::new(&mut buffer);
        match Pin::new(&mut reader).poll_read(context, &mut space) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if space.filled().is_empty() => Poll::Ready(Ok(false)),
            Poll::Ready(Ok(())) => Poll::Ready(take_bytes(&shared, id, &mut partial, space.filled()).map(|()| true)),
        }
    })
    .await
    {}
    let mut floor = shared.floor.borrow_mut();
    let gone = floor.connections.remove(id);
    if let Some(room) = gone.room.and_then(|room| floor.rooms.get_mut(room)) {
        room.observers.retain(|observer| *observer != id);
    }
}

fn take_bytes(shared: &Rc<Shared>, id: usize, partial: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    if partial.is_empty() {
        let used = take_frames(shared, id, bytes)?;
        partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
    } else {
        partial.extend_from_slice(bytes);
        let used = take_frames(shared, id, partial)?;
        partial.drain(..used);
    }
    Ok(())
}

fn take_frames(shared: &Rc<Shared>, id: usize, bytes: &[u8]) -> io::Result<usize> {
    let mut floor = shared.floor.borrow_mut();
    let mut used = 0;
    while let Some(length) = bytes.get(used..).and_then(<[u8]>::first_chunk::<4>) {
        let end = used + 4 + u32::from_be_bytes(*length) as usize;
        if end - used > MAX_FRAME_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        let Some(frame) = bytes.get(used..end) else { break };
        let was_clean = floor.dirty_rooms.is_empty() && floor.answered.is_empty();
        match frame.get(4).copied() {
            Some(FLOOR_SET) => floor.set(id, frame),
            Some(kind @ (FLOOR_WRITE | FLOOR_OBSERVE | FLOOR_STATE)) => {
                let parks = floor.join(id, kind, frame.get(5..).unwrap_or_default());
                if parks {
                    tokio::task::spawn_local(write_parked(shared.clone(), id));
                }
            }
            // Whoever leaves has no more to say.
            Some(FLOOR_LEAVE) => return Err(ErrorKind::ConnectionAborted.into()),
            _ => return Err(ErrorKind::InvalidData.into()),
        }
        if was_clean && !floor.answered.is_empty() {
            shared.dirty.notify_one();
        }
        used = end;
    }
    Ok(used)
}

impl Floor {
    fn set(&mut self, id: usize, frame: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.acks.is_empty() {
            self.answered.push(id);
        }
        floor_frame(&mut connection.acks, FLOOR_ACK, b"");
        let Some((index, room)) = connection.room.and_then(|index| Some((index, self.rooms.get_mut(index)?))) else {
            return;
        };
        room.batch.extend_from_slice(frame);
        if !room.dirty {
            room.dirty = true;
            self.dirty_rooms.push(index);
        }
    }

    /// Whether a task has to wait for the socket from now on.
    fn join(&mut self, id: usize, kind: u8, name: &[u8]) -> bool {
        let index = *self.names.entry(name.to_vec()).or_insert_with(|| {
            self.rooms.push(Room::default());
            self.rooms.len() - 1
        });
        if kind != FLOOR_WRITE {
            if let Some(room) = self.rooms.get_mut(index) {
                room.observers.push(id);
            }
        }
        let answer = if kind == FLOOR_STATE { &self.joined_with_state } else { &self.joined };
        let Some(connection) = self.connections.get_mut(id) else { return false };
        connection.room = Some(index);
        connection.write(&[], answer)
    }

    /// Writes what this turn brought: to every connection concerned, once. Gives the connections
    /// that a task has to wait for from now on.
    fn flush(&mut self) -> Vec<usize> {
        let mut parked = Vec::new();
        for index in std::mem::take(&mut self.dirty_rooms) {
            let Some(room) = self.rooms.get_mut(index) else { continue };
            room.dirty = false;
            for &observer in &room.observers {
                let Some(connection) = self.connections.get_mut(observer) else { continue };
                let acks = std::mem::take(&mut connection.acks);
                if connection.write(&room.batch, &acks) {
                    parked.push(observer);
                }
            }
            room.batch.clear();
        }
        for id in self.answered.drain(..) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let mut acks = std::mem::take(&mut connection.acks);
            if !acks.is_empty() && connection.write(&acks, &[]) {
                parked.push(id);
            }
            acks.clear();
            connection.acks = acks;
        }
        parked
    }
}

impl Connection {
    /// Writes both parts in one call. Whether a task has to wait for the socket from now on.
    fn write(&mut self, first: &[u8], second: &[u8]) -> bool {
        if !self.parked.is_empty() {
            self.parked.extend_from_slice(first);
            self.parked.extend_from_slice(second);
            return false;
        }
        let written = match (first.is_empty(), second.is_empty()) {
            (false, false) => self.socket.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            (false, true) => self.socket.try_write(first),
            _ => self.socket.try_write(second),
        };
        let written = match written {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // The reader hears of it too, and ends the connection.
            Err(_) => return false,
        };
        self.parked.extend_from_slice(first.get(written..).unwrap_or_default());
        self.parked.extend_from_slice(second.get(written.saturating_sub(first.len())..).unwrap_or_default());
        !self.parked.is_empty()
    }
}

/// Woken by the first change of a turn, it runs behind the readers that are ready already, so a
/// burst becomes one write per connection.
async fn flush_turns(shared: Rc<Shared>) {
    loop {
        shared.dirty.notified().await;
        let parked = shared.floor.borrow_mut().flush();
        for id in parked {
            tokio::task::spawn_local(write_parked(shared.clone(), id));
        }
    }
}

async fn write_parked(shared: Rc<Shared>, id: usize) {
    let Some(socket) = shared.floor.borrow().connections.get(id).map(|connection| connection.socket.clone()) else {
        return;
    };
    while socket.writable().await.is_ok() {
        let mut floor = shared.floor.borrow_mut();
        // The place may belong to a newer connection by now.
        let Some(connection) = floor.connections.get_mut(id).filter(|one| Rc::ptr_eq(&one.socket, &socket)) else {
            return;
        };
        match socket.try_write(&connection.parked) {
            Ok(written) => drop(connection.parked.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if connection.parked.is_empty() {
            connection.parked = Vec::new();
            return;
        }
    }
}
