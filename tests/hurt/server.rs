//! The process that is hurt: one handler on one loop, on the main thread. What it is asked
//! over its standard input another thread answers, which nobody hurts.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::mem::forget;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use std::{process, thread};

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use windlass::{
    Bind, Config, Conn, Context, Datagram, Dial, Handle, Handler, Input, Listen, ListenerId,
    Reactor, Socket, Stats, TimerId,
};

use super::counted::{Counted, Tally};
use super::system;
use crate::http;
use crate::proxy::Relay;

/// How long a stalled connection lives: a row waits for it.
const SHORT: Duration = Duration::from_millis(700);
/// Of who is stopped and continued, or has many clients and few descriptors.
const LONG: Duration = Duration::from_secs(20);
/// What connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long the loop may take to answer; then it is stuck, and whoever asked is told nothing.
const ANSWER: Duration = Duration::from_secs(5);
/// Small, in bytes: so output has to wait, and leaves in several parts.
const SEND_BUFFER: usize = 8 * 1024;
/// The read that a wrong begins with: not the first, so that it is found by who is hurt.
const LATE: usize = 40;
/// How often a loop wakes up for nothing that is asleep in between.
const TICK: Duration = Duration::from_millis(2);
/// Set to what the server is to do wrong, to see whether the judges notice.
pub(crate) const SABOTAGE: &str = "WINDLASS_HURT_SABOTAGE";

/// `ARGS`: which service, where, for how long a silent client is kept (`short` or `long`), and
/// whom the relay dials.
pub(crate) fn serve(args: &[String]) -> io::Result<()> {
    let [service, at, patience, upstream @ ..] = args else {
        return Err(io::Error::other(
            "serve SERVICE ADDRESS short|long [UPSTREAM]",
        ));
    };
    system::let_anybody_trace();
    system::be_interrupted()?;
    let idle = if patience == "short" { SHORT } else { LONG };
    let config = config(idle);
    match service.as_str() {
        "relay" => {
            let server = Dial::new(upstream.first().map_or("", String::as_str))?;
            let sides = HashMap::new();
            listen(Relay { server, sides }, config, at)
        }
        "http" => listen(http::server::Server::default(), config, at),
        "udp" => {
            let mut reactor = Reactor::with_config(Counted::new(Echo::new(), idle), config)?;
            let id = reactor.bind(Bind::new(at.as_str())?)?;
            let local = reactor.socket(id).and_then(|socket| socket.local_addr());
            let local = local.ok_or(io::ErrorKind::NotFound)?;
            run(reactor, &local.to_string())
        }
        _ => listen(Echo::new(), config, at),
    }
}

fn config(patience: Duration) -> Config {
    let mut config = Config::default();
    config.idle_timeout = patience;
    config.write_stall_timeout = patience;
    config.linger = patience;
    config.dial_timeout = patience;
    config
}

fn listen<H: Handler + 'static>(handler: H, config: Config, at: &str) -> io::Result<()> {
    let mut reactor = Reactor::with_config(Counted::new(handler, config.idle_timeout), config)?;
    let id = reactor.listen(Listen::new(at)?.send_buffer(SEND_BUFFER))?;
    let listener = reactor.listener(id).ok_or(io::ErrorKind::NotFound)?;
    let local = listener.local_addr().to_string();
    run(reactor, &local)
}

fn run<H: Handler + 'static>(mut reactor: Reactor<Counted<H>>, local: &str) -> io::Result<()> {
    let handle = reactor.handle();
    let mut signals = Signals::new([SIGTERM])?;
    let stop = handle.clone();
    thread::spawn(move || {
        for _ in &mut signals {
            let _ = stop.shutdown(GRACE);
        }
    });
    thread::spawn(move || answer(&handle));
    println!("listening on {local}");
    reactor.run()?;
    if sabotage() == "status" {
        process::exit(3);
    }
    Ok(())
}

/// One line for each that comes. When nobody can ask any more, nobody needs the server.
fn answer<H: Handler + 'static>(handle: &Handle<Counted<H>>) {
    for _ in io::stdin().lock().lines() {
        let (say, answer) = mpsc::channel();
        let _ = handle.post(move |counted, cx| {
            let _ = say.send((cx.stats(), counted.tally.clone()));
        });
        let line = answer.recv_timeout(ANSWER).map(|it| line(&it.0, it.1));
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{}", line.unwrap_or_default());
    }
    process::exit(1)
}

/// `NAME=COUNT` of everything that a judge looks at.
fn line(stats: &Stats, mut all: Tally) -> String {
    let of_loop = [
        ("turns", stats.turns),
        ("open", stats.open),
        ("panics", stats.panics),
        ("accepted", stats.accepted),
        ("lost", stats.lost),
        ("backoffs", stats.backoffs),
        ("connected", stats.connected),
    ];
    all.extend(of_loop.map(|(name, count)| (name.to_owned(), count)));
    let words = all.iter().map(|(name, count)| format!("{name}={count}"));
    words.collect::<Vec<_>>().join(" ")
}

/// Sends back what comes, half of it in pieces that are shared, so that calls with several
/// parts are made, too.
struct Echo {
    sabotage: String,
    seen: usize,
}

impl Echo {
    fn new() -> Self {
        let sabotage = sabotage();
        Self { sabotage, seen: 0 }
    }

    /// What the judges must notice; nothing, unless it was asked for.
    fn harm(&mut self, conn: &mut Conn<'_>, bytes: &mut [u8]) -> io::Result<()> {
        self.seen += 1;
        match self.sabotage.as_str() {
            "corrupt" if self.seen == LATE => bytes[0] ^= 1,
            "leak" if self.seen == LATE => forget(io::stdin().as_fd().try_clone_to_owned()?),
            "forget" if self.seen == LATE => conn.pause(),
            "drop" if self.seen == LATE => conn.abort(),
            "spin" | "tick" if self.seen == LATE => {
                let now = conn.now();
                conn.cx().set_timer(now);
            }
            _ => {}
        }
        Ok(())
    }
}

fn sabotage() -> String {
    std::env::var(SABOTAGE).unwrap_or_default()
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        let mut bytes = input.take_all().to_vec();
        self.harm(conn, &mut bytes)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        conn.write_shared(Arc::<[u8]>::from(first));
        conn.write_shared(Arc::<[u8]>::from(second));
        Ok(())
    }

    /// Set by nobody but its sabotage.
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        let pause = match self.sabotage.as_str() {
            "tick" => TICK,
            _ => Duration::ZERO,
        };
        cx.set_timer(cx.now() + pause);
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        socket.send_to(datagram.bytes(), datagram.from());
    }
}
