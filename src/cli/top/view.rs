//! How `sstore top` looks: on a screen of any size, and as plain lines. Everything that others named or wrote goes
//! through [`printable`].

use std::time::Duration;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Row as TableRow, Table};
use ratatui::Frame;

use super::state::{Open, Order, Row, Stream, Top};
use crate::cli::output::{self, cell, printable};
use crate::core::room::Time;
use crate::Change;

/// Characters of a value that are looked at: more than any screen shows in a line.
const VALUE_CHARACTERS: usize = 512;

/// For so long after a change its key is shown bold, in milliseconds: long enough to be noticed.
const FRESH_MS: Time = 2_000;

/// Columns for names and keys: a quarter of the screen, within these bounds, so that values have their place.
const NAME_WIDTHS: std::ops::RangeInclusive<usize> = 8..=24;

/// Columns for roles and authors.
const AUTHOR_WIDTH: usize = 10;

/// Draws everything. `now` is the time since the program began.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top, now: Duration) {
    let area = frame.area();
    let has_note = usize::from(top.problem.is_some() || !top.filter.is_empty() || top.is_typing);
    let [title, totals, note, middle, help] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(u16::try_from(has_note).unwrap_or(0)),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(top, now), title);
    frame.render_widget(note_line(top), note);
    top.page = usize::from(middle.height.saturating_sub(1)).max(1);
    match top.open.take() {
        Some(mut open) => {
            frame.render_widget(room_line(top, &open), totals);
            draw_room(frame, middle, top, &mut open, now);
            top.open = Some(open);
            frame.render_widget(help_line("q quit  esc back  ↑↓ scroll"), help);
        }
        None => {
            frame.render_widget(Line::from(totals_text(top)), totals);
            draw_list(frame, middle, top, now);
            let text = match top.is_typing {
                true => "enter keep the filter  esc drop it",
                false => "q quit  ↑↓ select  enter open  s sort  / filter",
            };
            frame.render_widget(help_line(text), help);
        }
    }
}

/// The same as lines, without a screen.
pub(super) fn plain(top: &Top) -> String {
    let rows = top.rows.iter().map(|row| {
        let room = &row.room;
        let [peers, keys, bytes] = [room.peers, room.keys, room.bytes].map(|count| count.to_string());
        [rate(row.rate), peers, keys, bytes, age(top.server_time(top.seen_at), room.started_at), cell(&room.room)]
    });
    let table = output::table(["CHANGES/S", "PEERS", "KEYS", "BYTES", "AGE", "ROOM"], rows);
    format!("{}\n{}\n\n{table}", about(top, top.seen_at), totals_text(top))
}

fn about(top: &Top, now: Duration) -> String {
    let url = printable(&top.url);
    match &top.server {
        Some(server) => {
            let up = age(top.server_time(now), server.started_at);
            format!("sstore top  {url}  {}  up {up}", printable(&server.version))
        }
        None => format!("sstore top  {url}"),
    }
}

fn title_line(top: &Top, now: Duration) -> Line<'static> {
    let mut spans = vec![Span::from(about(top, now)).bold()];
    if let Some(open) = &top.open {
        let (text, style) = match &open.stream {
            Stream::Asked => ("asking", Style::new()),
            Stream::Live => ("live", Style::new().green()),
            Stream::Closed => ("no session; waiting for the next", Style::new().yellow()),
            Stream::Lost(_) => ("lost; trying again", Style::new().red()),
        };
        spans.insert(0, Span::from(format!("{text}  ")).style(style));
    }
    Line::from(spans)
}

fn totals_text(top: &Top) -> String {
    let (rooms, peers) = top.totals();
    let mut text = format!("rooms {rooms}  peers {peers}  changes/s {}", rate(top.rate()));
    if let Some(server) = top.server.as_ref().filter(|server| server.room.is_none()) {
        text += &format!("  connections {}  sockets {}", server.connections, server.sockets);
    }
    text
}

fn room_line(top: &Top, open: &Open) -> Line<'static> {
    let mut text = format!("{}  ", printable(&open.name));
    if let (Some(row), Some(server)) = (top.row(&open.name), &top.server) {
        let (room, limits) = (&row.room, &server.limits);
        text += &format!(
            "peers {}/{}  keys {}/{}  bytes {}/{}  changes/s {}  ",
            room.peers,
            limits.max_peers,
            room.keys,
            limits.max_keys,
            room.bytes,
            limits.max_store_bytes,
            rate(row.rate)
        );
    }
    Line::from(format!("{text}revision {}  session {}", open.revision, printable(&open.session_id)))
}

fn note_line(top: &Top) -> Line<'static> {
    if let Some(problem) = &top.problem {
        return Line::from(format!("{}; trying again", printable(problem))).style(Style::new().red().bold());
    }
    let cursor = if top.is_typing { "▏" } else { "" };
    Line::from(format!("filter: {}{cursor}", printable(&top.filter))).style(Style::new().yellow())
}

fn help_line(text: &'static str) -> Line<'static> {
    Line::from(text).style(Style::new().dim())
}

// ------------------------------------------------------------------ the list

fn draw_list(frame: &mut Frame<'_>, area: Rect, top: &mut Top, now: Duration) {
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(4),
    ];
    let title = |text: &str, order: Option<Order>| {
        let mark = if order == Some(top.order) { "▼" } else { "" };
        number(format!("{text}{mark}"))
    };
    let header = TableRow::new([
        Cell::from("ROOM"),
        title("CHANGES/S", Some(Order::Changes)),
        title("PEERS", Some(Order::Peers)),
        title("KEYS", Some(Order::Keys)),
        title("BYTES", Some(Order::Bytes)),
        title("AGE", None),
    ]);
    let time = top.server_time(now);
    let line = |row: &Row| {
        let room = &row.room;
        let [peers, keys, bytes] = [room.peers, room.keys, room.bytes].map(|count| number(count.to_string()));
        let age = number(age(time, room.started_at));
        TableRow::new([Cell::from(printable(&room.room)), number(rate(row.rate)), peers, keys, bytes, age])
    };
    let table = Table::new(top.rows.iter().map(line), widths)
        .header(header.style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut top.table);
}

fn number(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).right_aligned())
}

// ------------------------------------------------------------------ a room

fn draw_room(frame: &mut Frame<'_>, area: Rect, top: &Top, open: &mut Open, now: Duration) {
    let (time, width, height) = (top.server_time(now), usize::from(area.width), usize::from(area.height));
    let name_width = (width / 4).clamp(*NAME_WIDTHS.start(), *NAME_WIDTHS.end());
    let mut lines: Vec<Line<'static>> = Vec::new();
    if let Stream::Lost(why) = &open.stream {
        lines.push(Line::from(printable(why)).red());
    }
    let heading = |text: &str, count: usize| Line::from(format!("{text} {count}")).bold();
    let all = 3 + open.peers.len() + open.locks.len() + open.keys.len();
    open.scroll = open.scroll.min(all.saturating_sub(height.saturating_sub(lines.len())));
    let peers = open.peers.iter().map(|peer| {
        let name = fit(&cell(&peer.name), name_width);
        let (role, user) = (fit(&cell(&peer.role), AUTHOR_WIDTH), cell(&peer.user_id));
        let lost = if peer.connected { "" } else { "lost" };
        let age = age(time, peer.joined_at);
        let line = Line::from(format!("  {name} {role} {age:>4} {lost:<4} {}  {user}", cell(&peer.peer_id)));
        if peer.connected {
            line
        } else {
            line.dim()
        }
    });
    let locks = open.locks.iter().map(|(name, change)| {
        let left = span(change.expires_at.saturating_sub(time));
        let name = fit(&printable(name), name_width);
        Line::from(format!("  {name} {} {left:>4} left  token {}", fit(&author(change), AUTHOR_WIDTH), change.version))
    });
    let keys = open.keys.iter().map(|(key, change)| {
        let age = age(time, change.updated_at);
        let front = format!(
            "  {} {} {age:>4} v{:<5} ",
            fit(&printable(key), name_width),
            fit(&author(change), AUTHOR_WIDTH),
            change.version
        );
        let shown: String = change.value.json().chars().take(VALUE_CHARACTERS).collect();
        let value = shorten(&printable(&shown), width.saturating_sub(Span::from(&*front).width()));
        let line = Line::from(format!("{front}{value}"));
        if time.saturating_sub(change.updated_at) < FRESH_MS {
            line.bold()
        } else {
            line
        }
    });
    let body = std::iter::once(heading("PEERS", open.peers.len()))
        .chain(peers)
        .chain(std::iter::once(heading("LOCKS", open.locks.len())))
        .chain(locks)
        .chain(std::iter::once(heading("KEYS", open.keys.len())))
        .chain(keys);
    lines.extend(body.skip(open.scroll).take(height));
    frame.render_widget(Text::from(lines), area);
}

fn author(change: &Change) -> String {
    match change.author.as_deref() {
        Some(author) if !author.name.is_empty() => printable(&author.name),
        Some(author) if !author.peer_id.is_empty() => printable(&author.peer_id),
        Some(author) => cell(&author.user_id),
        None => "-".into(),
    }
}

// ------------------------------------------------------------------ texts

/// A text cut to so many columns, with a mark where it was cut.
fn shorten(text: &str, width: usize) -> String {
    if Span::from(text).width() <= width {
        return text.to_owned();
    }
    // Nearly every character takes a column; some take two.
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    while Span::from(&*shown).width() + 1 > width && shown.pop().is_some() {}
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// The same, filled up with spaces.
fn fit(text: &str, width: usize) -> String {
    let mut text = shorten(text, width);
    let missing = width.saturating_sub(Span::from(&*text).width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".into(),
        Some(rate) if rate < 0.05 => "0".into(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn age(now: Time, since: Time) -> String {
    span(now.saturating_sub(since))
}

/// A time in its largest unit.
fn span(ms: Time) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;
    use ratatui::Terminal;

    use super::super::state::tests::{change, look, press, room};
    use super::*;
    use crate::cli::api::Peer;
    use crate::cli::events::Happening;

    const NOW: Duration = Duration::from_millis(2_000);

    /// The lines of a screen of this size.
    fn screen(top: &mut Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| draw(frame, top, NOW)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    fn busy() -> Top {
        let mut top = Top::new("http://127.0.0.1:7350", Order::Changes);
        top.saw(look(1_000, vec![room("lobby", 10, 3, 2, 51), room("quiz", 100, 2, 7, 1_024)]));
        top.saw(look(2_000, vec![room("lobby", 12, 3, 2, 51), room("quiz", 1_334, 2, 7, 1_024)]));
        top
    }

    #[test]
    fn the_list_fits_a_small_terminal() {
        assert_eq!(
            screen(&mut busy(), 60, 8),
            [
                "sstore top  http://127.0.0.1:7350  0.1.0  up 16m",
                "rooms 2  peers 5  changes/s 1236  connections 4  sockets 5",
                "ROOM                 CHANGES/S▼  PEERS   KEYS     BYTES  AGE",
                "quiz                       1234      2      7      1024  16m",
                "lobby                       2.0      3      2        51  16m",
                "",
                "",
                "q quit  ↑↓ select  enter open  s sort  / filter",
            ]
        );
    }

    #[test]
    fn a_room_shows_its_peers_locks_and_keys() {
        let mut top = busy();
        press(&mut top, KeyCode::Down);
        press(&mut top, KeyCode::Enter);
        let peer = |name: &str, connected| Peer {
            peer_id: "p-1".into(),
            user_id: "u-1".into(),
            name: name.into(),
            role: "host".into(),
            joined_at: 940_000,
            connected,
        };
        let long = format!("\"{}\"", "x".repeat(900));
        let open = top.open.as_mut().expect("a room");
        open.happened(Happening::Snapshot {
            session_id: "s-1".into(),
            revision: 12,
            peers: vec![peer("Ana", true), peer("", false)],
            values: vec![change("long", &long, 9), change("n", "42", 12), change("$lock/turn", "{}", 7)],
        });
        assert_eq!(
            screen(&mut top, 60, 15),
            [
                "live  sstore top  http://127.0.0.1:7350  0.1.0  up 16m",
                "lobby  peers 3/1000  keys 2/100  bytes 51/65536  changes/s 2",
                "PEERS 2",
                "  Ana             host         1m      p-1  u-1",
                "  -               host         1m lost p-1  u-1",
                "LOCKS 1",
                "  turn            Ana          0s left  token 7",
                "KEYS 2",
                "  long            Ana          3s v9     \"xxxxxxxxxxxxxxxxx…",
                "  n               Ana          3s v12    42",
                "",
                "",
                "",
                "",
                "q quit  esc back  ↑↓ scroll",
            ]
        );
        // It is scrolled to its end, and no further.
        for _ in 0..100 {
            press(&mut top, KeyCode::PageDown);
        }
        let lines = screen(&mut top, 60, 6);
        assert!(
            lines[2..5].iter().any(|line| line.contains("v12    42")) && lines[2].starts_with("KEYS"),
            "{lines:#?}"
        );
        top.open.as_mut().expect("a room").stream = Stream::Lost("the server ended the stream".into());
        let lines = screen(&mut top, 60, 15);
        assert!(lines[0].starts_with("lost; trying again") && lines[2] == "the server ended the stream", "{lines:#?}");
    }

    #[test]
    fn nothing_that_others_named_or_wrote_steers_the_terminal() {
        let evil = "\u{1b}[2J\u{202e}\u{9b}31m\u{7}\n";
        let mut top = Top::new(evil, Order::Changes);
        top.saw(look(1_000, vec![room(evil, 1, 1, 1, 1)]));
        top.missed(evil.into());
        let mut all = screen(&mut top, 200, 8).concat() + &plain(&top);
        press(&mut top, KeyCode::Enter);
        let open = top.open.as_mut().expect("a room");
        let peer = Peer {
            peer_id: evil.into(),
            user_id: evil.into(),
            name: evil.into(),
            role: evil.into(),
            joined_at: 1,
            connected: true,
        };
        let values = vec![change(evil, "\"\u{9b}31m\u{202e}\"", 1), change(&format!("$lock/{evil}"), "1", 1)];
        open.happened(Happening::Snapshot { session_id: evil.into(), revision: 1, peers: vec![peer], values });
        all += &screen(&mut top, 300, 20).concat();
        open_lost(&mut top, evil);
        all += &screen(&mut top, 300, 20).concat();
        let bad = |character: &char| (character.is_control() && *character != '\n') || *character == '\u{202e}';
        assert_eq!(all.chars().find(bad), None, "{all:?}");
        assert!(all.contains("\\u001b[2J\\u202e"), "{all}");
        assert_eq!(plain(&top).lines().count(), 5, "{}", plain(&top));
    }

    fn open_lost(top: &mut Top, why: &str) {
        top.open.as_mut().expect("a room").stream = Stream::Lost(why.into());
    }

    #[test]
    fn any_size_is_drawn() {
        for (width, height) in [(1, 1), (2, 3), (7, 5), (60, 15), (300, 100)] {
            let mut top = busy();
            top.missed("the server cannot be reached".into());
            assert_eq!(screen(&mut top, width, height).len(), usize::from(height));
            press(&mut top, KeyCode::Enter);
            assert_eq!(screen(&mut top, width, height).len(), usize::from(height));
        }
    }

    #[test]
    fn texts_are_cut_by_their_width() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("会議会議", 5), "会議…");
        assert_eq!(fit("会", 4), "会  ");
        assert_eq!(shorten("abc", 0), "");
        assert_eq!([span(59_999), span(60_000), span(7_200_000), span(172_800_000)], ["59s", "1m", "2h", "2d"]);
        assert_eq!([None, Some(0.01), Some(9.94), Some(1_234.5)].map(rate), ["-", "0", "9.9", "1234"]);
    }
}
