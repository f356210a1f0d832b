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

use std::io::{self, Write};
use std::{process::ExitCode, thread, time::Duration};

use signal_hook::{consts::SIGINT, consts::SIGTERM, iterator::Signals};
use windlass::{Conn, Deadline, Handle, Handler, Input, ListenerId, Reactor};

const HELP: &str = "\
Prints `keep alive` when a client sends something. Says `goodbye` to one that has sent
nothing for 3 s, and closes.

usage: idle [--after TIME] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3001; port 0 is any free one.
TIME is a number and a unit, such as 500ms or 2min.
";
/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

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
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let (mut address, mut after) = (None, Some(Duration::from_secs(3)));
    let time = |text: &str| humantime::parse_duration(text).ok();
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        match arg {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}")),
            "--after" => after = rest.next().and_then(time),
            text if text.starts_with('-') || address.is_some() => after = None,
            text => address = Some(text),
        }
    }
    let Some(after) = after else {
        eprintln!("idle: it takes --after TIME (such as 500ms) and an address; see --help");
        return ExitCode::from(2);
    };
    exit(serve(address.unwrap_or("127.0.0.1:3001"), after))
}

fn exit(done: io::Result<()>) -> ExitCode {
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str, after: Duration) -> io::Result<()> {
    let mut reactor = Reactor::new(Patience(after))?;
    let id = reactor.listen(address)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(|_| ())
}

fn stop_on_signal(handle: Handle<Patience>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for (_, grace) in signals.forever().zip([GRACE, Duration::ZERO]) {
            let _ = handle.shutdown(grace);
        }
    });
    Ok(())
}
