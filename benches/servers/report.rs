//! What the rounds say: ratios, their spread, and the table.

use std::io;
use std::path::PathBuf;

use super::options::Pin;
use super::plot;
use super::rounds::Sample;

/// The share of wall time from which on a server counts as busy all the time.
const SATURATED: f64 = 0.95;

/// Median and quartiles of the rounds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self {
            low: values[last / 4],
            median: values[last / 2],
            high: values[last - last / 4],
        }
    }
}

/// One server on one workload.
pub(crate) struct Cell {
    pub(crate) server: &'static str,
    /// Processor time per request of `raw`, over that of this one.
    pub(crate) cpu: Spread,
    /// Requests per second of this one, over those of `raw`.
    rate: Spread,
    /// Processor time over wall time.
    busy: f64,
    microseconds: f64,
    per_second: f64,
    load_busy: f64,
    p99: Option<Latency>,
}

/// That of every round, if the workload is about it.
struct Latency {
    /// Over that of `raw`, so below 1 is better.
    ratio: Spread,
    microseconds: Spread,
}

impl Latency {
    fn new(baseline: &[Sample], samples: &[Sample]) -> Option<Self> {
        let of = |samples: &[Sample]| {
            samples
                .iter()
                .map(|one| one.p99)
                .collect::<Option<Vec<_>>>()
        };
        let (raw, one) = (of(baseline)?, of(samples)?);
        let ratios = raw.iter().zip(&one).map(|(raw, one)| one / raw);
        Some(Self {
            ratio: Spread::of(ratios.collect()),
            microseconds: Spread::of(one.iter().map(|seconds| seconds * 1e6).collect()),
        })
    }
}

/// One workload, with the load at one place.
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) pin: Pin,
    /// The share of the processors that other programs had.
    others: Option<f64>,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// The first server is the one that the others are compared with.
    pub(crate) fn new<'a>(
        workload: &str,
        pin: Pin,
        others: Option<f64>,
        servers: impl Iterator<Item = (&'static str, &'a [Sample])>,
    ) -> Self {
        let servers: Vec<_> = servers.collect();
        let cells = match servers.split_first() {
            Some(((_, baseline), _)) => servers
                .iter()
                .map(|(name, samples)| Cell::new(name, baseline, samples))
                .collect(),
            None => Vec::new(),
        };
        Self {
            workload: workload.to_owned(),
            pin,
            others,
            cells,
        }
    }

    fn print_latencies(&self) {
        for cell in &self.cells {
            let Some(p99) = &cell.p99 else { continue };
            let Spread { low, median, high } = p99.ratio;
            println!(
                "{:>12} p99 {:.0} us, {median:.3} ({low:.3} to {high:.3}) x that of raw",
                cell.server, p99.microseconds.median,
            );
        }
    }

    fn of(&self, server: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.server == server)
    }
}

impl Cell {
    fn new(server: &'static str, baseline: &[Sample], samples: &[Sample]) -> Self {
        let ratios = |of: fn(&Sample, &Sample) -> f64| {
            let rounds = baseline.iter().zip(samples);
            Spread::of(rounds.map(|(raw, one)| of(raw, one)).collect())
        };
        let median = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of).collect()).median;
        Self {
            server,
            cpu: ratios(|raw, one| raw.cost() / one.cost()),
            rate: ratios(|raw, one| one.rate() / raw.rate()),
            busy: median(|one| one.server / one.wall),
            microseconds: median(|one| one.cost() * 1e6),
            per_second: median(Sample::rate),
            load_busy: median(|one| one.load / one.wall),
            p99: Latency::new(baseline, samples),
        }
    }

    /// It says something about the server only if the load does not wait for itself.
    fn rate(&self) -> String {
        if self.busy < SATURATED {
            return "-".to_owned();
        }
        format!("{:.3}", self.rate.median)
    }
}

impl Sample {
    fn cost(&self) -> f64 {
        self.server / self.requests as f64
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / self.wall
    }
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Prints it at once, too: a long run is watched.
    pub(crate) fn add(&mut self, row: Row) {
        let (pin, others) = (row.pin.name(), percent(row.others));
        println!(
            "\n{}, {pin}; other programs had {others} of the processors",
            row.workload
        );
        println!(
            "{:>12} {:>24} {:>7} {:>10} {:>12} {:>10} {:>10}",
            "",
            "CPU ratio (quartiles)",
            "busy",
            "rate ratio",
            "requests/s",
            "us/request",
            "load busy"
        );
        for cell in &row.cells {
            let Spread { low, median, high } = cell.cpu;
            println!(
                "{:>12} {:>24} {:>7.2} {:>10} {:>12.0} {:>10.3} {:>10.2}",
                cell.server,
                format!("{median:.3} ({low:.3} to {high:.3})"),
                cell.busy,
                cell.rate(),
                cell.per_second,
                cell.microseconds,
                cell.load_busy,
            );
        }
        row.print_latencies();
        self.rows.push(row);
    }

    /// The medians of all, their geometric means, and the picture.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let servers = self.servers();
        print!("\n{:>26}", "CPU ratio, medians");
        for server in &servers {
            print!(" {server:>9}");
        }
        println!(" {:>9} {:>9}", "raw busy", "others");
        for row in &self.rows {
            print!("{:>26}", format!("{}, {}", row.workload, row.pin.name()));
            for server in &servers {
                print!(" {:>9}", ratio(row.of(server).map(|cell| cell.cpu.median)));
            }
            let busy = row.cells.first().map_or(0.0, |raw| raw.busy);
            println!(" {busy:>9.2} {:>9}", percent(row.others));
        }
        for pin in [Pin::Split, Pin::Same] {
            self.means(pin, &servers);
        }
        self.draw(&servers)
    }

    /// Everybody who served anything, in the order of the table.
    fn servers(&self) -> Vec<&'static str> {
        let mut servers = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !servers.contains(&cell.server) {
                servers.push(cell.server);
            }
        }
        servers
    }

    fn means(&self, pin: Pin, servers: &[&str]) {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.pin == pin).collect();
        if rows.is_empty() {
            return;
        }
        print!("{:>26}", format!("geometric mean, {}", pin.name()));
        for server in servers {
            let cells = rows.iter().filter_map(|row| row.of(server));
            let logs: Vec<f64> = cells.map(|cell| cell.cpu.median.ln()).collect();
            let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
            let mean = ratio((!logs.is_empty()).then_some(mean));
            let star = if logs.len() < rows.len() { "*" } else { "" };
            print!(" {:>9}", mean + star);
        }
        println!("    * of what it serves");
    }

    fn draw(&self, servers: &[&str]) -> io::Result<()> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("servers.svg");
        std::fs::write(&file, plot::svg(&self.rows, servers))?;
        println!("\nplot: {}", file.display());
        Ok(())
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "?".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// `bench` in cargo's target folder: this program is in `release/deps` of it.
fn folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3);
    let target =
        target.ok_or_else(|| io::Error::other("this program is not where cargo puts it"))?;
    Ok(target.join("bench"))
}
