//! Chance that follows from a seed, and the bytes of a stream as a function of their place.

use std::time::Duration;

/// SplitMix64 (its published constants), the same as the simulated kernel's.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 0 to `sides` - 1.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(GAMMA);
        (mixed(self.0) >> 16) as usize % sides
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.roll(high - low + 1)
    }

    /// True once in `odds`.
    pub fn one_in(&mut self, odds: usize) -> bool {
        self.roll(odds) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    /// At most that long, to the microsecond.
    pub fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.roll(most.as_micros() as usize + 1) as u64)
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// What travels in one direction of one connection: every byte follows from its place, so a
/// byte that is lost, repeated, exchanged or another connection's shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream(u64);

impl Stream {
    pub fn new(key: u64) -> Self {
        Self(mixed(key))
    }

    /// `count` bytes from `place` on.
    pub fn bytes(self, place: u64, count: usize) -> Vec<u8> {
        (place..place + count as u64)
            .map(|at| self.byte(at))
            .collect()
    }

    /// Where `bytes`, which stand at `place`, are not what they should be.
    pub fn differs(self, place: u64, bytes: &[u8]) -> Option<u64> {
        let wrong = |&(at, byte): &(u64, &u8)| self.byte(at) != *byte;
        (place..).zip(bytes).find(wrong).map(|(at, _)| at)
    }

    fn byte(self, at: u64) -> u8 {
        let word = (self.0 ^ (at >> 3)).wrapping_mul(GAMMA);
        ((word ^ (word >> 29)) >> (8 * (at & 7) as u32 % 56)) as u8
    }
}
