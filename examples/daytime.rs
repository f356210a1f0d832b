//! Tells each client the date and the time (UTC), and hangs up.
//!
//!     cargo run --release --example daytime -- 127.0.0.1:1313
//!     nc 127.0.0.1 1313
//!
//! Shows: `write` and `close` in the very first callback. `close` delivers: it flushes,
//! sends FIN and waits for the client, so everybody gets the whole line, even who sends
//! something first that nobody reads.
//!
//! Shortcuts: the calendar is ten lines of arithmetic instead of a crate, so there is no
//! local time and there are no leap seconds; there is no way to stop it but to kill it
//! (`echo` shows how to stop).

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use windlass::{Conn, Handler, ListenerId, Reactor};

const HELP: &str = "\
Sends each client one line, `YYYY-MM-DD HH:MM:SS` in UTC, and closes.

usage: daytime [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:1313; port 0 is any free one.
";

struct Daytime;

impl Handler for Daytime {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _listener: ListenerId) -> io::Result<()> {
        // The loop's wall clock, not `SystemTime::now()`: so the handler could be tested
        // with a clock that the test sets.
        let line = date_and_time(conn.cx().wall());
        conn.write(line.as_bytes());
        conn.close();
        Ok(())
    }
}

fn date_and_time(at: SystemTime) -> String {
    // A clock that stands before 1970 is not set; it shows as 1970.
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
    let second = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}\n")
}

/// The Gregorian date of a day counted from 1970-01-01.
///
/// The years are taken to begin in March: then the leap day is the last day of a year,
/// and the lengths of the months follow a straight line.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_FROM_MARCH_0000_TO_1970;
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let month = if january_or_february {
        month - 9
    } else {
        month + 3
    };
    (
        400 * era + year + u64::from(january_or_february),
        month,
        day,
    )
}

const SECONDS_PER_DAY: u64 = 86_400;
/// The calendar repeats itself after 400 years.
const DAYS_PER_ERA: u64 = 146_097;
const DAYS_FROM_MARCH_0000_TO_1970: u64 = 719_468;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h"] => write!(io::stdout(), "{HELP}"),
        [] => serve("127.0.0.1:1313"),
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
    if let Some(listener) = reactor.listener(id) {
        writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
    }
    reactor.run().map(|_| ())
}
