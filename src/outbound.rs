//! Bytes waiting to leave one connection, and the loop's store of buffers for them.
//!
//! Small writes gather into one buffer, large ones get a buffer of their own, shared ones
//! are referred to. The bytes leave in the order in which they were pushed.
//!
//! This room never knows a socket, a clock or a configuration: its caller hands the bytes
//! to the kernel, says how many were taken, and acts on the [`Level`].

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

const FIRST_BUFFER_BITS: u32 = 8;
const GATHER_BITS: u32 = 16;

/// Smallest buffer: what one small message costs a connection that cannot send it at once.
pub(crate) const FIRST_BUFFER: usize = 1 << FIRST_BUFFER_BITS;

/// Small writes gather into one buffer up to this size; a larger write gets its own.
pub(crate) const GATHER_MAX: usize = 1 << GATHER_BITS;

/// A shared rest shorter than this is copied: naming it would cost about as much memory as
/// it holds, a slot in the vectored call, and a hold on all of the bytes it is the end of.
pub(crate) const SHARE_MIN: usize = 256;

/// Largest gather buffer that stays with an [`Outbound`] when it is recycled.
const KEEP_GATHER: usize = 16 * 1024;

/// Largest number of part slots that stay with an [`Outbound`] when it is recycled.
const KEEP_PARTS: usize = 16;

/// Buffers are recycled in powers of two from [`FIRST_BUFFER`] to [`GATHER_MAX`].
const CLASSES: usize = (GATHER_BITS - FIRST_BUFFER_BITS + 1) as usize;

/// The queue of one connection's output.
///
/// It is boxed and recycled by a [`Pool`]; a connection with nothing to send holds none.
/// Beside the bytes it keeps about 40 bytes for each part; as small pieces are gathered,
/// that is little beside the bytes themselves.
#[derive(Default)]
pub(crate) struct Outbound {
    /// Parts to which nothing is appended any more, oldest first; none is empty.
    sealed: VecDeque<Part>,
    /// The newest bytes, open for further small writes. It may be empty and still own a
    /// buffer: that is what makes the next echo free of allocation.
    tail: Vec<u8>,
    /// Bytes of `tail` that the kernel has taken. Zero while anything sealed is left, and
    /// always less than the length of a tail that is not empty.
    tail_start: usize,
    queued: usize,
    /// Sum of [`Part::held`], so that [`Outbound::held`] need not walk the parts.
    sealed_held: usize,
    /// How many of the oldest parts `settle` has seen, so that it looks at each only once.
    settled: usize,
}

impl Outbound {
    /// Bytes that the kernel has not taken yet. Shared bytes count fully, however many
    /// connections share them.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Memory held: capacities of owned buffers and whole lengths of shared ones.
    #[cfg_attr(
        not(any(test, fuzzing)),
        expect(dead_code, reason = "the tests look inside")
    )]
    pub(crate) fn held(&self) -> usize {
        self.sealed_held + self.tail.capacity()
    }

    /// Queues a copy of `bytes`.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.len() <= self.tail.capacity() - self.tail.len() {
            self.tail.extend_from_slice(bytes);
        } else if bytes.len() <= GATHER_MAX {
            self.make_room(bytes.len(), pool);
            self.tail.extend_from_slice(bytes);
        } else {
            self.push_alone(bytes, pool);
        }
        self.queued += bytes.len();
    }

    /// Queues `bytes[from..]` without copying them, unless they are very few. `from` is what
    /// the kernel took already when the caller tried to write straight through.
    pub(crate) fn push_shared(&mut self, bytes: Arc<[u8]>, from: usize) {
        let rest = bytes.get(from..).unwrap_or_default();
        let len = rest.len();
        if len < SHARE_MIN && self.tail.len() + len <= GATHER_MAX {
            if len > self.tail.capacity() - self.tail.len() {
                self.tail.reserve(FIRST_BUFFER);
            }
            self.tail.extend_from_slice(rest);
        } else {
            self.seal();
            self.push_sealed(Part::Shared { bytes, start: from });
        }
        self.queued += len;
    }

    /// How many slices [`Outbound::parts`] would fill, given room.
    pub(crate) fn part_count(&self) -> usize {
        self.sealed.len() + usize::from(!self.tail.is_empty())
    }

    /// The oldest part; empty when nothing is queued. All there is when
    /// [`Outbound::part_count`] is one, and then a plain send does instead of a vectored one.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        match self.sealed.front() {
            Some(part) => part.bytes(),
            None => self.tail_bytes(),
        }
    }

    /// Fills `out` from the front of the queue and answers how many slices were filled.
    pub(crate) fn parts<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(self.tail_bytes()).filter(|bytes| !bytes.is_empty());
        let queue = self.sealed.iter().map(Part::bytes).chain(tail);
        let mut filled = 0;
        for (slot, bytes) in out.iter_mut().zip(queue) {
            *slot = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// The kernel took the `n` oldest bytes; `n` is at most [`Outbound::queued`].
    #[inline]
    pub(crate) fn consume(&mut self, n: usize, pool: &mut Pool) {
        debug_assert!(n <= self.queued, "the kernel took more than it was given");
        let n = n.min(self.queued);
        self.queued -= n;
        let from_tail = if self.sealed.is_empty() {
            n
        } else {
            self.consume_sealed(n, pool)
        };
        self.tail_start += from_tail;
        if self.tail_start == self.tail.len() {
            self.tail.clear();
            self.tail_start = 0;
        }
    }

    /// Gives up memory that the queue does not need, for a peer that may not read for long.
    ///
    /// To be called after a flush that could not send everything. Afterwards [`Outbound::held`]
    /// is at most twice [`Outbound::queued`] plus [`FIRST_BUFFER`], not counting shared bytes
    /// that somebody else holds as well. Each part is looked at once, the oldest and the
    /// newest each time, so the cost does not grow with the queue.
    pub(crate) fn settle(&mut self, pool: &mut Pool) {
        self.settle_sealed(0, pool);
        for index in self.settled.max(1)..self.sealed.len() {
            self.settle_sealed(index, pool);
        }
        self.settled = self.sealed.len();
        self.settle_tail(pool);
        let slots = self.sealed.capacity();
        if slots > KEEP_PARTS && slots / 4 > self.sealed.len() {
            self.sealed.shrink_to(self.sealed.len() * 2);
        }
    }

    /// Drops everything and answers how many bytes that were.
    pub(crate) fn clear(&mut self, pool: &mut Pool) -> usize {
        let dropped = self.queued;
        self.consume(dropped, pool);
        self.trim(pool);
        dropped
    }

    fn tail_bytes(&self) -> &[u8] {
        &self.tail[self.tail_start..]
    }

    /// Makes `tail` take `len` more bytes, at most [`GATHER_MAX`], that it has no room for.
    fn make_room(&mut self, len: usize, pool: &mut Pool) {
        let live = self.tail.len() - self.tail_start;
        let capacity = self.tail.capacity();
        if live <= self.tail_start && live + len <= capacity {
            // Each byte moved is paid for by one that has left.
            self.tail.drain(..self.tail_start);
            self.tail_start = 0;
        } else if live + len <= GATHER_MAX && capacity < GATHER_MAX {
            // At least doubles, so each byte is moved a bounded number of times.
            self.replace_tail((live + len).max(capacity + 1), pool);
        } else {
            self.seal();
            self.tail = pool.buffer(len);
        }
    }

    /// Moves the unsent bytes of `tail` into another buffer with room for `at_least` bytes.
    fn replace_tail(&mut self, at_least: usize, pool: &mut Pool) {
        let mut buffer = pool.buffer(at_least);
        buffer.extend_from_slice(self.tail_bytes());
        self.tail_start = 0;
        pool.put_buffer(mem::replace(&mut self.tail, buffer));
    }

    fn push_alone(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.seal();
        let mut buffer = pool.buffer(bytes.len());
        buffer.extend_from_slice(bytes);
        self.push_sealed(Part::Owned { buffer, start: 0 });
    }

    /// Closes the gather buffer to further writes, because something must follow it.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let buffer = mem::take(&mut self.tail);
            let start = mem::take(&mut self.tail_start);
            self.push_sealed(Part::Owned { buffer, start });
        }
    }

    fn push_sealed(&mut self, part: Part) {
        self.sealed_held += part.held();
        self.sealed.push_back(part);
    }

    /// Takes up to `n` bytes from the sealed parts and answers how many are left to take.
    fn consume_sealed(&mut self, mut n: usize, pool: &mut Pool) -> usize {
        while let Some(part) = self.sealed.front_mut() {
            let len = part.bytes().len();
            if n < len {
                part.advance(n);
                return 0;
            }
            n -= len;
            self.drop_front(pool);
        }
        n
    }

    fn drop_front(&mut self, pool: &mut Pool) {
        let Some(part) = self.sealed.pop_front() else {
            return;
        };
        self.sealed_held -= part.held();
        self.settled = self.settled.saturating_sub(1);
        if let Part::Owned { buffer, .. } = part {
            pool.put_buffer(buffer);
        }
    }

    fn settle_sealed(&mut self, index: usize, pool: &mut Pool) {
        let Some(part) = self.sealed.get_mut(index) else {
            return;
        };
        if !part.wastes() {
            return;
        }
        let buffer = right_sized(part.bytes(), pool);
        self.sealed_held = self.sealed_held - part.held() + buffer.capacity();
        let old = mem::replace(part, Part::Owned { buffer, start: 0 });
        if let Part::Owned { buffer, .. } = old {
            pool.put_buffer(buffer);
        }
    }

    fn settle_tail(&mut self, pool: &mut Pool) {
        let live = self.tail.len() - self.tail_start;
        if self.tail.capacity() <= FIRST_BUFFER || !wasteful(self.tail.capacity(), live) {
            return;
        }
        if live == 0 {
            pool.put_buffer(mem::take(&mut self.tail));
        } else {
            self.replace_tail(live, pool);
        }
    }

    /// Brings an empty queue within the bounds of what is kept for reuse.
    fn trim(&mut self, pool: &mut Pool) {
        debug_assert!(self.is_empty());
        if self.tail.capacity() > KEEP_GATHER {
            pool.put_buffer(mem::take(&mut self.tail));
        }
        if self.sealed.capacity() > KEEP_PARTS {
            self.sealed = VecDeque::new();
        }
    }

    /// What an empty queue costs while it waits in the pool.
    fn footprint(&self) -> usize {
        size_of::<Self>() + self.tail.capacity() + self.sealed.capacity() * size_of::<Part>()
    }
}

enum Part {
    Owned { buffer: Vec<u8>, start: usize },
    Shared { bytes: Arc<[u8]>, start: usize },
}

impl Part {
    /// What has not been sent; never empty.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned { buffer, start } => &buffer[*start..],
            Self::Shared { bytes, start } => &bytes[*start..],
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Owned { start, .. } | Self::Shared { start, .. } => *start += n,
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Owned { buffer, .. } => buffer.capacity(),
            Self::Shared { bytes, .. } => bytes.len(),
        }
    }

    /// Whether a copy of the unsent bytes would free more memory than it takes. Bytes that
    /// somebody else holds too would not be freed.
    fn wastes(&self) -> bool {
        let freed = match self {
            Self::Owned { .. } => true,
            Self::Shared { bytes, .. } => Arc::strong_count(bytes) == 1,
        };
        freed && wasteful(self.held(), self.bytes().len())
    }
}

/// Whether more than half of `capacity` is not in use.
pub(crate) fn wasteful(capacity: usize, used: usize) -> bool {
    capacity / 2 > used
}

/// A copy of `bytes` that is not [`wasteful`], however few they are: there can be many parts.
fn right_sized(bytes: &[u8], pool: &mut Pool) -> Vec<u8> {
    if bytes.len() < FIRST_BUFFER {
        return bytes.to_vec();
    }
    let mut buffer = pool.buffer(bytes.len());
    buffer.extend_from_slice(bytes);
    buffer
}

/// The loop's store of empty queues and empty buffers, so that the steady state allocates
/// nothing.
///
/// Half of its bound is for queues and half for buffers. When the buffers' half is full, a
/// buffer that comes back displaces one from the size that takes most of it: after a burst
/// of one size the loop can recycle another.
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "the box itself is what is recycled")]
    outbounds: Vec<Box<Outbound>>,
    outbounds_kept: usize,
    /// By capacity: `FIRST_BUFFER << index`, exactly.
    buffers: [Vec<Vec<u8>>; CLASSES],
    buffers_kept: usize,
    half: usize,
}

impl Pool {
    /// A store that keeps at most `max_bytes` for reuse; what would exceed that is freed.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            outbounds: Vec::new(),
            outbounds_kept: 0,
            buffers: Default::default(),
            buffers_kept: 0,
            half: max_bytes / 2,
        }
    }

    /// Bytes kept for reuse at this moment.
    #[cfg_attr(
        not(any(test, fuzzing)),
        expect(dead_code, reason = "the tests look inside")
    )]
    pub(crate) fn kept(&self) -> usize {
        self.outbounds_kept + self.buffers_kept
    }

    /// An empty queue, recycled or new.
    #[inline]
    pub(crate) fn outbound(&mut self) -> Box<Outbound> {
        match self.outbounds.pop() {
            Some(outbound) => {
                self.outbounds_kept -= outbound.footprint();
                outbound
            }
            None => Box::default(),
        }
    }

    /// Takes a queue back. What is still in it is dropped.
    #[inline]
    pub(crate) fn put_outbound(&mut self, mut outbound: Box<Outbound>) {
        outbound.clear(self);
        let footprint = outbound.footprint();
        if self.outbounds_kept + footprint <= self.half {
            self.outbounds_kept += footprint;
            self.outbounds.push(outbound);
        }
    }

    /// An empty buffer with room for `at_least` bytes: the next power of two up to
    /// [`GATHER_MAX`] and not less than [`FIRST_BUFFER`]; above that, exactly as asked.
    pub(crate) fn buffer(&mut self, at_least: usize) -> Vec<u8> {
        if at_least > GATHER_MAX {
            return Vec::with_capacity(at_least);
        }
        let capacity = at_least.next_power_of_two().max(FIRST_BUFFER);
        let recycled = class(capacity).and_then(|class| self.buffers[class].pop());
        match recycled {
            Some(buffer) => {
                self.buffers_kept -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(capacity),
        }
    }

    /// Takes a buffer back; what is in it is dropped. One of a size that
    /// [`Pool::buffer`] would not choose is freed: recycled, it could be mostly waste.
    pub(crate) fn put_buffer(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let Some(class) = class(capacity).filter(|_| capacity <= self.half) else {
            return;
        };
        while self.buffers_kept + capacity > self.half && self.displace() {}
        buffer.clear();
        self.buffers_kept += capacity;
        self.buffers[class].push(buffer);
    }

    /// Frees one buffer of the size that takes most memory; false if there is none.
    fn displace(&mut self) -> bool {
        let sizes = self.buffers.iter_mut().enumerate();
        let fullest = sizes.max_by_key(|(class, buffers)| buffers.len() << class);
        let Some(freed) = fullest.and_then(|(_, buffers)| buffers.pop()) else {
            return false;
        };
        self.buffers_kept -= freed.capacity();
        true
    }
}

/// Where buffers of this capacity are kept; `None` if they are not.
fn class(capacity: usize) -> Option<usize> {
    let kept = capacity.is_power_of_two() && (FIRST_BUFFER..=GATHER_MAX).contains(&capacity);
    kept.then(|| (capacity.ilog2() - FIRST_BUFFER_BITS) as usize)
}

/// Where queued output changes what the connection does, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Watermarks {
    /// Down to here and the connection, if it was held back, moves again.
    pub(crate) low: usize,
    /// Above this, writes answer full and reading from the peer pauses.
    pub(crate) high: usize,
    /// Above this the connection is aborted.
    pub(crate) limit: usize,
}

/// How much output is queued, in the terms that decisions are made in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// At most `low`.
    Below,
    /// Above `low`, at most `high`: nothing changes here, in either direction.
    Between,
    /// Above `high`.
    Above,
    /// Above `limit`.
    Over,
}

impl Watermarks {
    /// The severest level that `queued` bytes reach, whatever the order of the marks.
    pub(crate) fn level(&self, queued: usize) -> Level {
        if queued > self.limit {
            Level::Over
        } else if queued > self.high {
            Level::Above
        } else if queued > self.low {
            Level::Between
        } else {
            Level::Below
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POOL_BYTES: usize = 1 << 20;
    /// An interpreter takes a thousand times as long.
    const CASES: u32 = if cfg!(miri) { 4 } else { 100 };

    /// Bytes that differ from their neighbours at every distance that a bug would shift by.
    fn stream(from: usize, len: usize) -> Vec<u8> {
        let byte = |at: usize| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (from..from + len).map(byte).collect()
    }

    fn contents(outbound: &Outbound) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); outbound.part_count() + 1];
        let count = outbound.parts(&mut slices);
        assert_eq!(count, outbound.part_count());
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    /// Pushes the bytes of [`stream`] and checks that what leaves is the same stream.
    struct Checked {
        outbound: Outbound,
        pool: Pool,
        pushed: usize,
        taken: usize,
    }

    impl Checked {
        fn new() -> Self {
            let pool = Pool::new(POOL_BYTES);
            Self {
                outbound: Outbound::default(),
                pool,
                pushed: 0,
                taken: 0,
            }
        }

        fn push(&mut self, len: usize) {
            self.outbound
                .push(&stream(self.pushed, len), &mut self.pool);
            self.pushed += len;
        }

        /// Shares `sent + len` bytes of which `sent` have left already.
        fn push_shared(&mut self, sent: usize, len: usize) {
            let mut bytes = vec![0xAA; sent];
            bytes.extend(stream(self.pushed, len));
            self.outbound.push_shared(bytes.into(), sent);
            self.pushed += len;
        }

        fn consume(&mut self, at_most: usize) {
            let n = at_most.min(self.outbound.queued());
            self.outbound.consume(n, &mut self.pool);
            self.taken += n;
        }

        fn settle(&mut self) {
            self.outbound.settle(&mut self.pool);
            let bound = 2 * self.outbound.queued() + FIRST_BUFFER;
            assert!(
                self.outbound.held() <= bound,
                "{} > {bound}",
                self.outbound.held()
            );
        }

        fn check(&self) {
            let expected = stream(self.taken, self.pushed - self.taken);
            assert_eq!(self.outbound.queued(), expected.len());
            assert_eq!(self.outbound.is_empty(), expected.is_empty());
            assert!(
                contents(&self.outbound) == expected,
                "the stream is not what was pushed"
            );
            self.check_front(&expected);
            self.check_bookkeeping();
        }

        /// Looks through a window of a few slices, as a flush does.
        fn check_front(&self, expected: &[u8]) {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = self.outbound.parts(&mut slices);
            assert_eq!(count, self.outbound.part_count().min(slices.len()));
            let seen: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            assert!(expected.starts_with(&seen));
            assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
            let first = slices[..count].first().map_or(&[][..], |slice| slice);
            assert_eq!(self.outbound.front(), first);
        }

        fn check_bookkeeping(&self) {
            let sealed: usize = self.outbound.sealed.iter().map(Part::held).sum();
            assert_eq!(self.outbound.held(), sealed + self.outbound.tail.capacity());
            assert!(self.outbound.settled <= self.outbound.sealed.len());
            assert!(self.outbound.tail.capacity() <= GATHER_MAX);
            assert!(self.pool.kept() <= POOL_BYTES);
            let buffers = self.pool.buffers.iter().flatten().map(Vec::capacity).sum();
            assert_eq!(self.pool.buffers_kept, buffers);
        }
    }

    #[test]
    fn small_writes_leave_as_one_part() {
        let mut checked = Checked::new();
        for len in [1, 64, 1000, 64, 0, 7] {
            checked.push(len);
        }
        assert_eq!(checked.outbound.part_count(), 1);
        checked.check();
    }

    #[test]
    fn a_gather_buffer_stops_at_its_maximum() {
        let mut checked = Checked::new();
        for _ in 0..3 * GATHER_MAX / 1024 {
            checked.push(1024);
        }
        assert_eq!(checked.outbound.part_count(), 3);
        assert_eq!(checked.outbound.front().len(), GATHER_MAX);
        checked.check();
    }

    #[test]
    fn a_large_write_gets_a_buffer_of_its_own_size() {
        let mut checked = Checked::new();
        checked.push(10);
        checked.push(GATHER_MAX + 1);
        checked.push(10);
        assert_eq!(checked.outbound.part_count(), 3);
        assert_eq!(checked.outbound.held(), GATHER_MAX + 1 + 2 * FIRST_BUFFER);
        checked.check();
    }

    #[test]
    fn a_large_write_uses_the_room_of_no_gather_buffer_and_keeps_it() {
        let mut checked = Checked::new();
        checked.push(10);
        checked.consume(10);
        checked.push(GATHER_MAX + 1);
        assert_eq!(checked.outbound.part_count(), 1);
        assert_eq!(checked.outbound.tail.capacity(), FIRST_BUFFER);
        checked.check();
    }

    #[test]
    fn shared_bytes_are_not_copied_and_let_go_when_sent() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut outbound = Outbound::default();
        let bytes: Arc<[u8]> = stream(0, 1000).into();
        outbound.push_shared(Arc::clone(&bytes), 100);
        assert_eq!(outbound.front().as_ptr(), bytes[100..].as_ptr());
        assert_eq!((outbound.queued(), outbound.held()), (900, 1000));
        outbound.consume(899, &mut pool);
        assert_eq!(Arc::strong_count(&bytes), 2);
        outbound.consume(1, &mut pool);
        assert_eq!(Arc::strong_count(&bytes), 1);
        assert_eq!(outbound.held(), 0);
    }

    #[test]
    fn nothing_is_gathered_ahead_of_shared_bytes() {
        let mut checked = Checked::new();
        checked.push(10);
        checked.push_shared(0, SHARE_MIN);
        checked.push(10);
        checked.push(10);
        assert_eq!(checked.outbound.part_count(), 3);
        checked.check();
    }

    #[test]
    fn a_short_shared_rest_is_gathered_and_not_held() {
        let mut checked = Checked::new();
        let bytes: Arc<[u8]> = stream(0, 1 << 20).into();
        checked
            .outbound
            .push_shared(Arc::clone(&bytes), bytes.len() - (SHARE_MIN - 1));
        assert_eq!(Arc::strong_count(&bytes), 1);
        assert_eq!(checked.outbound.held(), FIRST_BUFFER);
        assert_eq!(
            checked.outbound.front(),
            &bytes[bytes.len() - (SHARE_MIN - 1)..]
        );
    }

    #[test]
    fn shared_bytes_that_were_sent_whole_queue_nothing() {
        let mut outbound = Outbound::default();
        let bytes: Arc<[u8]> = stream(0, 1000).into();
        outbound.push_shared(Arc::clone(&bytes), 1000);
        outbound.push_shared(Arc::clone(&bytes), 1001);
        assert!(outbound.is_empty());
        assert_eq!((outbound.part_count(), outbound.held()), (0, 0));
        assert_eq!(outbound.front(), b"");
    }

    #[test]
    fn every_pairing_of_write_and_consume_sizes_keeps_the_stream() {
        for write in 1..=40 {
            for taken in 1..=40 {
                let mut checked = Checked::new();
                for round in 0..12 {
                    checked.push(write);
                    if round % 3 == 1 {
                        checked.push_shared(round, SHARE_MIN - 20 + write);
                    }
                    checked.consume(taken);
                    checked.check();
                    if round % 4 == 3 {
                        checked.settle();
                        checked.check();
                    }
                }
                while !checked.outbound.is_empty() {
                    checked.consume(taken);
                }
                checked.check();
            }
        }
    }

    #[test]
    fn a_consume_may_end_anywhere_in_any_part() {
        for at in 0..=(3 * SHARE_MIN) {
            let mut checked = Checked::new();
            for _ in 0..2 {
                checked.push(SHARE_MIN / 2);
                checked.push_shared(0, SHARE_MIN);
            }
            checked.consume(at);
            checked.check();
            checked.consume(usize::MAX);
            checked.check();
        }
    }

    #[test]
    fn an_echo_uses_the_same_box_and_buffer_for_ever() {
        let mut pool = Pool::new(POOL_BYTES);
        let message = stream(0, 64);
        let mut seen = None;
        for _ in 0..1000 {
            let mut outbound = pool.outbound();
            outbound.push(&message, &mut pool);
            assert_eq!(outbound.part_count(), 1);
            assert_eq!(outbound.front(), message);
            let here = (
                &raw const *outbound,
                outbound.front().as_ptr(),
                outbound.held(),
            );
            assert_eq!(*seen.get_or_insert(here), here);
            outbound.consume(message.len(), &mut pool);
            pool.put_outbound(outbound);
        }
        assert_eq!(pool.outbounds.len(), 1);
        assert_eq!(pool.kept(), size_of::<Outbound>() + FIRST_BUFFER);
    }

    #[test]
    fn a_queue_that_never_quite_empties_does_not_grow() {
        let mut checked = Checked::new();
        checked.push(100);
        for _ in 0..1000 {
            checked.push(50);
            checked.consume(50);
        }
        assert_eq!(checked.outbound.held(), FIRST_BUFFER);
        checked.check();
    }

    #[test]
    fn a_full_gather_buffer_is_not_moved_for_each_byte_that_leaves() {
        let mut checked = Checked::new();
        checked.push(GATHER_MAX);
        let before = checked.outbound.front().as_ptr();
        checked.consume(1);
        checked.push(1);
        assert_eq!(checked.outbound.front().as_ptr(), before.wrapping_add(1));
        assert_eq!(checked.outbound.part_count(), 2);
        checked.check();
    }

    #[test]
    fn a_queue_that_moves_byte_by_byte_is_not_copied_byte_by_byte() {
        let mut checked = Checked::new();
        checked.push(2 * FIRST_BUFFER);
        let mut moves = 0;
        for _ in 0..FIRST_BUFFER {
            let before = checked.outbound.front()[1..].as_ptr();
            checked.consume(1);
            checked.push(1);
            moves += usize::from(checked.outbound.front().as_ptr() != before);
        }
        assert_eq!(moves, 1);
        checked.check();
    }

    #[test]
    fn a_fan_out_to_many_idle_connections_costs_a_small_buffer_each() {
        const CONNECTIONS: usize = 10_000;
        let mut pool = Pool::new(POOL_BYTES);
        pool.put_buffer(Vec::with_capacity(GATHER_MAX));
        let message = stream(0, 64);
        let mut queues: Vec<_> = (0..CONNECTIONS).map(|_| pool.outbound()).collect();
        for queue in &mut queues {
            queue.push(&message, &mut pool);
        }
        let held: usize = queues.iter().map(|queue| queue.held()).sum();
        assert_eq!(held, CONNECTIONS * FIRST_BUFFER);
        for queue in queues {
            pool.put_outbound(queue);
        }
        assert!(pool.kept() <= POOL_BYTES);
    }

    #[test]
    fn a_stuck_connection_holds_at_most_twice_what_is_queued() {
        let mut checked = Checked::new();
        for _ in 0..100 {
            checked.push(1); // each in a buffer of its own, behind shared bytes
            checked.push_shared(0, SHARE_MIN);
        }
        checked.push(GATHER_MAX);
        checked.consume(SHARE_MIN * 3 / 4);
        checked.settle();
        checked.check();
        for _ in 0..200 {
            checked.consume(500);
            checked.settle();
            checked.check();
        }
    }

    #[test]
    fn settling_leaves_the_smallest_buffer_where_it_is() {
        let mut checked = Checked::new();
        checked.push(1);
        let before = checked.outbound.front().as_ptr();
        checked.settle();
        assert_eq!(checked.outbound.front().as_ptr(), before);
    }

    #[test]
    fn settling_frees_a_gather_buffer_with_nothing_in_it() {
        let mut checked = Checked::new();
        checked.push(10_000);
        checked.consume(10_000);
        checked.push(GATHER_MAX + 1);
        checked.settle();
        assert_eq!(checked.outbound.held(), GATHER_MAX + 1);
    }

    #[test]
    fn a_large_write_shrinks_as_it_leaves() {
        const WRITE: usize = 10 * GATHER_MAX;
        let mut checked = Checked::new();
        checked.push(WRITE);
        checked.consume(WRITE / 2);
        checked.settle();
        assert_eq!(checked.outbound.held(), WRITE, "half is no waste");
        checked.consume(1);
        checked.settle();
        assert_eq!(checked.outbound.held(), WRITE / 2 - 1);
        checked.check();
    }

    #[test]
    fn settling_frees_shared_bytes_only_if_nobody_else_holds_them() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut outbound = Outbound::default();
        let bytes: Arc<[u8]> = stream(0, 10_000).into();
        outbound.push_shared(Arc::clone(&bytes), 0);
        outbound.consume(9_000, &mut pool);
        outbound.settle(&mut pool);
        assert_eq!(Arc::strong_count(&bytes), 2);
        drop(bytes);
        outbound.settle(&mut pool);
        assert_eq!(outbound.held(), 1024);
        assert_eq!(outbound.front(), stream(9_000, 1_000));
    }

    #[test]
    fn settling_looks_at_new_parts_after_old_ones_have_left() {
        let mut checked = Checked::new();
        for _ in 0..4 {
            checked.push(1);
            checked.push_shared(0, SHARE_MIN);
        }
        checked.settle();
        checked.consume(2 * (1 + SHARE_MIN));
        for _ in 0..4 {
            checked.push(1);
            checked.push_shared(0, SHARE_MIN);
        }
        checked.settle();
        assert_eq!(checked.outbound.held(), checked.outbound.queued());
        checked.check();
    }

    #[test]
    fn a_long_queue_gives_up_its_part_slots() {
        let mut checked = Checked::new();
        for _ in 0..1000 {
            checked.push_shared(0, SHARE_MIN);
        }
        checked.consume(990 * SHARE_MIN);
        checked.settle();
        assert!(checked.outbound.sealed.capacity() <= 2 * KEEP_PARTS);
        checked.check();
    }

    #[test]
    fn clearing_answers_the_bytes_dropped_and_holds_little() {
        let mut checked = Checked::new();
        checked.push(GATHER_MAX);
        checked.push_shared(0, 5000);
        checked.push(GATHER_MAX);
        checked.consume(100);
        let dropped = checked.outbound.clear(&mut checked.pool);
        assert_eq!(dropped, 2 * GATHER_MAX + 5000 - 100);
        checked.taken = checked.pushed;
        checked.check();
        assert!(checked.outbound.held() <= KEEP_GATHER);
        assert_eq!(checked.outbound.clear(&mut checked.pool), 0);
        checked.push(10);
        checked.check();
    }

    #[test]
    fn a_recycled_queue_is_empty_and_small() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut outbound = pool.outbound();
        for _ in 0..100 {
            outbound.push(&stream(0, GATHER_MAX), &mut pool);
            outbound.push_shared(stream(0, SHARE_MIN).into(), 0);
        }
        outbound.push(&stream(0, GATHER_MAX), &mut pool);
        pool.put_outbound(outbound);
        let outbound = pool.outbound();
        assert!(outbound.is_empty());
        assert!(outbound.tail.capacity() <= KEEP_GATHER);
        assert!(outbound.sealed.capacity() <= KEEP_PARTS);
    }

    #[test]
    fn the_pool_never_keeps_more_than_its_bound() {
        for bound in [0, 1, 1000, 100_000] {
            let mut pool = Pool::new(bound);
            for round in 0..2000 {
                pool.put_buffer(Vec::with_capacity(FIRST_BUFFER << (round % CLASSES)));
                let mut outbound = Box::new(Outbound::default());
                outbound.push(&stream(0, round), &mut pool);
                pool.put_outbound(outbound);
                assert!(pool.kept() <= bound);
            }
            for _ in 0..pool.outbounds.len() {
                drop(pool.outbound());
            }
            assert_eq!(pool.outbounds_kept, 0);
        }
    }

    #[test]
    fn a_pool_full_of_one_size_learns_another() {
        let mut pool = Pool::new(8 * GATHER_MAX);
        for _ in 0..100 {
            pool.put_buffer(Vec::with_capacity(GATHER_MAX));
        }
        assert_eq!(pool.kept(), 4 * GATHER_MAX);
        let small = Vec::with_capacity(FIRST_BUFFER);
        let pointer = small.as_ptr();
        pool.put_buffer(small);
        assert_eq!(pool.kept(), 3 * GATHER_MAX + FIRST_BUFFER);
        let recycled = pool.buffer(1);
        assert_eq!(recycled.as_ptr(), pointer);
    }

    #[test]
    fn the_size_that_makes_room_is_the_one_with_most_bytes_not_most_buffers() {
        let mut pool = Pool::new(8 * GATHER_MAX);
        for _ in 0..3 {
            pool.put_buffer(Vec::with_capacity(GATHER_MAX));
        }
        for _ in 0..GATHER_MAX / FIRST_BUFFER {
            pool.put_buffer(Vec::with_capacity(FIRST_BUFFER));
        }
        assert_eq!(pool.kept(), 4 * GATHER_MAX);
        pool.put_buffer(Vec::with_capacity(2 * FIRST_BUFFER));
        assert_eq!(pool.kept(), 3 * GATHER_MAX + 2 * FIRST_BUFFER);
    }

    #[test]
    fn a_buffer_too_large_for_the_pool_displaces_nothing() {
        let mut pool = Pool::new(GATHER_MAX);
        pool.put_buffer(Vec::with_capacity(FIRST_BUFFER));
        pool.put_buffer(Vec::with_capacity(GATHER_MAX));
        assert_eq!(pool.kept(), FIRST_BUFFER);
    }

    #[test]
    fn a_buffer_has_the_room_asked_for_and_not_twice_as_much() {
        let mut pool = Pool::new(POOL_BYTES);
        for odd in [0, 300, 3 * FIRST_BUFFER, GATHER_MAX * 2] {
            pool.put_buffer(vec![1; odd]);
        }
        assert_eq!(pool.kept(), 0);
        for at_least in (0..2 * GATHER_MAX).step_by(127) {
            let buffer = pool.buffer(at_least);
            assert!(buffer.is_empty() && buffer.capacity() >= at_least);
            assert!(buffer.capacity() <= FIRST_BUFFER || !wasteful(buffer.capacity(), at_least));
            pool.put_buffer(buffer);
        }
    }

    #[test]
    fn a_part_takes_no_more_than_the_documented_forty_bytes() {
        assert!(size_of::<Part>() <= 40);
    }

    #[test]
    fn a_level_changes_just_above_its_mark() {
        let marks = Watermarks {
            low: 10,
            high: 20,
            limit: 30,
        };
        let expected = [
            (0, Level::Below),
            (10, Level::Below),
            (11, Level::Between),
            (20, Level::Between),
            (21, Level::Above),
            (30, Level::Above),
            (31, Level::Over),
            (usize::MAX, Level::Over),
        ];
        for (queued, level) in expected {
            assert_eq!(marks.level(queued), level, "{queued}");
        }
    }

    #[test]
    fn marks_in_the_wrong_order_give_the_severest_level() {
        let marks = Watermarks {
            low: 30,
            high: 20,
            limit: 10,
        };
        assert_eq!(marks.level(11), Level::Over);
        let marks = Watermarks {
            low: 0,
            high: 0,
            limit: 0,
        };
        assert_eq!(
            (marks.level(0), marks.level(1)),
            (Level::Below, Level::Over)
        );
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        PushShared { sent: usize, len: usize },
        ConsumeSome(usize),
        ConsumePart(u8),
        Settle,
        Recycle,
    }

    fn len() -> impl Strategy<Value = usize> {
        prop_oneof![
            6 => 0..2 * SHARE_MIN,
            2 => 0..20_000_usize,
            1 => GATHER_MAX - 10..GATHER_MAX + 10,
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => len().prop_map(Op::Push),
            3 => (len(), len()).prop_map(|(sent, len)| Op::PushShared { sent, len }),
            3 => len().prop_map(Op::ConsumeSome),
            3 => any::<u8>().prop_map(Op::ConsumePart),
            2 => Just(Op::Settle),
            1 => Just(Op::Recycle),
        ]
    }

    fn apply(checked: &mut Checked, op: &Op) {
        match *op {
            Op::Push(len) => checked.push(len),
            Op::PushShared { sent, len } => checked.push_shared(sent, len),
            Op::ConsumeSome(n) => checked.consume(n),
            Op::ConsumePart(share) => {
                checked.consume(checked.outbound.queued() * usize::from(share) / 255);
            }
            Op::Settle => checked.settle(),
            Op::Recycle => {
                let outbound = mem::take(&mut checked.outbound);
                checked.pool.put_outbound(Box::new(outbound));
                checked.outbound = *checked.pool.outbound();
                checked.taken = checked.pushed;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(CASES)
        })]

        #[test]
        fn any_sequence_of_operations_keeps_the_stream(
            ops in proptest::collection::vec(op(), 1..40),
        ) {
            let mut checked = Checked::new();
            for op in &ops {
                apply(&mut checked, op);
                checked.check();
            }
            checked.consume(usize::MAX);
            checked.check();
        }
    }
}
