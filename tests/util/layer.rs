//! A layer that is not TLS, for both ends: a greeting, frames of disguised bytes, an end.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]

use std::io;

use windlass::{Layer, Progress};

/// What each end says first.
pub const GREETING: [u8; 3] = *b"hey";

/// Most plain bytes of one frame: there are many more wire bytes than plain ones.
pub const FRAME: usize = 7;

/// Plain bytes that it keeps.
const KEEPS: usize = 2 * FRAME;

const KEY: u8 = 0x5a;

/// A frame is its length and so many bytes; that of length 0 is the end.
#[derive(Default)]
pub struct Frames {
    /// Bytes of the greeting that have come.
    greeted: usize,
    /// Bytes of the present frame that are still to come.
    missing: u8,
    plain: Vec<u8>,
    wire: Vec<u8>,
    ended: bool,
    pub broken: bool,
}

impl Frames {
    pub fn new() -> Self {
        Self {
            wire: GREETING.to_vec(),
            ..Self::default()
        }
    }

    pub fn boxed() -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(Self::new()))
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        if self.greeted < GREETING.len() {
            if byte != GREETING[self.greeted] {
                return Err(io::Error::other("frames: no greeting"));
            }
            self.greeted += 1;
        } else if self.missing > 0 {
            self.missing -= 1;
            self.plain.push(byte ^ KEY);
        } else if usize::from(byte) > FRAME {
            return Err(io::Error::other("frames: too long"));
        } else {
            self.missing = byte;
            self.ended = byte == 0;
        }
        Ok(())
    }

    // The peer's end.

    /// The wire bytes of `plain`, with what is to be said before them.
    pub fn encode(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        frame(plain, &mut self.wire);
        self.send(&mut wire);
        wire
    }

    pub fn end(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        self.close();
        self.send(&mut wire);
        wire
    }

    /// The plain bytes that came with `wire`, which has to make sense.
    pub fn decode(&mut self, wire: &[u8]) -> Vec<u8> {
        for &byte in wire {
            assert!(!self.ended, "something followed the end");
            self.broken |= self.take(byte).is_err();
        }
        std::mem::take(&mut self.plain)
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    pub fn has_greeted(&self) -> bool {
        self.greeted == GREETING.len()
    }
}

fn frame(plain: &[u8], wire: &mut Vec<u8>) {
    for part in plain.chunks(FRAME) {
        wire.push(part.len() as u8);
        wire.extend(part.iter().map(|byte| byte ^ KEY));
    }
}

impl Layer for Frames {
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
        for (at, &byte) in wire.iter().enumerate() {
            if self.plain.len() >= KEEPS || self.ended {
                return Ok(at);
            }
            self.take(byte)?;
        }
        Ok(wire.len())
    }

    fn read(&mut self, plain: &mut [u8]) -> usize {
        let n = plain.len().min(self.plain.len());
        plain[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        n
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        if !self.has_greeted() {
            return 0;
        }
        frame(plain, &mut self.wire);
        plain.len()
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.wire);
    }

    fn progress(&self) -> Progress {
        match (self.has_greeted(), self.ended) {
            (false, _) => Progress::Handshake,
            (true, false) => Progress::Open,
            (true, true) => Progress::Ended,
        }
    }

    fn close(&mut self) {
        self.wire.push(0);
    }
}
