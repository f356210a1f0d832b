//! Descriptors that a service manager has opened for this process and passed on, by the
//! protocol of sd_listen_fds(3): `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`.
//!
//! Owns the protocol and that it happens once. What the descriptors are is the adopter's to ask.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use super::check;

/// The number of the first one; they follow each other (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Whether somebody owns them already. A descriptor has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors passed to this process, in their order, each with its name if they have
/// names. None if there are none, if they were meant for another process (the variables are
/// inherited too), or if they were taken before.
///
/// They are close-on-exec afterwards. The environment stays as it is.
///
/// # Errors
///
/// `InvalidInput`, with a sentence, if a variable is not what the protocol says, or if a
/// descriptor is not open. Nothing is owned then.
pub(crate) fn inherited() -> io::Result<Vec<(Option<String>, OwnedFd)>> {
    let (pid, count) = (env::var_os("LISTEN_PID"), env::var_os("LISTEN_FDS"));
    let count = offered(pid, count, process::id())?;
    if count == 0 || TAKEN.load(Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let numbers = FIRST..FIRST + count;
    // Before anything of that size is allocated: the number may be nonsense.
    numbers.clone().try_for_each(close_on_exec)?;
    let names = names(env::var_os("LISTEN_FDNAMES"), numbers.len())?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // SAFETY: each is open, and was before this process began, which its parent has told it
    // by its own number: no part of the process has opened it. The flag says that nobody
    // was given them before.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(names.into_iter().zip(numbers.map(own)).collect())
}

/// How many descriptors are meant for the process `own`.
pub(super) fn offered(
    pid: Option<OsString>,
    count: Option<OsString>,
    own: u32,
) -> io::Result<RawFd> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(0);
    };
    if number("LISTEN_PID", &pid)? != i64::from(own) {
        return Ok(0);
    }
    RawFd::try_from(number("LISTEN_FDS", &count)?)
        .ok()
        .filter(|count| *count >= 0 && count.checked_add(FIRST).is_some())
        .ok_or_else(|| {
            refusal(format!(
                "LISTEN_FDS is {count:?}, which no process can have"
            ))
        })
}

fn number(variable: &str, text: &OsString) -> io::Result<i64> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| refusal(format!("{variable} is {text:?}, which is not a number")))
}

/// One name for each descriptor, if there are names at all.
pub(super) fn names(given: Option<OsString>, count: usize) -> io::Result<Vec<Option<String>>> {
    let Some(given) = given else {
        return Ok(vec![None; count]);
    };
    let given = given
        .to_str()
        .ok_or_else(|| refusal(format!("LISTEN_FDNAMES is {given:?}, which is not UTF-8")))?;
    let names: Vec<_> = given.split(':').map(|name| Some(name.to_owned())).collect();
    if names.len() != count {
        return Err(refusal(format!(
            "LISTEN_FDNAMES has {} names for {count} descriptors",
            names.len()
        )));
    }
    Ok(names)
}

pub(super) fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: the command touches no memory; a number that is not open is an error.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map_err(|errno| {
        let error = io::Error::from(errno);
        refusal(format!("LISTEN_FDS promises descriptor {number}: {error}"))
    })
}

fn refusal(sentence: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}
