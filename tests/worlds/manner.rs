//! How a handler treats one connection when nothing special happens.

use super::dice::Dice;

/// What it takes of its input, and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub eats: Eats,
    /// Bytes written for each that was consumed, in eighths.
    pub answers: usize,
    /// Bytes of one `write` call.
    pub piece: usize,
    pub shared: bool,
    /// Stops consuming while output is full, as documented.
    pub obeys: bool,
    pub lingers_after_eof: bool,
    pub stays_in_shutdown: bool,
    /// Idle timeouts that are answered with `Ok`.
    pub patience: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Eats {
    Everything,
    /// At most so many bytes, and asks for the rest.
    Some(usize),
    /// Up to the last byte below 16.
    Lines,
    /// Frames whose first byte says how long they are.
    Frames,
    Nothing,
}

impl Manner {
    pub fn new(dice: &mut Dice, scale: usize) -> Self {
        let bite = dice.between(1, 40) * scale;
        Self {
            eats: match dice.roll(9) {
                0..=3 => Eats::Everything,
                4 | 5 => Eats::Some(bite),
                6 => Eats::Lines,
                7 => Eats::Frames,
                _ => Eats::Nothing,
            },
            answers: dice.pick(&[0, 1, 8, 8, 8, 16, 60]),
            // Not byte by byte where there are many.
            piece: dice.pick(&[1, 7, 40, 20_000]).max(scale - 1),
            shared: dice.one_in(3),
            obeys: !dice.one_in(4),
            lingers_after_eof: dice.one_in(3),
            stays_in_shutdown: dice.one_in(3),
            patience: dice.pick(&[0, 0, 2]),
        }
    }

    /// How much of `input` it consumes now.
    pub fn bite(&self, input: &[u8]) -> usize {
        match self.eats {
            Eats::Everything => input.len(),
            Eats::Some(most) => most.min(input.len()),
            Eats::Lines => input.iter().rposition(|&it| it < 16).map_or(0, |at| at + 1),
            Eats::Frames => frames(input),
            Eats::Nothing => 0,
        }
    }
}

/// Longest frame.
const FRAME: usize = 24;

/// The length of all whole frames at the beginning of `input`.
fn frames(input: &[u8]) -> usize {
    let mut end = 0;
    while let Some(&head) = input.get(end) {
        let next = end + 1 + usize::from(head) % FRAME;
        if next > input.len() {
            break;
        }
        end = next;
    }
    end
}
