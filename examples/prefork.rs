//! Serves from several processes, and replaces one that dies.
//!
//!     cargo run --release --example prefork -- --workers 4 127.0.0.1:3003
//!
//! Shows: a listener handed over as standard input, without unsafe code; a stop that reaches
//! all workers, even if the parent is killed, because each watches a line to it.
//!
//! Shortcuts: every idle worker wakes up for every client, and the fastest gets it; a worker
//! that hangs is not noticed, only one that ends; a parent that cannot start another gives up.

#[path = "util/mod.rs"]
mod util;

use signal_hook::{consts::*, iterator::Signals};
use std::io::{self, Write};
use std::os::{fd::AsFd, fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt};
use std::process::{self, Child, Command, ExitCode};
use std::{env, net::Shutdown, thread, time::Duration};
use windlass::{Conn, Context, Handler, Input, Interest, Listen, Listener, ListenerId};
use windlass::{Reactor, Ready, WatchId};

const HELP: &str = "\
Several processes accept from one socket; each tells its clients who it is, and echoes.

usage: prefork [--workers N] [ADDRESS]

ADDRESS is by default 127.0.0.1:3003, and N one for each core. Who dies is replaced.
Ctrl-C or SIGTERM lets them finish for up to 5 s; the second one kills them.
";
/// Makes a worker of this program.
const WORKER: &str = "--worker";
/// A worker that cannot live must not keep the machine busy with its births.
const PAUSE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    util::main(HELP, |mut args| match args.flag(WORKER) {
        true => work(),
        false => supervise(args),
    })
}

fn supervise(mut args: util::Args) -> io::Result<()> {
    let mut wanted = args.option("--workers", util::cores())?.get(); // 0 once they must stop
    let [address] = args.rest(["127.0.0.1:3003"])?;
    // A loop that never turns: it knows how to bind, and the parent must not accept.
    let mut binder = Reactor::new(Worker)?;
    let id = binder.listen(&*address)?;
    let mut listener = binder.listener(id).ok_or(io::ErrorKind::NotFound)?;
    let (line, theirs) = UnixStream::pair()?;
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    let mut workers = Vec::new();
    while wanted > 0 || !workers.is_empty() {
        while workers.len() < wanted {
            workers.push(start(&mut listener, &theirs)?);
        }
        for signal in signals.wait() {
            match signal {
                SIGCHLD => workers.retain_mut(lives),
                _ if wanted > 0 => wanted = 0,
                _ => workers.iter_mut().for_each(|worker| _ = worker.kill()), // told twice
            }
        }
        if wanted == 0 {
            let _ = line.shutdown(Shutdown::Write); // they see its end
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn start(listener: &mut Listener, line: &UnixStream) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .arg(WORKER)
        .stdin(listener.try_clone_fd()?)
        .stdout(OwnedFd::from(line.try_clone()?))
        .stderr(io::stdout()) // where it can be heard
        .process_group(0) // Ctrl-C at the terminal is for the parent
        .spawn()
}

fn lives(worker: &mut Child) -> bool {
    let ended = worker.try_wait().ok().flatten();
    if let Some(status) = ended {
        let _ = writeln!(io::stdout(), "worker {} ended: {status}", worker.id());
    }
    ended.is_none()
}

struct Worker;

impl Handler for Worker {
    type Session = ();

    /// The parent says nothing; what there is to read is its end, or its order to stop.
    fn on_ready(&mut self, cx: &mut Context, watch: WatchId, _: Ready) {
        cx.unwatch(watch);
        cx.shutdown(util::GRACE);
    }

    fn on_accept(&mut self, conn: &mut Conn, _: ListenerId) -> io::Result<()> {
        writeln!(conn, "worker {}", process::id());
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}

fn work() -> io::Result<()> {
    let mut reactor = Reactor::new(Worker)?;
    reactor.listen(Listen::adopt(io::stdin().as_fd().try_clone_to_owned()?))?;
    reactor.watch(io::stdout().as_fd().try_clone_to_owned()?, Interest::Read)?;
    let served = reactor.run()?.stats.accepted;
    let said = format!("worker {} served {served} clients\n", process::id());
    io::stderr().write_all(said.as_bytes()) // in one piece
}
