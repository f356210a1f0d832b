//! What few connections have, and only while they have it: the cold half of a connection.
//!
//! A connection that reads, answers and waits needs none of this, and so an idle one costs a
//! cache line and a half. The boxes are recycled by the loop: bytes that are left over, or a
//! peer that is slow, make nobody allocate in the steady state.
//!
//! This room knows no socket and no rule; it is [`Connection`](crate::connection::Connection)
//! that reads and writes the fields.

use crate::address::Addr;
use crate::config::{self, Limits};
use crate::connection::Layered;
use crate::error::CloseReason;
use crate::input::Leftover;
use crate::messages::Messages;
use crate::timer::{NEVER, Nanos};
use crate::token::TimerId;

/// The fields of a connection that are rarely in use.
pub(crate) struct Cold {
    /// Input that the handler has not consumed; `None` while there is none.
    pub(crate) leftover: Option<Leftover>,
    /// When output began to wait without progress; `NEVER` while nothing waits.
    pub(crate) stalled_at: Nanos,
    pub(crate) read_deadline: Nanos,
    pub(crate) write_deadline: Nanos,
    /// When a close that has to wait is cut short.
    pub(crate) lingers_until: Nanos,
    /// An idle limit of its own.
    pub(crate) idle: Option<Nanos>,
    /// Limits of its own.
    pub(crate) limits: Option<Limits>,
    pub(crate) timers: Vec<TimerId>,
    pub(crate) messages: Option<Box<Messages>>,
    /// Who is at the other end, if that takes more than an IP address and a port.
    pub(crate) peer: Option<Addr>,
    /// Why `close` was called, if for another reason than the usual ones.
    pub(crate) reason: Option<CloseReason>,
    /// Bytes thrown away after `close`; counts up to 4 GiB, the drain limit is far below.
    pub(crate) discarded: u32,
    /// What stands between the wire and the handler.
    pub(crate) layered: Option<Box<Layered>>,
}

impl Default for Cold {
    fn default() -> Self {
        Self {
            leftover: None,
            stalled_at: NEVER,
            read_deadline: NEVER,
            write_deadline: NEVER,
            lingers_until: NEVER,
            idle: None,
            limits: None,
            timers: Vec::new(),
            messages: None,
            peer: None,
            reason: None,
            discarded: 0,
            layered: None,
        }
    }
}

impl Cold {
    /// What is in use does not stand between the bytes of a read and the handler.
    #[inline]
    pub(crate) fn lets_be_plain(&self) -> bool {
        self.leftover.is_none() && self.layered.is_none()
    }

    /// When a handshake ends that takes too long; `NEVER` if there is none.
    pub(crate) fn handshake_until(&self) -> Nanos {
        self.layered
            .as_ref()
            .map_or(NEVER, |layered| layered.handshake_until())
    }

    /// Nothing is in use any more, so that another connection can have the box.
    pub(crate) fn is_blank(&self) -> bool {
        self.leftover.is_none()
            && self.layered.is_none()
            && self.stalled_at == NEVER
            && self.read_deadline == NEVER
            && self.write_deadline == NEVER
            && self.lingers_until == NEVER
            && self.idle.is_none()
            && self.limits.is_none()
            && self.timers.is_empty()
            && self.messages.is_none()
            && self.peer.is_none()
            && self.reason.is_none()
            && self.discarded == 0
    }
}

/// Boxes that nobody uses.
#[derive(Default)]
pub(crate) struct Spares {
    #[expect(clippy::vec_box, reason = "the box itself is what is recycled")]
    boxes: Vec<Box<Cold>>,
}

impl Spares {
    pub(crate) fn take(&mut self) -> Box<Cold> {
        self.boxes.pop().unwrap_or_default()
    }

    /// Takes a box back, and drops what is in it.
    pub(crate) fn give(&mut self, mut cold: Box<Cold>) {
        if self.boxes.len() >= config::COLD_BOXES {
            return;
        }
        // What a million timers took is not kept for somebody who may have none.
        if !cold.is_blank() || cold.timers.capacity() > config::COLD_TIMERS {
            *cold = Cold::default();
        }
        self.boxes.push(cold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_comes_back_blank() {
        let mut spares = Spares::default();
        let mut cold = spares.take();
        assert!(cold.is_blank());
        cold.idle = Some(1);
        cold.discarded = 7;
        assert!(!cold.is_blank());
        spares.give(cold);
        assert!(spares.take().is_blank());
    }

    #[test]
    fn a_box_does_not_keep_the_room_of_many_timers() {
        let mut spares = Spares::default();
        let mut cold = spares.take();
        cold.timers.reserve(1_000_000);
        assert!(cold.is_blank());
        spares.give(cold);
        assert!(spares.take().timers.capacity() <= config::COLD_TIMERS);
    }

    #[test]
    fn a_bounded_number_of_boxes_waits() {
        let mut spares = Spares::default();
        (0..2 * config::COLD_BOXES).for_each(|_| spares.give(Box::default()));
        assert_eq!(spares.boxes.len(), config::COLD_BOXES);
    }
}
