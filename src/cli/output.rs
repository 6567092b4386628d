//! What the subcommands print: lines for people, JSON for programs.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::value::RawValue;

use super::exit::Failure;
use crate::core::wire;
use crate::{Change, KeyEvent, PeerInfo};

const FAINT: Style = Style::new().dimmed();
const KEY: Style = Style::new().bold();
const AUTHOR: Style = AnsiColor::Cyan.on_default();

/// The state of a key as `--json` prints it.
#[derive(Serialize)]
struct State<'a> {
    key: &'a str,
    value: &'a RawValue,
    version: u64,
    /// Milliseconds since 1970; `null` for a key that was never set.
    updated_at: Option<u64>,
    author: Option<StateAuthor<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<u64>,
}

#[derive(Serialize)]
struct StateAuthor<'a> {
    peer_id: &'a str,
    user_id: &'a str,
    name: &'a str,
}

/// A peer as `--json` prints it.
#[derive(Serialize)]
struct Peer<'a> {
    peer_id: &'a str,
    user_id: &'a str,
    name: &'a str,
    role: &'a str,
    metadata: &'a str,
    joined_at: u64,
}

fn state_json(change: &Change, event: Option<&KeyEvent>) -> serde_json::Result<String> {
    serde_json::to_string(&State {
        key: &change.key,
        value: serde_json::from_str(change.value.json())?,
        version: change.version,
        updated_at: (change.version > 0).then_some(change.updated_at),
        author: change.author.as_deref().map(|author| StateAuthor {
            peer_id: &author.peer_id,
            user_id: &author.user_id,
            name: &author.name,
        }),
        expires_at: (change.expires_at > 0).then_some(change.expires_at),
        reason: wire::reason(change.cause),
        snapshot: event.map(|event| event.snapshot),
        replaced: event.map(|event| event.replaced),
    })
}

/// Prints the state of a key as one JSON object.
pub(super) fn print_state(change: &Change) -> Result<(), Failure> {
    print_line(&printable(&state_json(change, None).map_err(io::Error::from).map_err(unprintable)?))
}

/// Prints peers as one JSON array.
pub(super) fn print_peers(peers: &[&PeerInfo]) -> Result<(), Failure> {
    let peers: Vec<_> = peers
        .iter()
        .map(|peer| Peer {
            peer_id: &peer.peer_id,
            user_id: &peer.user_id,
            name: &peer.name,
            role: &peer.role,
            metadata: &peer.metadata,
            joined_at: peer.joined_at,
        })
        .collect();
    print_line(&printable(&serde_json::to_string(&peers).map_err(io::Error::from).map_err(unprintable)?))
}

/// One line of `watch`, as JSON.
pub(super) fn event_json(event: &KeyEvent) -> io::Result<String> {
    Ok(printable(&state_json(&event.change, Some(event))?))
}

/// One line of `watch`, with colours, for [`write_styled`]. What others wrote in it is escaped.
pub(super) fn event_line(event: &KeyEvent) -> String {
    let change = &event.change;
    let mut line = String::new();
    let author = match change.author.as_deref() {
        Some(author) if !author.name.is_empty() => &*author.name,
        // An operator is no peer.
        Some(author) if author.peer_id.is_empty() => &*author.user_id,
        Some(author) => &*author.peer_id,
        None => "-",
    };
    let (time, version) = match change.version {
        0 => ("-".to_owned(), "-".to_owned()),
        version => (time(change.updated_at), format!("v{version}")),
    };
    let value = printable(change.value.json());
    // Writing into a String cannot fail.
    let _ = write!(line, "{FAINT}{time:<24}  {version:>5}{FAINT:#}  {AUTHOR}{}{AUTHOR:#}", printable(author));
    let _ = write!(line, "  {KEY}{}{KEY:#} = {value}", printable(&change.key));
    if let Some(reason) = wire::reason(change.cause) {
        let _ = write!(line, "  {FAINT}({reason}){FAINT:#}");
    }
    if event.replaced > 0 {
        let _ = write!(line, "  {FAINT}({} older missed){FAINT:#}", event.replaced);
    }
    line
}

/// Server time as text: UTC, to the millisecond.
pub(super) fn time(ms: u64) -> String {
    // Beyond the year 9999, where a server's clock is wrong, the number itself is shown.
    match ms {
        0..=253_402_300_799_999 => humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string(),
        _ => ms.to_string(),
    }
}

/// JSON, or any text, with its control characters escaped: what others wrote must not steer this terminal, nor
/// rearrange its lines. Inside JSON they stand in strings only, so the value stays the same.
pub(super) fn printable(text: &str) -> String {
    escape(text, &[])
}

/// Escapes what [`printable`] does, but for these characters.
fn escape(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() || is_invisible(character)) && !kept.contains(&character) {
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What is not seen but changes how the rest is: line separators, and the marks that turn the direction of writing.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A cell of a table.
pub(super) fn cell(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        printable(text)
    }
}

/// Rows under a header, in straight columns.
pub(super) fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let rows: Vec<_> = std::iter::once(header.map(String::from)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints a text or a name as it is, which is for programs to read. On a terminal what would steer it is escaped.
pub(super) fn print_text(text: &str) -> Result<(), Failure> {
    print_line(&shown(text, io::stdout().is_terminal()))
}

fn shown(text: &str, on_terminal: bool) -> Cow<'_, str> {
    match on_terminal {
        // Text may have several lines, and be indented.
        true => Cow::Owned(escape(text, &['\n', '\t'])),
        false => Cow::Borrowed(text),
    }
}

/// Prints a line on stdout. That nobody reads it any more is no failure: `sstore ... | head -1`.
pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    match write_line(line) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unprintable(error)),
        _ => Ok(()),
    }
}

/// Writes one line at once and flushes it, so that readers of a pipe have it. Every byte of it is written.
pub(super) fn write_line(line: &str) -> io::Result<()> {
    write_to(io::stdout().lock(), line)
}

/// The same for a line with styles, which are dropped where there is no terminal, or `NO_COLOR` is set. With them goes
/// all that looks like one, so data must be escaped.
pub(super) fn write_styled(line: &str) -> io::Result<()> {
    write_to(anstream::stdout().lock(), line)
}

fn write_to(mut out: impl Write, line: &str) -> io::Result<()> {
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}

/// Waits until nobody reads stdout any more: `sstore ... | head -1`. For ever where it has no reader that may go, as a
/// file has none. Inside a runtime only.
pub(super) async fn reader_gone() {
    #[cfg(unix)]
    {
        use tokio::io::unix::AsyncFd;
        use tokio::io::{Interest, Ready};
        // SAFETY: stdout is open for as long as the process runs, under the same number.
        let out = unsafe { AsyncFd::register_with_interest(io::stdout(), Interest::WRITABLE) };
        // Refused for files and /dev/null.
        if let Ok(out) = out {
            while let Ok(mut guard) = out.ready(Interest::WRITABLE).await {
                if guard.ready().is_write_closed() {
                    return;
                }
                guard.clear_ready_matching(Ready::WRITABLE);
            }
        }
    }
    std::future::pending().await
}

/// Tells something on stderr. When that cannot be written nobody is left to be told, and the exit code says the rest.
pub(super) fn tell(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn unprintable(error: io::Error) -> Failure {
    Failure::system("writing to stdout", &error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Author, Value};
    use std::sync::Arc;

    fn event(value: &str, version: u64) -> KeyEvent {
        let author = Author { peer_id: "p-1".into(), user_id: "u".into(), name: "Ana".into() };
        let author = (version > 0).then(|| Arc::new(author));
        let value = Value::parse(value).expect("JSON");
        let change =
            Change { value, version, updated_at: 1_700_000_000_123, author, ..Change::absent("spotlight".into()) };
        KeyEvent { change: Arc::new(change), replaced: 0, snapshot: false }
    }

    fn plain(event: &KeyEvent) -> String {
        anstream::adapter::strip_str(&event_line(event)).to_string()
    }

    #[test]
    fn a_change_is_one_readable_line() {
        let line = plain(&event("\"peer-1\"", 7));
        assert_eq!(line, "2023-11-14T22:13:20.123Z     v7  Ana  spotlight = \"peer-1\"");
        let line = plain(&KeyEvent { replaced: 2, ..event("null", 0) });
        assert_eq!(line, "-                             -  -  spotlight = null  (2 older missed)");
    }

    #[test]
    fn an_author_without_a_name_is_shown_by_an_id() {
        let by = |peer_id: &str| {
            let author = Author { peer_id: peer_id.into(), user_id: "u".into(), name: "".into() };
            let change = Change { author: Some(Arc::new(author)), ..Change::absent("spotlight".into()) };
            plain(&KeyEvent { change: Arc::new(change), replaced: 0, snapshot: false })
        };
        assert!(by("p-1").contains("  p-1  spotlight"), "{}", by("p-1"));
        assert!(by("").contains("  u  spotlight"), "an operator has a user id: {}", by(""));
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        let line = plain(&event("\"a\u{9b}31mb\u{7f}\"", 1));
        assert!(line.ends_with("= \"a\\u009b31mb\\u007f\""), "{line}");
        assert_eq!(printable("a\u{202e}b\u{1b}[2J\u{2028}ë\u{1f600}"), "a\\u202eb\\u001b[2J\\u2028ë\u{1f600}");
    }

    #[test]
    fn text_is_exact_for_programs_and_tame_on_a_terminal() {
        let text = "a\u{1b}[31mb\0\n\tc\u{7f}\u{202e}\u{9b}d";
        assert_eq!(shown(text, false), text);
        assert_eq!(shown(text, true), "a\\u001b[31mb\\u0000\n\tc\\u007f\\u202e\\u009bd");
    }

    #[test]
    fn json_for_programs_does_not_steer_a_terminal_either() {
        let value = "\"a\u{9b}31mb\u{7f}\u{202e}\"";
        let json = event_json(&event(value, 1)).expect("JSON");
        assert!(json.contains("\"value\":\"a\\u009b31mb\\u007f\\u202e\""), "{json}");
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(parsed["value"], serde_json::from_str::<serde_json::Value>(value).expect("JSON"));
    }

    #[test]
    fn json_has_every_field_and_numbers_keep_their_digits() {
        let json = event_json(&event("9007199254740993.10", 7)).expect("JSON");
        assert_eq!(
            json,
            "{\"key\":\"spotlight\",\"value\":9007199254740993.10,\"version\":7,\"updated_at\":1700000000123,\
             \"author\":{\"peer_id\":\"p-1\",\"user_id\":\"u\",\"name\":\"Ana\"},\"snapshot\":false,\"replaced\":0}"
        );
        let json = event_json(&event("null", 0)).expect("JSON");
        assert!(json.contains("\"updated_at\":null,\"author\":null"), "{json}");
    }
}
