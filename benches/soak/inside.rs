//! Several handlers on one loop, in a process whose allocator counts: when the loop is gone,
//! everything that was allocated since before it was made must be gone, too.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use windlass::{
    Bind, Config, Conn, Datagram, Dial, Handler, Input, ListenerId, Mux, Reactor, Socket, Stats,
};

use super::allocator;
use super::http;
use super::proxy::Relay;
use super::resp::store::Store;

const ANY: &str = "127.0.0.1:0";
/// What connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// Of the values that the part `resp` keeps, in bytes.
const STORE: usize = 64 << 20;
/// How long a connection may be silent: the relay's other side has gone before.
const IDLE: Duration = Duration::from_secs(30);

/// Serves until SIGTERM; says where first, and at last what was left.
pub(crate) fn serve(wrong: &str) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    // Whatever the standard library makes once is made.
    println!("inside");
    let before = allocator::now();
    let mut reactor = open(wrong)?;
    let handle = reactor.handle();
    let stop = thread::spawn(move || {
        signals.forever().next();
        let _ = handle.shutdown(GRACE);
        signals
    });
    let stats = reactor.run()?.stats;
    // They were there before, so they must not go before it was counted.
    let signals = stop.join();
    drop(reactor);
    if wrong == "memory" {
        mem::forget(vec![0_u8; 100]);
    }
    let after = allocator::now();
    report(&stats, after.0 - before.0, after.1 - before.1);
    drop(signals);
    match wrong {
        "status" => Err(io::Error::other("on purpose")),
        _ => Ok(()),
    }
}

fn report(stats: &Stats, allocations: i64, bytes: i64) {
    let (turns, callbacks, panics) = (stats.turns, stats.callbacks, stats.panics);
    let most = allocator::most();
    println!(
        "turns={turns} callbacks={callbacks} panics={panics} left={allocations} \
         left_bytes={bytes} most_bytes={most}"
    );
}

fn open(wrong: &str) -> io::Result<Reactor<Mux>> {
    let mut mux = Mux::new();
    let echo = mux.add(Echo {
        wrong: wrong.to_owned(),
        reads: 0,
    });
    let web = mux.add(http::server::Server::default());
    let resp = mux.add(Store::new(STORE));
    let mut config = Config::default();
    config.idle_timeout = IDLE;
    let mut reactor = Reactor::with_config(mux, config)?;
    let streams = [
        reactor.listen_for(echo, ANY)?,
        reactor.listen_for(web, ANY)?,
        reactor.listen_for(resp, ANY)?,
    ];
    let mut places = Vec::new();
    for id in streams {
        let listener = reactor.listener(id).ok_or(io::ErrorKind::NotFound)?;
        places.push(listener.local_addr().to_string());
    }
    let server = Dial::new(&*places[0])?;
    let sides = HashMap::new();
    let relay = reactor.handler_mut().add(Relay { server, sides });
    let id = reactor.listen_for(relay, ANY)?;
    let listener = reactor.listener(id).ok_or(io::ErrorKind::NotFound)?;
    places.push(listener.local_addr().to_string());
    let id = reactor.bind_for(echo, Bind::new("udp://127.0.0.1:0")?)?;
    let socket = reactor.socket(id).and_then(|socket| socket.local_addr());
    places.push(socket.ok_or(io::ErrorKind::NotFound)?.to_string());
    println!("{}", places.join(" "));
    Ok(reactor)
}

/// Wrongs are done at one read of so many.
const WRONG_EVERY: u64 = 500;
/// In bytes: more memory, at each read.
const PAGE: usize = 4096;

struct Echo {
    /// What it does wrong, to see whether that is found out; by default nothing.
    wrong: String,
    reads: u64,
}

impl Echo {
    fn harm(&mut self, conn: &mut Conn<'_>) -> io::Result<()> {
        self.reads += 1;
        let is_time = self.reads.is_multiple_of(WRONG_EVERY);
        match self.wrong.as_str() {
            "corrupt" if is_time => drop(conn.write(b"?")),
            "leak" if is_time => mem::forget(io::stdin().as_fd().try_clone_to_owned()?),
            "grow" => mem::forget(black_box(vec![1_u8; PAGE])),
            _ => {}
        }
        Ok(())
    }
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        if !self.wrong.is_empty() {
            self.harm(conn)?;
        }
        conn.write(input.take_all());
        Ok(())
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        socket.send_to(datagram.bytes(), datagram.from());
    }
}
