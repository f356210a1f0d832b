//! Waiting on Linux: epoll_wait on mio's own descriptor, and what its flags mean.
//!
//! Registrations and the wake-up channel are mio's, here as everywhere, and so is what a flag
//! means. Asked by way of mio, each event is translated twice, by six questions that mio answers
//! by a call each; most events say no more than that bytes have come, which is one comparison.
//! The one registration made here is that of a stream, which each short connection needs.
//!
//! Knows neither what a token stands for nor who waits.

use std::io;
use std::os::fd::AsRawFd;

use super::{Readiness, check};
use crate::kernel::{Errno, Event, Fd};
use crate::timer::{NEVER, Nanos};
use crate::token::Token;

const IN: u32 = libc::EPOLLIN as u32;
const PRI: u32 = libc::EPOLLPRI as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const ERR: u32 = libc::EPOLLERR as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;

/// What a stream says of itself while it lives; these bits are ours as they are.
const ORDINARY: u32 = IN | OUT;
const _: () = assert!(IN == Readiness::READABLE.0 as u32 && OUT == Readiness::WRITABLE.0 as u32);

/// What it says when the peer has finished.
const LAST: u32 = IN | OUT | RDHUP;

const NANOS_PER_MILLI: Nanos = 1_000_000;

/// What a stream is registered for: both directions, the peer's FIN, and urgent data, since a
/// read that stops at its mark has not drained the socket.
const STREAM: u32 = IN | OUT | RDHUP | PRI | libc::EPOLLET as u32;

/// The name of the alarm, which is nobody's: no token has all bits zero.
const ALARM: u64 = 0;

/// Registers a stream, as mio would.
#[inline]
pub(super) fn add_stream(poll: &mio::Poll, fd: Fd, token: Token) -> Result<(), Errno> {
    add(poll, fd.0, STREAM, token.bits())
}

/// Has the alarm end waits each time that it goes off.
pub(super) fn add_alarm(poll: &mio::Poll, timer: libc::c_int) -> Result<(), Errno> {
    add(poll, timer, IN | libc::EPOLLET as u32, ALARM)
}

#[inline]
fn add(poll: &mio::Poll, fd: libc::c_int, events: u32, u64: u64) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64 };
    let event = &raw mut event;
    // SAFETY: `event` points to one that lives across the call, which only reads it.
    check(unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, event) })
}

/// What a wait has brought, as the kernel wrote it.
#[derive(Debug)]
pub(super) struct Arrivals {
    events: Vec<libc::epoll_event>,
}

impl Arrivals {
    pub(super) fn with_capacity(events: usize) -> Self {
        Self {
            events: Vec::with_capacity(events),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.events.capacity()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Waits at most `timeout` ([`NEVER`]: for ever), which is no longer than the system can count,
    /// and replaces what the last wait brought.
    pub(super) fn wait(&mut self, poll: &mut mio::Poll, timeout: Nanos) -> io::Result<()> {
        self.events.clear();
        let room = libc::c_int::try_from(self.events.capacity()).unwrap_or(libc::c_int::MAX);
        let timeout = millis(timeout);
        // SAFETY: there is room for `room` events behind the pointer, and the call writes no
        // more than that.
        let came = unsafe {
            let events = self.events.as_mut_ptr();
            libc::epoll_wait(poll.as_raw_fd(), events, room, timeout)
        };
        let Ok(came) = usize::try_from(came) else {
            return Err(io::Error::last_os_error());
        };
        // SAFETY: the system has written that many events, which fit.
        unsafe { self.events.set_len(came) };
        Ok(())
    }

    /// Whether the alarm is all that has ended the wait.
    #[inline]
    pub(super) fn is_alarm(&self) -> bool {
        matches!(self.events[..], [event] if event.u64 == ALARM)
    }

    /// Forgets what has come.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    /// In our terms. The alarm is told as the wake-up channel is, which is nobody's either.
    pub(super) fn tell(&self, events: &mut Vec<Event>) {
        events.extend(self.events.iter().map(|event| Event {
            token: Token::from_bits(event.u64),
            ready: readiness(event.events),
        }));
    }
}

/// Whole milliseconds, rounded up: never early, and a short wait is no poll.
fn millis(timeout: Nanos) -> libc::c_int {
    if timeout == NEVER {
        return -1;
    }
    let whole = timeout.saturating_add(NANOS_PER_MILLI - 1) / NANOS_PER_MILLI;
    libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX)
}

#[inline]
fn readiness(events: u32) -> Readiness {
    if events & !ORDINARY == 0 {
        Readiness(events as u8)
    } else if events == LAST {
        Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED
    } else {
        unusual(events)
    }
}

/// The rules of mio's epoll selector.
fn unusual(events: u32) -> Readiness {
    let has = |flags: u32| events & flags == flags;
    Readiness::READABLE.if_so(has(IN) || has(PRI))
        | Readiness::WRITABLE.if_so(has(OUT))
        | Readiness::READ_CLOSED.if_so(has(HUP) || has(IN | RDHUP))
        | Readiness::WRITE_CLOSED.if_so(has(HUP) || has(OUT | ERR) || events == ERR)
        | Readiness::ERROR.if_so(has(ERR))
        | Readiness::URGENT.if_so(has(PRI))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of flags, beside what mio makes of it.
    #[test]
    fn a_flag_means_what_it_means_to_mio() {
        let flags = [IN, PRI, OUT, ERR, HUP, RDHUP];
        for chosen in 0..1_u32 << flags.len() {
            let chosen = |at: &usize| chosen & (1 << at) != 0;
            let events = (0..flags.len())
                .filter(chosen)
                .fold(0, |all, at| all | flags[at]);
            // An event of mio's on this system is the kernel's with another name.
            let raw = libc::epoll_event { events, u64: 7 };
            // SAFETY: `mio::event::Event` is a transparent wrapper around `epoll_event` here.
            let theirs = unsafe { &*(&raw const raw).cast::<mio::event::Event>() };
            let expected = super::super::from_mio(theirs).ready;
            assert_eq!(readiness(events), expected, "{events:#x}");
        }
    }

    /// Read off what the kernel notes of an epoll descriptor (proc_pid_fdinfo(5)).
    #[test]
    fn a_stream_is_registered_as_mio_would_register_it() {
        use mio::unix::SourceFd;
        use std::os::unix::net::UnixStream;

        let poll = mio::Poll::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let token = Token::new(crate::token::Kind::Conn, 7, 3);
        add_stream(&poll, Fd(ours.as_raw_fd()), token).unwrap();
        let registry = poll.registry();
        let number = theirs.as_raw_fd();
        let mut source = SourceFd(&number);
        registry
            .register(
                &mut source,
                super::super::to_mio(token),
                super::super::STREAM,
            )
            .unwrap();
        let notes = format!("/proc/self/fdinfo/{}", poll.as_raw_fd());
        let notes = std::fs::read_to_string(notes).unwrap();
        // `tfd: 9 events: 80002007 data: 300000007 pos:0 ino:1 sdev:8`
        let of = |fd: i32| {
            let words = notes.lines().map(str::split_whitespace).find_map(|words| {
                let words: Vec<&str> = words.collect();
                (words[..2] == ["tfd:", &fd.to_string()]).then_some(words)
            });
            words.unwrap()[2..6].join(" ")
        };
        assert_eq!(of(ours.as_raw_fd()), of(theirs.as_raw_fd()));
        let data = format!("{:x}", token.bits());
        assert!(of(ours.as_raw_fd()).ends_with(&data), "{notes}");

        let again = add_stream(&poll, Fd(ours.as_raw_fd()), token);
        assert_eq!(again, Err(Errno(libc::EEXIST)));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        for (nanos, expected) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(millis(nanos), expected);
        }
        assert_eq!(millis(86_400 * 1_000 * NANOS_PER_MILLI), 86_400_000);
        assert_eq!(millis(NEVER - 1), libc::c_int::MAX);
        assert_eq!(millis(NEVER), -1);
    }
}
