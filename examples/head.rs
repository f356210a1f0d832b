//! Asks a web server for the head of its front page, and prints what it answers.
//!
//!     cargo run --release --example head -- example.org:80
//!
//! Shows: a client by name: the look-up, the race of its addresses and the connection all
//! end in time; and that a stream has no messages: what comes is printed piece by piece.
//!
//! Shortcuts: HTTP/1.0 without a `Host`, so a server of many sites chooses one; nothing of
//! the answer is looked at; no TLS.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration};

use windlass::{CloseReason, Closed, Conn, Context, Dial, DialId, Error, Handler, Input, Reactor};

const HELP: &str = "\
Sends `HEAD / HTTP/1.0` and prints what comes back, to the end.

usage: head [--get] HOST:PORT

With --get it sends `GET / HTTP/1.0`. Ten silent seconds end it.
Ctrl-C or SIGTERM gives the answer 5 s to come to its end; the second one does not.
";
/// How long the server may take to be connected, and to go on with its answer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Head {
    method: &'static str,
    ended: io::Result<()>,
}

impl Handler for Head {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        conn.set_idle_timeout(Some(PATIENCE));
        write!(conn, "{} / HTTP/1.0\r\n\r\n", self.method);
        Ok(())
    }

    fn on_dial_error(&mut self, cx: &mut Context<'_>, _: DialId, why: &Error, _: Option<Duration>) {
        self.ended = Err(io::Error::other(why.to_string()));
        cx.shutdown(Duration::ZERO);
    }

    fn on_read(&mut self, _: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        io::stdout().write_all(input.take_all())
    }

    fn on_shutdown(&mut self, _: &mut Conn, _: &mut ()) -> io::Result<()> {
        Ok(()) // the grace of the stop is the limit
    }

    fn on_close(&mut self, cx: &mut Context<'_>, _: (), closed: &Closed) {
        if !matches!(closed.reason, CloseReason::Eof) {
            self.ended = Err(io::Error::other(closed.reason.to_string()));
        }
        cx.shutdown(Duration::ZERO);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let method = if args.flag("--get") { "GET" } else { "HEAD" };
        let [address] = args.rest([""])?;
        if address.is_empty() {
            return Err(util::refusal("HOST:PORT is missing"));
        }
        ask(method, &address)
    })
}

fn ask(method: &'static str, address: &str) -> io::Result<()> {
    let ended = Ok(());
    let mut reactor = Reactor::new(Head { method, ended })?;
    reactor.dial(Dial::new(address)?.timeout(PATIENCE))?;
    util::ask(reactor, |head| head.ended)
}
