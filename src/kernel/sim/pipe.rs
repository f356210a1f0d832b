//! One direction of a connection: a send buffer, the wire, a receive buffer.
//!
//! Owns the bytes on their way and the FIN behind them. It never knows which end it
//! serves, what time it is, or whom an arrival should wake.

use std::collections::VecDeque;

/// Bytes between a writer and its reader, in order.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Written, not yet in the receive buffer: what a reset destroys.
    sending: VecDeque<u8>,
    /// In the receive buffer: outlives a reset, as on Linux.
    received: VecDeque<u8>,
    pub(super) send_capacity: usize,
    pub(super) receive_capacity: usize,
    /// The writer has sent FIN, and the reader's side has it.
    fin: bool,
    fin_received: bool,
    broken: bool,
    /// How many bytes (a FIN counts as one) were ever put in, have crossed the wire, and
    /// have been moved into the receive buffer.
    sent: u64,
    ripe: u64,
    moved: u64,
}

/// What reached the receive buffer in one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) bytes: usize,
    pub(super) fin: bool,
}

impl Arrival {
    pub(super) fn is_empty(self) -> bool {
        self.bytes == 0 && !self.fin
    }
}

impl Pipe {
    pub(super) fn new(send_capacity: usize, receive_capacity: usize) -> Self {
        Self {
            sending: VecDeque::new(),
            received: VecDeque::new(),
            send_capacity,
            receive_capacity,
            fin: false,
            fin_received: false,
            broken: false,
            sent: 0,
            ripe: 0,
            moved: 0,
        }
    }

    /// How many bytes the writer could put in now.
    pub(super) fn room(&self) -> usize {
        if self.fin || self.broken {
            return 0;
        }
        let capacity = self.send_capacity.saturating_add(self.receive_capacity);
        capacity.saturating_sub(self.sending.len() + self.received.len())
    }

    /// Takes as much of `bytes` as there is room for.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.sending.extend(&bytes[..count]);
        self.sent += count as u64;
        count
    }

    /// Queues FIN behind everything put in so far.
    pub(super) fn finish(&mut self) {
        if !self.fin && !self.broken {
            self.fin = true;
            self.sent += 1;
        }
    }

    pub(super) fn finished(&self) -> bool {
        self.fin
    }

    /// The position of the last thing put in, for [`ripen`](Self::ripen).
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Everything up to this position has crossed the wire.
    pub(super) fn ripen(&mut self, position: u64) {
        self.ripe = self.ripe.max(position);
    }

    /// Whether [`arrive`](Self::arrive) would move anything.
    pub(super) fn has_arrivals(&self) -> bool {
        let fin = self.fin && !self.fin_received && self.sending.is_empty();
        !self.broken && self.ripe > self.moved && (fin || self.window() > 0)
    }

    /// Moves at most `most` bytes that have crossed the wire into the receive buffer, and
    /// the FIN if nothing is left before it.
    pub(super) fn arrive(&mut self, most: usize) -> Arrival {
        if self.broken {
            return Arrival {
                bytes: 0,
                fin: false,
            };
        }
        let crossed = usize::try_from(self.ripe - self.moved).unwrap_or(usize::MAX);
        let bytes = crossed.min(self.sending.len()).min(self.window()).min(most);
        self.received.extend(self.sending.drain(..bytes));
        self.moved += bytes as u64;
        let fin = self.fin && self.sending.is_empty() && self.ripe > self.moved;
        if fin {
            self.fin_received = true;
            self.moved += 1;
        }
        Arrival { bytes, fin }
    }

    /// Unread bytes in the receive buffer.
    pub(super) fn available(&self) -> usize {
        self.received.len()
    }

    /// Bytes that have not reached the receive buffer.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.sending.len()
    }

    pub(super) fn fin_received(&self) -> bool {
        self.fin_received
    }

    /// Reads from the receive buffer.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.received.len());
        for (place, byte) in buffer.iter_mut().zip(self.received.drain(..count)) {
            *place = byte;
        }
        count
    }

    /// Moves the whole receive buffer to the end of `to`.
    pub(super) fn take_all(&mut self, to: &mut Vec<u8>) {
        to.extend(self.received.drain(..));
    }

    /// A reset: what is under way is lost and nothing can be put in again.
    pub(super) fn destroy(&mut self) {
        self.sending.clear();
        self.broken = true;
    }

    fn window(&self) -> usize {
        self.receive_capacity.saturating_sub(self.received.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_fin_come_out_in_order_as_they_ripen() {
        let mut pipe = Pipe::new(4, 4);
        assert_eq!(pipe.put(b"abcdefghij"), 8);
        pipe.finish();
        assert!(
            pipe.arrive(usize::MAX).is_empty(),
            "nothing has crossed the wire"
        );
        pipe.ripen(pipe.sent());
        assert_eq!(
            pipe.arrive(3),
            Arrival {
                bytes: 3,
                fin: false
            }
        );
        assert_eq!(
            pipe.arrive(usize::MAX),
            Arrival {
                bytes: 1,
                fin: false
            },
            "window"
        );
        assert!(!pipe.has_arrivals());
        let mut all = Vec::new();
        pipe.take_all(&mut all);
        assert_eq!(
            pipe.arrive(usize::MAX),
            Arrival {
                bytes: 4,
                fin: true
            }
        );
        pipe.take_all(&mut all);
        assert_eq!(all, b"abcdefgh");
        assert!(pipe.arrive(usize::MAX).is_empty(), "a FIN arrives once");
    }

    #[test]
    fn a_reset_destroys_what_is_under_way_and_keeps_what_arrived() {
        let mut pipe = Pipe::new(8, 2);
        pipe.put(b"abcd");
        pipe.ripen(pipe.sent());
        pipe.arrive(usize::MAX);
        pipe.destroy();
        assert_eq!((pipe.available(), pipe.in_flight(), pipe.room()), (2, 0, 0));
    }
}
