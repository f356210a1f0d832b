//! Datagrams waiting to leave: whole, in order, bounded in bytes (pure).
//!
//! Their buffers are used again, so a socket that sends all day allocates nothing once it
//! has had its busiest moment. The room knows neither sockets nor time: whoever queues says
//! when, whoever sends says what was taken.

use std::collections::VecDeque;

use crate::address::Addr;
use crate::kernel::Packet;
use crate::timer::Nanos;

/// What each datagram counts beside its bytes: an entry of the queue and an allocation. It
/// is what bounds a queue of empty datagrams.
const OVERHEAD: usize = 64;

/// Emptied buffers that a queue keeps, in bytes: as many datagrams as one call sends, of a
/// common size. More would hold a burst's memory for ever.
const KEPT_BYTES: usize = 64 * 1024;

/// Datagrams that wait.
#[derive(Debug, Default)]
pub(crate) struct PacketQueue {
    entries: VecDeque<Entry>,
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    /// Bytes and overhead of all entries.
    weight: usize,
}

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    to: Option<Addr>,
    since: Nanos,
}

impl PacketQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the queue counts towards limits: the bytes of its datagrams, and a little for
    /// each.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// What a datagram of that many bytes would add to the weight.
    pub(crate) fn weight_of(bytes: usize) -> usize {
        bytes.saturating_add(OVERHEAD)
    }

    pub(crate) fn push(&mut self, bytes: &[u8], to: Option<Addr>, since: Nanos) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer.extend_from_slice(bytes);
        self.weight += Self::weight_of(bytes.len());
        self.entries.push_back(Entry {
            bytes: buffer,
            to,
            since,
        });
    }

    /// Fills `packets` with the datagrams from `at` on; answers how many there are.
    pub(crate) fn packets<'a>(&'a self, at: usize, packets: &mut [Packet<'a>]) -> usize {
        let waiting = self.entries.range(at.min(self.entries.len())..);
        let mut filled = 0;
        for (place, entry) in packets.iter_mut().zip(waiting) {
            *place = Packet {
                bytes: &entry.bytes,
                to: entry.to.as_ref(),
            };
            filled += 1;
        }
        filled
    }

    /// Where the datagram at that place is to go.
    pub(crate) fn destination(&self, at: usize) -> Option<&Addr> {
        self.entries.get(at)?.to.as_ref()
    }

    /// Since when the oldest one waits.
    pub(crate) fn oldest(&self) -> Option<Nanos> {
        self.entries.front().map(|entry| entry.since)
    }

    /// The first `n` have left.
    pub(crate) fn sent(&mut self, n: usize) {
        for _ in 0..n {
            if let Some(entry) = self.entries.pop_front() {
                self.recycle(entry);
            }
        }
    }

    /// Takes one out: it has left before others, or it never will.
    pub(crate) fn remove(&mut self, at: usize) {
        if let Some(entry) = self.entries.remove(at) {
            self.recycle(entry);
        }
    }

    /// Takes all out; answers how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let lost = self.entries.len();
        *self = Self::default();
        lost
    }

    fn recycle(&mut self, entry: Entry) {
        self.weight -= Self::weight_of(entry.bytes.len());
        let mut buffer = entry.bytes;
        if self.spare_bytes + buffer.capacity() <= KEPT_BYTES {
            buffer.clear();
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(queue: &mut PacketQueue) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !queue.is_empty() {
            all.push(bytes_at(queue, 0));
            queue.sent(1);
        }
        all
    }

    fn bytes_at(queue: &PacketQueue, at: usize) -> Vec<u8> {
        let mut packets = [Packet {
            bytes: &[],
            to: None,
        }; 1];
        assert_eq!(queue.packets(at, &mut packets), 1);
        packets[0].bytes.to_vec()
    }

    #[test]
    fn datagrams_leave_whole_and_in_order() {
        let mut queue = PacketQueue::default();
        for bytes in [&b"one"[..], b"", b"three"] {
            queue.push(bytes, None, 7);
        }
        assert_eq!(queue.oldest(), Some(7));
        let mut packets = [Packet {
            bytes: &[],
            to: None,
        }; 8];
        assert_eq!(queue.packets(0, &mut packets), 3);
        assert_eq!(packets[2].bytes, b"three");
        assert_eq!(drain(&mut queue), [&b"one"[..], b"", b"three"]);
        assert_eq!(queue.weight(), 0);
    }

    #[test]
    fn empty_datagrams_count_as_well() {
        let mut queue = PacketQueue::default();
        for _ in 0..1000 {
            queue.push(b"", None, 0);
        }
        assert_eq!(queue.weight(), 1000 * OVERHEAD);
    }

    #[test]
    fn emptied_buffers_are_used_again_up_to_a_bound() {
        let mut queue = PacketQueue::default();
        queue.push(&[1; 1000], None, 0);
        queue.sent(1);
        assert_eq!(queue.spare.len(), 1);
        queue.push(&[2; 10], None, 0);
        assert!(queue.spare.is_empty() && queue.spare_bytes == 0);
        for _ in 0..200 {
            queue.push(&[3; 1000], None, 0);
        }
        queue.sent(201);
        assert!(queue.spare_bytes <= KEPT_BYTES && queue.spare.len() > 10);
    }

    proptest! {
        #[test]
        fn a_queue_is_what_a_plain_list_is(
            steps in prop::collection::vec((0u8..4, 0usize..5, 0usize..300), 0..200)
        ) {
            let mut queue = PacketQueue::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (step, (what, n, size)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        let bytes = vec![step as u8; size];
                        queue.push(&bytes, None, step as Nanos);
                        model.push(bytes);
                    }
                    2 => {
                        queue.sent(n);
                        model.drain(..n.min(model.len()));
                    }
                    _ => {
                        queue.remove(n);
                        if n < model.len() {
                            model.remove(n);
                        }
                    }
                }
                let weight: usize = model.iter().map(|it| PacketQueue::weight_of(it.len())).sum();
                prop_assert_eq!(queue.weight(), weight);
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert_eq!(drain(&mut queue), model);
        }
    }

    #[test]
    fn a_queue_knows_whither_each_datagram_goes_and_how_many_are_thrown_away() {
        let mut queue = PacketQueue::default();
        let to = Addr::Ip(([10, 0, 0, 9], 53).into());
        queue.push(b"one", None, 0);
        queue.push(b"two", Some(to.clone()), 0);
        queue.push(b"three", None, 0);
        assert_eq!(queue.destination(0), None);
        assert_eq!(queue.destination(1), Some(&to));
        assert_eq!(queue.destination(3), None);
        assert_eq!(queue.clear(), 3);
        assert_eq!((queue.clear(), queue.weight(), queue.len()), (0, 0, 0));
    }
}
