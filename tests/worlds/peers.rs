//! The far ends: clients, and the hosts that are dialed. Each has a temperament.

use windlass::sim::{Client, World};

use super::app::App;
use super::book::{Line, State, key_of};
use super::dice::{Dice, Stream};
use super::layers::Wire;

/// One far end, and what it has sent and received.
pub struct Peer {
    pub client: Client,
    pub key: u64,
    /// Where it connected to; none if it was dialed.
    pub listener: Option<std::net::SocketAddr>,
    pub temper: Temper,
    pub sent: u64,
    pub got: u64,
    pub reading: bool,
    pub finished: bool,
    /// Closed or reset by itself: it is owed nothing more.
    pub gone: bool,
    /// What it had sent when the loop closed the connection.
    pub sent_at_close: Option<u64>,
    /// It stopped reading at some time since the loop began to close.
    pub balked: bool,
    pub wire: Wire,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Temper {
    Talks,
    Floods,
    /// Sends nothing and reads nothing.
    Stalls,
    NeverReads,
    Resets,
    HalfCloses,
    ByteByByte,
    /// Gone as soon as it has connected.
    Vanishes,
}

const TEMPERS: [Temper; 8] = [
    Temper::Talks,
    Temper::Talks,
    Temper::Floods,
    Temper::Stalls,
    Temper::NeverReads,
    Temper::Resets,
    Temper::HalfCloses,
    Temper::ByteByByte,
];

impl Peer {
    pub fn new(
        world: &mut World<App>,
        client: Client,
        listener: Option<std::net::SocketAddr>,
        dice: &mut Dice,
    ) -> Self {
        let addr = world.addr(client).as_socket_addr();
        let local = world.loop_addr(client).port().unwrap_or(0);
        let local = if listener.is_some() { 0 } else { local };
        let key = addr.map_or(0, |addr| key_of(addr, local));
        let temper = if dice.one_in(12) {
            Temper::Vanishes
        } else {
            dice.pick(&TEMPERS)
        };
        let layers = world.handler().plan.layers;
        let cuts = layers && dice.one_in(6);
        let mut peer = Self {
            wire: Wire::new(&world.handler().plan, cuts),
            client,
            key,
            listener,
            temper,
            sent: 0,
            got: 0,
            reading: true,
            finished: false,
            gone: false,
            sent_at_close: None,
            balked: false,
        };
        peer.note(world, &format!("{temper:?} comes"));
        if layers && !dice.one_in(4) {
            peer.send(world, 0);
        }
        match temper {
            Temper::Vanishes => peer.vanish(world, dice),
            Temper::Stalls | Temper::NeverReads => peer.stop_reading(world),
            _ => {}
        }
        peer
    }

    /// One act of its own.
    pub fn act(&mut self, world: &mut World<App>, dice: &mut Dice) {
        if self.gone {
            return;
        }
        if self.wire.is_layered() && !self.finished && dice.one_in(60) {
            return self.rave(world);
        }
        let scale = world.handler().plan.scale;
        match (self.temper, dice.roll(12)) {
            (Temper::Stalls | Temper::Vanishes, _) => {}
            (Temper::ByteByByte, 0..=8) => self.send(world, 1),
            (Temper::Floods, 0..=5) => self.send(world, dice.between(100, 1500) * scale),
            (Temper::Resets, 0..=1) => self.reset(world),
            (Temper::HalfCloses, 0..=2) => self.finish(world),
            (Temper::NeverReads, 9..) => {}
            (_, 0..=5) => self.send(world, dice.between(1, 120) * scale),
            (_, 6) => self.stop_reading(world),
            (_, 7) => self.resume_reading(world),
            (_, 8 | 9) => {
                world.read_some(self.client, dice.between(1, 30) * scale);
            }
            (_, 10) if dice.one_in(6) => self.close(world),
            (_, 11) if dice.one_in(6) => self.finish(world),
            (_, 11) if dice.one_in(12) => self.reset(world),
            _ => {}
        }
    }

    pub fn send(&mut self, world: &mut World<App>, count: usize) {
        if self.finished || self.gone {
            return;
        }
        let bytes = Stream::new(self.key).bytes(self.sent, count);
        let bytes = self.wire.encode(bytes);
        world.send(self.client, &bytes);
        self.sent += count as u64;
    }

    pub fn finish(&mut self, world: &mut World<App>) {
        if !self.finished {
            let end = self.wire.end();
            world.send(self.client, &end);
        }
        world.finish(self.client);
        self.finished = true;
    }

    /// Sends what no layer takes for its own.
    fn rave(&mut self, world: &mut World<App>) {
        self.note(world, "raves");
        world.send(self.client, &[0xff]);
        self.wire.raves = true;
    }

    pub fn resume_reading(&mut self, world: &mut World<App>) {
        if !self.reading {
            world.resume_reading(self.client);
            self.reading = true;
        }
    }

    fn stop_reading(&mut self, world: &mut World<App>) {
        world.stop_reading(self.client);
        self.reading = false;
        self.balked = true;
    }

    fn reset(&mut self, world: &mut World<App>) {
        world.reset(self.client);
        self.gone = true;
    }

    fn close(&mut self, world: &mut World<App>) {
        world.close(self.client);
        self.gone = true;
    }

    fn vanish(&mut self, world: &mut World<App>, dice: &mut Dice) {
        if dice.one_in(2) {
            self.send(world, dice.between(1, 50));
        }
        if dice.one_in(2) {
            self.reset(world);
        } else {
            self.close(world);
        }
    }

    /// Takes what has arrived and compares it with what was written.
    pub fn receive(&mut self, world: &mut World<App>) -> Result<(), String> {
        let bytes = world.received(self.client);
        let bytes = self.wire.decode(bytes)?;
        let place = self.got;
        self.got += bytes.len() as u64;
        let Some(line) = self.line(world) else {
            let known = bytes.is_empty() || bytes == b"no";
            return expect(known, || {
                format!("{:?} received what nobody wrote", self.client)
            });
        };
        let wrong = line.output().differs(place, &bytes);
        let most = line.written + line.doubtful;
        expect(wrong.is_none(), || {
            format!("{:?} received a wrong byte at {wrong:?}", self.client)
        })?;
        expect(self.got <= most, || {
            format!("{:?} received {} bytes of {most}", self.client, self.got)
        })
    }

    /// The loop's side of it, once there is one.
    pub fn line<'w>(&self, world: &'w World<App>) -> Option<&'w Line> {
        let book = &world.handler().book;
        let line = &book.lines[*book.by_key.get(&self.key)?];
        Some(line)
    }

    /// After every turn, before anybody sends anything more.
    pub fn note_close(&mut self, world: &World<App>) {
        let over = |line: &Line| line.state == State::Closed;
        if self.sent_at_close.is_none() && self.line(world).is_some_and(over) {
            self.sent_at_close = Some(self.sent);
        }
    }

    /// What there is to say once its connection is over for the loop.
    /// `prompt`: what is sent arrives at once in this world.
    pub fn judge_end(
        &mut self,
        world: &mut World<App>,
        drain: u64,
        prompt: bool,
    ) -> Result<(), String> {
        let Some(line) = self.line(world) else {
            return Ok(());
        };
        if line.state != State::Closed {
            // Whoever stops reading during a close is owed no more than the linger time.
            self.balked = !self.reading || (self.balked && line.state == State::Closing);
            return Ok(());
        }
        let at_close = *self.sent_at_close.get_or_insert(self.sent);
        // What the layer itself has sent may be unread.
        let all_heard = at_close == line.received && self.sent == at_close;
        let all_heard = all_heard && line.agreed == line.layered;
        let all_heard = all_heard && (!self.wire.said_end || line.eof_told);
        let (id, reason, written) = (line.id, line.reason.clone(), line.written);
        let (aborted, heard, taken) = (line.aborted, line.received, line.taken);
        let stood = line.marks.stood;
        let owed = line.orderly && !line.hurt && !self.gone && self.reading;
        let owed = owed && !self.wire.raves;
        let (layered, agreed) = (line.layered, line.agreed);
        let blamed = line.undressed && !line.hurt && !self.gone;
        let well = self.wire.is_well(self.finished);
        expect(!blamed || !well, || {
            format!("{id:?} ended with {reason:?}, and its peer did nothing wrong")
        })?;
        let within = self.sent - line.seen <= drain;
        // Whoever reads on is owed everything, whatever it sends meanwhile: for as long as it
        // is lingered for.
        let reads_on = !self.balked && prompt && !stood;
        let got = self.got;
        expect(
            !owed || !within || !(all_heard || reads_on) || got == written,
            || format!("{id:?} ended with {reason:?}, and its peer got {got} of {written} bytes"),
        )?;
        let ended = self.wire.has_ended() || !agreed;
        expect(!owed || !within || !all_heard || ended, || {
            format!("{id:?} ended with {reason:?}, and its layer did not say so")
        })?;
        // Nothing came any more, and what had come was drained.
        let drained = layered || at_close == heard || self.sent > at_close || taken == 0;
        expect(!owed || !within || !reads_on || drained, || {
            format!("{id:?} ended with {reason:?} and had read {heard} of {at_close} bytes")
        })?;
        let aborted = aborted && !self.gone && !world.saw_eof(self.client);
        let reset = world.was_reset(self.client);
        expect(!aborted || reset, || {
            format!("{id:?} was aborted, and its peer was not reset")
        })?;
        let eof = world.saw_eof(self.client) && !world.was_reset(self.client);
        expect(!owed || !within || !all_heard || eof, || {
            format!("{id:?} ended with {reason:?}, and its peer saw no end of the stream")
        })
    }

    fn note(&self, world: &mut World<App>, what: &str) {
        let client = self.client;
        world.diary().note(|| format!("{client:?}: {what}"));
    }
}

pub fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
