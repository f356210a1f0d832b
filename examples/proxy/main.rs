//! Stands between clients and a server, on TCP or Unix sockets, and holds little.
//!
//!     cargo run --release --example proxy -- 127.0.0.1:3002 127.0.0.1:3000
//!     cargo run --release --example proxy -- :3002 unix:///run/app.sock
//!
//! This file is the command line, `relay.rs` the handler.
//!
//! Shows: backpressure between two connections (`docs/backpressure.md`), data that waits in
//! the kernel until the dial is through, half-close and resets passed on.
//!
//! Shortcuts: nobody tells the server who the client is; a reset overtakes bytes, as it does
//! on any network; a client whose server cannot be reached is reset without a word.

mod relay;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::relay::Relay;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Config, Dial, Handle, Reactor};

const HELP: &str = "\
Passes on what clients and a server have to say to each other.

usage: proxy [--idle TIME] [LISTEN [DIAL]]

LISTEN is by default 127.0.0.1:3002, and DIAL 127.0.0.1:3000. Both may be unix:///PATH.
After TIME (300s) without a byte a client and its server are reset; it is a number with
`s` or `ms` behind it. Ctrl-C or SIGTERM lets who is there finish for up to 5 s, then
resets; the second one resets at once.
";

/// How long connections may take to finish once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let (mut addresses, mut idle) = (Vec::new(), Some(Duration::from_secs(300)));
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match &*arg.to_string_lossy() {
            "--help" | "-h" => return exit(write!(io::stdout(), "{HELP}")),
            "--idle" => idle = args.next().and_then(|arg| time(&arg.to_string_lossy())),
            text if text.starts_with('-') || addresses.len() == 2 => idle = None,
            text => addresses.push(text.to_owned()),
        }
    }
    let Some(idle) = idle else {
        eprintln!("proxy: it takes --idle TIME (such as 30s) and two addresses; see --help");
        return ExitCode::from(2);
    };
    let mut addresses = addresses.iter().map(String::as_str);
    let listen = addresses.next().unwrap_or("127.0.0.1:3002");
    let dial = addresses.next().unwrap_or("127.0.0.1:3000");
    exit(serve(listen, dial, idle))
}

fn exit(done: io::Result<()>) -> ExitCode {
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis(1)),
        None => (text.strip_suffix('s')?, Duration::from_secs(1)),
    };
    number.parse::<u32>().ok().map(|number| unit * number)
}

fn serve(listen: &str, dial: &str, idle: Duration) -> io::Result<()> {
    let mut config = Config::default();
    // A side that takes nothing is as good as silent, and has as much time.
    (config.idle_timeout, config.write_stall_timeout) = (idle, idle);
    let mut reactor = Reactor::with_config(Relay::new(Dial::new(dial)?), config)?;
    let id = reactor.listen(listen)?;
    stop_on_signal(reactor.handle())?;
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(drop)
}

/// The first signal begins a graceful stop. The second one shortens its grace to nothing.
fn stop_on_signal(handle: Handle<Relay>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut grace = GRACE;
        for _ in &mut signals {
            let _ = handle.shutdown(grace);
            grace = Duration::ZERO;
        }
    })?;
    Ok(())
}
