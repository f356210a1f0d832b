//! Stands between clients and a server, on TCP or Unix sockets, with TLS at either end.
//!
//!     cargo run --release --example proxy -- :3002 unix:///run/app.sock
//!
//! Shows: backpressure between two connections (`docs/backpressure.md`), data that waits in
//! the kernel until the dial is through, half-close and resets passed on.
//! Shortcuts: nobody tells the server who the client is; a reset overtakes bytes, as it does
//! on any network; a client whose server cannot be reached is reset without a word.
#[path = "util/ends.rs"]
mod ends;
#[path = "util/mod.rs"]
mod util;

use std::{collections::HashMap, io, process::ExitCode, time::Duration};
use util::args::Time;
use windlass::{CloseReason, Closed, Config, Conn, ConnId, Context, Deadline, Dial, DialId, Error};
use windlass::{Flow, Handler, Input, ListenerId, Reactor};

const HELP: &str = "\
Passes on what clients and a server have to say to each other.

usage: proxy [--idle TIME] [--tls [--cert FILE --key FILE]] [--to-tls [--ca FILE | --insecure]] [LISTEN [DIAL]]

LISTEN is by default 127.0.0.1:3002, and DIAL 127.0.0.1:3000. Both may be unix:///PATH.
After TIME (5min) without a byte both are reset. Built with TLS, --tls is for clients that
speak it, and --to-tls for a server that does (FILEs are PEM).
Ctrl-C or SIGTERM lets who is there finish for up to 5 s; the second one resets at once.
";

/// A dial has two sides: the client for which it was made (`true`), and the server.
type Side = (DialId, bool);

pub(crate) struct Relay {
    pub(crate) server: Dial,
    pub(crate) sides: HashMap<Side, ConnId>,
}

impl Relay {
    /// Has something done to the other side, if it is there.
    fn other<R>(&self, cx: &mut Context, side: Side, act: impl Fn(&mut Conn) -> R) -> Option<R> {
        let id = self.sides.get(&(side.0, !side.1))?;
        cx.conn(*id).map(|mut conn| act(&mut conn))
    }
}

impl Handler for Relay {
    type Session = Side;

    fn on_accept(&mut self, conn: &mut Conn, _: ListenerId) -> io::Result<Side> {
        conn.pause(); // what it sends before there is a server waits in the kernel
        conn.set_auto_pause(false); // when its output is full, the other side must wait
        let side = (conn.cx().dial(self.server.clone())?, true);
        self.sides.insert(side, conn.id());
        Ok(side)
    }

    fn on_connect(&mut self, conn: &mut Conn, dial: DialId) -> io::Result<Side> {
        conn.set_auto_pause(false);
        let side = (dial, false);
        let client = self.other(conn.cx(), side, |client| client.resume());
        client.ok_or(io::ErrorKind::NotConnected)?;
        self.sides.insert(side, conn.id());
        Ok(side)
    }

    fn on_dial_error(&mut self, cx: &mut Context, dial: DialId, why: &Error, _: Option<Duration>) {
        eprintln!("{why}");
        self.other(cx, (dial, false), |client| client.abort());
    }

    /// One direction holds at most `Limits::high` and one read, however slow its reader is.
    fn on_read(&mut self, conn: &mut Conn, side: &mut Side, input: &mut Input) -> io::Result<()> {
        let bytes = input.take_all();
        if self.other(conn.cx(), *side, |other| other.write(bytes)) == Some(Flow::Full) {
            conn.pause(); // until the other side has caught up
        }
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn, side: &mut Side) -> io::Result<()> {
        self.other(conn.cx(), *side, |other| other.resume());
        Ok(())
    }

    /// One direction has ended, and the other goes on. After both, the connections close.
    fn on_eof(&mut self, conn: &mut Conn, side: &mut Side, _: &mut Input) -> io::Result<()> {
        self.other(conn.cx(), *side, |other| other.shutdown_write());
        Ok(())
    }

    fn on_timeout(&mut self, conn: &mut Conn, _: &mut Side, _: Deadline) -> io::Result<()> {
        conn.abort(); // after a FIN, what is cut off would look whole
        Ok(())
    }

    fn on_shutdown(&mut self, _: &mut Conn, _: &mut Side) -> io::Result<()> {
        Ok(()) // they may finish; the grace of the stop is their limit
    }

    fn on_close(&mut self, cx: &mut Context, side: Side, closed: &Closed) {
        self.sides.remove(&side);
        cx.cancel_dial(side.0); // if it is under way: nobody waits for it any more
        if !matches!(closed.reason, CloseReason::Eof) {
            self.other(cx, side, |other| other.abort());
        }
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let Time(idle) = args.option("--idle", Time(Duration::from_secs(300)))?;
        let (listen, server) = ends::take(args)?;
        let (sides, mut config) = (HashMap::new(), Config::default());
        // A side that takes nothing is as good as silent, and has as much time.
        (config.idle_timeout, config.write_stall_timeout) = (idle, idle);
        let reactor = Reactor::with_config(Relay { server, sides }, config)?;
        util::serve(reactor, listen)
    })
}
