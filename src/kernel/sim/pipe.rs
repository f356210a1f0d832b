//! One direction of a connection: a send buffer, the wire, a receive buffer.
//!
//! Owns the bytes on their way and the FIN behind them. It never knows which end it
//! serves, what time it is, or whom an arrival should wake.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::run::{Moved, Run};
use crate::kernel::{Errno, Message};

/// Bytes between a writer and its reader, in order.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Written, not yet in the receive buffer: what a reset destroys.
    sending: Run,
    /// In the receive buffer: outlives a reset, as on Linux.
    received: Run,
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
    /// Bytes that the reader has taken.
    taken: u64,
    passed: Lots,
    /// Those that came with bytes that the reader has taken.
    arrived: Vec<OwnedFd>,
}

/// Descriptors on their way, each lot with the place of its byte, in order.
pub(super) type Lots = VecDeque<(u64, Vec<OwnedFd>)>;

/// What reached the receive buffer in one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) bytes: usize,
    pub(super) records: usize,
    pub(super) fin: bool,
}

impl Arrival {
    const NOTHING: Self = Self {
        bytes: 0,
        records: 0,
        fin: false,
    };

    pub(super) fn is_empty(self) -> bool {
        self == Self::NOTHING
    }
}

impl Pipe {
    pub(super) fn new(send_capacity: usize, receive_capacity: usize) -> Self {
        Self {
            sending: Run::default(),
            received: Run::default(),
            send_capacity,
            receive_capacity,
            fin: false,
            fin_received: false,
            broken: false,
            sent: 0,
            ripe: 0,
            moved: 0,
            taken: 0,
            passed: VecDeque::new(),
            arrived: Vec::new(),
        }
    }

    /// From now on what is put in comes out in the same pieces.
    pub(super) fn keep_bounds(&mut self) {
        self.sending = Run::of_records();
        self.received = Run::of_records();
    }

    pub(super) fn keeps_bounds(&self) -> bool {
        self.received.keeps_bounds()
    }

    /// How many bytes the writer could put in now.
    pub(super) fn room(&self) -> usize {
        if self.fin || self.broken {
            return 0;
        }
        let held = self.sending.len() + self.received.len();
        self.capacity().saturating_sub(held)
    }

    fn capacity(&self) -> usize {
        self.send_capacity.saturating_add(self.receive_capacity)
    }

    /// Takes as much of `bytes` as there is room for.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.sending.push(&bytes[..count]);
        self.sent += count as u64;
        count
    }

    /// Takes a record, all of it or nothing. As on Linux, one that begins in the room there
    /// is fits (sock_alloc_send_pskb), unless it is longer than an empty buffer.
    pub(super) fn put_record(&mut self, record: &[u8]) -> Result<usize, Errno> {
        if record.len() > self.capacity() {
            return Err(Errno(libc::EMSGSIZE));
        }
        if self.room() == 0 {
            return Err(Errno(libc::EAGAIN));
        }
        self.sending.push(record);
        self.sent += record.len() as u64;
        Ok(record.len())
    }

    /// Takes as much of `from` as there is room for.
    pub(super) fn put_from(&mut self, from: &mut Run) -> Moved {
        let moved = match self.room() {
            0 => Moved::default(),
            room => from.move_to(&mut self.sending, room),
        };
        self.sent += moved.bytes as u64;
        moved
    }

    /// Puts everything that `from` has into the receive buffer, room or not.
    pub(super) fn swallow(&mut self, from: &mut Run) {
        self.sending.move_to(&mut self.received, usize::MAX);
        from.move_to(&mut self.received, usize::MAX);
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
        let ripe = self.ripe > self.moved && (fin || self.window() > 0);
        !self.broken && (ripe || self.sending.empty_record_is_next())
    }

    /// Moves at most `most` bytes that have crossed the wire into the receive buffer, and
    /// the FIN if nothing is left before it.
    pub(super) fn arrive(&mut self, most: usize) -> Arrival {
        if self.broken {
            return Arrival::NOTHING;
        }
        let crossed = usize::try_from(self.ripe - self.moved).unwrap_or(usize::MAX);
        let room = crossed.min(self.window()).min(most);
        let Moved { bytes, records } = self.sending.move_to(&mut self.received, room);
        self.moved += bytes as u64;
        let fin = self.fin && self.sending.is_empty() && self.ripe > self.moved;
        if fin {
            self.fin_received = true;
            self.moved += 1;
        }
        Arrival {
            bytes,
            records,
            fin,
        }
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

    /// Whether there is anything to read: an empty record is, too.
    pub(super) fn has_input(&self) -> bool {
        !self.received.is_empty()
    }

    pub(super) fn fin_received(&self) -> bool {
        self.fin_received
    }

    /// Reads from the receive buffer; of a stream, up to where other descriptors come.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Message {
        let most = self.before_the_next_lot().min(buffer.len());
        let before = self.received.len();
        let message = self.received.take(&mut buffer[..most]);
        self.count_taken(before - self.received.len());
        message
    }

    /// Moves at most `most` bytes of the receive buffer to the end of `to`.
    pub(super) fn take_into(&mut self, to: &mut Run, most: usize) -> usize {
        let count = self.received.move_to(to, most).bytes;
        self.count_taken(count);
        count
    }

    // Descriptors.

    /// They travel with the byte that stands at `place`, counted from the first one ever.
    pub(super) fn pass(&mut self, place: u64, fds: Vec<OwnedFd>) {
        self.passed.push_back((place, fds));
    }

    /// The byte that they were to travel with was not taken.
    pub(super) fn take_back(&mut self, place: u64) {
        self.passed.retain(|(known, _)| *known != place);
    }

    /// Those that came with what was taken.
    pub(super) fn take_passed(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.arrived)
    }

    /// Takes all that travel, for the pipe that continues this one byte for byte.
    pub(super) fn take_on_their_way(&mut self) -> Lots {
        std::mem::take(&mut self.passed)
    }

    pub(super) fn pass_on(&mut self, mut from: Lots) {
        self.passed.append(&mut from);
    }

    /// Bytes that one read may take. A record is taken whole.
    fn before_the_next_lot(&self) -> usize {
        let next = self.passed.iter().find(|(place, _)| *place > self.taken);
        match next {
            Some((place, _)) if !self.keeps_bounds() => {
                usize::try_from(place - self.taken).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        }
    }

    fn count_taken(&mut self, count: usize) {
        self.taken += count as u64;
        while let Some((place, _)) = self.passed.front()
            && *place < self.taken
            && let Some((_, fds)) = self.passed.pop_front()
        {
            self.arrived.extend(fds);
        }
    }

    /// What has arrived, for whoever carries it further.
    pub(super) fn received_mut(&mut self) -> &mut Run {
        &mut self.received
    }

    /// Takes everything that is on its way or has arrived.
    pub(super) fn take_rest(&mut self) -> Run {
        let mut rest = std::mem::take(&mut self.received);
        self.sending.move_to(&mut rest, usize::MAX);
        rest
    }

    /// A reset: what is under way is lost and nothing can be put in again.
    pub(super) fn destroy(&mut self) {
        self.sending.clear();
        self.broken = true;
        let arrived = self.taken + self.received.len() as u64;
        self.passed.retain(|(place, _)| *place < arrived);
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
                records: 0,
                fin: false
            }
        );
        assert_eq!(
            pipe.arrive(usize::MAX),
            Arrival {
                bytes: 1,
                records: 0,
                fin: false
            },
            "window"
        );
        assert!(!pipe.has_arrivals());
        let mut all = Run::default();
        pipe.take_into(&mut all, usize::MAX);
        assert_eq!(
            pipe.arrive(usize::MAX),
            Arrival {
                bytes: 4,
                records: 0,
                fin: true
            }
        );
        pipe.take_into(&mut all, usize::MAX);
        assert_eq!(all.take_all(), b"abcdefgh");
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
