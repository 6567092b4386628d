//! WebSocket frames (RFC 6455), without I/O: bytes of the other side in, messages out, and back.
//!
//! Payloads are unmasked and read where they lie. Only what does not end within the bytes at hand
//! is kept: the beginning of a frame, and the earlier fragments of a message.
//!
//! Both sides read thousands of small messages at a time, and for that a general library, which
//! makes an object of each, takes several times as long. The handshake is left to one.

use std::ops::ControlFlow;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Largest payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// Whether the server says again what it is told, in place of what a room would answer, so that a test suite
/// can tell how it treats frames of any kind: `make conformance`.
#[cfg_attr(not(feature = "server"), allow(dead_code))]
pub(crate) const ECHOES: bool = cfg!(sessionstore_echo);

/// A ping without payload, as the server sends it.
pub(crate) const EMPTY_PING: [u8; 2] = [FIN | PING, 0];

/// Who wrote the bytes that are decoded: a client's frames are masked, a server's are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sender {
    #[default]
    Client,
    #[cfg_attr(not(feature = "client"), allow(dead_code))]
    Server,
}

impl Sender {
    /// Bytes of a mask in a header.
    fn mask_bytes(self) -> usize {
        match self {
            Sender::Client => 4,
            Sender::Server => 0,
        }
    }
}

/// What the other side sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Text(&'a str),
    /// Comes to one who [`ECHOES`]; all others refuse it by its header.
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, if it gave one, and its reason, which may be empty.
    Close(Option<u16>, &'a str),
}

/// Why a connection cannot go on: a close code and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn broken(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

const BINARY_MESSAGE: Violation = Violation { code: 1003, reason: "messages are text" };
const NOT_UTF8: Violation = Violation { code: 1007, reason: "text must be UTF-8" };
const TOO_LARGE: Violation = Violation { code: 1009, reason: "the message is larger than is accepted" };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the header itself.
    size: usize,
    payload: usize,
}

/// What is left of the bytes of one connection between two reads.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    sender: Sender,
    /// The beginning of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// The fragments so far of a message whose end has not arrived.
    fragments: Option<Fragments>,
    failed: bool,
}

/// A message that is not whole.
#[derive(Debug, Default)]
struct Fragments {
    bytes: Vec<u8>,
    is_binary: bool,
    /// Fragments that brought nothing. Each counts as a byte, so that even they come to an end.
    empty: usize,
}

impl Fragments {
    fn size(&self) -> usize {
        self.bytes.len() + self.empty
    }
}

impl Decoder {
    /// For what a client sends, by default, or a server.
    #[cfg_attr(not(feature = "client"), allow(dead_code))]
    pub fn new(sender: Sender) -> Decoder {
        Decoder { sender, ..Decoder::default() }
    }

    /// Whether the beginning of a message is here, and its end is not.
    #[cfg_attr(not(feature = "client"), allow(dead_code))]
    pub fn is_within_message(&self) -> bool {
        !self.partial.is_empty() || self.fragments.is_some()
    }

    /// Decodes `data`, telling `each` what it finds until that breaks off. Returns how many bytes
    /// were used: all, unless broken off.
    pub fn decode(
        &mut self,
        data: &mut [u8],
        max_message: usize,
        each: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Violation> {
        if self.failed {
            return Ok(data.len());
        }
        let mut at = 0;
        while at < data.len() {
            let rest = &mut data[at..];
            if !self.partial.is_empty() {
                let Some(used) = self.complete(rest, max_message)? else { return Ok(data.len()) };
                at += used;
                let mut frame = std::mem::take(&mut self.partial);
                if let Some(header) = parse_header(&frame, self.sender)? {
                    if self.frame(header, &mut frame[header.size..], max_message, each)?.is_break() {
                        return Ok(at);
                    }
                }
                continue;
            }
            match self.header(rest, max_message)? {
                Some(header) if rest.len() - header.size >= header.payload => {
                    let end = header.size + header.payload;
                    at += end;
                    if self.frame(header, &mut rest[header.size..end], max_message, each)?.is_break() {
                        return Ok(at);
                    }
                }
                _ => {
                    self.partial.extend_from_slice(rest);
                    at = data.len();
                }
            }
        }
        Ok(at)
    }

    /// From now on everything is skipped: after a violation nobody knows where a frame begins.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub fn fail(&mut self) {
        *self = Decoder { failed: true, ..Decoder::new(self.sender) };
    }

    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Moves bytes to the kept beginning of a frame until that is whole. `None`: it is not yet,
    /// and all bytes are used.
    fn complete(&mut self, data: &[u8], max_message: usize) -> Result<Option<usize>, Violation> {
        let mut used = 0;
        loop {
            // An incomplete header is shorter than its own size, so something is missing then.
            let wanted = match self.header(&self.partial, max_message)? {
                Some(header) => header.size + header.payload,
                None => header_size(&self.partial, self.sender),
            };
            let missing = wanted.saturating_sub(self.partial.len());
            if missing == 0 {
                return Ok(Some(used));
            }
            let taken = missing.min(data.len() - used);
            self.partial.extend_from_slice(&data[used..used + taken]);
            used += taken;
            if taken < missing {
                return Ok(None);
            }
        }
    }

    /// The header at the start of `data`, checked against what may come now. What is too large is
    /// refused here, before any of it is kept.
    fn header(&self, data: &[u8], max_message: usize) -> Result<Option<Header>, Violation> {
        let Some(header) = parse_header(data, self.sender)? else { return Ok(None) };
        match (header.opcode, &self.fragments) {
            (CONTINUATION, None) => return Err(broken("a continuation of nothing")),
            (TEXT | BINARY, Some(_)) => return Err(broken("a new message within another")),
            (BINARY, None) if !ECHOES => return Err(BINARY_MESSAGE),
            _ => {}
        }
        let before = self.fragments.as_ref().map_or(0, Fragments::size);
        if header.payload > max_message || (header.opcode == CONTINUATION && before + header.payload > max_message) {
            return Err(TOO_LARGE);
        }
        Ok(Some(header))
    }

    fn frame(
        &mut self,
        header: Header,
        payload: &mut [u8],
        max_message: usize,
        each: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        if header.mask != [0; 4] {
            apply_mask(payload, header.mask);
        }
        Ok(match header.opcode {
            TEXT if header.fin => each(Event::Text(text(payload)?)),
            BINARY if header.fin => each(Event::Binary(payload)),
            TEXT | BINARY => {
                let (bytes, empty) = (payload.to_vec(), usize::from(payload.is_empty()));
                self.fragments = Some(Fragments { bytes, empty, is_binary: header.opcode == BINARY });
                ControlFlow::Continue(())
            }
            CONTINUATION => {
                let Some(fragments) = &mut self.fragments else { return Err(broken("a continuation of nothing")) };
                fragments.empty += usize::from(payload.is_empty());
                if fragments.size() + payload.len() > max_message {
                    return Err(TOO_LARGE);
                }
                fragments.bytes.extend_from_slice(payload);
                if !header.fin {
                    return Ok(ControlFlow::Continue(()));
                }
                let whole = self.fragments.take().unwrap_or_default();
                each(match whole.is_binary {
                    true => Event::Binary(&whole.bytes),
                    false => Event::Text(text(&whole.bytes)?),
                })
            }
            PING => each(Event::Ping(payload)),
            PONG => each(Event::Pong),
            CLOSE => {
                let (code, reason) = close(payload)?;
                each(Event::Close(code, reason))
            }
            _ => return Err(BINARY_MESSAGE),
        })
    }
}

/// How long the header is, as far as its first two bytes tell.
fn header_size(data: &[u8], sender: Sender) -> usize {
    match data.get(1).map(|second| second & !MASKED) {
        None => 2,
        Some(126) => 4 + sender.mask_bytes(),
        Some(127) => 10 + sender.mask_bytes(),
        Some(_) => 2 + sender.mask_bytes(),
    }
}

fn parse_header(data: &[u8], sender: Sender) -> Result<Option<Header>, Violation> {
    let (Some(&first), Some(&second)) = (data.first(), data.get(1)) else { return Ok(None) };
    if first & RESERVED != 0 {
        return Err(broken("reserved bits are set"));
    }
    let opcode = first & 0x0F;
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(broken("an opcode that does not exist"));
    }
    match (sender, second & MASKED) {
        (Sender::Client, 0) => return Err(broken("frames of a client must be masked")),
        (Sender::Server, MASKED) => return Err(broken("frames of a server must not be masked")),
        _ => {}
    }
    let fin = first & FIN != 0;
    let short = usize::from(second & !MASKED);
    if opcode >= CLOSE && (!fin || short > MAX_CONTROL_BYTES) {
        return Err(broken("a control frame in fragments, or too long"));
    }
    let size = header_size(data, sender);
    let Some((head, mask_bytes)) = data.get(..size).and_then(|head| head.split_at_checked(size - sender.mask_bytes()))
    else {
        return Ok(None);
    };
    let payload = match head[2..] {
        [] => short as u64,
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => return Err(broken("a length that does not exist")),
    };
    let mut mask = [0; 4];
    mask[..mask_bytes.len()].copy_from_slice(mask_bytes);
    let payload = usize::try_from(payload).map_err(|_| TOO_LARGE)?;
    Ok(Some(Header { fin, opcode, mask, size, payload }))
}

/// Masks what is not masked, and the other way around.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| NOT_UTF8)
}

fn close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let (code, reason) = match payload {
        [] => return Ok((None, "")),
        [_] => return Err(broken("half a close code")),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    let reason = text(reason)?;
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok((Some(code), reason)),
        _ => Err(broken("a close code that must not be sent")),
    }
}

/// Most messages that are not about values have no more bytes than this.
const SMALL_TEXT_BYTES: usize = 256;

/// Appends a text frame whose payload `write` appends.
pub(crate) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    // Rather than that a small buffer grows again and again below it.
    out.reserve(SMALL_TEXT_BYTES);
    // Most messages have between 126 and 65,535 bytes, and then this header fits.
    out.extend_from_slice(&[0; 4]);
    write(out);
    let (header, size) = text_header(out.len() - begin - 4);
    let header = &header[..size];
    match size {
        4 => out[begin..begin + 4].copy_from_slice(header),
        2 => {
            out[begin + 2..begin + 4].copy_from_slice(header);
            out.drain(begin..begin + 2);
        }
        _ => drop(out.splice(begin..begin + 4, header.iter().copied())),
    }
}

/// Appends the header of a text frame whose payload, of so many bytes, follows.
#[cfg(feature = "server")]
pub(crate) fn write_text_header(out: &mut Vec<u8>, length: usize) {
    let (header, size) = text_header(length);
    out.extend_from_slice(&header[..size]);
}

/// The header of a text frame, and how many bytes of it there are.
fn text_header(length: usize) -> ([u8; 10], usize) {
    let mut header = [FIN | TEXT, 127, 0, 0, 0, 0, 0, 0, 0, 0];
    match length {
        0..126 => {
            header[1] = length as u8;
            (header, 2)
        }
        126..65_536 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// Appends a binary frame; for one who [`ECHOES`].
#[cfg_attr(not(feature = "server"), allow(dead_code))]
pub(crate) fn write_binary(out: &mut Vec<u8>, payload: &[u8]) {
    let begin = out.len();
    write_text(out, |out| out.extend_from_slice(payload));
    out[begin] = FIN | BINARY;
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_CONTROL_BYTES)];
    out.extend_from_slice(&[FIN | PONG, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// Appends a close frame.
pub(crate) fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = reason.get(..MAX_CONTROL_BYTES - 2).unwrap_or(reason);
    let reason = if reason.len() > MAX_CONTROL_BYTES - 2 { "" } else { reason };
    out.extend_from_slice(&[FIN | CLOSE, reason.len() as u8 + 2]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Masks the frame at the end of `out`, which begins at `begin`: what clients send, they mask.
#[cfg(feature = "client")]
pub(crate) fn mask_last(out: &mut Vec<u8>, begin: usize, mask: [u8; 4]) {
    let Some(frame) = out.get_mut(begin..) else { return };
    // A server's header, which has no mask yet.
    let size = header_size(frame, Sender::Server);
    if let Some(second) = frame.get_mut(1) {
        *second |= MASKED;
    }
    if let Some(payload) = frame.get_mut(size..) {
        apply_mask(payload, mask);
        out.splice(begin + size..begin + size, mask);
    }
}

/// What the decoder makes of bytes that arrive in pieces from a client or a server: the events as
/// text, and the close code if it refused them. Only there for the fuzz target.
#[cfg(fuzzing)]
pub fn decode_all(from_server: bool, pieces: &[&[u8]], max_message: usize) -> (Vec<String>, Option<u16>) {
    let sender = if from_server { Sender::Server } else { Sender::Client };
    let (mut decoder, mut events) = (Decoder::new(sender), Vec::new());
    for piece in pieces {
        let mut each = |event: Event<'_>| {
            events.push(format!("{event:?}"));
            ControlFlow::Continue(())
        };
        if let Err(violation) = decoder.decode(&mut piece.to_vec(), max_message, &mut each) {
            return (events, Some(violation.code));
        }
    }
    (events, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(MASKED | length as u8),
            length @ 126..65_536 => {
                out.push(MASKED | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(MASKED | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        let mask = [0x12, 0x34, 0x56, 0x78];
        out.extend(mask);
        out.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        out
    }

    #[derive(Debug, Default, PartialEq, Eq, Clone)]
    struct Seen {
        messages: Vec<String>,
        violation: Option<Violation>,
    }

    /// The same frame as a server sends it.
    fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(first, payload);
        let size = header_size(&out, Sender::Client);
        out[1] &= !MASKED;
        out.truncate(size - 4);
        out.extend_from_slice(payload);
        out
    }

    fn decode(pieces: &[&[u8]], max: usize) -> Seen {
        decode_from(Sender::Client, pieces, max)
    }

    fn decode_from(sender: Sender, pieces: &[&[u8]], max: usize) -> Seen {
        let mut decoder = Decoder::new(sender);
        let mut seen = Seen::default();
        for piece in pieces {
            let mut data = piece.to_vec();
            let result = decoder.decode(&mut data, max, &mut |event| {
                seen.messages.push(format!("{event:?}"));
                ControlFlow::Continue(())
            });
            match result {
                Ok(used) => assert_eq!(used, piece.len()),
                Err(violation) => {
                    seen.violation = Some(violation);
                    break;
                }
            }
        }
        seen
    }

    fn violation(bytes: &[u8]) -> Option<u16> {
        decode(&[bytes], 1_000).violation.map(|violation| violation.code)
    }

    #[test]
    fn reads_text_fragments_and_control_frames_between_them() {
        let bytes = [
            frame(FIN | TEXT, b"one"),
            frame(TEXT, "tw\u{00f6}".as_bytes().split_at(3).0),
            frame(FIN | PING, b"p"),
            frame(FIN, "tw\u{00f6}".as_bytes().split_at(3).1),
            frame(FIN | CLOSE, &[0x03, 0xE8, b'x']),
        ]
        .concat();
        let seen = decode(&[&bytes], 1_000);
        assert_eq!(seen.messages, ["Text(\"one\")", "Ping([112])", "Text(\"twö\")", "Close(Some(1000), \"x\")"]);
        assert_eq!(seen.violation, None);
    }

    #[test]
    fn refuses_what_the_standard_forbids_with_its_code() {
        assert_eq!(violation(&frame(FIN | BINARY, b"x")), Some(1003));
        assert_eq!(violation(&frame(FIN | TEXT, b"\xff")), Some(1007));
        assert_eq!(violation(&frame(FIN, b"x")), Some(1002));
        assert_eq!(violation(&[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()), Some(1002));
        assert_eq!(violation(&frame(FIN | 0x40 | TEXT, b"x")), Some(1002));
        assert_eq!(violation(&frame(FIN | 0x3, b"x")), Some(1002));
        assert_eq!(violation(&frame(PING, b"x")), Some(1002));
        assert_eq!(violation(&frame(FIN | PING, &[0; 126])), Some(1002));
        assert_eq!(violation(&frame(FIN | CLOSE, b"x")), Some(1002));
        assert_eq!(violation(&frame(FIN | CLOSE, &1005u16.to_be_bytes())), Some(1002));
        assert_eq!(violation(&[FIN | TEXT, 1, b'x']), Some(1002));
    }

    #[test]
    fn a_servers_frames_are_read_alike_and_must_not_be_masked() {
        let frames =
            [(FIN | TEXT, &b"one"[..]), (TEXT, b"t"), (FIN | PING, b"p"), (FIN, b"wo"), (FIN | TEXT, &[b'x'; 70_000])];
        let from_client: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        let from_server: Vec<u8> = frames.iter().flat_map(|(first, payload)| unmasked(*first, payload)).collect();
        let seen = decode_from(Sender::Server, &[&from_server], 70_000);
        assert_eq!((seen.messages.len(), seen.violation), (4, None));
        assert_eq!(seen, decode(&[&from_client], 70_000));
        let byte_by_byte: Vec<&[u8]> = from_server.chunks(1).collect();
        assert_eq!(decode_from(Sender::Server, &byte_by_byte, 70_000), seen);
        let masked = decode_from(Sender::Server, &[&from_client], 70_000);
        assert_eq!((masked.messages.len(), masked.violation.map(|violation| violation.code)), (0, Some(1002)));
    }

    #[test]
    fn refuses_a_large_message_by_its_header_alone() {
        let mut header = vec![FIN | TEXT, MASKED | 127];
        header.extend(10_000_000u64.to_be_bytes());
        header.extend([0; 4]);
        assert_eq!(violation(&header), Some(1009));
        header[2..10].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(violation(&header), Some(1009));
        // A message of no bytes at all is one, but not one that never ends.
        let empty = |count: usize| [frame(TEXT, b""), frame(0, b"").repeat(count), frame(FIN, b"")].concat();
        assert_eq!(decode(&[&empty(998)], 1_000).messages, ["Text(\"\")"]);
        assert_eq!(violation(&empty(999)), Some(1009));
        let fragments = [frame(TEXT, &[b'a'; 600]), frame(0, &[b'a'; 400]), frame(FIN, b"a")];
        assert_eq!(violation(&fragments[..2].concat()), None);
        assert_eq!(violation(&fragments.concat()), Some(1009));
    }

    #[test]
    fn stops_where_it_is_told_and_goes_on_from_there() {
        let mut bytes = [frame(FIN | TEXT, b"1"), frame(FIN | TEXT, b"2")].concat();
        let mut decoder = Decoder::default();
        let half = decoder.decode(&mut bytes, 10, &mut |_| ControlFlow::Break(())).expect("valid");
        assert_eq!(half, bytes.len() / 2);
        let mut left = None;
        let _ = decoder.decode(&mut bytes[half..], 10, &mut |event| {
            left = Some(format!("{event:?}"));
            ControlFlow::Continue(())
        });
        assert_eq!(left.as_deref(), Some("Text(\"2\")"));
    }

    #[test]
    fn writes_every_length_so_that_it_is_read_again() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let mut out = vec![b'<'];
            write_text(&mut out, |out| out.resize(out.len() + length, b'x'));
            let from_server = decode_from(Sender::Server, &[&out[1..]], 100_000);
            mask_last(&mut out, 1, [0x12, 0x34, 0x56, 0x78]);
            let seen = decode(&[&out[1..]], 100_000);
            assert_eq!(seen.messages, [format!("Text({:?})", "x".repeat(length))]);
            assert_eq!(seen, from_server);
        }
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            "[a-z\u{e9}]{0,200}".prop_map(String::into_bytes),
        ];
        let first = prop_oneof![4 => Just(FIN | TEXT), 2 => Just(TEXT), 2 => Just(FIN), 1 => Just(FIN | PING), 1 => any::<u8>()];
        (first, payload).prop_map(|(first, payload)| frame(first, &payload))
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(frames in proptest::collection::vec(any_frame(), 1..8), cuts in proptest::collection::vec(1usize..40, 0..60)) {
            let bytes = frames.concat();
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(decode(&pieces, 150), decode(&[&bytes], 150));
        }

        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let byte_by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
            for sender in [Sender::Client, Sender::Server] {
                let (pieces, whole) = (decode_from(sender, &byte_by_byte, 100), decode_from(sender, &[&bytes], 100));
                prop_assert_eq!(pieces, whole);
            }
        }
    }
}
