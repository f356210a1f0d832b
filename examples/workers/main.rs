//! One loop for each core, in two ways: clients are handed over, or the kernel spreads them.
//!
//!     cargo run --release --example workers -- 127.0.0.1:3004
//!     cargo run --release --example workers -- --reuse-port 127.0.0.1:3004
//!
//! This file is the command line, `loops.rs` what runs on the threads.
//!
//! Shows: a connection taken out of one loop (`Conn::detach`), posted to another through its
//! handle, and adopted there; the same port opened by several loops (`Listen::reuse_port`).
//! Handing over spreads evenly and costs a post for each client; with `--reuse-port` nobody
//! stands in between, but a slow loop keeps the clients that the kernel gave it waiting.
//!
//! Shortcuts: a loop that fails is not noticed before the end; a second signal is ignored.

mod loops;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::loops::{Acceptor, Running, Worker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Error, Listen};

const HELP: &str = "\
Several loops, one thread each, tell their clients which loop they are, and echo.

usage: workers [--loops N] [--reuse-port] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3004; port 0 is any free one.
N is the number of loops that serve, by default one for each core. Another one accepts
and hands over, unless --reuse-port has each of them accept for itself.
Ctrl-C or SIGTERM lets clients finish for up to 5 s, then prints what each loop did.
";

/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let (mut address, mut loops, mut reuse_port) = (None, Some(cores), false);
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match &*arg.to_string_lossy() {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}")),
            "--reuse-port" => reuse_port = true,
            "--loops" => loops = args.next().and_then(|arg| arg.to_str()?.parse().ok()),
            text if text.starts_with('-') || address.is_some() => loops = None,
            text => address = Some(text.to_owned()),
        }
    }
    let Some(loops @ 1..) = loops else {
        eprintln!("workers: it takes --loops N, --reuse-port and an address; see --help");
        return ExitCode::from(2);
    };
    let address = address.as_deref().unwrap_or("127.0.0.1:3004");
    exit(serve(address, loops, reuse_port))
}

fn exit(done: io::Result<()>) -> ExitCode {
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str, loops: usize, reuse_port: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (mut address, mut workers, mut acceptor) = (address.to_owned(), Vec::new(), None);
    for number in 1..=loops {
        let listen = reuse_port.then(|| shared(&address)).transpose()?;
        let worker = Running::start(Worker::new(number), listen)?;
        // The first one knows which port the kernel chose, if it was asked to.
        address = worker.address.clone().unwrap_or(address);
        workers.push(worker);
    }
    if !reuse_port {
        let handles = workers.iter().map(|worker| worker.handle.clone());
        let handler = Acceptor::new(handles.collect());
        let running = Running::start(handler, Some(Listen::new(&*address)?))?;
        address = running.address.clone().unwrap_or(address);
        acceptor = Some(running);
    }
    writeln!(io::stdout(), "listening on {address}")?;
    signals.forever().next();
    // Whoever has yet to be accepted is handed over before the workers are told.
    if let Some(acceptor) = acceptor {
        acceptor.stop(GRACE);
        acceptor.join()?;
    }
    workers.iter().for_each(|worker| worker.stop(GRACE));
    report(workers)
}

fn report(workers: Vec<Running<Worker>>) -> io::Result<()> {
    for (worker, number) in workers.into_iter().zip(1..) {
        let stats = worker.join()?.stats;
        let (clients, bytes) = (stats.accepted + stats.connected, stats.bytes_read);
        writeln!(
            io::stdout(),
            "loop {number} served {clients} clients, {bytes} bytes"
        )?;
    }
    Ok(())
}

fn shared(address: &str) -> Result<Listen, Error> {
    Ok(Listen::new(address)?.reuse_port(true))
}
