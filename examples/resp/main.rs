//! A small Redis: strings that may expire, for `redis-cli` and `redis-benchmark`.
//!
//!     cargo run --release --example resp -- 127.0.0.1:6379
//!     redis-cli set ship windlass ex 60
//!
//! This file is the command line, `server.rs` the handler, `requests.rs` and
//! `numbers.rs` a decoder of its own, `store.rs` what is kept, `commands.rs` and `strings.rs`
//! what is done, `answer.rs` what is said.
//!
//! Shows: requests that stay in the input while the answers to earlier ones find no room;
//! one timer for any number of keys; memory with a limit, on both sides.
//!
//! Shortcuts: nothing is written to disk; a request has at most 512 KiB, and no quotes if it
//! is typed inline; five silent minutes end a connection (`Config::idle_timeout`).

mod answer;
mod commands;
mod numbers;
pub(crate) mod requests;
pub(crate) mod server;
mod store;
mod strings;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Handle, Reactor};

const HELP: &str = "\
A small Redis: GET, SET, DEL, EXISTS, INCR, EXPIRE, TTL, PERSIST and their like.

usage: resp [--memory MIB] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:6379; port 0 is any free one.
What would make keys and values occupy more than MIB, by default 64, is answered -OOM.
Ctrl-C or SIGTERM lets open connections finish for up to 5 s; the second one does not.
";

/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

const MIB: usize = 1024 * 1024;

fn main() -> ExitCode {
    let (mut address, mut memory) = (None, Some(64));
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match &*arg.to_string_lossy() {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}")),
            "--memory" => {
                memory = args
                    .next()
                    .and_then(|arg| arg.to_str()?.parse::<u16>().ok());
            }
            text if text.starts_with('-') || address.is_some() => memory = None,
            text => address = Some(text.to_owned()),
        }
    }
    let Some(memory) = memory else {
        eprintln!("resp: it takes --memory MIB and an address; see --help");
        return ExitCode::from(2);
    };
    let address = address.as_deref().unwrap_or("127.0.0.1:6379");
    exit(serve(address, usize::from(memory) * MIB))
}

fn exit(done: io::Result<()>) -> ExitCode {
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str, memory: usize) -> io::Result<()> {
    let mut reactor = Reactor::new(Server::new(memory))?;
    let id = reactor.listen(address)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(drop)
}

/// The first signal begins a graceful stop. The second one shortens its grace to nothing.
fn stop_on_signal(handle: Handle<Server>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut grace = GRACE;
        for _ in &mut signals {
            let _ = handle.shutdown(grace);
            grace = Duration::ZERO;
        }
    })?;
    Ok(())
}
