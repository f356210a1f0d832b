//! Worlds whose connections have a layer: the far ends speak it, and the book is about the
//! plain bytes.

use std::time::{Duration, Instant};

use windlass::{Config, Dial, Flow, Listen};

use super::app::App;
use super::book::{Book, State, Why};
use super::layer::{FRAME, Frames};
use super::plan::Plan;

/// One world in so many has a layer on every connection.
const SHARE: u64 = 4;

/// The greeting and the end.
const WORDS: u64 = 8;

impl Plan {
    /// Without the dice, so that worlds without layers are what they were before.
    pub fn choose_layers(&mut self, seed: u64) {
        self.layers = seed % SHARE == SHARE - 1;
        if self.layers {
            let millis = 20 + seed / SHARE % 1500;
            self.config.handshake_timeout = Duration::from_millis(millis);
            self.config.handshake_budget = 1 + (seed / SHARE % 3) as u32;
        }
    }

    pub fn dressed(&self, listen: Listen) -> Listen {
        if self.layers {
            listen.layer(Frames::boxed)
        } else {
            listen
        }
    }

    pub fn dressed_dial(&self, dial: Dial) -> Dial {
        if self.layers {
            dial.layer(Frames::boxed)
        } else {
            dial
        }
    }
}

/// What the loop may hold for so many connections, beside what their handlers know of.
pub fn held_most(config: &Config, queued: u64, unread: u64, connections: u64) -> u64 {
    let frames = queued + queued.div_ceil(FRAME as u64).max(queued);
    frames + unread + connections * (config.read_buffer as u64 + WORDS)
}

impl App {
    /// Ends with an agreement: once, before anything was read, whoever pauses.
    pub fn judge_handshake(&mut self, at: usize) {
        let layers = self.plan.layers;
        let line = &mut self.book.lines[at];
        let again = std::mem::replace(&mut line.agreed, true);
        let (id, seen) = (line.id, line.seen);
        self.book.must(layers && !again && seen == 0, || {
            format!("on_handshake of {id:?}: told before {again}, {seen} bytes were read")
        });
    }
}

impl Book {
    /// A layer that could not go on has closed this connection, and the handler hears of it
    /// in `on_close`.
    pub fn notice_end_of_layer(&mut self, at: usize, flow: Flow, now: Instant) {
        let line = &self.lines[at];
        let gone = flow == Flow::Closed && !line.half_closed;
        if line.layered && gone && line.state == State::Open {
            self.closing(at, Why::Layer, now);
        }
    }
}

/// The layer at the far end, if there is one.
pub struct Wire {
    frames: Option<Frames>,
    /// It has sent its greeting.
    pub greeted: bool,
    /// It ends the stream without saying so within the layer.
    pub cuts: bool,
    /// It has sent what makes no sense.
    pub raves: bool,
    /// It has said that nothing follows.
    pub said_end: bool,
}

impl Wire {
    pub fn new(plan: &Plan, cuts: bool) -> Self {
        Self {
            frames: plan.layers.then(Frames::new),
            greeted: !plan.layers,
            cuts,
            raves: false,
            said_end: false,
        }
    }

    pub fn is_layered(&self) -> bool {
        self.frames.is_some()
    }

    /// Whether it does nothing that could end a connection.
    pub fn is_well(&self, finished: bool) -> bool {
        self.greeted && !self.raves && !(self.cuts && finished)
    }

    pub fn encode(&mut self, plain: Vec<u8>) -> Vec<u8> {
        self.greeted = true;
        match &mut self.frames {
            Some(frames) => frames.encode(&plain),
            None => plain,
        }
    }

    /// What is sent before FIN.
    pub fn end(&mut self) -> Vec<u8> {
        match &mut self.frames {
            Some(frames) if !self.cuts && self.greeted => {
                self.said_end = true;
                frames.end()
            }
            Some(_) => {
                self.cuts = true;
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    pub fn decode(&mut self, wire: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some(frames) = &mut self.frames else {
            return Ok(wire);
        };
        if frames.has_ended() && !wire.is_empty() {
            return Err("something followed the end of the layer".to_owned());
        }
        let plain = frames.decode(&wire);
        if frames.broken {
            return Err("what was received is not of the layer".to_owned());
        }
        Ok(plain)
    }

    /// Whether the other end has said that nothing follows.
    pub fn has_ended(&self) -> bool {
        self.frames.as_ref().is_none_or(Frames::has_ended)
    }
}
