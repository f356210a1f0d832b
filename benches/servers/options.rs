//! The command line.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::workload::{self, Kind};

const ROUNDS: usize = 15;
const SECONDS: f64 = 0.5;
/// Enough to see that everything works.
const QUICK: (usize, f64) = (3, 0.1);

const USAGE: &str = "usage: [--quick] [--rounds N] [--seconds S] [--only WORKLOAD,..] \
    [--servers SERVER,..] [--pin split|same|both]\n\
    (raw and its control are always there; `--only echo` is everything called echo-...)\n\
    or: --list\n\
    or: serve SERVER WORKLOAD [ADDR]\n\
    or: load WORKLOAD ADDR REQUESTS";

pub(crate) enum Command {
    Table(Options),
    List,
    Serve(Kind, String, SocketAddr),
    Load(String, SocketAddr, u64),
    /// Idle connections to a server: what the program asks of itself.
    Hold(SocketAddr, usize),
    /// A load that is told by its input when to run: the same.
    LoadApart(String, SocketAddr),
}

pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Of load, for each server in each round.
    pub(crate) time: Duration,
    /// Workloads, or the first words of their names. Empty: all.
    only: Vec<String>,
    /// Empty: all.
    servers: Vec<Kind>,
    pub(crate) pins: Vec<Pin>,
}

impl Options {
    pub(crate) fn wants(&self, workload: &str) -> bool {
        let is = |only: &String| {
            let rest = workload.strip_prefix(only.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.only.is_empty() || self.only.iter().any(is)
    }

    pub(crate) fn wants_server(&self, kind: Kind) -> bool {
        self.servers.is_empty() || self.servers.contains(&kind)
    }
}

/// Where the load runs; servers are on processor 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    Split,
    Same,
}

impl Pin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Same => "same",
        }
    }

    pub(crate) fn processor(self) -> usize {
        match self {
            Self::Split => 1,
            Self::Same => 0,
        }
    }
}

pub(crate) fn parse(words: &[String]) -> io::Result<Command> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // cargo itself says `--bench`.
    let words: Vec<&str> = words
        .into_iter()
        .filter(|word| *word != "--bench")
        .collect();
    match words.as_slice() {
        ["--list"] => Ok(Command::List),
        ["serve", kind, workload, rest @ ..] if rest.len() < 2 => {
            let at = rest
                .first()
                .map_or_else(|| Ok(workload::anywhere()), |at| number(at))?;
            Ok(Command::Serve(
                Kind::named(kind)?,
                (*workload).to_owned(),
                at,
            ))
        }
        ["load", workload, at, requests] => {
            let name = (*workload).to_owned();
            Ok(Command::Load(name, number(at)?, number(requests)?))
        }
        ["hold", at, connections] => Ok(Command::Hold(number(at)?, number(connections)?)),
        ["load-apart", workload, at] => Ok(Command::LoadApart((*workload).to_owned(), number(at)?)),
        options => table(options).map(Command::Table),
    }
}

fn table(words: &[&str]) -> io::Result<Options> {
    let mut options = Options {
        rounds: ROUNDS,
        time: Duration::from_secs_f64(SECONDS),
        only: Vec::new(),
        servers: Vec::new(),
        pins: vec![Pin::Split, Pin::Same],
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if word == "--quick" {
            options.rounds = QUICK.0;
            options.time = Duration::from_secs_f64(QUICK.1);
            continue;
        }
        let value = words.next().ok_or_else(usage)?;
        match word {
            "--rounds" => options.rounds = number::<usize>(value)?.max(1),
            "--seconds" => {
                let seconds = Duration::try_from_secs_f64(number(value)?);
                options.time = seconds.map_err(io::Error::other)?;
            }
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--servers" => {
                let kinds = value.split(',').map(Kind::named);
                options.servers = kinds.collect::<io::Result<_>>()?;
            }
            "--pin" => options.pins = pins(value)?,
            _ => return Err(usage()),
        }
    }
    if !workload::all().iter().any(|one| options.wants(one.name())) {
        return Err(io::Error::other("no workload is called that; see --list"));
    }
    Ok(options)
}

fn pins(value: &str) -> io::Result<Vec<Pin>> {
    match value {
        "split" => Ok(vec![Pin::Split]),
        "same" => Ok(vec![Pin::Same]),
        "both" => Ok(vec![Pin::Split, Pin::Same]),
        _ => Err(usage()),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse()
        .map_err(|_| io::Error::other(format!("{word}?\n{USAGE}")))
}

fn usage() -> io::Error {
    io::Error::other(USAGE)
}
