//! The ratios as a picture: one line for each workload, one dot for each server, the
//! quartiles as a bar through it.

use std::fmt::Write;

use super::report::{Cell, Row, Spread};
use super::workload::Kind;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 30.0;
/// Between two servers of a workload, and between two workloads.
const STEP: f64 = 7.0;
const GAP: f64 = 9.0;

const TICKS: [f64; 12] = [
    0.125, 0.25, 0.375, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5,
];

/// In the order of [`Kind::ALL`], `raw` standing for its control. Told apart by people who
/// see colours otherwise, too (the palette of Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#999999", "#d55e00", "#e69f00", "#f0e442", "#0072b2", "#009e73", "#cc79a7",
];

/// The whole picture. The first server, which is 1 by definition, is not drawn.
pub(crate) fn svg(rows: &[Row], servers: &[&str]) -> String {
    let drawn = servers.get(1..).unwrap_or_default();
    let band = drawn.len() as f64 * STEP + GAP;
    let height = TOP + band * rows.len() as f64 + BOTTOM;
    let scale = Scale::of(rows);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">Processor time per request: \
         a loop by hand / the server (right of 1 is better)</text>\n"
    );
    legend(&mut out, drawn);
    grid(&mut out, &scale, height);
    for (at, row) in rows.iter().enumerate() {
        let top = TOP + band * at as f64;
        let label = format!("{}, {}", row.workload, row.pin.name());
        let (x, y) = (LEFT - 10.0, top + band / 2.0);
        put(
            &mut out,
            format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>"),
        );
        for cell in &row.cells {
            if let Some(nth) = drawn.iter().position(|server| *server == cell.server) {
                let y = top + GAP / 2.0 + STEP * (nth as f64 + 0.5);
                dot(&mut out, cell, y, &scale);
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Logarithmic: half as good is as far to the left as twice as good to the right.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(rows: &[Row]) -> Self {
        let cells = || rows.iter().flat_map(|row| &row.cells).map(|cell| cell.cpu);
        let low = cells().map(|cpu| cpu.low).fold(0.9, f64::min);
        let high = cells().map(|cpu| cpu.high).fold(1.1, f64::max);
        Self {
            low: low.max(TICKS[0]).ln(),
            high: high.min(TICKS[TICKS.len() - 1]).ln(),
        }
    }

    /// What is beyond the ends is drawn at the end.
    fn x(&self, ratio: f64) -> f64 {
        let ratio = ratio.ln().clamp(self.low, self.high);
        LEFT + (ratio - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)
    }

    fn shows(&self, ratio: f64) -> bool {
        (self.low..=self.high).contains(&ratio.ln())
    }
}

fn legend(out: &mut String, servers: &[&str]) {
    for (nth, server) in servers.iter().enumerate() {
        let (x, colour) = (LEFT + 95.0 * nth as f64, colour(server));
        let text = x + 10.0;
        put(
            out,
            format_args!(
                "<circle cx=\"{x}\" cy=\"36\" r=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{text}\" y=\"40\">{server}</text>"
            ),
        );
    }
}

/// The same in every picture, whoever else is in it.
fn colour(server: &str) -> &'static str {
    let kind = Kind::ALL.iter().position(|kind| kind.name() == server);
    COLOURS[kind.unwrap_or(0) % COLOURS.len()]
}

fn grid(out: &mut String, scale: &Scale, height: f64) {
    let bottom = height - BOTTOM;
    for tick in TICKS.into_iter().filter(|tick| scale.shows(*tick)) {
        let x = scale.x(tick);
        let colour = if tick == 1.0 { "#000000" } else { "#dddddd" };
        let (label, above) = (height - 12.0, TOP - 6.0);
        put(
            out,
            format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" \
                 stroke=\"{colour}\"/>\
                 <text x=\"{x:.1}\" y=\"{label:.1}\" text-anchor=\"middle\">{tick}</text>\
                 <text x=\"{x:.1}\" y=\"{above}\" text-anchor=\"middle\">{tick}</text>"
            ),
        );
    }
}

fn dot(out: &mut String, cell: &Cell, y: f64, scale: &Scale) {
    let colour = colour(cell.server);
    let Spread { low, median, high } = cell.cpu;
    let (low, at, high) = (scale.x(low), scale.x(median), scale.x(high));
    put(
        out,
        format_args!(
            "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" \
             stroke=\"{colour}\" stroke-width=\"2\"/>\
             <circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\">\
             <title>{} {median:.3}</title></circle>",
            cell.server
        ),
    );
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{line}");
}
