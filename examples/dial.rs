//! Says which ports answer: tries one after the other, and tells what each did.
//!
//!     cargo run --release --example dial -- --timeout 1s 127.0.0.1:22 udp://[::1]:53
//!
//! Shows: how dials end, in time and once each, and what is heard of a datagram, if anything.
//! Shortcuts: a kernel has answered, not yet a server; a loop could try all of them at once.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration, time::Instant, vec};

use util::args::Time;
use windlass::{Bind, Conn, Context, Datagram, Deadline, Dial, DialId, Error, Handle};
use windlass::{Handler, Reactor, Socket, SocketId};

const HELP: &str = "\
Dials each address in turn, and says what it did. Exit status 1 if one of them failed.

usage: dial [--timeout TIME] ADDRESS...

ADDRESS is such as [::1]:80 or udp://localhost:53; each may take TIME, by default 3s.
Ctrl-C or SIGTERM ends it early.
";

struct Checker {
    rest: vec::IntoIter<String>,
    timeout: Duration,
    tried: (String, Instant), // since when
    failed: usize,
}

impl Checker {
    fn try_next(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Some(address) = self.rest.next() else {
            cx.shutdown(Duration::ZERO);
            return Ok(());
        };
        if address.starts_with("udp") {
            let id = cx.bind(Bind::connect(&address)?)?;
            if let Some(mut socket) = cx.socket(id) {
                socket.set_read_deadline(Some(socket.now() + self.timeout));
                socket.send(b"");
            }
        } else {
            cx.dial(Dial::new(&*address)?.timeout(self.timeout))?;
        }
        self.tried = (address, cx.now());
        Ok(())
    }

    fn tell(&mut self, cx: &mut Context<'_>, what: Result<&str, &Error>) {
        let took = cx.now() - self.tried.1;
        self.failed += usize::from(what.is_err());
        let _ = match what {
            Ok(what) => writeln!(io::stdout(), "{}  {what} after {took:.1?}", self.tried.0),
            Err(error) => writeln!(io::stdout(), "{error}"),
        };
        if let Err(error) = self.try_next(cx) {
            self.tell(cx, Err(&error));
        }
    }
}

impl Handler for Checker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        if let Err(error) = self.try_next(cx) {
            self.tell(cx, Err(&error));
        }
        Ok(())
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.tell(conn.cx(), Ok("connected"));
        Err(io::ErrorKind::Other.into()) // closes it
    }

    fn on_dial_error(&mut self, cx: &mut Context, _: DialId, why: &Error, _: Option<Duration>) {
        self.tell(cx, Err(why));
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, _: &Datagram<'_>) {
        socket.close();
        self.tell(socket.cx(), Ok("answered"));
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, _: Deadline) {
        socket.close();
        self.tell(socket.cx(), Ok("neither refused nor answered"));
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, id: SocketId, error: &Error) {
        let _ = cx.socket(id).map(|mut socket| socket.close());
        self.tell(cx, Err(error));
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let Time(timeout) = args.option("--timeout", Time(Duration::from_secs(3)))?;
        let rest = args.all()?.into_iter();
        if rest.len() == 0 {
            return Err(util::refusal("ADDRESS is missing"));
        }
        let reactor = Reactor::new(Checker {
            rest,
            timeout,
            tried: (String::new(), Instant::now()),
            failed: 0,
        })?;
        util::ask(reactor, |checker| match checker.failed {
            0 => Ok(()),
            failed => Err(io::Error::other(format!("{failed} failed"))),
        })
    })
}
