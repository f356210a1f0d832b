//! Answers questions for the time, as many as a client likes to ask on one connection.
//!
//!     cargo run --release --example timeserver -- 127.0.0.1:1200
//!     cargo run --release --example client -- 127.0.0.1:1200
//!
//! Shows: a protocol of requests and answers on connections that live long, and the three
//! ways to be a bad client, none of which costs anything: to ask at length (the decoder has
//! a limit), to ask nothing (a deadline), and to send a byte now and then, which is nothing,
//! too: only a whole request moves the deadline on.
//!
//! Shortcuts: the date is UTC and has no time zone to choose.

#[path = "util/mod.rs"]
mod util;

use std::io;
use std::{process::ExitCode, time::Duration, time::UNIX_EPOCH};

use util::args::Time;
use windlass::codec::{Decoder, Lines};
use windlass::{Conn, Handler, Input, ListenerId, Reactor};

const HELP: &str = "\
Answers each line: `timestamp` with the seconds since 1970, anything else with the date.

usage: timeserver [--after TIME] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:1200; port 0 is any free one.
TIME without a request ends a connection: a number and a unit, by default 2min.
Ctrl-C or SIGTERM lets open connections finish for up to 5 s; the second one does not.
";
/// In bytes.
const LONGEST_REQUEST: usize = 128;

struct TimeServer {
    patience: Duration,
}

impl Handler for TimeServer {
    type Session = Lines;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Lines> {
        conn.set_idle_timeout(None); // there is a stricter limit
        conn.set_read_deadline(Some(conn.now() + self.patience));
        Ok(Lines::new(LONGEST_REQUEST))
    }

    fn on_read(&mut self, conn: &mut Conn, lines: &mut Lines, input: &mut Input) -> io::Result<()> {
        loop {
            let request = match lines.decode(input) {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(too_long) => {
                    // It is delivered before the error closes the connection.
                    writeln!(conn, "{too_long}");
                    return Err(too_long.into());
                }
            };
            conn.set_read_deadline(Some(conn.now() + self.patience));
            let now = conn.cx().wall().max(UNIX_EPOCH);
            match request.trim_ascii() {
                b"timestamp" => {
                    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                    writeln!(conn, "{}", since.as_secs())
                }
                _ => writeln!(conn, "{}", humantime::format_rfc3339_seconds(now)),
            };
        }
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let Time(patience) = args.option("--after", Time(Duration::from_secs(120)))?;
        let [address] = args.rest(["127.0.0.1:1200"])?;
        util::serve(Reactor::new(TimeServer { patience })?, &*address)
    })
}
