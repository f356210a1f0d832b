//! What several examples need and none is about: the command line, signals, exit status.
//!
//! An example hands [`main`] its help and what it does: it takes the [`Args`] apart, makes a
//! reactor, and lets that [`serve`]. The example `echo` does all of it by itself.

#![allow(dead_code, reason = "every example uses its own part of this")]

pub(crate) mod args;

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, thread};

pub(crate) use self::args::{Args, refusal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use windlass::{Error, Handler, Listen, Reactor};

/// How long connections may take to finish once a stop was asked for.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// A loop that has not ended so long after the second signal is stuck: it prints to
/// somebody who does not read.
const STUCK: Duration = Duration::from_secs(1);

/// Prints the help, if that is what was asked for, and otherwise runs the program. Its error
/// is one line, and exit status 1.
pub(crate) fn main(help: &str, run: impl FnOnce(Args) -> io::Result<()>) -> ExitCode {
    // Not `env::args()`, which panics at what is not UTF-8.
    let args = env::args_os().skip(1).map(OsString::into_string);
    let done = match args.collect::<Result<Vec<_>, _>>() {
        Err(arg) => Err(refusal(&format!("{arg:?} is not UTF-8"))),
        Ok(args) if args.iter().any(|arg| arg == "--help" || arg == "-h") => {
            write!(io::stdout(), "{help}")
        }
        Ok(args) => run(Args::new(args)),
    };
    if let Err(error) = done {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// How many threads the machine has for us.
pub(crate) fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Listens, says where, and serves until a signal stops it: a server that has one loop.
pub(crate) fn serve<H, L>(mut reactor: Reactor<H>, at: L) -> io::Result<()>
where
    H: Handler + 'static,
    L: TryInto<Listen>,
    L::Error: Into<Error>,
{
    let address = listen(&mut reactor, at)?;
    // Whoever reads this line may send a signal at once.
    stop_on_signal(&reactor)?;
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run().map(drop)
}

/// Begins to listen, and answers where: port 0 has become a real one.
pub(crate) fn listen<H, L>(reactor: &mut Reactor<H>, at: L) -> io::Result<String>
where
    H: Handler,
    L: TryInto<Listen>,
    L::Error: Into<Error>,
{
    let id = reactor.listen(at)?;
    let listener = reactor.listener(id).ok_or(io::ErrorKind::NotFound)?;
    Ok(listener.local_addr().to_string())
}

/// Lets the loop of a client turn until it ends, and asks the handler how that was. What a
/// signal has cut off is no failure.
pub(crate) fn ask<H: Handler + 'static>(
    mut reactor: Reactor<H>,
    how: impl FnOnce(H) -> io::Result<()>,
) -> io::Result<()> {
    let signalled = stop_on_signal(&reactor)?;
    reactor.run()?;
    match signalled.load(Ordering::Relaxed) {
        true => Ok(()),
        false => how(reactor.into_handler()),
    }
}

/// Has the loop shut down at the first signal; whether there has been one.
pub(crate) fn stop_on_signal<H: Handler + 'static>(
    reactor: &Reactor<H>,
) -> io::Result<Arc<AtomicBool>> {
    let handle = reactor.handle();
    // It fails only when the loop has ended, and then the program does, too.
    on_signal(move |grace| _ = handle.shutdown(grace))
}

/// Calls `stop` at the first Ctrl-C or SIGTERM, on a thread of its own, with the time that
/// connections have to finish, and at the second one with none: that ends the program.
/// Answers whether there has been one.
pub(crate) fn on_signal(stop: impl Fn(Duration) + Send + 'static) -> io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let signalled = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&signalled);
    thread::Builder::new().spawn(move || {
        for (grace, _) in [GRACE, Duration::ZERO].into_iter().zip(&mut signals) {
            told.store(true, Ordering::Relaxed);
            stop(grace);
        }
        thread::sleep(STUCK);
        process::exit(1)
    })?;
    Ok(signalled)
}
