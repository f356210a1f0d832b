//! Shows that dial and accept are not in step: between them stands the kernel's queue.
//!
//!     cargo run --release --example backlog                       about 40 s
//!     cargo run --release --example backlog -- --every 200ms      about 3 s
//!     cargo run --release --example backlog -- never              about 5 s
//!
//! A server that accepts slowly, or never, and a client that dials in a row, in one process.
//! This file is the command line, `client.rs` and `server.rs` are the two, `picture.rs` is
//! what the terminal shows, `explain.rs` the summary. The numbers are the kernel's own.
//!
//! Shortcuts: the client dials one at a time, on a thread that blocks, so the queue of
//! half-open handshakes (the SYN queue) stays all but empty; nobody sends a byte.

mod client;
mod explain;
mod picture;
mod server;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use server::Server;
use windlass::Reactor;

const HELP: &str = "\
Shows the kernel's accept queue filling up while a server accepts slowly, or never.

usage: backlog [slow | never] [--every TIME] [--backlog N] [--dials N]

slow         the server accepts one connection every TIME (the default)
never        it accepts nobody; the row of dials ends with an i/o timeout
--every      a number with `s` or `ms` behind it (5s)
--backlog    how many clients the kernel is asked to queue (5)
--dials      how many connections the client makes, one after the other (14)
";

/// What the command line asks for.
#[derive(Clone, Copy, Default)]
struct Plan {
    /// The time between two accepts; `None` is never.
    every: Option<Duration>,
    backlog: u32,
    dials: u32,
}

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let done = if words.iter().any(|word| word == "--help" || word == "-h") {
        write!(io::stdout(), "{HELP}")
    } else if let Some(plan) = parse(&words) {
        run(plan)
    } else {
        eprintln!("backlog: no such mode or flag, or no such number; see --help");
        return ExitCode::from(2);
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn parse(words: &[String]) -> Option<Plan> {
    let (mut never, mut every, mut backlog, mut dials) = (false, Duration::from_secs(5), 5, 14);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "slow" | "never" => never = word == "never",
            "--every" => every = time(words.next()?)?,
            "--backlog" => backlog = words.next()?.parse().ok()?,
            "--dials" => dials = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    let every = (!never).then_some(every);
    Some(Plan {
        every,
        backlog,
        dials,
    })
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let number = number.parse::<u32>().ok().filter(|number| *number > 0)?;
    Some(Duration::from_millis(u64::from(number) * unit))
}

fn run(plan: Plan) -> io::Result<()> {
    let before = explain::counters();
    let mut reactor = Reactor::new(Server::new(plan))?;
    reactor.run()?;
    explain::explain(plan, &reactor.handler().picture, before)
}

const SECOND: Duration = Duration::from_secs(1);
