//! Asks for the time by datagram, and answers.
//!
//!     cargo run --release --example udp -- serve 127.0.0.1:1200
//!     cargo run --release --example udp -- client 127.0.0.1:1200
//!
//! Shows: a socket that hears everybody (`serve`), one that asks from a port of its choice
//! (`client --port`), and one that is connected (`connect`): it hears nobody else, and
//! learns that nobody listens. Without `[::1]:1200` all of this is IPv4, with it IPv6.
//!
//! Shortcuts: a datagram may get lost, and it is not repeated; whoever sends under the
//! address of another has the server answer that one; printing blocks the loop.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration, time::UNIX_EPOCH};

use windlass::{Addr, Bind, Context, Datagram, Deadline, Error, Handler, Reactor};
use windlass::{Socket, SocketId, resolve};

const HELP: &str = "\
Sends `can you hear me?` and prints the answer; or prints what comes, and tells the time.

usage: udp serve [ADDRESS]
       udp client [--port PORT] [ADDRESS]    from that port, by default any free one
       udp connect [ADDRESS]                 from a connected socket

ADDRESS is by default 127.0.0.1:1200; port 0 is any free one.
Ctrl-C or SIGTERM ends it when what it has to say has left.
";
const QUESTION: &[u8] = b"can you hear me?";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

struct Udp {
    /// A client's, to say how it went.
    ended: Option<io::Result<()>>,
}

impl Udp {
    fn end(&mut self, cx: &mut Context<'_>, how: io::Result<()>) {
        if self.ended.is_some() {
            self.ended = Some(how);
            cx.shutdown(Duration::ZERO);
        }
    }
}

impl Handler for Udp {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        let text = String::from_utf8_lossy(datagram).replace(char::is_control, "?");
        let printed = writeln!(io::stdout(), "{}: {text}", datagram.from());
        if self.ended.is_none() {
            let now = humantime::format_rfc3339_seconds(socket.cx().wall().max(UNIX_EPOCH));
            socket.send_to(now.to_string().as_bytes(), datagram.from());
        }
        self.end(socket.cx(), printed);
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, _: SocketId, error: &Error) {
        self.end(cx, Err(io::Error::other(error.to_string())));
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, _: Deadline) {
        self.end(socket.cx(), Err(io::Error::other("no answer within 3 s")));
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let command = args.command(&["serve", "client", "connect"]);
        let from: u16 = match command {
            Some("client") => args.option("--port", 0)?,
            _ => 0,
        };
        let [address] = args.rest(["127.0.0.1:1200"])?;
        match command {
            Some("serve") => serve(Bind::new(&*address)?),
            // To look a name up may block, so it is done before the loop begins.
            Some("client") => ask(
                Bind::new(format!(":{from}"))?,
                Some(resolve("udp", &address)?),
            ),
            Some(_) => ask(Bind::connect(&*address)?, None),
            None => Err(util::refusal("it takes `serve`, `client` or `connect`")),
        }
    })
}

fn serve(bind: Bind) -> io::Result<()> {
    let mut reactor = Reactor::new(Udp { ended: None })?;
    let id = reactor.bind(bind)?;
    let local = reactor.socket(id).and_then(|socket| socket.local_addr());
    let local = local.ok_or(io::ErrorKind::NotFound)?;
    util::stop_on_signal(&reactor)?;
    writeln!(io::stdout(), "listening on {local}")?;
    reactor.run().map(drop)
}

fn ask(bind: Bind, to: Option<Addr>) -> io::Result<()> {
    let ended = Some(Ok(()));
    let mut reactor = Reactor::new(Udp { ended })?;
    let id = reactor.bind(bind)?;
    let mut socket = reactor.socket(id).ok_or(io::ErrorKind::NotFound)?;
    socket.set_read_deadline(Some(socket.now() + PATIENCE));
    match to {
        Some(to) => socket.send_to(QUESTION, to),
        None => socket.send(QUESTION),
    };
    util::ask(reactor, |udp| udp.ended.unwrap_or(Ok(())))
}
