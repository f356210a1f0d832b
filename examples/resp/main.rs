//! A small Redis: strings that may expire, for `redis-cli` and `redis-benchmark`.
//!
//!     cargo run --release --example resp -- 127.0.0.1:6379
//!     redis-cli set ship windlass ex 60
//!
//! This file is the program and its handler, `wire.rs` what requests and answers look like,
//! `store.rs` what is kept, and `commands.rs` what each command does with it.
//!
//! Shows: requests that wait in the input while earlier answers find no room; one timer for
//! any number of keys; memory with a limit, on both sides.
//!
//! Shortcuts: nothing is written to disk; a request has at most 512 KiB, no quotes if it is
//! typed inline, and is looked at from its beginning whenever more of it has come.

mod commands;
pub(crate) mod store;
pub(crate) mod wire;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::store::Store;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Conn, Context, Flow, Handler, Input, ListenerId, Reactor, TimerId};

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

impl Handler for Store {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        // A client that does not read its answers is not read from: at `Flow::Full` the loop
        // pauses, what is left in the input waits, and is offered again when there is room.
        while conn.flow() == Flow::Open {
            let words = match wire::request(input) {
                Ok(words) => words,
                Err(None) => break,
                Err(Some(why)) => {
                    write!(conn, "-ERR Protocol error: {why}\r\n");
                    conn.close();
                    break;
                }
            };
            if let Err(why) = commands::run(self, conn, &words) {
                write!(conn, "-{why}\r\n");
            }
        }
        self.bury(conn.cx());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context, _: TimerId) {
        self.bury(cx);
    }
}

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (memory, rest) = match args[..] {
        ["--memory", memory, ref rest @ ..] => (memory, rest),
        ref rest => ("64", rest),
    };
    let done = match (memory.parse::<u16>(), rest) {
        (_, ["--help" | "-h"]) => write!(io::stdout(), "{HELP}"),
        (Ok(memory), []) => serve("127.0.0.1:6379", memory),
        (Ok(memory), [address]) if !address.starts_with('-') => serve(address, memory),
        _ => {
            eprintln!("resp: it takes --memory MIB and an address; see --help");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str, memory: u16) -> io::Result<()> {
    let mut reactor = Reactor::new(Store::new(usize::from(memory) * MIB))?;
    let id = reactor.listen(address)?;
    let (handle, mut signals) = (reactor.handle(), Signals::new([SIGINT, SIGTERM])?);
    thread::Builder::new().spawn(move || {
        // The first signal begins a graceful stop; the second one leaves it no time.
        for (_, grace) in signals.forever().zip([GRACE, Duration::ZERO]) {
            let _ = handle.shutdown(grace);
        }
    })?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(drop)
}
