//! Tells each client the date and the time (UTC), and hangs up; and a client that asks.
//!
//!     cargo run --release --example daytime -- 127.0.0.1:1313
//!     cargo run --release --example daytime -- client 127.0.0.1:1313
//!
//! Shows: `write` and `close` in the very first callback. `close` delivers: it flushes,
//! sends FIN and waits for the client, so everybody gets the whole line, even who sends
//! something first that nobody reads. And a client: the ways a dial and what follows end.
//!
//! Shortcuts: the client prints whatever comes, for as long as it comes.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration, time::UNIX_EPOCH};

use windlass::{CloseReason, Closed, Conn, Context, Dial, DialId, Error, Handler, Input};
use windlass::{ListenerId, Reactor};

const HELP: &str = "\
Sends each client one line, `YYYY-MM-DD HH:MM:SS` in UTC, and closes.

usage: daytime [ADDRESS]          serves
       daytime client [ADDRESS]   dials, and prints what comes

ADDRESS is by default 127.0.0.1:1313; port 0 is any free one.
Ctrl-C or SIGTERM lets what is under way finish for up to 5 s; the second one does not.
";

struct Daytime;

impl Handler for Daytime {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _listener: ListenerId) -> io::Result<()> {
        // The loop's wall clock, not `SystemTime::now()`: so the handler could be tested
        // with a clock that the test sets. One that stands before 1970 is not set.
        let now = humantime::format_rfc3339_seconds(conn.cx().wall().max(UNIX_EPOCH));
        let line = now.to_string().replace('T', " ").replace('Z', "\n");
        conn.write(line.as_bytes());
        conn.close();
        Ok(())
    }
}

struct Client(io::Result<()>);

impl Handler for Client {
    type Session = ();

    fn on_connect(&mut self, _conn: &mut Conn<'_>, _dial: DialId) -> io::Result<()> {
        Ok(())
    }

    fn on_dial_error(&mut self, cx: &mut Context<'_>, _: DialId, why: &Error, _: Option<Duration>) {
        self.0 = Err(io::Error::other(why.to_string()));
        cx.shutdown(Duration::ZERO);
    }

    fn on_read(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        io::stdout().write_all(input.take_all())
    }

    fn on_shutdown(&mut self, _: &mut Conn<'_>, _: &mut ()) -> io::Result<()> {
        Ok(()) // the answer may still come; the grace of the stop is its limit
    }

    fn on_close(&mut self, cx: &mut Context<'_>, _: (), closed: &Closed) {
        if !matches!(closed.reason, CloseReason::Eof) {
            self.0 = Err(io::Error::other(closed.reason.to_string()));
        }
        cx.shutdown(Duration::ZERO);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let asks = args.command(&["client"]).is_some();
        let [address] = args.rest(["127.0.0.1:1313"])?;
        if !asks {
            return util::serve(Reactor::new(Daytime)?, &*address);
        }
        let mut reactor = Reactor::new(Client(Ok(())))?;
        reactor.dial(Dial::new(&*address)?)?;
        util::ask(reactor, |client| client.0)
    })
}
