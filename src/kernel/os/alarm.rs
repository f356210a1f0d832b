//! A timer of the system's that stays set while the loop waits again and again.
//!
//! A wait with an end has the system set up a timer of its own and take it down when the wait is
//! over, which is a twentieth of what a request costs where each has a wait to itself. But the
//! end hardly changes from one wait to the next: it is a deadline that lies far ahead. So a timer
//! is set for it once (timerfd_create(2)), and the waits until then have no end of their own.
//!
//! It is set for no later than the end of any wait that relies on it, and may be too early: then
//! the wait goes on with an end of its own.
//!
//! Linux only. Knows the poller, and neither what waits nor why.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::epoll;
use super::{NANOS_PER_SECOND, check};
use crate::kernel::Errno;
use crate::timer::Nanos;

#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it goes off, or did; zero if it was never set.
    due: Nanos,
}

impl Alarm {
    pub(super) fn new(poll: &mio::Poll) -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let timer = unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            )
        };
        check(timer)?;
        // SAFETY: the number is that of a descriptor that was just made, and nobody else has it.
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        epoll::add_alarm(poll, timer.as_raw_fd())?;
        Ok(Self { timer, due: 0 })
    }

    /// Sees to it that it goes off within `wait` from now on. `false`: it cannot be set.
    #[inline]
    pub(super) fn ends(&mut self, now: Nanos, wait: Nanos) -> bool {
        let until = now.saturating_add(wait);
        (now < self.due && self.due <= until) || self.set(until, wait).is_ok()
    }

    #[cold]
    fn set(&mut self, until: Nanos, wait: Nanos) -> Result<(), Errno> {
        self.due = 0;
        let value = libc::timespec {
            tv_sec: (wait / NANOS_PER_SECOND) as libc::time_t,
            tv_nsec: (wait % NANOS_PER_SECOND) as libc::c_long,
        };
        let never_again = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = libc::itimerspec {
            it_interval: never_again,
            it_value: value,
        };
        let timer = self.timer.as_raw_fd();
        // SAFETY: `once` is live and only read; the call may be given no place for the old value.
        check(unsafe { libc::timerfd_settime(timer, 0, &raw const once, std::ptr::null_mut()) })?;
        self.due = until;
        Ok(())
    }
}
