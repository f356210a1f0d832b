//! Chance that follows from a tape of bytes, and behind its end from a seed: in the place of
//! `tests/worlds/dice.rs`, with the same face.
//!
//! All dice of a world read the one tape in turn, so that a byte that is changed changes what
//! follows it and nothing before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[path = "../worlds/dice.rs"]
mod seeded;

pub use seeded::Stream;

/// What the next world is made from.
static TAPE: Mutex<Tape> = Mutex::new(Tape {
    bytes: Vec::new(),
    used: 0,
});

struct Tape {
    bytes: Vec<u8>,
    used: usize,
}

/// Puts in what the next world is to be made from.
pub fn load(bytes: &[u8]) {
    let mut tape = tape();
    tape.bytes.clear();
    tape.bytes.extend_from_slice(bytes);
    tape.used = 0;
}

fn tape() -> MutexGuard<'static, Tape> {
    // A panic in a world does not harm its bytes.
    TAPE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tape {
    /// 0 to `sides` - 1, from as few bytes as that takes.
    fn roll(&mut self, sides: usize) -> Option<usize> {
        let mut number = 0;
        let mut reach = sides - 1;
        while reach > 0 {
            let byte = *self.bytes.get(self.used)?;
            self.used += 1;
            number = number << u8::BITS | usize::from(byte);
            reach >>= u8::BITS;
        }
        Some(number % sides)
    }
}

/// What `seeded::Dice` is, as long as there is tape.
#[derive(Clone, Debug)]
pub struct Dice(seeded::Dice);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seeded::Dice::new(seed))
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        let rolled = tape().roll(sides);
        rolled.unwrap_or_else(|| self.0.roll(sides))
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.roll(high - low + 1)
    }

    pub fn one_in(&mut self, odds: usize) -> bool {
        self.roll(odds) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    pub fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.roll(most.as_micros() as usize + 1) as u64)
    }
}
