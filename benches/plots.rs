//! Draws what the benchmarks measured, as SVG: no benchmark itself, but the one place that needs `plotters`.
//!
//! ```text
//! cargo bench --bench plots -- growth IN.json OUT.svg    lines: how something grows
//! cargo bench --bench plots -- ratios IN.json OUT.svg    dots: how far each server is from the floor
//! ```
//!
//! `ratios` takes what `sstore bench --json` writes and draws the figures that have a goal as a ratio.
//!
//! `growth` takes `{"title", "x", "y", "log_x": bool, "log_y": bool, "series": [{"name", "points": [[x, y], ...]}]}`,
//! where `x` and `y` name the axes with their units.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Deserialize;

type Outcome<T> = Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const QUIET: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Okabe and Ito's, which people who are colour-blind tell apart; each series has its own marker too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

fn main() -> ExitCode {
    // Cargo adds a `--bench`, and a plain `cargo bench` or `cargo test --benches` gives nothing else.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let drawn = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            println!("nothing to draw; see the head of benches/plots.rs");
            Ok(())
        }
        ["growth", from, to] => growth(from.as_ref(), to.as_ref()),
        ["ratios", from, to] => ratios(from.as_ref(), to.as_ref()),
        _ => Err("expected `growth IN.json OUT.svg` or `ratios IN.json OUT.svg`".into()),
    };
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plots: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Outcome<T> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn text(size: i32, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour).pos(Pos::new(horizontal, vertical))
}

/// A number as an axis has it: three digits at most, thousands as k.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        // 1,000 and 2,000 read better whole.
        size if size >= 9_999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size == 0.0 || size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// One axis between round numbers; a logarithmic one has ticks at 1, 2, 5 and 10, or at tens only where it is long.
#[derive(Clone)]
struct Axis {
    log: bool,
    start: f64,
    end: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis that holds all values.
    fn over(values: impl Iterator<Item = f64> + Clone, log: bool) -> Outcome<Axis> {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        if !least.is_finite() || !most.is_finite() {
            return Err("there are no points, or one is not a number".into());
        }
        let all: Vec<f64> = round_numbers(-12..13).collect();
        if !log {
            let step = all.into_iter().find(|step| most / step <= 6.0).ok_or("a value is too large")?;
            // Above the highest point there is room for what it says.
            let steps = (most / step * 1.02).ceil().max(1.0);
            let ticks = (0..=steps as u32).map(|tick| f64::from(tick) * step).collect();
            return Ok(Axis { log, start: 0.0f64.min(least), end: steps * step, ticks });
        }
        if least <= 0.0 {
            return Err("a logarithmic axis has no place for zero or less".into());
        }
        let below = all.iter().rposition(|&number| number <= least * 1.000_001).ok_or("a value is too small")?;
        let above = all.iter().position(|&number| number >= most * 0.999_999).ok_or("a value is too large")?;
        let above = above.max(below + 1).min(all.len() - 1);
        let (start, end) = (all[below], all[above]);
        let only_tens = (end / start).log10() > 3.0;
        let ticks =
            all[below..=above].iter().copied().filter(|&number| !only_tens || is_power_of_ten(number)).collect();
        Ok(Axis { log, start, end, ticks })
    }

    fn place(&self, value: f64) -> f64 {
        if self.log {
            value.log10()
        } else {
            value
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (start, end) = (self.place(self.start), self.place(self.end));
        let share = (self.place(*value) - start) / (end - start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        short(*value)
    }
}

/// 1, 2, 5, 10, ... from and to these powers of ten.
fn round_numbers(powers: std::ops::Range<i32>) -> impl Iterator<Item = f64> {
    powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

fn is_power_of_ten(number: f64) -> bool {
    (number.log10() - number.log10().round()).abs() < 1e-9
}

#[derive(Deserialize)]
struct Growth {
    title: String,
    x: String,
    y: String,
    #[serde(default)]
    log_x: bool,
    #[serde(default)]
    log_y: bool,
    series: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

fn growth(from: &Path, to: &Path) -> Outcome<()> {
    const SIZE: (u32, u32) = (860, 500);
    const LEGEND_ROW: i32 = 22;
    let plot: Growth = read(from)?;
    let x = Axis::over(plot.series.iter().flat_map(|series| &series.points).map(|point| point.0), plot.log_x)?;
    let y = Axis::over(plot.series.iter().flat_map(|series| &series.points).map(|point| point.1), plot.log_y)?;

    let root = SVGBackend::new(to, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(plot.title, (24, 18), text(20, INK, HPos::Left, VPos::Top)))?;
    let (mut left, mut top) = (24, 50);
    for (index, series) in plot.series.iter().enumerate() {
        // No font is measured: this is wide enough for a usual one.
        let width = 34 + series.name.chars().count() as i32 * 8;
        if left > 24 && left + width > SIZE.0 as i32 - 24 {
            (left, top) = (24, top + LEGEND_ROW);
        }
        let colour = COLOURS[index % COLOURS.len()];
        root.draw(&PathElement::new([(left, top + 7), (left + 22, top + 7)], colour.stroke_width(2)))?;
        marker(&root, index, (left + 11, top + 7))?;
        let name = Text::new(series.name.clone(), (left + 28, top + 7), text(14, INK, HPos::Left, VPos::Center));
        root.draw(&name)?;
        left += width;
    }
    top += LEGEND_ROW + 8;
    root.draw(&Text::new(plot.y, (24, top), text(13, QUIET, HPos::Left, VPos::Top)))?;
    root.draw(&Text::new(
        plot.x,
        (SIZE.0 as i32 - 64, SIZE.1 as i32 - 14),
        text(13, QUIET, HPos::Right, VPos::Bottom),
    ))?;

    let mut chart = ChartBuilder::on(&root)
        .margin_top(top + 26)
        .margin_bottom(26)
        .margin_right(64)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(QUIET)
        .label_style(text(13, QUIET, HPos::Left, VPos::Top))
        .draw()?;
    let mut labels: Vec<(i32, i32)> = Vec::new();
    for (index, series) in plot.series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart.draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)))?;
        for point in &series.points {
            marker(&root, index, chart.backend_coord(point))?;
        }
        // Both ends say how much it is: that is what one compares.
        let first = series.points.first().map(|point| (point, (10, -12)));
        let last = series.points.last().filter(|_| series.points.len() > 1).map(|point| (point, (11, 0)));
        for (point, offset) in [first, last].into_iter().flatten() {
            let at = chart.backend_coord(point);
            let (across, mut down) = (at.0 + offset.0, at.1 + offset.1);
            // Above what is there already, where two series meet.
            let meets = |down: i32| {
                labels.iter().copied().find(|label| (label.0 - across).abs() < 40 && (label.1 - down).abs() < 13)
            };
            while let Some(other) = meets(down) {
                down = other.1 - 13;
            }
            labels.push((across, down));
            root.draw(&Text::new(short(point.1), (across, down), text(13, colour, HPos::Left, VPos::Center)))?;
        }
    }
    root.present()?;
    Ok(())
}

/// What `sstore bench --json` writes, as far as it is drawn.
#[derive(Deserialize)]
struct Benchmark {
    rows: Vec<BenchmarkRow>,
}

#[derive(Deserialize)]
struct BenchmarkRow {
    workload: String,
    figure: String,
    goal: Option<Goal>,
    sides: BTreeMap<String, Figures>,
}

#[derive(Deserialize)]
struct Goal {
    text: String,
    ratio: Option<f64>,
}

#[derive(Deserialize)]
struct Figures {
    ratio: Option<f64>,
}

/// A line for each figure, with a dot for each server where its ratio to the floor is.
fn ratios(from: &Path, to: &Path) -> Outcome<()> {
    const WIDTH: i32 = 960;
    const TOP: i32 = 112;
    const ROW: i32 = 46;
    const LEFT: i32 = 400;
    const RIGHT: i32 = 104;
    const LEAST: f64 = 0.5;
    const MOST: f64 = 5.0;
    const SIDES: [(&str, &str); 3] = [("ours", "SessionStore"), ("redis", "Redis"), ("mosquitto", "Mosquitto")];
    let benchmark: Benchmark = read(from)?;
    let rows: Vec<(&BenchmarkRow, &Goal, f64)> = benchmark
        .rows
        .iter()
        .filter_map(|row| row.goal.as_ref().and_then(|goal| Some((row, goal, goal.ratio?))))
        .collect();
    let all =
        rows.iter().flat_map(|(row, _, bound)| row.sides.values().filter_map(|side| side.ratio).chain([*bound, 1.0]));
    // What is farther away is drawn at the edge, or everything else would lie on one another.
    let axis = Axis::over(all.map(|ratio| ratio.clamp(LEAST, MOST)).collect::<Vec<_>>().into_iter(), true)?;
    let height = TOP + ROW * rows.len() as i32 + 40;
    let across = |ratio: f64| axis.map(&ratio.clamp(LEAST, MOST), (LEFT, WIDTH - RIGHT));

    let root = SVGBackend::new(to, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = "Work of the server, as a ratio to a floor that has no store";
    root.draw(&Text::new(title, (24, 18), text(20, INK, HPos::Left, VPos::Top)))?;
    let mut left = 24;
    for (index, (side, name)) in SIDES.iter().enumerate() {
        if rows.iter().any(|(row, _, _)| row.sides.contains_key(*side)) {
            marker(&root, index, (left + 6, 62))?;
            root.draw(&Text::new(*name, (left + 18, 62), text(14, INK, HPos::Left, VPos::Center)))?;
            left += 40 + name.len() as i32 * 8;
        }
    }
    goal_mark(&root, (left + 6, 62))?;
    root.draw(&Text::new("goal, shaded where it is met", (left + 18, 62), text(14, INK, HPos::Left, VPos::Center)))?;
    let bottom = height - 34;
    for tick in &axis.ticks {
        let x = across(*tick);
        let is_floor = (tick - 1.0).abs() < 1e-9;
        let style = if is_floor { QUIET } else { GRID }.stroke_width(if is_floor { 2 } else { 1 });
        root.draw(&PathElement::new([(x, TOP - 10), (x, bottom)], style))?;
        let label = if is_floor { "the floor".to_string() } else { format!("{}x", short(*tick)) };
        root.draw(&Text::new(label, (x, bottom + 6), text(13, QUIET, HPos::Center, VPos::Top)))?;
    }
    for (index, (row, goal, bound)) in rows.iter().enumerate() {
        let y = TOP + ROW * index as i32 + ROW / 2;
        root.draw(&Text::new(row.workload.as_str(), (24, y - 8), text(14, INK, HPos::Left, VPos::Center)))?;
        let figure = format!("{}, goal {}", row.figure, goal.text);
        root.draw(&Text::new(figure, (24, y + 9), text(12, QUIET, HPos::Left, VPos::Center)))?;
        // What is better lies to the left of most goals, and to the right of rates.
        let is_least = goal.text.starts_with('\u{2265}');
        let met = if is_least { (across(*bound), WIDTH - RIGHT) } else { (LEFT, across(*bound)) };
        root.draw(&Rectangle::new([(met.0, y - 15), (met.1, y + 15)], GRID.mix(0.45).filled()))?;
        goal_mark(&root, (across(*bound), y))?;
        // The peers' labels stand below, ours above; those that would meet are moved apart.
        let mut below = i32::MIN;
        let mut sides: Vec<(usize, f64)> = SIDES
            .iter()
            .enumerate()
            .filter_map(|(side, (name, _))| Some((side, row.sides.get(*name)?.ratio?)))
            .collect();
        sides.sort_by(|one, other| one.1.total_cmp(&other.1));
        for (side, ratio) in sides {
            marker(&root, side, (across(ratio), y))?;
            let (mut x, mut down) = (across(ratio), -14);
            if side > 0 {
                (x, down) = (x.max(below.saturating_add(38)), 14);
                below = x;
            }
            let label =
                Text::new(format!("{ratio:.2}x"), (x, y + down), text(12, COLOURS[side], HPos::Center, VPos::Center));
            root.draw(&label)?;
        }
    }
    root.present()?;
    Ok(())
}

fn goal_mark(root: &Area, at: (i32, i32)) -> Outcome<()> {
    root.draw(&PathElement::new([(at.0, at.1 - 15), (at.0, at.1 + 15)], INK.stroke_width(2)))?;
    Ok(())
}

fn marker(root: &Area, index: usize, at: (i32, i32)) -> Outcome<()> {
    const SIZE: i32 = 5;
    let style = COLOURS[index % COLOURS.len()].filled();
    match index % 4 {
        0 => root.draw(&Circle::new(at, SIZE, style))?,
        1 => {
            root.draw(&Rectangle::new([(at.0 - SIZE + 1, at.1 - SIZE + 1), (at.0 + SIZE - 1, at.1 + SIZE - 1)], style))?
        }
        2 => root.draw(&TriangleMarker::new(at, SIZE + 2, style))?,
        _ => {
            let corners = [(0, -1), (1, 0), (0, 1), (-1, 0)];
            let corners = corners.map(|(x, y)| (at.0 + x * (SIZE + 1), at.1 + y * (SIZE + 1)));
            root.draw(&Polygon::new(corners, style))?;
        }
    }
    Ok(())
}
