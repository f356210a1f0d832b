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
