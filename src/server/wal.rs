//! What can be read of SQLite's write-ahead log, before SQLite reads it.
//!
//! SQLite takes the log up to its last commit before the first frame that is not whole, and says nothing of the
//! rest. As a rule there is none, or what was being written when the process ended, which nobody was told of. If
//! there is more, people should know. The format is documented: <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The first four bytes, but for the last bit: how numbers are ordered when checksums are made of them.
const MAGIC: u32 = 0x377f_0682;

/// What SQLite will not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// So many bytes at the end that were written since the log was begun last.
    pub dropped: u64,
    /// Whether more than one write that was not completed is among them.
    pub is_damaged: bool,
}

/// The running checksum of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Checksum(u32, u32);

impl Checksum {
    /// `bytes` has a multiple of eight.
    fn add(self, bytes: &[u8], is_big_endian: bool) -> Checksum {
        let mut words = bytes.chunks_exact(4).map(|bytes| match number(bytes, 0) {
            number if is_big_endian => number,
            number => number.swap_bytes(),
        });
        let Checksum(mut first, mut second) = self;
        while let (Some(one), Some(other)) = (words.next(), words.next()) {
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(other).wrapping_add(first);
        }
        Checksum(first, second)
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Reads as much as there is; how much it was.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Looks through a log that nobody has open. None there is fine.
pub fn check(path: &Path) -> io::Result<Check> {
    match File::open(path) {
        Ok(file) => check_log(&mut BufReader::with_capacity(1 << 16, file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Check::default()),
        Err(error) => Err(error),
    }
}

/// The same for one that is read from the beginning.
pub fn check_log(file: &mut impl Read) -> io::Result<Check> {
    let mut header = [0; HEADER_BYTES];
    let filled = fill(file, &mut header)?;
    if filled == 0 {
        return Ok(Check::default());
    }
    let (magic, page_bytes) = (number(&header, 0), number(&header, 8) as usize);
    let is_big_endian = magic & 1 == 1;
    let mut checksum = Checksum(0, 0).add(&header[..24], is_big_endian);
    let is_whole = filled == HEADER_BYTES
        && magic & !1 == MAGIC
        && (512..=65_536).contains(&page_bytes)
        && page_bytes.is_power_of_two()
        && checksum == Checksum(number(&header, 24), number(&header, 28));
    if !is_whole {
        let rest = io::copy(file, &mut io::sink())?;
        return Ok(Check { dropped: filled as u64 + rest, is_damaged: rest > 0 });
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    // Frames since the last commit, whole ones and then others, of this log; what is left of older ones is not.
    let (mut uncommitted, mut broken) = (0_u64, 0_u64);
    loop {
        let filled = fill(file, &mut frame)?;
        if filled < FRAME_HEADER_BYTES || frame[8..16] != header[16..24] {
            break;
        }
        let sum = checksum.add(&frame[..8], is_big_endian).add(&frame[FRAME_HEADER_BYTES..], is_big_endian);
        let is_whole = filled == frame.len() && sum == Checksum(number(&frame, 16), number(&frame, 20));
        if broken > 0 || !is_whole {
            broken += 1;
        } else {
            checksum = sum;
            // A frame that ends a transaction says how large the database is then.
            uncommitted = if number(&frame, 4) == 0 { uncommitted + 1 } else { 0 };
        }
        if filled < frame.len() {
            break;
        }
    }
    let dropped = if broken > 0 { (uncommitted + broken) * frame.len() as u64 } else { 0 };
    Ok(Check { dropped, is_damaged: broken > 1 })
}
