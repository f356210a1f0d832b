//! The measurement: every server in turn, round by round.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::apart::Apart;
use super::child::{self, Server};
use super::clock;
use super::options::{Options, Pin};
use super::others::Watch;
use super::report::{Report, Row};
use super::workload::{self, Kind, Load, Span, Workload};

/// The share of a round's time that each server is loaded before the first.
const WARM_UP: u32 = 5;

/// One server under load, once.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) wall: f64,
    pub(crate) server: f64,
    pub(crate) load: f64,
    /// In seconds, if the workload is about latency.
    pub(crate) p99: Option<f64>,
}

/// A server and its clients.
struct Contender {
    name: &'static str,
    server: Server,
    load: Box<dyn Load>,
    samples: Vec<Sample>,
}

pub(crate) fn table(options: &Options) -> io::Result<()> {
    child::raise_descriptors()?;
    if std::thread::available_parallelism()?.get() < 2 {
        println!("SKIPPED: there is one processor, so `split` is `same`");
    }
    let mut report = Report::default();
    let mut failed = 0;
    for workload in workload::all() {
        if !options.wants(workload.name()) {
            continue;
        }
        // The others still have something to say.
        if let Err(error) = measure(workload.as_ref(), options, &mut report) {
            println!("FAILED: {}: {error}", workload.name());
            failed += 1;
        }
    }
    report.finish()?;
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("{failed} workloads failed"))),
    }
}

fn measure(workload: &dyn Workload, options: &Options, report: &mut Report) -> io::Result<()> {
    clock::pin(0);
    let mut contenders = contenders(workload, options)?;
    for pin in &options.pins {
        clock::pin(pin.processor());
        for contender in &mut contenders {
            contender.samples.clear();
            contender.load.run(Span::Time(options.time / WARM_UP))?;
        }
        let watch = Watch::begin();
        for round in 0..options.rounds {
            for turn in 0..contenders.len() {
                let at = (round + turn) % contenders.len();
                contenders[at].run(options.time)?;
            }
        }
        let samples = contenders.iter().flat_map(|contender| &contender.samples);
        let others = watch.end(samples.map(|one| one.server + one.load).sum());
        report.add(row(workload.name(), *pin, others, &contenders));
        for contender in &mut contenders {
            if let Some(remark) = contender.load.remark()? {
                println!("{:>12} {remark}", contender.name);
            }
        }
    }
    Ok(())
}

/// `raw`, `raw` again, and whoever else is asked for.
fn contenders(workload: &dyn Workload, options: &Options) -> io::Result<Vec<Contender>> {
    let others = workload.servers().iter().copied();
    let others = others.filter(|kind| *kind != Kind::Raw && options.wants_server(*kind));
    let named = others.map(|kind| (kind.name(), kind));
    let all = [("raw", Kind::Raw), ("control", Kind::Raw)]
        .into_iter()
        .chain(named);
    all.map(|(name, kind)| {
        let server = Server::start(kind, workload)?;
        Ok(Contender {
            name,
            load: load(workload, server.at)?,
            server,
            samples: Vec::new(),
        })
    })
    .collect()
}

fn load(workload: &dyn Workload, at: SocketAddr) -> io::Result<Box<dyn Load>> {
    if workload.apart() {
        return Ok(Box::new(Apart::start(workload, at)?));
    }
    workload.load(at)
}

impl Contender {
    fn run(&mut self, time: Duration) -> io::Result<()> {
        let ours = clock::thread_clock();
        let loaded = |load: &dyn Load| clock::seconds(ours) + load.elsewhere();
        let before = (self.server.seconds(), loaded(&*self.load), Instant::now());
        let done = self.load.run(Span::Time(time));
        let requests = done.map_err(|error| io::Error::other(format!("{}: {error}", self.name)))?;
        self.samples.push(Sample {
            requests,
            wall: before.2.elapsed().as_secs_f64(),
            load: loaded(&*self.load) - before.1,
            server: self.server.seconds() - before.0,
            p99: self.load.p99(),
        });
        Ok(())
    }
}

fn row(workload: &str, pin: Pin, others: Option<f64>, contenders: &[Contender]) -> Row {
    let servers = contenders.iter();
    Row::new(
        workload,
        pin,
        others,
        servers.map(|contender| (contender.name, contender.samples.as_slice())),
    )
}
