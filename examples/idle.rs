//! Says goodbye to a client that has been silent for three seconds; each sign of life is
//! worth another three.
//!
//!     cargo run --release --example idle -- 127.0.0.1:3001
//!     nc 127.0.0.1 3001
//!
//! Shows: a deadline that every read moves on, and what a passed one may do: the
//! connection is as usable as before, so there is still time for a last word.
//!
//! Shortcuts: what clients say is thrown away, and the lines do not say who is meant.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, time::Duration};

use util::args::Time;
use windlass::{Conn, Deadline, Handler, Input, ListenerId, Reactor};

const HELP: &str = "\
Prints `keep alive` when a client sends something. Says `goodbye` to one that has sent
nothing for 3 s, and closes.

usage: idle [--after TIME] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3001; port 0 is any free one.
TIME is a number and a unit, such as 500ms or 2min.
Ctrl-C or SIGTERM lets open connections finish for up to 5 s; the second one does not.
";

struct Patience(Duration);

impl Patience {
    /// Absolute, as deadlines are in Go. To move it on costs a store, no system call and no
    /// look-up, so every read may do it.
    fn renew(&self, conn: &mut Conn<'_>) {
        conn.set_read_deadline(Some(conn.now() + self.0));
    }
}

impl Handler for Patience {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _listener: ListenerId) -> io::Result<()> {
        // It is there for handlers that forget; `--after 600s` means 600 s.
        conn.set_idle_timeout(None);
        self.renew(conn);
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        input.take_all();
        self.renew(conn);
        writeln!(io::stdout(), "keep alive")
    }

    fn on_timeout(&mut self, conn: &mut Conn, _: &mut (), which: Deadline) -> io::Result<()> {
        if which != Deadline::Read {
            return Err(io::ErrorKind::TimedOut.into());
        }
        conn.write(b"goodbye\n");
        conn.close();
        writeln!(io::stdout(), "goodbye")
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let Time(after) = args.option("--after", Time(Duration::from_secs(3)))?;
        let [address] = args.rest(["127.0.0.1:3001"])?;
        util::serve(Reactor::new(Patience(after))?, &*address)
    })
}
