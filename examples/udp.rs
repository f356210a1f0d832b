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

use std::io::{self, Write};
use std::{process::ExitCode, thread, time::Duration, time::UNIX_EPOCH};

use signal_hook::{consts::SIGINT, consts::SIGTERM, iterator::Signals};
use windlass::{Bind, Context, Datagram, Deadline, Error, Handler, Reactor};
use windlass::{Socket, SocketId, resolve};

const HELP: &str = "\
Sends `can you hear me?` and prints the answer; or prints what comes, and tells the time.

usage: udp serve [ADDRESS]
       udp client [--port PORT] [ADDRESS]    from that port, by default any free one
       udp connect [ADDRESS]                 from a connected socket

ADDRESS is by default 127.0.0.1:1200; port 0 is any free one.
";
const ADDRESS: &str = "127.0.0.1:1200";
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
    let args: Vec<_> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        ["serve"] => run(Bind::new(ADDRESS), false, None),
        ["serve", address] => run(Bind::new(address), false, None),
        ["client"] => run(Bind::new(":0"), true, Some(ADDRESS)),
        ["client", address] => run(Bind::new(":0"), true, Some(address)),
        ["client", "--port", port] => run(Bind::new(format!(":{port}")), true, Some(ADDRESS)),
        ["client", "--port", port, to] => run(Bind::new(format!(":{port}")), true, Some(to)),
        ["connect"] => run(Bind::connect(ADDRESS), true, None),
        ["connect", address] => run(Bind::connect(address), true, None),
        _ => {
            eprintln!("udp: it takes serve, client or connect, and an address; see --help");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(bind: Result<Bind, Error>, asks: bool, to: Option<&str>) -> io::Result<()> {
    let ended = asks.then_some(Ok(()));
    let mut reactor = Reactor::new(Udp { ended })?;
    let id = reactor.bind(bind?)?;
    let (handle, mut signals) = (reactor.handle(), Signals::new([SIGINT, SIGTERM])?);
    thread::spawn(move || signals.forever().all(|_| handle.shutdown(PATIENCE).is_ok()));
    if let Some(mut socket) = reactor.socket(id) {
        if let Some(local) = socket.local_addr()
            && !asks
        {
            writeln!(io::stdout(), "listening on {local}")?;
        } else {
            socket.set_read_deadline(Some(socket.now() + PATIENCE));
            match to {
                // To look a name up may block, so it is done before the loop begins.
                Some(to) => socket.send_to(QUESTION, resolve("udp", to)?),
                None => socket.send(QUESTION),
            };
        }
    }
    reactor.run()?;
    reactor.into_handler().ended.unwrap_or(Ok(()))
}
