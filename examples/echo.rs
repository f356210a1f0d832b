//! Sends back whatever it receives.
//!
//!     cargo run --release --example echo -- 127.0.0.1:3000
//!
//! Shows: a whole server, how it is stopped in good order, and what its loop counted.
//!
//! Shortcuts: no logger is installed, so nobody sees what the loop logs; the limits are
//! the defaults of `Config` (five silent minutes end a connection); signals are not the
//! loop's business, so a crate and a thread wait for them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Conn, Handle, Handler, Input, ListenerId, Reactor, Summary};

const HELP: &str = "\
Sends back whatever it receives.

usage: echo [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:3000; port 0 is any free one.
Ctrl-C or SIGTERM lets the open connections finish for up to 5 s, then prints what
the loop counted; the second one ends them at once.
";

/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _conn: &mut Conn<'_>, _listener: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _session: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        // What `write` answers need not be looked at here. If the client sends and does not
        // read, the queue grows above its high mark, `write` answers `Flow::Full`, and this
        // client is not read from until the queue has fallen to its low mark. A handler that
        // writes more than it reads stops at `Full` by itself, and goes on in `on_write`.
        conn.write(input.take_all());
        Ok(())
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        [] => serve("127.0.0.1:3000"),
        [address] if !address.starts_with('-') => serve(address),
        _ => {
            eprintln!("echo: one address is all it takes; --help tells more");
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
    let mut reactor = Reactor::new(Echo)?;
    let id = reactor.listen(address)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    report(&reactor.run()?)
}

/// The first signal begins a graceful stop. The second one shortens its grace to nothing.
fn stop_on_signal(handle: Handle<Echo>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut grace = GRACE;
        for _ in &mut signals {
            // It fails only when the loop has ended, and then the program does, too.
            let _ = handle.shutdown(grace);
            grace = Duration::ZERO;
        }
    })?;
    Ok(())
}

fn report(Summary { stats, aborted, .. }: &Summary) -> io::Result<()> {
    let (sent, received) = (stats.bytes_written, stats.bytes_read);
    let (busy, longest) = (100.0 * stats.busy_share(), stats.longest_turn);
    let mut out = io::stdout().lock();
    writeln!(out, "stopped")?;
    writeln!(
        out,
        "served    {} connections, {aborted} of them cut off at the end",
        stats.accepted
    )?;
    writeln!(out, "received  {received} bytes in {} calls", stats.reads)?;
    writeln!(out, "sent      {sent} bytes in {} calls", stats.writes)?;
    writeln!(
        out,
        "turned    {} times, at most {longest:.1?}, {busy:.2} % busy",
        stats.turns
    )
}
