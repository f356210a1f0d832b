//! Edge-triggered reporting, as epoll does it.
//!
//! A change puts a source on the queue of those to report, once however many changes
//! there are; a poll takes it off and reports the state it finds *then*. Nothing is
//! reported twice without a change in between. It knows neither streams nor listeners:
//! the present state is asked of a function.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::{Errno, Event, Fd, Interest, Readiness};
use crate::token::Token;

/// Events that one poll reports at most; the rest stay queued, as with a real buffer.
const DEFAULT_BATCH: usize = 1024;

/// The registered sources and the queue of those that changed.
#[derive(Debug)]
pub(super) struct Poller {
    sources: BTreeMap<Fd, Source>,
    changed: VecDeque<Fd>,
    pub(super) batch: usize,
}

#[derive(Debug)]
struct Source {
    token: Token,
    interest: Interest,
    queued: bool,
    /// Reported with the next event although it does not hold.
    spurious: Readiness,
}

impl Poller {
    pub(super) fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            changed: VecDeque::new(),
            batch: DEFAULT_BATCH,
        }
    }

    /// Registers and queues the present state.
    pub(super) fn add(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        if self.sources.contains_key(&fd) {
            return Err(Errno(libc::EEXIST));
        }
        let spurious = Readiness::default();
        let source = Source {
            token,
            interest,
            queued: false,
            spurious,
        };
        self.sources.insert(fd, source);
        self.mark(fd);
        Ok(())
    }

    /// Reports go by that name from now on.
    pub(super) fn name(&mut self, fd: Fd, token: Token) -> Result<(), Errno> {
        let source = self.sources.get_mut(&fd).ok_or(Errno(libc::ENOENT))?;
        source.token = token;
        Ok(())
    }

    /// Queues the present state once more.
    pub(super) fn rearm(&mut self, fd: Fd, token: Token) -> Result<(), Errno> {
        self.name(fd, token)?;
        self.mark(fd);
        Ok(())
    }

    pub(super) fn remove(&mut self, fd: Fd) {
        self.sources.remove(&fd);
        self.changed.retain(|&queued| queued != fd);
    }

    /// The state of `fd` has changed. Nothing happens if it is not registered.
    pub(super) fn mark(&mut self, fd: Fd) {
        if let Some(source) = self.sources.get_mut(&fd)
            && !source.queued
        {
            source.queued = true;
            self.changed.push_back(fd);
        }
    }

    /// Queues a report that says more than is true.
    pub(super) fn mark_falsely(&mut self, fd: Fd, ready: Readiness) {
        if let Some(source) = self.sources.get_mut(&fd) {
            source.spurious.insert(ready);
            self.mark(fd);
        }
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn registered(&self) -> Vec<Fd> {
        self.sources.keys().copied().collect()
    }

    /// Reports what changed since it was last reported, at most a batch of it.
    pub(super) fn report(&mut self, events: &mut Vec<Event>, state: impl Fn(Fd) -> Readiness) {
        while events.len() < self.batch
            && let Some(fd) = self.changed.pop_front()
        {
            let Some(source) = self.sources.get_mut(&fd) else {
                continue;
            };
            source.queued = false;
            let mut ready = state(fd);
            ready.insert(std::mem::take(&mut source.spurious));
            let ready = masked(ready, source.interest);
            if ready != Readiness::default() {
                events.push(Event {
                    token: source.token,
                    ready,
                });
            }
        }
    }
}

/// Errors and hang-ups are reported whatever was asked for.
fn masked(ready: Readiness, interest: Interest) -> Readiness {
    match interest {
        Interest::Read => Readiness(ready.0 & !Readiness::WRITABLE.0),
        Interest::ReadWrite => ready,
        Interest::Write => Readiness(ready.0 & !Readiness::READABLE.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FD: Fd = Fd(3);

    fn reported(poller: &mut Poller, state: Readiness) -> Vec<Readiness> {
        let mut events = Vec::new();
        poller.report(&mut events, |_| state);
        events.iter().map(|event| event.ready).collect()
    }

    #[test]
    fn a_change_is_reported_once_with_the_state_found_then() {
        let mut poller = Poller::new();
        poller
            .add(FD, Token::from_bits(1), Interest::ReadWrite)
            .unwrap();
        poller.mark(FD);
        assert_eq!(
            reported(&mut poller, Readiness::WRITABLE),
            [Readiness::WRITABLE]
        );
        assert!(reported(&mut poller, Readiness::READABLE).is_empty());
        poller.mark(FD);
        assert!(
            reported(&mut poller, Readiness::default()).is_empty(),
            "nothing left to say"
        );
    }

    #[test]
    fn a_full_batch_leaves_the_rest_for_the_next_poll() {
        let mut poller = Poller::new();
        poller.batch = 1;
        poller.add(FD, Token::from_bits(1), Interest::Read).unwrap();
        poller
            .add(Fd(4), Token::from_bits(2), Interest::Read)
            .unwrap();
        assert_eq!(reported(&mut poller, Readiness::READABLE).len(), 1);
        assert_eq!(reported(&mut poller, Readiness::READABLE).len(), 1);
        assert!(reported(&mut poller, Readiness::READABLE).is_empty());
    }

    #[test]
    fn a_false_report_is_made_once() {
        let mut poller = Poller::new();
        poller.add(FD, Token::from_bits(1), Interest::Read).unwrap();
        assert!(reported(&mut poller, Readiness::default()).is_empty());
        poller.mark_falsely(FD, Readiness::READABLE);
        assert_eq!(
            reported(&mut poller, Readiness::default()),
            [Readiness::READABLE]
        );
        poller.mark(FD);
        assert!(reported(&mut poller, Readiness::default()).is_empty());
    }
}
