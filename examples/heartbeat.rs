//! Keeps a connection alive, and has it back soon after the server was gone.
//!
//!     cargo run --release --example heartbeat -- serve 127.0.0.1:7000
//!     cargo run --release --example heartbeat -- client 127.0.0.1:7000
//!
//! Shows: one deadline for two things in turn (when to ping, when a pong is missed), the
//! only way to notice a server that is there and says nothing; and a dial that begins anew
//! by itself when a try fails or its connection ends, after waits that grow and vary.
//!
//! Shortcuts: nobody has anything to say but that they are alive; printing blocks the loop.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration};

use windlass::codec::{Decoder, Lines};
use windlass::{Backoff, Closed, Conn, Context, Deadline, Dial, DialId, Error};
use windlass::{Handler, Input, ListenerId, Reactor};

const HELP: &str = "\
Sends `ping` every TIME; misses a `pong` after as long, hangs up, and dials again.

usage: heartbeat serve [ADDRESS]           answers
       heartbeat client [ADDRESS [TIME]]   pings; TIME is such as 500ms, by default 1s

ADDRESS is by default 127.0.0.1:7000; port 0 is any free one.
Ctrl-C or SIGTERM hangs up, within 5 s; the second one at once.
";
const LONGEST_LINE: usize = 64;
/// The waits between tries grow from the one to the other.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

struct Heart {
    every: Duration,
}

/// What is read, and whether a `pong` is awaited.
struct Beat(Lines, bool);

impl Handler for Heart {
    type Session = Beat;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Beat> {
        Ok(Beat(Lines::new(LONGEST_LINE), false))
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<Beat> {
        let _ = writeln!(io::stdout(), "connected to {}", conn.peer_addr());
        conn.set_idle_timeout(None); // this is what the pings are for
        conn.set_read_deadline(Some(conn.now()));
        Ok(Beat(Lines::new(LONGEST_LINE), false))
    }

    fn on_dial_error(&mut self, _: &mut Context<'_>, _: DialId, why: &Error, _: Option<Duration>) {
        eprintln!("{why}");
    }

    fn on_read(&mut self, conn: &mut Conn, beat: &mut Beat, input: &mut Input) -> io::Result<()> {
        let Beat(lines, awaits_pong) = beat;
        while let Some(line) = lines.decode(input)? {
            if line == b"ping" {
                conn.write(b"pong\n");
            } else if line == b"pong" && std::mem::take(awaits_pong) {
                let _ = writeln!(io::stdout(), "pong");
                conn.set_read_deadline(Some(conn.now() + self.every));
            }
        }
        Ok(())
    }

    fn on_timeout(&mut self, conn: &mut Conn, beat: &mut Beat, which: Deadline) -> io::Result<()> {
        let awaited = std::mem::replace(&mut beat.1, true);
        if which != Deadline::Read || awaited {
            return Err(io::ErrorKind::TimedOut.into());
        }
        conn.write(b"ping\n");
        conn.set_read_deadline(Some(conn.now() + self.every));
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Beat, closed: &Closed) {
        let _ = writeln!(io::stdout(), "connection lost: {}", closed.reason);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let command = args.command(&["serve", "client"]);
        let [address, time] = args.rest(["127.0.0.1:7000", "1s"])?;
        let util::args::Time(every) = time.parse()?;
        let mut reactor = Reactor::new(Heart { every })?;
        match command {
            Some("serve") => util::serve(reactor, &*address),
            Some(_) => {
                let dial = Dial::new(&*address)?;
                reactor.dial(dial.reconnect(Backoff::new(RETRY[0], RETRY[1])))?;
                util::ask(reactor, |_| Ok(()))
            }
            None => Err(util::refusal("it takes `serve` or `client`")),
        }
    })
}
