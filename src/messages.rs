//! What a connection on a Unix socket has beside its bytes: the bounds of records, and
//! descriptors on their way in and out.
//!
//! The bytes themselves are in `outbound.rs`. Here stands how they are cut: a queue that has
//! segments leaves in one send call per segment or more, and never in one for two.
//!
//! Knows neither sockets nor limits; what it holds of descriptors is closed with it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::unix_path::Owned;

/// Largest number of segment slots that stay when the queue has run empty.
const KEEP_SEGMENTS: usize = 16;

/// What few connections have, kept apart from them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// How the queued output is cut, oldest first. Empty while any cut will do.
    segments: VecDeque<Segment>,
    /// Descriptors that have come and that nobody has taken, oldest first.
    arrived: Vec<OwnedFd>,
    /// How many of those may wait.
    most: usize,
    /// The path that our own end was bound to.
    pub(crate) path: Option<Owned>,
}

/// Queued bytes that leave together, or at least by themselves.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Bytes of it that are still queued.
    pub(crate) len: usize,
    /// To leave with the first of them.
    pub(crate) fds: Vec<OwnedFd>,
}

/// What one segment costs beside its bytes.
pub(crate) const SEGMENT_COST: usize = size_of::<Segment>();

impl Messages {
    // Out.

    /// `len` bytes were queued that must leave by themselves, with `fds`.
    pub(crate) fn push(&mut self, len: usize, fds: Vec<OwnedFd>) {
        self.segments.push_back(Segment { len, fds });
    }

    /// `len` bytes were queued that may leave with what is before them.
    pub(crate) fn extend(&mut self, len: usize) {
        match self.segments.back_mut() {
            Some(last) => last.len += len,
            None => self.push(len, Vec::new()),
        }
    }

    pub(crate) fn front(&self) -> Option<&Segment> {
        self.segments.front()
    }

    /// The kernel took the `n` oldest bytes, of the front segment alone, and its descriptors.
    pub(crate) fn sent(&mut self, n: usize) {
        let Some(front) = self.segments.front_mut() else {
            return;
        };
        front.fds = Vec::new();
        front.len = front.len.saturating_sub(n);
        if front.len == 0 {
            self.segments.pop_front();
        }
        if self.segments.is_empty() && self.segments.capacity() > KEEP_SEGMENTS {
            self.segments = VecDeque::new();
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Memory that the segments take, so that a queue of tiny records is bounded, too.
    pub(crate) fn cost(&self) -> usize {
        self.segments.len() * SEGMENT_COST
    }

    // In.

    /// How many descriptors may wait from now on. Those that wait already stay.
    pub(crate) fn accept(&mut self, most: usize) {
        self.most = most;
    }

    pub(crate) fn takes_fds(&self) -> bool {
        self.most > 0
    }

    /// Where the next receive call may put descriptors.
    pub(crate) fn arrivals(&mut self) -> &mut Vec<OwnedFd> {
        &mut self.arrived
    }

    /// Closes the newest beyond what may wait, and answers how many those were. `before` is
    /// how many waited before the call that brought them.
    pub(crate) fn trim(&mut self, before: usize) -> usize {
        let most = self.most.max(before);
        let dropped = self.arrived.len().saturating_sub(most);
        self.arrived.truncate(most);
        dropped
    }

    /// The oldest that waits.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        (!self.arrived.is_empty()).then(|| self.arrived.remove(0))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.arrived.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn lens(messages: &Messages) -> Vec<(usize, usize)> {
        let segments = messages.segments.iter();
        segments.map(|cut| (cut.len, cut.fds.len())).collect()
    }

    #[test]
    fn descriptors_leave_with_the_first_of_their_bytes() {
        let mut messages = Messages::default();
        messages.extend(5);
        messages.push(3, vec![fd(), fd()]);
        messages.extend(4);
        assert_eq!(lens(&messages), [(5, 0), (7, 2)]);
        messages.sent(5);
        assert_eq!(lens(&messages), [(7, 2)]);
        messages.sent(1);
        assert_eq!(lens(&messages), [(6, 0)]);
        messages.sent(6);
        assert!(!messages.is_cut());
    }

    #[test]
    fn what_comes_beyond_what_may_wait_is_closed_newest_first() {
        let mut messages = Messages::default();
        messages.accept(2);
        messages.arrivals().extend([fd(), fd(), fd()]);
        assert_eq!(messages.trim(0), 1);
        messages.accept(0);
        messages.arrivals().push(fd());
        assert_eq!(messages.trim(2), 1, "those that waited stay");
        assert!(messages.take().is_some() && messages.take().is_some());
        assert!(messages.take().is_none());
    }

    #[test]
    fn a_queue_that_has_run_empty_gives_its_slots_back() {
        let mut messages = Messages::default();
        (0..1000).for_each(|_| messages.push(1, Vec::new()));
        assert_eq!(messages.cost(), 1000 * SEGMENT_COST);
        (0..1000).for_each(|_| messages.sent(1));
        assert_eq!(messages.segments.capacity(), 0);
    }

    #[test]
    fn what_leaves_next_is_the_oldest_segment() {
        let mut messages = Messages::default();
        assert!(messages.front().is_none() && !messages.is_cut());
        messages.sent(1);
        messages.push(3, vec![fd()]);
        messages.push(5, Vec::new());
        let front = |messages: &Messages| messages.front().map(|cut| (cut.len, cut.fds.len()));
        assert_eq!(front(&messages), Some((3, 1)));
        assert!(messages.is_cut());
        messages.sent(3);
        assert_eq!(front(&messages), Some((5, 0)));
    }

    #[test]
    fn a_long_queue_loses_nothing_as_it_leaves_and_a_short_one_keeps_its_slots() {
        let mut messages = Messages::default();
        (0..1000).for_each(|_| messages.push(1, Vec::new()));
        (0..500).for_each(|_| messages.sent(1));
        assert_eq!(messages.cost(), 500 * SEGMENT_COST);
        let mut messages = Messages::default();
        messages.segments.reserve_exact(KEEP_SEGMENTS);
        messages.push(1, Vec::new());
        messages.sent(1);
        assert_eq!(messages.segments.capacity(), KEEP_SEGMENTS);
    }

    #[test]
    fn descriptors_are_taken_in_by_whoever_said_how_many() {
        let mut messages = Messages::default();
        assert!(!messages.takes_fds());
        messages.accept(2);
        assert!(messages.takes_fds());
        messages.arrivals().extend([fd(), fd()]);
        assert_eq!(messages.waiting(), 2);
        messages.take();
        messages.accept(0);
        assert_eq!((messages.waiting(), messages.takes_fds()), (1, false));
    }
}
