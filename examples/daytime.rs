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

use std::io::{self, Write};
use std::{process::ExitCode, thread, time::Duration, time::UNIX_EPOCH};

use signal_hook::{consts::SIGINT, consts::SIGTERM, iterator::Signals};
use windlass::{CloseReason, Closed, Conn, Context, Dial, DialId, Error, Handle, Handler};
use windlass::{Input, ListenerId, Reactor};

const HELP: &str = "\
Sends each client one line, `YYYY-MM-DD HH:MM:SS` in UTC, and closes.

usage: daytime [ADDRESS]          serves
       daytime client [ADDRESS]   dials, and prints what comes

ADDRESS is by default 127.0.0.1:1313; port 0 is any free one.
";
const ADDRESS: &str = "127.0.0.1:1313";
/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

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

    fn on_close(&mut self, cx: &mut Context<'_>, _: (), closed: &Closed) {
        if !matches!(closed.reason, CloseReason::Eof) {
            self.0 = Err(io::Error::other(closed.reason.to_string()));
        }
        cx.shutdown(Duration::ZERO);
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let done = match args.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        [] => serve(ADDRESS),
        ["client"] => ask(ADDRESS),
        ["client", address] => ask(address),
        [address] if !address.starts_with('-') => serve(address),
        _ => {
            eprintln!("daytime: one address is all it takes; --help tells more");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(address: &str) -> io::Result<()> {
    let mut reactor = Reactor::new(Daytime)?;
    let id = reactor.listen(address)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(|_| ())
}

fn ask(address: &str) -> io::Result<()> {
    let mut reactor = Reactor::new(Client(Ok(())))?;
    reactor.dial(Dial::new(address)?)?;
    reactor.run()?;
    reactor.into_handler().0
}

fn stop_on_signal<H: Handler + 'static>(handle: Handle<H>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for (_, grace) in signals.forever().zip([GRACE, Duration::ZERO]) {
            let _ = handle.shutdown(grace);
        }
    });
    Ok(())
}
