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
#[path = "../util/mod.rs"]
mod util;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use server::Server;
use util::args::Time;
use windlass::Reactor;

const HELP: &str = "\
Shows the kernel's accept queue filling up while a server accepts slowly, or never.

usage: backlog [slow | never] [--every TIME] [--backlog N] [--dials N]

slow         the server accepts one connection every TIME (the default)
never        it accepts nobody; the row of dials ends with an i/o timeout
--every      a number and a unit, such as 200ms (5s)
--backlog    how many clients the kernel is asked to queue (5)
--dials      how many connections the client makes, one after the other (14)

Ctrl-C or SIGTERM ends it early and in the same way; the second one at once.
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
    util::main(HELP, |mut args| {
        let (never, _slow) = (args.flag("never"), args.flag("slow"));
        let Time(every) = args.option("--every", Time(5 * SECOND))?;
        let plan = Plan {
            every: (!never).then_some(every),
            backlog: args.option("--backlog", 5)?,
            dials: args.option("--dials", 14)?,
        };
        let [] = args.rest([])?;
        run(plan)
    })
}

fn run(plan: Plan) -> io::Result<()> {
    let before = explain::counters();
    let mut reactor = Reactor::new(Server::new(plan))?;
    let handle = reactor.handle();
    util::on_signal(move |grace| {
        let _ = match grace.is_zero() {
            true => handle.shutdown(grace),
            false => handle.post(|server, cx| server.stop(cx, "you stopped it")),
        };
    })?;
    reactor.run()?;
    explain::explain(plan, &reactor.handler().picture, before)
}

const SECOND: Duration = Duration::from_secs(1);
