//! Sends the lines that you type, and prints what comes back.
//!
//!     cargo run --release --example echo -- ok 127.0.0.1:9090
//!     cargo run --release --example client -- 127.0.0.1:9090
//!
//! Shows: standard input as a source of the loop, beside the connection, without a thread;
//! how to read no more than the server takes; half-close: the last answer is waited for.
//!
//! Shortcuts: a file is read whole, and 16 MiB of it that the server does not take end the
//! connection, as five silent minutes do; printing blocks the loop.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, BufRead, Read, Write};
use std::{os::fd::AsFd, process::ExitCode, time::Duration};

use windlass::codec::{Decoder, Lines};
use windlass::{CloseReason, Closed, Conn, ConnId, Context, Dial, DialId, Error, Flow};
use windlass::{Handler, Input, Interest, Reactor, Ready, WatchId};

const HELP: &str = "\
Sends each line of the input, trimmed, and prints what comes back; `q` or `Q` ends it.

usage: client [ADDRESS]    by default 127.0.0.1:9090

Ctrl-C or SIGTERM is like a `q`, for 5 s at most; the second one does not wait.
";
/// Read at the end of the input: it ends the last line, too.
const QUIT: &[u8] = b"\nq\n";

#[derive(Default)]
struct Client {
    conn: Option<ConnId>,
    typed: Vec<u8>, // and not a whole line yet
    said_all: bool,
    failure: Option<io::Error>,
}

impl Client {
    fn send(&mut self, conn: &mut Conn<'_>, read: &[u8]) {
        self.typed.extend(read);
        let (mut lines, mut input) = (Lines::new(usize::MAX), Input::new(&self.typed));
        while let Ok(Some(line)) = lines.decode(&mut input) {
            match line.trim_ascii() {
                b"" => {}
                b"q" | b"Q" => {
                    self.said_all = true;
                    return conn.shutdown_write();
                }
                line => _ = conn.write(&[line, b"\n"].concat()),
            }
        }
        self.typed = input.rest().to_vec();
    }
}

impl Handler for Client {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.conn = Some(conn.id());
        self.on_write(conn, &mut ())
    }

    fn on_dial_error(&mut self, cx: &mut Context<'_>, _: DialId, why: &Error, _: Option<Duration>) {
        self.failure = Some(io::Error::other(why.to_string()));
        cx.shutdown(Duration::ZERO);
    }

    /// There is room (again) for what standard input has to say.
    fn on_write(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> io::Result<()> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        if !self.said_all && conn.cx().watch(stdin, Interest::Read).is_err() {
            // A file: it is always ready, so it cannot be watched (EPERM).
            _ = io::stdin().read_to_end(&mut self.typed);
            self.send(conn, QUIT);
        }
        Ok(())
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, _: Ready) {
        let mut stdin = io::stdin().lock();
        if let Some(mut conn) = self.conn.and_then(|id| cx.conn(id)) {
            // One read: a second one might block.
            let bytes = stdin.fill_buf().unwrap_or_default();
            let n = bytes.len();
            self.send(&mut conn, if n == 0 { QUIT } else { bytes });
            stdin.consume(n);
            if self.said_all || conn.flow() == Flow::Full {
                conn.cx().unwatch(watch);
            }
        }
    }

    fn on_read(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        io::stdout().write_all(input.take_all())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> io::Result<()> {
        self.send(conn, QUIT);
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, _: (), closed: &Closed) {
        let failed = !matches!(closed.reason, CloseReason::Eof);
        self.failure = failed.then(|| io::Error::other(closed.reason.to_string()));
        cx.shutdown(Duration::ZERO);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |args| {
        let [address] = args.rest(["127.0.0.1:9090"])?;
        let mut reactor = Reactor::new(Client::default())?;
        reactor.dial(Dial::new(&*address)?)?;
        util::ask(reactor, |client| client.failure.map_or(Ok(()), Err))
    })
}
