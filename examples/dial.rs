//! Says which ports answer: tries one after the other, and tells what each did.
//!
//!     cargo run --release --example dial -- --timeout 1s 127.0.0.1:22 udp://[::1]:53
//!
//! Shows: how dials end, in time and once each, and what is heard of a datagram, if anything.
//!
//! Shortcuts: a kernel has answered, not yet a server; a loop could try all of them at once.

use std::io::{self, Write};
use std::{env, iter::Peekable, iter::Skip, process::ExitCode, time::Duration, time::Instant};

use windlass::{Bind, Conn, Context, Datagram, Deadline, Dial, DialId, Error, Handle};
use windlass::{Handler, Reactor, Socket, SocketId};

const HELP: &str = "\
Dials each address in turn, and says what it did. Exit status 1 if one of them failed.

usage: dial [--timeout TIME] ADDRESS...
ADDRESS is such as [::1]:80 or udp://localhost:53; each may take TIME, by default 3s.
";

struct Checker {
    rest: Peekable<Skip<env::Args>>,
    timeout: Duration,
    tried: (String, Instant), // since when
    failed: bool,
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
        self.failed |= what.is_err();
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
    let mut args = env::args().skip(1).peekable();
    let timeout = match args.next_if_eq("--timeout") {
        Some(_) => humantime::parse_duration(&args.next().unwrap_or_default()),
        None => Ok(Duration::from_secs(3)),
    };
    let done = match (args.peek().map(String::as_str), timeout) {
        (Some("--help" | "-h"), _) => write!(io::stdout(), "{HELP}").map(|()| false),
        (Some(_), Ok(timeout)) => check(args, timeout),
        _ => Err(io::Error::other("dial: no address, or no time; see --help")),
    };
    let code = done.inspect_err(|it| eprintln!("{it}")).map_or(2, u8::from);
    ExitCode::from(code)
}

fn check(rest: Peekable<Skip<env::Args>>, timeout: Duration) -> io::Result<bool> {
    let mut reactor = Reactor::new(Checker {
        rest,
        timeout,
        tried: (String::new(), Instant::now()),
        failed: false,
    })?;
    reactor.run().map(|_| reactor.handler().failed)
}
