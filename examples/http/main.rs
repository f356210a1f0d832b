//! A small HTTP/1.1 server, whose page shows the loop that serves it.
//!
//!     cargo run --release --example http -- 127.0.0.1:8080
//!     curl http://127.0.0.1:8080/headers
//!
//! Shows: requests taken out of one slice, however the network has cut it (`request.rs`); a
//! deadline that bytes do not renew, and answers that stop at `Flow::Full` (`server.rs`).
//!
//! Shortcuts: a body is counted and thrown away; there is no TLS, no log of accesses, and no
//! answer to `Expect`. Do not put it before the world: there are proxies.

mod pages;
mod request;
mod server;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::Reactor;

const HELP: &str = "\
Serves a page that shows the accept queue, the connections and the loop that serves it.

usage: http [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:8080; port 0 is any free one.
Paths are / (for a browser), /metrics (for Prometheus), /time and /headers.
Ctrl-C or SIGTERM ends it when all answers are sent, or after 5 s.
";

/// How long answers may take to leave once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let args: Vec<_> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        [] => serve("127.0.0.1:8080"),
        [address] if !address.starts_with('-') => serve(address),
        _ => {
            eprintln!("http: one address is all it takes; --help tells more");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str) -> io::Result<()> {
    let mut reactor = Reactor::new(Server::default())?;
    let id = reactor.listen(address)?;
    let (handle, mut signals) = (reactor.handle(), Signals::new([SIGINT, SIGTERM])?);
    // It fails only when the loop has ended, and then the program does, too.
    let stop = move || signals.forever().try_for_each(|_| handle.shutdown(GRACE));
    thread::Builder::new().spawn(stop)?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(drop)
}
