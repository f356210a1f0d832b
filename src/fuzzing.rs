//! For coverage-guided fuzzing: the private rooms that keep bytes, driven by a tape of bytes
//! against a model that is too plain to be wrong.
//!
//! Built with `--cfg fuzzing` only, and no part of the interface. The programs are in
//! `tests/fuzz`; a rule that does not hold is a panic.

use std::io::{BufRead, IoSlice, Read};
use std::sync::{Arc, OnceLock};

use crate::input::{Input, Leftover};
use crate::outbound::{FIRST_BUFFER, GATHER_MAX, Outbound, Pool, SHARE_MIN};

/// Bytes that one run may push: enough to fill what gathers several times over.
const LONGEST_STREAM: usize = 8 * GATHER_MAX;
const POOL_BYTES: usize = 4 * GATHER_MAX;
/// Slices in one vectored call; fewer than there may be parts.
const SLICES: usize = 8;
/// A peer's message, as a read buffer has room for it.
const LONGEST_READ: usize = 3000;

/// Decisions from bytes. When they have run out, every further one is 0.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    /// All of these bytes are yet to be used.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been used.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been decided.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        first
    }

    /// 0 to `most`, from as few bytes as that takes.
    pub fn up_to(&mut self, most: usize) -> usize {
        let mut number = 0;
        let mut reach = most;
        while reach > 0 {
            number = number << u8::BITS | usize::from(self.byte());
            reach >>= u8::BITS;
        }
        match most.checked_add(1) {
            Some(sides) => number % sides,
            None => number,
        }
    }

    /// So many bytes, or as many as are left.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(most.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// The queue of one connection's output: what the kernel is offered is what was pushed, in
/// that order, each byte once, and memory keeps to its bounds.
pub fn outbound(bytes: &[u8]) {
    let tape = &mut Tape::new(bytes);
    let mut queue = Queue {
        outbound: Box::default(),
        pool: Pool::new(POOL_BYTES),
        pushed: 0,
        taken: 0,
    };
    while !tape.is_over() {
        queue.act(tape);
        queue.check();
    }
    queue.send(usize::MAX);
    queue.check();
}

struct Queue {
    outbound: Box<Outbound>,
    pool: Pool,
    pushed: usize,
    taken: usize,
}

impl Queue {
    fn act(&mut self, tape: &mut Tape<'_>) {
        match tape.up_to(7) {
            0 | 1 => self.push(size(tape)),
            2 => self.push_shared(size(tape), size(tape)),
            3 => self.send(size(tape)),
            4 => self.send(self.outbound.queued() * tape.up_to(255) / 255),
            5 => self.settle(),
            6 => self.recycle(),
            _ => self.clear(),
        }
    }

    fn push(&mut self, len: usize) {
        let bytes = stream(self.pushed, len);
        self.outbound.push(bytes, &mut self.pool);
        self.pushed += bytes.len();
    }

    /// Of what is shared, some has been sent already.
    fn push_shared(&mut self, sent: usize, len: usize) {
        let fresh = stream(self.pushed, len);
        let bytes: Arc<[u8]> = [stream(0, sent), fresh].concat().into();
        let from = bytes.len() - fresh.len();
        self.outbound.push_shared(bytes, from);
        self.pushed += fresh.len();
    }

    /// The kernel takes so many of the bytes that it is shown.
    fn send(&mut self, most: usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.outbound.parts(&mut slices);
        assert_eq!(count, self.outbound.part_count().min(SLICES));
        let shown = slices[..count].iter().map(|slice| slice.len()).sum();
        let mut left = most.min(shown);
        for slice in &slices[..count] {
            assert!(!slice.is_empty(), "an empty slice is shown");
            let part = &slice[..left.min(slice.len())];
            assert!(part == stream(self.taken, part.len()), "other bytes leave");
            self.taken += part.len();
            left -= part.len();
        }
        self.outbound.consume(most.min(shown), &mut self.pool);
        if most > shown && shown > 0 {
            self.send(most - shown);
        }
    }

    fn settle(&mut self) {
        self.outbound.settle(&mut self.pool);
        let held = self.outbound.held();
        assert!(held <= 2 * self.outbound.queued() + FIRST_BUFFER);
    }

    fn recycle(&mut self) {
        let old = std::mem::take(&mut self.outbound);
        self.pool.put_outbound(old);
        self.outbound = self.pool.outbound();
        self.taken = self.pushed;
    }

    fn clear(&mut self) {
        let dropped = self.outbound.clear(&mut self.pool);
        assert_eq!(dropped, self.pushed - self.taken);
        self.taken = self.pushed;
    }

    fn check(&self) {
        let queued = self.pushed - self.taken;
        assert_eq!(self.outbound.queued(), queued);
        assert_eq!(self.outbound.is_empty(), queued == 0);
        assert_eq!(self.outbound.part_count() == 0, queued == 0);
        assert!(self.outbound.held() >= queued);
        assert!(self.pool.kept() <= POOL_BYTES);
        let front = self.outbound.front();
        assert_eq!(front.is_empty(), queued == 0);
        let first = stream(self.taken, front.len().min(1));
        assert!(front.starts_with(first), "the front is not the oldest byte");
    }
}

/// Sizes at which the queue does one thing or another, and those between.
fn size(tape: &mut Tape<'_>) -> usize {
    match tape.up_to(5) {
        0 => tape.up_to(1),
        1 => tape.up_to(255),
        2 => SHARE_MIN - 2 + tape.up_to(3),
        3 => GATHER_MAX - 2 + tape.up_to(3),
        4 => tape.up_to(2 * GATHER_MAX),
        _ => FIRST_BUFFER << tape.up_to(8),
    }
}

/// At most so many bytes of the one stream there is, from a place on; none behind its end.
fn stream(from: usize, len: usize) -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    // Bytes that differ from their neighbours at every distance that a bug would shift by.
    let byte = |at: usize| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    let stream = STREAM.get_or_init(|| (0..LONGEST_STREAM).map(byte).collect());
    let from = from.min(LONGEST_STREAM);
    &stream[from..from.saturating_add(len).min(LONGEST_STREAM)]
}

/// The unread bytes of one connection, and the view that a callback has of them: whatever
/// is read, consumed, moved and recycled, they are what a plain list holds.
pub fn input(bytes: &[u8]) {
    let tape = &mut Tape::new(bytes);
    let mut pool = Pool::new(POOL_BYTES);
    let first = stream(0, tape.up_to(LONGEST_READ));
    let mut unread = Unread {
        left: Leftover::keep(first, &mut pool),
        pool,
        model: first.to_vec(),
        received: first.len(),
    };
    while !tape.is_over() {
        unread.act(tape);
        assert!(
            unread.left.bytes() == unread.model,
            "other bytes are unread"
        );
        assert_eq!(unread.left.len(), unread.model.len());
        assert_eq!(unread.left.is_empty(), unread.model.is_empty());
        assert!(unread.left.held() >= unread.left.len());
    }
}

struct Unread {
    left: Leftover,
    pool: Pool,
    model: Vec<u8>,
    received: usize,
}

impl Unread {
    fn act(&mut self, tape: &mut Tape<'_>) {
        match tape.up_to(7) {
            0..=2 => self.read(tape),
            3..=5 => self.callback(tape),
            6 => self.settle(),
            _ => self.recycle(),
        }
    }

    fn read(&mut self, tape: &mut Tape<'_>) {
        let (want, cap) = (tape.up_to(LONGEST_READ), tape.up_to(8 * LONGEST_READ));
        let (held, needed) = (self.left.held(), self.left.len() + want);
        let room = self.left.spare(want, cap);
        assert_eq!(room.len(), want);
        let came = stream(self.received, tape.up_to(want));
        room[..came.len()].copy_from_slice(came);
        self.left.filled(came.len());
        self.model.extend(came);
        self.received += came.len();
        assert!(self.left.held() <= held.max(cap).max(needed));
        assert!(self.left.held() <= (2 * held).max(needed));
    }

    /// A handler consumes as it likes.
    fn callback(&mut self, tape: &mut Tape<'_>) {
        let mut input = Input::new(self.left.bytes());
        let mut at = 0;
        for _ in 0..=tape.up_to(3) {
            at += consume(&mut input, &self.model[at..], tape);
            assert_eq!(input.consumed(), at);
            assert_eq!(input.len(), self.model.len() - at);
            assert!(input.rest() == &self.model[at..]);
        }
        self.left.consume(at);
        self.model.drain(..at);
    }

    fn settle(&mut self) {
        self.left.settle(&mut self.pool);
        let bound = FIRST_BUFFER.max(2 * self.left.len() + 1);
        assert!(self.left.held() <= bound);
    }

    fn recycle(&mut self) {
        let kept = Leftover::keep(self.left.bytes(), &mut self.pool);
        std::mem::replace(&mut self.left, kept).release(&mut self.pool);
        assert!(self.pool.kept() <= POOL_BYTES);
    }
}

/// One of the ways in which an input is consumed; answers how many bytes that must have been.
fn consume(input: &mut Input<'_>, model: &[u8], tape: &mut Tape<'_>) -> usize {
    let way = tape.up_to(6);
    // Now and then more than there is.
    let n = tape.up_to(model.len() + model.len() / 8 + 1);
    let there = n.min(model.len());
    let mut buffer = vec![0; n];
    match way {
        0 => input.consume(n),
        1 => {
            assert_eq!(input.take(n), model.get(..n));
            return if n == there { n } else { 0 };
        }
        2 => {
            assert!(input.take_all() == model);
            return model.len();
        }
        3 => {
            assert_eq!(input.read(&mut buffer).ok(), Some(there));
            assert!(buffer[..there] == model[..there]);
        }
        4 => {
            let whole = input.read_exact(&mut buffer).is_ok();
            assert_eq!(whole, n == there);
            assert!(!whole || buffer == model[..n]);
            return if whole { n } else { 0 };
        }
        5 => {
            assert!(input.fill_buf().is_ok_and(|rest| rest == model));
            BufRead::consume(input, n);
        }
        _ => {
            let mut line = Vec::new();
            let end = model.iter().position(|&byte| usize::from(byte) == n % 256);
            let length = end.map_or(model.len(), |end| end + 1);
            assert_eq!(input.read_until(n as u8, &mut line).ok(), Some(length));
            assert!(line == model[..length]);
            return length;
        }
    }
    there
}
