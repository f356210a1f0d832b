//! Waiting where there is a kqueue: by way of mio, whose events are of several kinds there.
//!
//! Knows neither what a token stands for nor who waits.

use std::io;
use std::time::Duration;

use super::from_mio;
use crate::kernel::Event;
use crate::timer::{NEVER, Nanos};

/// What a wait has brought, as mio keeps it.
#[derive(Debug)]
pub(super) struct Arrivals {
    events: mio::Events,
}

impl Arrivals {
    pub(super) fn with_capacity(events: usize) -> Self {
        Self {
            events: mio::Events::with_capacity(events),
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
        let timeout = (timeout != NEVER).then(|| Duration::from_nanos(timeout));
        poll.poll(&mut self.events, timeout)
    }

    /// In our terms.
    pub(super) fn tell(&self, events: &mut Vec<Event>) {
        events.extend(self.events.iter().map(from_mio));
    }
}
