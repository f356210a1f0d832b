//! Sends back whatever it receives, or says `ok` to each line.
//!
//!     cargo run --release --example echo -- 127.0.0.1:3000
//!     cargo run --release --example echo -- ok 127.0.0.1:9090
//!
//! Shows: a whole server, how it is stopped in good order, and what its loop counted;
//! with `ok`, where one message ends and the next begins.
//!
//! Shortcuts: no logger is installed, so nobody sees what the loop logs; the limits are
//! the defaults of `Config` (five silent minutes end a connection); signals are not the
//! loop's business, so a crate and a thread wait for them; printing blocks the loop.

use std::io::{self, Write};
use std::{process::ExitCode, thread, time::Duration};

use signal_hook::{consts::SIGINT, consts::SIGTERM, iterator::Signals};
use windlass::codec::{Decoder, Lines};
use windlass::{Conn, Handle, Handler, Input, ListenerId, Reactor, Summary};

const HELP: &str = "\
Sends back whatever it receives, or prints each line and answers it with `ok`.

usage: echo [ADDRESS]      sends back; by default on 127.0.0.1:3000
       echo ok [ADDRESS]   prints, and answers `ok`; by default on 127.0.0.1:9090

Port 0 is any free one. Ctrl-C or SIGTERM lets the open connections finish for up to
5 s, then prints what the loop counted; the second one ends them at once.
";
/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// A longer line closes its connection.
const LONGEST_LINE: usize = 4096;

struct Echo {
    says_ok: bool,
}

impl Handler for Echo {
    type Session = Lines;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Lines> {
        Ok(Lines::new(LONGEST_LINE))
    }

    fn on_read(&mut self, conn: &mut Conn, lines: &mut Lines, input: &mut Input) -> io::Result<()> {
        if self.says_ok {
            // A line that is not whole yet stays in `input` until it is.
            while let Some(line) = lines.decode(input)? {
                writeln!(io::stdout(), "{}", String::from_utf8_lossy(line))?;
                conn.write(b"ok\n");
            }
            return Ok(());
        }
        // What `write` answers need not be looked at here. If the client sends and does not
        // read, the queue grows above its high mark, `write` answers `Flow::Full`, and this
        // client is not read from until the queue has fallen to its low mark. Whoever writes
        // more than it reads stops at `Full` by itself, and goes on in `on_write`.
        conn.write(input.take_all());
        Ok(())
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let done = match args.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        [] => serve(false, "127.0.0.1:3000"),
        ["ok"] => serve(true, "127.0.0.1:9090"),
        ["ok", address] => serve(true, address),
        [address] if !address.starts_with('-') => serve(false, address),
        _ => {
            eprintln!("echo: one address is all it takes; --help tells more");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(says_ok: bool, address: &str) -> io::Result<()> {
    let mut reactor = Reactor::new(Echo { says_ok })?;
    let id = reactor.listen(address)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    report(&reactor.run()?)
}

fn stop_on_signal(handle: Handle<Echo>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // The first signal begins a graceful stop, the second one leaves no time for it.
    thread::spawn(move || {
        for (grace, _) in [GRACE, Duration::ZERO].into_iter().zip(&mut signals) {
            let _ = handle.shutdown(grace); // fails only if the loop has ended already
        }
        thread::sleep(GRACE / 5);
        std::process::exit(1) // the loop is stuck: it prints to somebody who does not read
    });
    Ok(())
}

fn report(Summary { stats, aborted, .. }: &Summary) -> io::Result<()> {
    let (served, turns, busy) = (stats.accepted, stats.turns, 100.0 * stats.busy_share());
    let (received, reads) = (stats.bytes_read, stats.reads);
    let (sent, writes) = (stats.bytes_written, stats.writes);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "stopped\nserved    {served} connections, {aborted} of them cut off at the end"
    )?;
    writeln!(out, "received  {received} bytes in {reads} calls")?;
    writeln!(out, "sent      {sent} bytes in {writes} calls")?;
    writeln!(out, "turned    {turns} times, {busy:.2} % busy")
}
