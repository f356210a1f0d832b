//! What several examples need and none is about: the command line, signals, exit status.
//!
//! An example hands [`main`] its help and what it does: it takes the [`Args`] apart, makes a
//! reactor, and lets that [`serve`]. The example `echo` does all of it by itself.

#![allow(dead_code, reason = "every example uses its own part of this")]

use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::str::FromStr;
use std::time::Duration;
use std::{env, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Handler, Listen, PostError, Reactor};

/// How long connections may take to finish once a stop was asked for.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Prints the help, if that is what was asked for, and otherwise runs the program. Its error
/// is one line, and exit status 1.
pub(crate) fn main(help: &str, run: impl FnOnce(Args) -> io::Result<()>) -> ExitCode {
    let args = env::args_os().skip(1);
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into()).collect();
    let done = match args.iter().any(|arg| arg == "--help" || arg == "-h") {
        true => write!(io::stdout(), "{help}"),
        false => run(Args(args)),
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The command line, from which one thing after the other is taken. What makes no sense ends
/// the program with a hint, and status 2: nothing is open yet.
pub(crate) struct Args(Vec<String>);

impl Args {
    /// Whether `name` was given, such as `--reuse-port`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|arg| arg == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// What was given behind `name`, such as `--workers 4`.
    pub(crate) fn option<T: FromStr>(&mut self, name: &str, default: T) -> T {
        let Some(at) = self.0.iter().position(|arg| arg == name) else {
            return default;
        };
        let given: Vec<String> = self.0.drain(at..self.0.len().min(at + 2)).collect();
        let value = given.get(1).and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| refuse(&given.join(" ")))
    }

    /// What is left: at most as many as there are defaults, which stand in for the others.
    pub(crate) fn rest<const N: usize>(self, defaults: [&str; N]) -> [String; N] {
        let unknown = |(at, arg): &(usize, &String)| *at >= N || arg.starts_with('-');
        if let Some((_, arg)) = self.0.iter().enumerate().find(unknown) {
            refuse(arg);
        }
        let mut given = self.0.into_iter();
        defaults.map(|default| given.next().unwrap_or_else(|| default.to_owned()))
    }
}

fn refuse(arg: &str) -> ! {
    eprintln!("`{arg}` makes no sense here; --help tells what does");
    process::exit(2)
}

/// Listens, and then [`run`]s: the rest of a server that has one loop.
pub(crate) fn serve<H>(mut reactor: Reactor<H>, address: &str) -> io::Result<()>
where
    H: Handler + 'static,
{
    let address = listen(&mut reactor, Listen::new(address)?)?;
    run(reactor, &address)
}

/// Begins to listen, and answers where: port 0 has become a real one.
pub(crate) fn listen<H: Handler>(reactor: &mut Reactor<H>, listen: Listen) -> io::Result<String> {
    let id = reactor.listen(listen)?;
    let listener = reactor.listener(id).ok_or(io::ErrorKind::NotFound)?;
    Ok(listener.local_addr().to_string())
}

/// Says where the program listens, and lets the loop turn until a signal has stopped it.
pub(crate) fn run<H: Handler + 'static>(mut reactor: Reactor<H>, address: &str) -> io::Result<()> {
    let handle = reactor.handle();
    on_signal(move |grace| handle.shutdown(grace))?;
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run().map(drop)
}

/// Calls `stop` at every Ctrl-C and SIGTERM, on a thread of its own, with the time that
/// connections have to finish: [`GRACE`] at first, none when somebody insists.
pub(crate) fn on_signal<F>(stop: F) -> io::Result<()>
where
    F: Fn(Duration) -> Result<(), PostError> + Send + 'static,
{
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut grace = GRACE;
        for _ in &mut signals {
            // It fails only when the loop has ended, and then the program does, too.
            let _ = stop(grace);
            grace = Duration::ZERO;
        }
    })?;
    Ok(())
}
