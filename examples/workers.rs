//! One loop for each core, in two ways: clients are handed over, or the kernel spreads them.
//!
//!     cargo run --release --example workers -- 127.0.0.1:3004
//!     cargo run --release --example workers -- --reuse-port 127.0.0.1:3004
//!
//! Shows: a connection taken out of one loop (`Conn::detach`), posted to another through its
//! handle, and adopted there; the same port opened by several loops (`Listen::reuse_port`).
//! Handing over spreads evenly and costs a post for each client; with `--reuse-port` nobody
//! stands in between, but a slow loop keeps the clients that the kernel gave it waiting.
//! Shortcuts: a loop that fails is not noticed before the end.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, thread};

use windlass::{Conn, Context, DialId, Handle, Handler, Input, Listen, ListenerId, Reactor};

const HELP: &str = "\
Several loops, one thread each, tell their clients which loop they are, and echo.

usage: workers [--loops N] [--reuse-port] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3004; port 0 is any free one.
N loops serve, by default one for each core; another one accepts and hands over, unless
--reuse-port has each of them accept for itself.
Ctrl-C or SIGTERM lets clients finish for up to 5 s; the second one ends them at once.
";

/// Serves who it accepts itself, or is handed over.
struct Worker(usize);

impl Handler for Worker {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn, _: ListenerId) -> io::Result<()> {
        writeln!(conn, "loop {}", self.0);
        Ok(())
    }

    /// Adopting is like a dial that has succeeded.
    fn on_connect(&mut self, conn: &mut Conn, _: DialId) -> io::Result<()> {
        writeln!(conn, "loop {}", self.0);
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}

/// Hands over to one worker after the other; with `--reuse-port` it only stops them.
struct Acceptor {
    workers: Vec<Handle<Worker>>,
    next: usize,
}

impl Handler for Acceptor {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn, _: ListenerId) -> io::Result<()> {
        let socket = conn.detach()?;
        let worker = &self.workers[self.next];
        self.next = (self.next + 1) % self.workers.len();
        // If it cannot be posted, the descriptor is closed with the task.
        worker.post(|_, cx| drop(cx.adopt(socket)))?;
        Ok(())
    }

    /// Whoever had yet to be accepted has been handed over by now.
    fn on_stop(&mut self, _: &mut Context) {
        let workers = self.workers.iter();
        workers.for_each(|it| _ = it.shutdown(util::GRACE));
    }
}

fn main() -> ExitCode {
    util::main(HELP, serve)
}

fn serve(mut args: util::Args) -> io::Result<()> {
    let loops = args.option("--loops", util::cores())?;
    let reuse_port = args.flag("--reuse-port");
    let [mut address] = args.rest(["127.0.0.1:3004"])?;
    let (mut workers, mut threads) = (vec![], vec![]);
    for number in 1..=loops.get() {
        let mut reactor = Reactor::new(Worker(number))?;
        if reuse_port {
            // The first one knows which port the kernel chose, if it was asked to.
            let listen = Listen::new(&*address)?.reuse_port(true);
            address = util::listen(&mut reactor, listen)?;
        }
        workers.push(reactor.handle());
        threads.push(thread::spawn(move || reactor.run()));
    }
    let all = workers.clone();
    let mut acceptor = Reactor::new(Acceptor { workers, next: 0 })?;
    if !reuse_port {
        address = util::listen(&mut acceptor, &*address)?;
    }
    let first = acceptor.handle();
    util::on_signal(move |grace| {
        let _ = first.shutdown(grace); // it tells the others when it has ended
        let now = all.iter().filter(|_| grace.is_zero());
        now.for_each(|it| _ = it.shutdown(grace));
    })?;
    writeln!(io::stdout(), "listening on {address}")?;
    acceptor.run()?;
    for (thread, number) in threads.into_iter().zip(1..) {
        let panicked = |_| Err(io::Error::other("a loop panicked"));
        let stats = thread.join().unwrap_or_else(panicked)?.stats;
        let (clients, bytes) = (stats.accepted + stats.connected, stats.bytes_read);
        let did = format!("served {clients} clients, {bytes} bytes");
        writeln!(io::stdout(), "loop {number} {did}")?;
    }
    Ok(())
}
