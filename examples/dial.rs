//! Says which ports answer: dials all of them at once, and tells how each dial ended.
//!
//!     cargo run --release --example dial -- --timeout 3s 127.0.0.1:22 localhost:80
//!
//! Shows: dials with a time limit, and the one end of each, in words that need no others.
//!
//! Shortcuts: a connection is closed as soon as it is there, so this finds out that a
//! kernel answers, not that a server does; a dial that finds no descriptor is not repeated.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use windlass::{Conn, Context, Dial, DialId, Error, Handler, Reactor};

const HELP: &str = "\
Dials each address, all at once, and prints one line for each as it ends.

usage: dial [--timeout TIME] ADDRESS...

ADDRESS is 127.0.0.1:80, [::1]:80, localhost:80, tcp6://localhost:80 or the like.
TIME is what a dial may take, by default 3s: a number with `s` or `ms` behind it.
The exit status is 1 if one of them was not connected.
";

struct Checker {
    began: Instant,
    /// The dials that have not ended, and what was asked for.
    open: HashMap<DialId, String>,
    all_connected: bool,
    /// Whether the lines could be printed.
    printed: io::Result<()>,
}

impl Checker {
    /// The last line ends the loop, and so does one that nobody reads.
    fn print(&mut self, cx: &mut Context<'_>, line: &str) {
        self.printed = writeln!(io::stdout(), "{line}");
        if self.open.is_empty() || self.printed.is_err() {
            cx.shutdown(Duration::ZERO);
        }
    }
}

impl Handler for Checker {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, id: DialId) -> io::Result<()> {
        let took = conn.now() - self.began;
        let address = self.open.remove(&id).unwrap_or_default();
        self.print(conn.cx(), &format!("{address}  connected after {took:.1?}"));
        conn.close();
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        id: DialId,
        error: &Error,
        _retry_in: Option<Duration>,
    ) {
        self.open.remove(&id);
        self.all_connected = false;
        self.print(cx, &error.to_string());
    }
}

fn main() -> ExitCode {
    let (mut addresses, mut timeout) = (Vec::new(), Some(Duration::from_secs(3)));
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match &*arg.to_string_lossy() {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}").map(|()| true)),
            "--timeout" => timeout = args.next().and_then(|arg| time(&arg.to_string_lossy())),
            text if text.starts_with('-') => timeout = None,
            text => addresses.push(text.to_owned()),
        }
    }
    match timeout {
        Some(timeout) if !addresses.is_empty() => exit(check(addresses, timeout)),
        _ => {
            eprintln!("dial: it takes --timeout TIME (such as 500ms) and addresses; see --help");
            ExitCode::from(2)
        }
    }
}

fn exit(all_connected: io::Result<bool>) -> ExitCode {
    if let Err(error) = &all_connected {
        eprintln!("{error}");
    }
    ExitCode::from(u8::from(!all_connected.is_ok_and(|all| all)))
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis(1)),
        None => (text.strip_suffix('s')?, Duration::from_secs(1)),
    };
    number.parse::<u32>().ok().map(|number| unit * number)
}

fn check(addresses: Vec<String>, timeout: Duration) -> io::Result<bool> {
    let mut reactor = Reactor::new(Checker {
        began: Instant::now(),
        open: HashMap::new(),
        all_connected: true,
        printed: Ok(()),
    })?;
    for address in addresses {
        let id = reactor.dial(Dial::new(&*address)?.timeout(timeout))?;
        reactor.handler_mut().open.insert(id, address);
    }
    reactor.run()?;
    let checker = reactor.into_handler();
    checker.printed.map(|()| checker.all_connected)
}
