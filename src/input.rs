//! The view of unread bytes that a callback gets, and what it leaves behind.
//!
//! [`Input`] shows bytes where they lie, in the loop's read buffer or in the connection's
//! own memory, and counts what was consumed. [`Leftover`] is that memory: it keeps the
//! unread bytes from one callback to the next and gives room to read more behind them.
//!
//! This room never knows a socket, a clock or a limit: its caller reads, and decides how
//! much unread input is too much.

use std::fmt;
use std::io;
use std::ops::Deref;

use crate::outbound::{self, FIRST_BUFFER};

/// The bytes that a peer has sent and the handler has not consumed: one contiguous slice.
///
/// An `Input` dereferences to the unread rest, so every method of a slice works on it.
/// What a callback does not consume is kept and is there at its next callback, joined with
/// the bytes that follow. Nothing is copied unless bytes are left.
///
/// The slices that [`take`](Self::take), [`take_all`](Self::take_all) and
/// [`rest`](Self::rest) return live as long as the callback (`'a`), not only until the next
/// call on the `Input`: a header can be held while the body is taken. The compiler does not
/// let them be kept beyond the callback.
///
/// ```
/// use windlass::Input;
///
/// /// Frames of one length byte and as many bytes of text.
/// fn frames<'a>(input: &mut Input<'a>) -> Vec<&'a [u8]> {
///     let mut frames = Vec::new();
///     while let Some(&length) = input.first() {
///         let Some(frame) = input.take(1 + usize::from(length)) else {
///             break; // the rest of this frame has yet to come
///         };
///         frames.push(&frame[1..]);
///     }
///     frames
/// }
///
/// let mut input = Input::new(b"\x02hi\x05the");
/// assert_eq!(frames(&mut input), [b"hi"]);
/// assert_eq!(&input[..], b"\x05the");
/// ```
///
/// # As a reader
///
/// `Input` is an [`io::Read`] and an [`io::BufRead`] over the bytes that are there. Its end
/// means that no more have come *yet*, not that the peer has finished, so `read_line` and
/// its kin take a half line for a whole one; look for the end of the line first.
/// `read_exact` consumes nothing when it fails.
///
/// [`io::Read`] has a `take` too. On the `&mut Input` that a callback gets, `input.take(n)`
/// is always the method of `Input`. A test that imports [`io::Read`] and owns its input
/// would call the other one, so it best makes a reference at once:
/// `let input = &mut Input::new(bytes)`.
pub struct Input<'a> {
    /// The unread ones.
    rest: &'a [u8],
    /// How many there were when the callback began.
    offered: usize,
}

impl<'a> Input<'a> {
    /// An input with nothing consumed, for calling a handler's own code in a test.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offered: bytes.len(),
        }
    }

    /// The unread bytes, for as long as the callback runs; consumes nothing.
    ///
    /// ```
    /// # let mut input = windlass::Input::new(b"key=value");
    /// let bytes = input.rest();
    /// input.consume(4); // `bytes` stays valid
    /// assert_eq!(&bytes[..3], b"key");
    /// assert_eq!(&input[..], b"value");
    /// ```
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Number of unread bytes.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes consumed since the callback began.
    pub fn consumed(&self) -> usize {
        self.offered - self.rest.len()
    }

    /// Marks the next `n` bytes as dealt with. Never panics: an `n` beyond the end consumes
    /// what is there, and bytes that have yet to arrive are not skipped.
    ///
    /// ```
    /// let mut input = windlass::Input::new(b"abc");
    /// input.consume(2);
    /// assert_eq!(&input[..], b"c");
    /// input.consume(100);
    /// assert!(input.is_empty());
    /// assert_eq!(input.consumed(), 3);
    /// ```
    pub fn consume(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }

    /// Consumes the next `n` bytes and returns them; `None`, and nothing consumed, while
    /// fewer than `n` have arrived.
    ///
    /// ```
    /// let mut input = windlass::Input::new(b"abcde");
    /// assert_eq!(input.take(2), Some(&b"ab"[..]));
    /// assert_eq!(input.take(4), None);
    /// assert_eq!(input.take(3), Some(&b"cde"[..]));
    /// ```
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// Consumes everything that is there and returns it.
    ///
    /// ```
    /// let mut input = windlass::Input::new(b"all of it");
    /// assert_eq!(input.take_all(), b"all of it");
    /// assert!(input.is_empty());
    /// ```
    pub fn take_all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// The unread bytes.
impl Deref for Input<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.rest()
    }
}

/// Sizes only: what a peer sends does not belong into a log by accident.
impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("unread", &self.len())
            .field("consumed", &self.consumed())
            .finish()
    }
}

impl io::Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.len());
        buf[..n].copy_from_slice(&self.rest[..n]);
        self.rest = &self.rest[n..];
        Ok(n)
    }

    /// Fails with [`io::ErrorKind::UnexpectedEof`], and consumes nothing, while fewer bytes
    /// have arrived than `buf` holds.
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        let bytes = self.take(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl io::BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.rest())
    }

    fn consume(&mut self, n: usize) {
        Self::consume(self, n);
    }
}

/// Unread bytes of one connection, kept from one callback to the next.
///
/// A connection has one only while bytes are left: the memory goes back to the pool with
/// the last of them. New bytes are read straight into the room behind the old ones, so a
/// long message is not copied piece by piece.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// All of its length has been written at some time, by zeroes at least: without `unsafe`
    /// that is the price of room to read into, and it is paid once for each byte of a buffer.
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
}

impl Leftover {
    /// Copies what a callback left of the loop's read buffer.
    pub(crate) fn keep(bytes: &[u8], pool: &mut outbound::Pool) -> Self {
        let mut buffer = pool.buffer(bytes.len());
        buffer.extend_from_slice(bytes);
        Self {
            buffer,
            start: 0,
            end: bytes.len(),
        }
    }

    /// The unread bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the memory can be given back.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Drops the `n` oldest bytes, or all if they are fewer.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n.min(self.len());
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for `want` bytes behind the unread ones, to read into; what was written there is
    /// told to [`Leftover::filled`]. What the room contains until then has no meaning.
    ///
    /// The buffer grows by doubling, but not beyond the larger of `cap` and what is needed
    /// now. As long as `cap` is at least twice the unread bytes and `want`, each byte is
    /// copied a bounded number of times, however small the pieces that arrive and that are
    /// consumed; a smaller `cap` saves memory and may move the unread bytes at each call.
    pub(crate) fn spare(&mut self, want: usize, cap: usize) -> &mut [u8] {
        if self.end + want > self.buffer.capacity() {
            self.make_room(want, cap);
        }
        let end = self.end + want;
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.end..end]
    }

    /// `n` bytes of the room that [`Leftover::spare`] gave have been written.
    pub(crate) fn filled(&mut self, n: usize) {
        let room = self.buffer.len() - self.end;
        debug_assert!(n <= room, "more was filled than there was room for");
        self.end += n.min(room);
    }

    /// Moves to a smaller buffer if more than half of this one is not in use: a peer that
    /// stops in the middle of a message does not pin the memory of the last one.
    pub(crate) fn settle(&mut self, pool: &mut outbound::Pool) {
        if self.held() > FIRST_BUFFER && outbound::wasteful(self.held(), self.len()) {
            let smaller = Self::keep(self.bytes(), pool);
            std::mem::replace(self, smaller).release(pool);
        }
    }

    /// Gives the memory back.
    pub(crate) fn release(self, pool: &mut outbound::Pool) {
        pool.put_buffer(self.buffer);
    }

    /// Makes the buffer hold `want` bytes behind the unread ones, by moving these to its
    /// front, by growing, or both.
    fn make_room(&mut self, want: usize, cap: usize) {
        let needed = self.len() + want;
        let capacity = self.buffer.capacity();
        // A move that frees more than it copies is paid for by the bytes consumed. Failing
        // that, growing is what keeps moves rare.
        let dead_front_pays = self.start > self.len() && needed <= capacity;
        let target = if dead_front_pays {
            capacity
        } else {
            grown(capacity, needed, cap)
        };
        self.compact();
        if target > capacity {
            // Stale bytes behind the unread ones are not worth copying along.
            self.buffer.truncate(self.end);
            self.buffer.reserve_exact(target - self.end);
        }
    }

    fn compact(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

/// The capacity to grow to: double, within `cap`, and what is `needed` in any case.
fn grown(capacity: usize, needed: usize, cap: usize) -> usize {
    capacity.saturating_mul(2).min(cap).max(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::{GATHER_MAX, Pool};
    use proptest::prelude::*;

    const POOL_BYTES: usize = 1 << 20;
    /// An interpreter takes a thousand times as long.
    const CASES: u32 = if cfg!(miri) { 4 } else { 200 };

    fn stream(from: usize, len: usize) -> Vec<u8> {
        let byte = |at: usize| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (from..from + len).map(byte).collect()
    }

    #[test]
    fn an_input_is_its_unread_rest() {
        let mut input = Input::new(b"abcdef");
        input.consume(2);
        assert_eq!(&input[..], b"cdef");
        assert_eq!(input.rest(), b"cdef");
        assert_eq!(
            (input.len(), input.consumed(), input.is_empty()),
            (4, 2, false)
        );
        assert_eq!(input.iter().position(|&byte| byte == b'e'), Some(2));
        assert!(input.starts_with(b"cd"));
    }

    #[test]
    fn consuming_too_much_consumes_what_is_there() {
        for n in [3, 4, usize::MAX] {
            let mut input = Input::new(b"abc");
            input.consume(n);
            input.consume(n);
            assert_eq!(
                (input.len(), input.consumed(), input.is_empty()),
                (0, 3, true)
            );
        }
    }

    #[test]
    fn taking_more_than_is_there_consumes_nothing() {
        let mut input = Input::new(b"abc");
        for n in [4, usize::MAX] {
            assert_eq!(input.take(n), None);
            assert_eq!(input.consumed(), 0);
        }
        assert_eq!(input.take(0), Some(&b""[..]));
        assert_eq!(input.take(3), Some(&b"abc"[..]));
        assert_eq!(input.take(0), Some(&b""[..]));
        assert_eq!(input.take(1), None);
    }

    #[test]
    fn what_was_taken_outlives_the_borrow_of_the_input() {
        let bytes = b"headbodyrest".to_vec();
        let parts = {
            let mut input = Input::new(&bytes);
            let input = &mut input;
            let head = input.take(4);
            let body = input.take(4);
            (head, body, input.rest(), input.take_all(), input.take_all())
        };
        let (head, body, rest, all, none) = parts;
        assert_eq!((head, body), (Some(&b"head"[..]), Some(&b"body"[..])));
        assert_eq!((rest, all, none), (&b"rest"[..], &b"rest"[..], &b""[..]));
    }

    #[test]
    fn take_is_the_inputs_own_even_where_the_reader_traits_are_imported() {
        use std::io::{BufRead, Read};

        fn callback<'a>(input: &mut Input<'a>) -> io::Result<Option<&'a [u8]>> {
            input.read_exact(&mut [0])?;
            input.skip_until(b'b')?;
            input.consume(1);
            Ok(input.take(2)) // `Read::take` would move `input` and answer a reader
        }
        let taken = callback(&mut Input::new(b"a..bcdef"));
        assert_eq!(taken.ok().flatten(), Some(&b"de"[..]));
    }

    #[test]
    fn an_input_is_a_reader() -> io::Result<()> {
        use std::io::{BufRead, Read};

        let mut input = Input::new(b"abcdefgh\nsecond\nhalf");
        let mut two = [0; 2];
        assert_eq!(input.read(&mut two)?, 2);
        assert_eq!(&two, b"ab");
        let mut exact = [0; 3];
        input.read_exact(&mut exact)?;
        assert_eq!(&exact, b"cde");
        let mut line = String::new();
        assert_eq!(input.read_line(&mut line)?, 4);
        assert_eq!(line, "fgh\n");
        assert_eq!(input.consumed(), 9);
        assert_eq!(input.fill_buf()?, b"second\nhalf");
        BufRead::consume(&mut input, 7);
        let mut rest = Vec::new();
        assert_eq!(input.read_to_end(&mut rest)?, 4);
        assert_eq!(rest, b"half");
        assert_eq!(input.read(&mut two)?, 0);
        Ok(())
    }

    #[test]
    fn reading_exactly_what_has_not_come_consumes_nothing() {
        use std::io::Read;

        let mut input = Input::new(b"abc");
        let error = input.read_exact(&mut [0; 4]).map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(&input[..], b"abc");
    }

    #[test]
    fn debug_output_shows_sizes_and_no_bytes() {
        let mut input = Input::new(b"secret");
        input.consume(2);
        assert_eq!(format!("{input:?}"), "Input { unread: 4, consumed: 2 }");
    }

    #[test]
    fn a_leftover_keeps_what_was_left_and_joins_what_follows() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(b"hello, ", &mut pool);
        let room = left.spare(100, 1000);
        assert_eq!(room.len(), 100);
        room[..5].copy_from_slice(b"world");
        left.filled(5);
        assert_eq!((left.bytes(), left.len()), (&b"hello, world"[..], 12));
        left.consume(7);
        assert_eq!(left.bytes(), b"world");
        assert!(!left.is_empty());
        left.consume(100);
        assert!(left.is_empty());
    }

    #[test]
    fn leftovers_are_recycled() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut seen = None;
        for _ in 0..1000 {
            let mut left = Leftover::keep(&[7; 64], &mut pool);
            left.spare(FIRST_BUFFER - 64, GATHER_MAX);
            let here = (left.bytes().as_ptr(), left.held());
            assert_eq!(*seen.get_or_insert(here), here);
            left.release(&mut pool);
        }
        assert_eq!(pool.kept(), FIRST_BUFFER);
    }

    #[test]
    fn room_is_zeroed_once_and_not_for_each_read() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(b"abc", &mut pool);
        left.spare(100, 1000).fill(9);
        assert_eq!(
            left.spare(100, 1000),
            [9; 100],
            "nothing was filled: the same room again"
        );
        left.filled(10);
        assert_eq!(left.spare(90, 1000), [9; 90]);
        assert_eq!(left.spare(91, 1000)[90], 0);
    }

    #[test]
    fn the_front_is_reused_when_it_is_larger_than_what_is_unread() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(&stream(0, FIRST_BUFFER), &mut pool);
        left.consume(FIRST_BUFFER / 2 + 1);
        let room = left.spare(FIRST_BUFFER / 2 + 1, 1 << 20);
        room.fill(1);
        assert_eq!(left.held(), FIRST_BUFFER);
        assert_eq!(
            left.bytes(),
            &stream(0, FIRST_BUFFER)[FIRST_BUFFER / 2 + 1..]
        );
    }

    #[test]
    fn an_emptied_buffer_is_filled_from_its_front_again() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(b"abc", &mut pool);
        let front = left.bytes().as_ptr();
        left.consume(3);
        assert_eq!(left.spare(1, GATHER_MAX).as_ptr(), front);
    }

    #[test]
    fn a_full_buffer_is_not_moved_for_each_byte_that_is_consumed() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(&[7; FIRST_BUFFER], &mut pool);
        for _ in 0..FIRST_BUFFER {
            left.consume(1);
            left.spare(1, GATHER_MAX);
            left.filled(1);
        }
        assert_eq!(
            (left.start, left.held()),
            (FIRST_BUFFER - 1, 2 * FIRST_BUFFER)
        );
    }

    #[test]
    fn settling_leaves_the_smallest_buffer_where_it_is() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(b"abc", &mut pool);
        let before = left.bytes().as_ptr();
        left.settle(&mut pool);
        assert_eq!(left.bytes().as_ptr(), before);
    }

    #[test]
    fn a_buffer_at_its_cap_makes_room_without_growing() {
        const CAP: usize = 1024;
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(&stream(0, CAP), &mut pool);
        left.consume(1);
        assert_eq!(left.spare(1, CAP).len(), 1);
        assert_eq!(left.held(), CAP);
        assert_eq!(left.bytes(), &stream(0, CAP)[1..]);
        assert_eq!(
            left.spare(10, CAP).len(),
            10,
            "what is needed comes before the cap"
        );
        assert_eq!(left.held(), CAP + 9);
    }

    #[test]
    fn a_peer_that_stops_in_the_middle_pins_little() {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(&stream(0, 100_000), &mut pool);
        left.consume(50_000);
        left.settle(&mut pool);
        assert_eq!(left.held(), 100_000, "half is no waste");
        left.consume(49_990);
        left.settle(&mut pool);
        assert_eq!(left.held(), FIRST_BUFFER);
        assert_eq!(left.bytes(), stream(99_990, 10));
    }

    /// Reads `total` bytes in pieces and consumes after each piece all but `unread` bytes;
    /// answers how many bytes were moved, judged by the buffer's address and the start.
    fn bytes_moved(total: usize, piece: usize, unread: usize, cap: usize) -> usize {
        let mut pool = Pool::new(POOL_BYTES);
        let mut left = Leftover::keep(b"x", &mut pool);
        let mut moved = 0;
        for _ in 0..total / piece {
            let before = left.bytes().as_ptr();
            left.spare(piece, cap);
            if left.bytes().as_ptr() != before {
                moved += left.len();
            }
            left.filled(piece);
            left.consume(left.len().saturating_sub(unread));
        }
        moved
    }

    #[test]
    fn a_long_message_in_small_pieces_is_copied_a_bounded_number_of_times() {
        const MESSAGE: usize = 10 << 20;
        const PIECE: usize = 16 << 10;
        assert!(bytes_moved(MESSAGE, PIECE, MESSAGE, 2 * MESSAGE) <= 2 * MESSAGE);
    }

    #[test]
    fn consuming_little_by_little_copies_each_byte_a_bounded_number_of_times() {
        const UNREAD: usize = 10_000;
        const TOTAL: usize = 1 << 20;
        for piece in [1, 10, 100, 9_999] {
            let moved = bytes_moved(TOTAL, piece, UNREAD, 2 * (UNREAD + piece));
            assert!(
                moved <= 3 * TOTAL,
                "{moved} bytes moved in pieces of {piece}"
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Read { want: usize, got: u8, cap: usize },
        Consume(u8),
        Settle,
        Recycle,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..3000_usize, any::<u8>(), 0..20_000_usize)
                .prop_map(|(want, got, cap)| Op::Read { want, got, cap }),
            4 => any::<u8>().prop_map(Op::Consume),
            1 => Just(Op::Settle),
            1 => Just(Op::Recycle),
        ]
    }

    struct Checked {
        left: Leftover,
        pool: Pool,
        model: Vec<u8>,
        received: usize,
    }

    impl Checked {
        fn apply(&mut self, op: &Op) {
            match *op {
                Op::Read { want, got, cap } => self.read(want, want * usize::from(got) / 255, cap),
                Op::Consume(share) => self.consume(self.model.len() * usize::from(share) / 255),
                Op::Settle => {
                    self.left.settle(&mut self.pool);
                    assert!(self.left.held() <= FIRST_BUFFER.max(2 * self.left.len() + 1));
                }
                Op::Recycle => {
                    let kept = Leftover::keep(self.left.bytes(), &mut self.pool);
                    std::mem::replace(&mut self.left, kept).release(&mut self.pool);
                }
            }
        }

        fn read(&mut self, want: usize, got: usize, cap: usize) {
            let held = self.left.held();
            let needed = self.left.len() + want;
            let room = self.left.spare(want, cap);
            assert_eq!(room.len(), want);
            room[..got].copy_from_slice(&stream(self.received, got));
            self.left.filled(got);
            self.model.extend(stream(self.received, got));
            self.received += got;
            assert!(self.left.held() <= held.max(cap).max(needed));
            assert!(self.left.held() <= (2 * held).max(needed));
        }

        /// By way of an `Input`, as the connection does it.
        fn consume(&mut self, n: usize) {
            let mut input = Input::new(self.left.bytes());
            let taken = input.take(n / 2).map(<[u8]>::to_vec);
            input.consume(n - n / 2);
            let consumed = input.consumed();
            self.left.consume(consumed);
            assert_eq!(taken.as_deref(), Some(&self.model[..n / 2]));
            self.model.drain(..n);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(CASES)
        })]

        #[test]
        fn any_sequence_of_reads_and_consumes_keeps_the_stream(
            first in 0..5000_usize,
            ops in proptest::collection::vec(op(), 1..80),
        ) {
            let mut pool = Pool::new(POOL_BYTES);
            let model = stream(0, first);
            let left = Leftover::keep(&model, &mut pool);
            let mut checked = Checked { left, pool, model, received: first };
            for op in &ops {
                checked.apply(op);
                prop_assert_eq!(checked.left.bytes(), &checked.model[..]);
                prop_assert_eq!(checked.left.len(), checked.model.len());
            }
        }
    }

    #[test]
    fn every_pairing_of_read_and_consume_sizes_keeps_the_stream() {
        for read in 1..=40 {
            for taken in 1..=40 {
                let model = stream(0, 100);
                let mut pool = Pool::new(POOL_BYTES);
                let left = Leftover::keep(&model, &mut pool);
                let mut checked = Checked {
                    left,
                    pool,
                    model,
                    received: 100,
                };
                for _ in 0..30 {
                    checked.read(read, read, 300);
                    checked.consume(taken.min(checked.model.len()));
                    assert_eq!(checked.left.bytes(), checked.model);
                }
            }
        }
    }
}
