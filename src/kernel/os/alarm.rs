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
    /// Where the loop counts from, by the system's count.
    began: Nanos,
    /// When it goes off, or did; zero if it was never set.
    due: Nanos,
}

impl Alarm {
    pub(super) fn new(poll: &mio::Poll, began: Nanos) -> io::Result<Self> {
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
        Ok(Self {
            timer,
            began,
            due: 0,
        })
    }

    /// Sees to it that it goes off within `wait` from now on. `false`: it cannot be set.
    #[inline]
    pub(super) fn ends(&mut self, now: Nanos, wait: Nanos) -> bool {
        let until = now.saturating_add(wait);
        (now < self.due && self.due <= until) || self.set(until).is_ok()
    }

    /// For a moment, and not for a while from now on: whatever time was read, it is a little old.
    #[cold]
    fn set(&mut self, until: Nanos) -> Result<(), Errno> {
        self.due = 0;
        let at = self.began.saturating_add(until);
        let value = libc::timespec {
            tv_sec: (at / NANOS_PER_SECOND) as libc::time_t,
            tv_nsec: (at % NANOS_PER_SECOND) as libc::c_long,
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
        let (how, before) = (libc::TFD_TIMER_ABSTIME, std::ptr::null_mut());
        // SAFETY: `once` is live and only read; the call may be given no place for the old value.
        check(unsafe { libc::timerfd_settime(timer, how, &raw const once, before) })?;
        self.due = until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Nanos = 60 * NANOS_PER_SECOND;

    fn alarm() -> (mio::Poll, Alarm) {
        let poll = mio::Poll::new().unwrap();
        let began = super::super::monotonic(std::time::Instant::now());
        let alarm = Alarm::new(&poll, began).unwrap();
        (poll, alarm)
    }

    /// How long it is still to go, as the system has it.
    fn left(alarm: &Alarm) -> Nanos {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut set = libc::itimerspec {
            it_interval: zero,
            it_value: zero,
        };
        // SAFETY: `set` is live, and the call only writes it.
        check(unsafe { libc::timerfd_gettime(alarm.timer.as_raw_fd(), &raw mut set) }).unwrap();
        set.it_value.tv_sec as Nanos * NANOS_PER_SECOND + set.it_value.tv_nsec as Nanos
    }

    #[test]
    fn it_is_set_once_for_all_waits_that_end_no_sooner() {
        let (_poll, mut alarm) = alarm();
        assert_eq!(left(&alarm), 0);
        assert!(alarm.ends(5, MINUTE));
        assert_eq!(alarm.due, MINUTE + 5);
        let first = left(&alarm);
        assert!(first > 0 && first <= MINUTE);
        for now in [6, 7, MINUTE / 2, MINUTE] {
            assert!(alarm.ends(now, MINUTE));
            assert_eq!(alarm.due, MINUTE + 5);
        }
        assert!(left(&alarm) < first, "it was set again");
    }

    #[test]
    fn it_is_set_anew_for_a_wait_that_ends_sooner_and_when_it_has_gone_off() {
        let (_poll, mut alarm) = alarm();
        assert!(alarm.ends(5, MINUTE));
        assert!(alarm.ends(6, MINUTE / 2));
        assert_eq!(alarm.due, MINUTE / 2 + 6);
        assert!(left(&alarm) <= MINUTE / 2);
        let passed = alarm.due;
        assert!(alarm.ends(passed, MINUTE));
        assert_eq!(alarm.due, passed + MINUTE);
        assert!(left(&alarm) > MINUTE / 2);
    }

    #[test]
    fn it_is_set_for_a_moment_however_old_the_time_is_that_was_read() {
        let poll = mio::Poll::new().unwrap();
        let age = MINUTE / 6;
        let now = super::super::monotonic(std::time::Instant::now());
        let mut alarm = Alarm::new(&poll, now - age.min(now)).unwrap();
        assert!(alarm.ends(0, MINUTE));
        assert!(left(&alarm) <= MINUTE - age.min(now));
    }

    #[test]
    fn a_wait_that_no_timer_takes_has_to_end_by_itself() {
        let (_poll, mut alarm) = alarm();
        assert!(alarm.ends(5, MINUTE));
        alarm.timer = std::fs::File::open("/dev/null").unwrap().into();
        assert!(alarm.ends(6, MINUTE), "it is set");
        assert!(!alarm.ends(7, MINUTE / 2));
        assert!(!alarm.ends(8, MINUTE), "it is not known to be set any more");
    }
}
