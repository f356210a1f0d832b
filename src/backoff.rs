//! Waits that grow between tries. Pure: randomness is an argument, and nobody waits here.

use std::time::Duration;

use crate::config;

/// Waits that grow: each is twice the one before, up to a cap, and shortened at random by
/// up to a half, so that clients that were cut off together do not come back together.
///
/// ```
/// use std::time::Duration;
/// use windlass::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
/// assert!(backoff.next(7) <= Duration::from_millis(100));
/// assert!(backoff.next(7) >= Duration::from_millis(100)); // of 200
/// assert!(backoff.next(7) <= Duration::from_millis(300)); // of the cap
/// backoff.reset();
/// assert!(backoff.next(7) <= Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `first` (at least 1 ms) to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        Self {
            first,
            most: most.max(first),
            next: first,
        }
    }

    /// The next wait: between a half and the whole of what is due. `random` decides, as
    /// from [`Context::random`](crate::Context::random).
    pub fn next(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.most);
        let half = whole / 2;
        let share = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
        half + half.mul_f64(share)
    }

    /// The most that the next wait can be.
    pub(crate) fn due(&self) -> Duration {
        self.next
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// From a tenth of a second to half a minute.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(config::RECONNECT_FIRST, config::RECONNECT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u64 = 0;
    const HALF: u64 = 1 << 63;
    const ALL: u64 = u64::MAX;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn each_wait_is_up_to_twice_the_one_before_until_the_cap() {
        let mut backoff = Backoff::new(ms(100), ms(300));
        let mut waits = Vec::new();
        for _ in 0..4 {
            let due = backoff.due();
            waits.push((due, backoff.next(ALL)));
        }
        let most = [ms(100), ms(200), ms(300), ms(300)];
        assert_eq!(waits, most.map(|wait| (wait, wait)));
    }

    #[test]
    fn chance_shortens_a_wait_by_up_to_a_half() {
        let wait = |random| Backoff::new(ms(100), ms(300)).next(random);
        assert_eq!((wait(NONE), wait(ALL)), (ms(50), ms(100)));
        assert_eq!(wait(HALF).as_micros(), 75_000);
    }

    #[test]
    fn the_first_wait_is_a_millisecond_at_least_and_the_cap_no_less() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((backoff.next(ALL), backoff.next(ALL)), (ms(1), ms(1)));
    }

    #[test]
    fn after_a_reset_the_waits_begin_anew() {
        let mut backoff = Backoff::new(ms(100), ms(300));
        backoff.next(NONE);
        backoff.next(NONE);
        backoff.reset();
        assert_eq!(backoff.next(ALL), ms(100));
    }
}
