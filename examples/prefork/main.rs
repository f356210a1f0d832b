//! Serves from several processes, and replaces one that dies.
//!
//!     cargo run --release --example prefork -- --workers 4 127.0.0.1:3003
//!     nc 127.0.0.1 3003
//!
//! This file is the command line, `parent.rs` binds and watches over the workers, and
//! `worker.rs` is what each of them does.
//!
//! Shows: a listener handed over as standard input, without unsafe code; child processes
//! watched by the loop; a stop that reaches all of them, even if the parent is killed.
//!
//! Shortcuts: every idle worker wakes up for every client, and the fastest gets it; a worker
//! that hangs is not noticed, only one that ends; the file of a Unix socket stays behind.

mod parent;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use self::parent::Parent;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Handle, Handler, Listen, Reactor};

const HELP: &str = "\
Several processes accept from one socket; each tells its clients who it is, and echoes.

usage: prefork [--workers N] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3003; port 0 is any free one.
N is the number of processes, by default one for each core. One that dies is replaced.
Ctrl-C or SIGTERM lets them finish for up to 5 s; the second one kills them.
";

fn main() -> ExitCode {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let (mut address, mut workers) = (None, Some(cores));
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match &*arg.to_string_lossy() {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}")),
            parent::WORKER => return exit(worker::serve()),
            "--workers" => workers = args.next().and_then(|arg| arg.to_str()?.parse().ok()),
            text if text.starts_with('-') || address.is_some() => workers = None,
            text => address = Some(text.to_owned()),
        }
    }
    let Some(workers @ 1..) = workers else {
        eprintln!("prefork: it takes --workers N and an address; see --help");
        return ExitCode::from(2);
    };
    exit(serve(
        address.as_deref().unwrap_or("127.0.0.1:3003"),
        workers,
    ))
}

fn exit(done: io::Result<()>) -> ExitCode {
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Nobody;

impl Handler for Nobody {
    type Session = ();
}

fn serve(address: &str, workers: usize) -> io::Result<()> {
    // A loop that never turns: it knows how to bind, and the parent must not accept.
    let mut binder = Reactor::new(Nobody)?;
    let id = binder.listen(Listen::new(address)?.unlink_on_close(false))?;
    let mut listener = binder.listener(id).ok_or(io::ErrorKind::NotFound)?;
    let (socket, address) = (listener.try_clone_fd()?, listener.local_addr());
    drop(binder);
    let mut reactor = Reactor::new(Parent::new(socket, workers))?;
    stop_on_signal(reactor.handle())?;
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run().map(drop)
}

fn stop_on_signal(handle: Handle<Parent>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        for _ in &mut signals {
            let _ = handle.post(Parent::stop);
        }
    })?;
    Ok(())
}
