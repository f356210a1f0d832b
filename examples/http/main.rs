//! A small HTTP/1.1 server, whose page shows the loop that serves it.
//!
//!     cargo run --release --example http -- 127.0.0.1:8080
//!     curl http://127.0.0.1:8080/headers
//!
//! Shows: requests taken out of one slice, however the network has cut it (`server.rs`); a
//! deadline for a request that its bytes do not renew; answers that stop at `Flow::Full`;
//! bodies that are bounded before they have come (`body.rs`); the loop's counters for
//! Prometheus (`metrics.rs`), and a page that draws them (`index.html`).
//!
//! Shortcuts: a body is counted and thrown away; a head is parsed anew with each piece of
//! it; who reads answers slowly, but reads, is borne; there is no TLS, no compression, no
//! caching and no log of accesses. Do not put it before the world: there are proxies.

mod answer;
mod body;
mod metrics;
mod request;
mod server;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use server::Server;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Handle, Reactor};

const HELP: &str = "\
Serves a page that shows the accept queue, the connections and the loop that serves it.

usage: http [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:8080; port 0 is any free one.
Paths are / (for a browser), /metrics (for Prometheus), /time and /headers.
Ctrl-C or SIGTERM lets requests that have begun finish for up to 5 s; the second one
ends them at once.
";

/// How long requests that have begun may take once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
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
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    let summary = reactor.run()?;
    let (requests, connections) = (reactor.handler().answered, summary.stats.accepted);
    writeln!(
        io::stdout(),
        "stopped after {requests} requests on {connections} connections"
    )
}

/// The first signal begins a graceful stop. The second one shortens its grace to nothing.
fn stop_on_signal(handle: Handle<Server>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut grace = GRACE;
        for _ in &mut signals {
            // It fails only when the loop has ended, and then the program does, too.
            let _ = handle.shutdown(grace);
            grace = Duration::ZERO;
        }
    })?;
    Ok(())
}
