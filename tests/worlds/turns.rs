//! How time passes in a world: turn by turn, with everything judged after each, and more
//! whenever the loop rests.

use std::time::Duration;

use windlass::sim::Call;

use super::book::State;
use super::errands::{self, OURS};
use super::peers::expect;
use super::play::Play;
use super::rest;

/// Turns at one moment, after which the loop is taken to spin.
const SPIN: u32 = 20_000;
/// Turns in a row, at one moment, in which nothing at all was done.
const EMPTY: u32 = 4;
const PIECES: u32 = 500;
/// Of these, in one stretch of time: one for each that did something, some, and so many for
/// each source.
const EMPTY_IN_ALL: u32 = 30;
const EMPTY_EACH: u32 = 12;
/// A back-off is over by then.
const PATIENCE: Duration = Duration::from_millis(60);

/// Time.
impl Play {
    pub fn run(&mut self) -> Result<(), String> {
        self.advance(Duration::ZERO)
    }

    pub fn advance(&mut self, by: Duration) -> Result<(), String> {
        let end = self.world.now() + by;
        let (mut at_once, mut empty_in_all, mut full) = (0, 0, 0);
        self.empty = 0;
        loop {
            let before = self.world.now();
            let busy = self.turn(end.saturating_duration_since(before))?;
            let now = self.world.now();
            at_once = if now > before { 0 } else { at_once + 1 };
            expect(at_once < SPIN, || {
                "the loop does not come to rest".to_owned()
            })?;
            empty_in_all += u32::from(self.empty > 0 && self.fair.is_some());
            full += u32::from(self.empty == 0);
            let most = full + EMPTY_IN_ALL + EMPTY_EACH * self.sources();
            expect(empty_in_all <= most, || {
                format!("{empty_in_all} turns of {by:?} did nothing")
            })?;
            if !busy {
                self.rest()?;
                if now >= end || self.world.has_stopped() {
                    return Ok(());
                }
            }
        }
    }

    pub fn sources(&self) -> u32 {
        let book = &self.world.handler().book;
        (book.lines.len() + book.dials.len() + book.timers.len() + book.listeners.len()) as u32
    }

    pub fn turn(&mut self, most: Duration) -> Result<bool, String> {
        let before = self.world.now();
        let polls = self.world.faults().pending_of(Call::Poll);
        let book = &mut self.world.handler_mut().book;
        book.begin_turn();
        let turn = book.turn;
        let busy = self.world.turn(most);
        let now = self.world.now();
        let book = &mut self.world.handler_mut().book;
        book.end_turn(now);
        book.standstill = Duration::ZERO;
        book.stop_is_heard = book.stop_at.is_some();
        let played = self.script.played(&mut self.world);
        if played > 0 {
            self.hurts += played;
            for line in &mut self.world.handler_mut().book.lines {
                line.hurt |= line.state != State::Closed || line.closed_in == turn;
            }
        }
        let interrupted = self.world.faults().pending_of(Call::Poll) < polls;
        let passed = self.world.now() > before;
        self.count_empty(interrupted || passed);
        self.meet_the_dialed();
        for peer in &mut self.peers {
            peer.note_close(&self.world);
        }
        rest::after_a_turn(&mut self.world)?;
        if self.latency > Duration::ZERO {
            self.clear_at = self.clear_at.max(self.world.now() + self.latency);
        }
        Ok(busy)
    }

    /// A turn that did nothing may be one too many, but not one after the other.
    pub fn count_empty(&mut self, excused: bool) {
        const CALLS: [Call; 10] = [
            Call::Accept,
            Call::Read,
            Call::Write,
            Call::Connect,
            Call::Receive,
            Call::Send,
            Call::Close,
            Call::Reset,
            Call::Register,
            Call::LookUp,
        ];
        let stats = self.world.stats();
        let calls: u64 = CALLS.iter().map(|&call| self.world.calls(call)).sum();
        let work = calls + stats.callbacks + stats.events;
        let idle = work == std::mem::replace(&mut self.work, work);
        self.empty = if idle && !excused { self.empty + 1 } else { 0 };
    }

    pub fn rest(&mut self) -> Result<(), String> {
        // What arrives in pieces keeps a world busy, before it is accepted as well.
        let most = if self.fair.is_some() { EMPTY } else { PIECES };
        expect(self.empty <= most, || {
            format!("{} turns at one moment did nothing", self.empty)
        })?;
        let clear = self.world.now() >= self.clear_at;
        rest::at_rest(&mut self.world, clear)?;
        let mut waiting = Vec::new();
        for peer in &mut self.peers {
            if clear {
                rest::peer_at_rest(&mut self.world, peer, self.prompt)?;
            } else {
                peer.receive(&mut self.world)?;
            }
            let line = peer.line(&self.world).is_some();
            let book = &self.world.handler().book;
            let met = line || book.refused.contains_key(&peer.key) || peer.gone;
            // Whoever does not read does not see that it was turned away.
            if let Some(addr) = peer.listener.filter(|_| !met && peer.reading)
                && !self.world.saw_eof(peer.client)
                && !self.world.was_reset(peer.client)
            {
                waiting.push(addr);
            }
        }
        let now = self.world.now();
        if let Some(since) = self.fair
            && clear
            && now >= since + PATIENCE
        {
            rest::queue_at_rest(&mut self.world, &waiting)?;
        }
        self.nobody_else_was_hurt()?;
        self.receive_packets()
    }

    /// A connection breaks because its peer has broken it, or because a fault was played.
    pub fn nobody_else_was_hurt(&self) -> Result<(), String> {
        let book = &self.world.handler().book;
        let gone = |key: u64| self.peers.iter().any(|peer| peer.key == key && peer.gone);
        let broken = book.lines.iter().filter(|line| line.by_network);
        // Of twins, either end can have reset the other.
        let one_sided = broken.filter(|line| !line.is_twin() && !gone(line.key));
        let count = one_sided.count();
        let hurts = self.hurts;
        expect(count <= hurts, || {
            format!("{count} connections broke by themselves, and {hurts} faults were played")
        })
    }

    pub fn receive_packets(&mut self) -> Result<(), String> {
        let Some(client) = self.packet_client else {
            return Ok(());
        };
        for (_, bytes) in self.world.received_datagrams(client) {
            let number = errands::number_of(&bytes);
            let ours = number.is_some_and(|it| it & OURS != 0);
            expect(ours, || format!("a datagram arrived damaged: {bytes:?}"))?;
        }
        let sent = self.packets;
        let seen = &self.world.handler().packets_seen;
        let known = seen.iter().all(|&it| it <= sent);
        expect(known, || "a datagram came that nobody sent".to_owned())
    }
}
