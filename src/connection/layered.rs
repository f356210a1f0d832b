//! A connection that has a [`Layer`] between its wire and its handler.
//!
//! What the handler writes is held as it is, plain, and turned into wire bytes only as far
//! ahead as the kernel is likely to take soon: so a large message that many connections share
//! is not multiplied, what was written during a handshake waits for its end, and what many
//! small writes of one callback left leaves together. From there on wire bytes are queued
//! output like any other.
//!
//! What comes from the wire goes to the layer as it comes; what the layer does not take yet is
//! kept, and is at most what one receive call brings.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Connection;
use super::writing::Output;
use crate::config::{self, PanicPolicy};
use crate::context::Flow;
use crate::engine::{Engine, nanos, words_of};
use crate::error::CloseReason;
use crate::faults::fault;
use crate::flags::Flags;
use crate::layer::{Layer, Layers, Progress};
use crate::outbound::Outbound;
use crate::timer::{NEVER, Nanos};

/// A layer, and what waits on either side of it.
pub(crate) struct Layered {
    layer: Box<dyn Layer>,
    /// Plain output that the layer has not taken.
    held: Option<Box<Outbound>>,
    /// Wire bytes that the layer has not taken.
    stash: Vec<u8>,
    /// Queued output from before the layer, which leaves as it is.
    ahead: usize,
    /// How much of the wire output behind that stands for how much plain.
    pieces: VecDeque<Piece>,
    /// The plain bytes of all pieces.
    under_way: usize,
    /// The wire bytes of all pieces that carry none: the layer's own words.
    words: usize,
    /// When a handshake that is not over ends the connection; `NEVER` once it is over.
    handshake_until: Nanos,
    /// The handshake is over, and the handler has not been told.
    is_news: bool,
    /// The handshake has succeeded.
    has_agreed: bool,
    /// The layer was put there by the callback that runs: what that leaves of its input is not
    /// plain.
    is_fresh: bool,
    /// The layer was asked to close.
    is_closed: bool,
    /// The layer gave up, or was given up: it is asked nothing any more.
    is_broken: bool,
    /// Why it gave up, while plain bytes from before that are still to be offered.
    failure: Option<io::Error>,
}

/// Wire bytes in the queue, and the plain ones that they carry.
#[derive(Clone, Copy, Debug)]
struct Piece {
    wire: usize,
    plain: usize,
}

impl Layered {
    fn new(layer: Box<dyn Layer>, handshake_until: Nanos) -> Self {
        Self {
            layer,
            held: None,
            stash: Vec::new(),
            ahead: 0,
            pieces: VecDeque::new(),
            under_way: 0,
            words: 0,
            handshake_until,
            is_news: false,
            has_agreed: false,
            is_fresh: true,
            is_closed: false,
            is_broken: false,
            failure: None,
        }
    }

    pub(crate) fn layer(&self) -> &dyn Layer {
        self.layer.as_ref()
    }

    pub(super) fn shakes_hands(&self) -> bool {
        !self.is_broken && self.handshake_until != NEVER
    }

    pub(crate) fn handshake_until(&self) -> Nanos {
        if fault!(HandshakeUntimed) {
            return NEVER;
        }
        self.handshake_until
    }

    /// Plain bytes that have not been turned into wire bytes.
    fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.queued())
    }

    /// Plain bytes that have not left whole: what the handler knows as queued, however many
    /// wire bytes they are.
    pub(super) fn queued(&self) -> usize {
        self.ahead + self.held() + self.under_way
    }

    /// Whether wire bytes are kept that the layer has not taken.
    fn keeps_wire(&self) -> bool {
        !self.stash.is_empty()
    }

    /// Whether it has given all it can give without more of the wire.
    fn is_hungry(&self) -> bool {
        let has_ended = self.layer.progress() == Progress::Ended;
        self.stash.is_empty() && !self.is_news && !has_ended
    }

    /// Whether held output will be turned into wire bytes, now or after the handshake.
    pub(super) fn will_send(&self) -> bool {
        !self.is_broken && self.held() > 0
    }

    /// Wire bytes were queued that carry so many plain ones.
    fn queue(&mut self, wire: usize, plain: usize) {
        if wire == 0 && plain == 0 {
            return;
        }
        self.pieces.push_back(Piece { wire, plain });
        self.under_way += plain;
        if plain == 0 {
            self.words += wire;
        }
    }

    /// The kernel took so many wire bytes; answers how many plain ones have left whole with
    /// them.
    pub(super) fn sent(&mut self, mut wire: usize) -> usize {
        let plain = self.ahead.min(wire);
        self.ahead -= plain;
        wire -= plain;
        let mut carried = 0;
        while let Some(first) = self.pieces.front_mut() {
            let n = first.wire.min(wire);
            wire -= n;
            first.wire -= n;
            if first.plain == 0 {
                self.words -= n;
            }
            if first.wire > 0 {
                break;
            }
            carried += first.plain;
            self.pieces.pop_front();
        }
        self.under_way -= carried;
        plain + carried
    }

    /// It is asked nothing any more, and what comes from the wire is thrown away.
    fn give_up(&mut self, engine: &mut Engine) {
        self.is_broken = true;
        self.handshake_until = NEVER;
        engine.account(self.stash.len(), 0);
        self.stash = Vec::new();
    }

    /// Gives everything back; answers how many plain bytes have not left.
    pub(super) fn retire(mut self, engine: &mut Engine) -> usize {
        engine.account(self.stash.len() + self.held(), 0);
        if !self.has_agreed {
            engine.stats.handshakes_failed += 1;
        }
        let held = self.held.take().map_or(0, |mut held| {
            let bytes = held.clear(&mut engine.pool);
            engine.pool.put_outbound(held);
            bytes
        });
        self.ahead + held + self.under_way
    }

    /// What the layer has done to whatever it was given.
    fn note_progress(&mut self) {
        if self.handshake_until != NEVER && self.layer.progress() != Progress::Handshake {
            self.handshake_until = NEVER;
            self.is_news = true;
            self.has_agreed = true;
        }
    }
}

/// Runs the layer as a callback is run: a panic costs this connection.
fn guarded<R>(
    engine: &mut Engine,
    call: impl FnOnce() -> Result<R, CloseReason>,
) -> Result<R, CloseReason> {
    match engine.config.panic_policy {
        PanicPolicy::Isolate => catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
            engine.panicked("layer", words_of(payload.as_ref()));
            Err(CloseReason::Panic)
        }),
        PanicPolicy::Propagate => call(),
    }
}

impl Connection {
    // Putting a layer there.

    /// From here on everything passes `layer`, in both directions. What was written before
    /// leaves before, as it is.
    pub(crate) fn set_layer(
        &mut self,
        layer: Box<dyn Layer>,
        unread: &[u8],
        engine: &mut Engine,
    ) -> io::Result<()> {
        if !self.is_open() || !self.may_have_layer() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.unload(engine);
        self.touch(engine);
        self.install(layer, unread, engine);
        Ok(())
    }

    /// Whether nothing is in the way of a layer: another one, records, descriptors that are to
    /// leave with certain bytes, or a FIN that has left.
    fn may_have_layer(&self) -> bool {
        let messages = self.cold.as_ref().and_then(|cold| cold.messages.as_ref());
        let is_cut = messages.is_some_and(|messages| messages.is_cut());
        let is_mute = is_cut || self.keeps_records() || self.has(Flags::FIN_SENT);
        self.layered().is_none() && !is_mute
    }

    fn install(&mut self, layer: Box<dyn Layer>, unread: &[u8], engine: &mut Engine) {
        let wait = nanos(engine.config.handshake_timeout);
        let until = engine.clock.nanos.saturating_add(wait).min(NEVER - 1);
        let mut layered = Box::new(Layered::new(layer, until));
        layered.stash.extend_from_slice(unread);
        engine.account(0, unread.len());
        layered.note_progress();
        if let Some(out) = &self.out {
            layered.ahead = out.queued();
        }
        if let Some(leftover) = self.take_leftover() {
            layered.stash.extend_from_slice(leftover.bytes());
            leftover.release(&mut engine.pool);
        }
        self.put_layer(layered, engine);
        self.set(Flags::CUT_OUTPUT);
        self.set(Flags::READABLE);
        self.collect(0, engine);
        self.make_ready(engine);
        self.arm(engine);
    }

    /// The layer that the listener or the dial was given, before anything has left: what the
    /// callback has written waits for the handshake, even if it has closed the connection
    /// behind that.
    pub(crate) fn begin_layer(&mut self, layers: &Layers, engine: &mut Engine) {
        let has_nothing_to_say = !self.is_open() && self.out.is_none();
        if self.is_dead() || self.layered().is_some() || has_nothing_to_say {
            return;
        }
        if !self.may_have_layer() {
            let why = "records and descriptors cannot pass a layer";
            let error = io::Error::new(io::ErrorKind::Unsupported, why);
            return self.abort(CloseReason::Layer(error), engine);
        }
        let layer = match layers.make() {
            Ok(layer) => layer,
            Err(error) => return self.abort(CloseReason::Layer(error), engine),
        };
        let written = self.out.take();
        self.install(layer, &[], engine);
        let layered = self.layered_mut();
        if let Some(layered) = layered {
            layered.is_fresh = false;
            layered.held = written;
        }
        self.set(Flags::IN_UNFLUSHED);
    }

    pub(crate) fn layered(&self) -> Option<&Layered> {
        self.cold.as_ref()?.layered.as_deref()
    }

    fn layered_mut(&mut self) -> Option<&mut Layered> {
        self.cold.as_mut()?.layered.as_deref_mut()
    }

    /// For a moment: whoever takes it puts it back.
    fn take_layer(&mut self) -> Option<Box<Layered>> {
        self.cold.as_mut()?.layered.take()
    }

    fn put_layer(&mut self, layered: Box<Layered>, engine: &mut Engine) {
        self.cold_mut(engine).layered = Some(layered);
    }

    /// Whether the two ends have not agreed yet. Reading goes on then even if it is paused.
    pub(crate) fn shakes_hands(&self) -> bool {
        self.layered().is_some_and(Layered::shakes_hands)
    }

    /// Whether reading goes on while memory is short, because it is what frees some: what is
    /// kept becomes plain, and what waits for a handshake can leave.
    pub(crate) fn reads_to_free(&self) -> bool {
        self.layered()
            .is_some_and(|layered| layered.keeps_wire() || layered.shakes_hands())
    }

    /// Plain output that waits for its layer.
    fn held(&self) -> usize {
        self.layered().map_or(0, Layered::held)
    }

    /// The handshake is over, and the handler is to hear of it: true once.
    pub(super) fn take_handshake_news(&mut self) -> bool {
        let layered = self.layered_mut();
        layered.is_some_and(|layered| mem::take(&mut layered.is_news))
    }

    /// Whether what a callback has left of its input is for the layer that it has put there;
    /// if so, the layer has it.
    pub(super) fn leaves_to_layer(&mut self, rest: &[u8], engine: &mut Engine) -> bool {
        let layered = self.layered_mut();
        let Some(layered) = layered.filter(|it| it.is_fresh && !fault!(TakenForPlain)) else {
            return false;
        };
        layered.stash.extend_from_slice(rest);
        engine.account(0, rest.len());
        true
    }

    /// Only ever called by a deliberate fault.
    pub(crate) fn forget_held(&mut self, engine: &mut Engine) {
        let layered = self.cold.as_mut().and_then(|cold| cold.layered.as_mut());
        if let Some(mut held) = layered.and_then(|layered| layered.held.take()) {
            let len = held.clear(&mut engine.pool);
            engine.account(len, 0);
            engine.pool.put_outbound(held);
        }
    }

    // Reading.

    /// Plain bytes: those that the layer has, or what one receive call brings. `READABLE`
    /// stays for as long as the layer may have more.
    #[inline(never)]
    pub(super) fn receive_layered(
        &mut self,
        engine: &mut Engine,
        plain: &mut [u8],
    ) -> Option<usize> {
        let outcome = self.pump(engine, plain);
        self.collect(0, engine);
        if self.out.is_some() {
            self.touch(engine);
        }
        match outcome {
            Ok(n) => n,
            Err(reason) => {
                self.break_layer(reason, engine);
                None
            }
        }
    }

    fn pump(
        &mut self,
        engine: &mut Engine,
        plain: &mut [u8],
    ) -> Result<Option<usize>, CloseReason> {
        let is_open = self.is_open();
        let Some(layered) = self.layered_mut() else {
            return Ok(None);
        };
        layered.is_fresh = false;
        // Of a closing connection nobody is told anything any more.
        layered.is_news &= is_open;
        if layered.is_broken {
            return Ok(self.receive_wire(engine, plain));
        }
        if layered.shakes_hands() && !engine.may_shake_hands() {
            self.make_ready(engine);
            return Ok(None);
        }
        let mut n = self.digest(plain, &[], engine)?;
        if n == 0 && self.layered().is_some_and(Layered::is_hungry) {
            let Some(most) = self.most_wire(engine) else {
                self.park(engine);
                return Ok(None);
            };
            let mut buffer = mem::take(&mut engine.wire_in);
            buffer.resize(buffer.len().max(most), 0);
            let came = self.receive_wire(engine, &mut buffer[..most]);
            let digested = match came {
                Some(len) => self.digest(plain, &buffer[..len], engine),
                None => Ok(0),
            };
            engine.wire_in = buffer;
            n = digested?;
            if came.is_none() && self.has(Flags::EOF) {
                return self.wire_ended(engine);
            }
        }
        Ok(self.pumped(n, plain.len(), engine))
    }

    fn digest(
        &mut self,
        plain: &mut [u8],
        wire: &[u8],
        engine: &mut Engine,
    ) -> Result<usize, CloseReason> {
        let Some(layered) = self.layered_mut() else {
            return Ok(0);
        };
        let kept = layered.stash.len();
        let digested = guarded(engine, || layered.digest(plain, wire));
        engine.account(kept, layered.stash.len());
        digested
    }

    /// How much may be received at once; `None` as long as memory is short.
    fn most_wire(&self, engine: &Engine) -> Option<usize> {
        let most = engine.config.read_buffer.min(config::LAYER_READ);
        if !engine.pressed || !self.is_open() {
            Some(most)
        } else if self.shakes_hands() {
            Some(most.min(config::LAYER_READ_SHORT))
        } else {
            None
        }
    }

    /// What is to be known after the layer has had what there is.
    fn pumped(&mut self, n: usize, room: usize, engine: &mut Engine) -> Option<usize> {
        let layered = self.layered()?;
        let has_ended = layered.layer.progress() == Progress::Ended;
        let has_more = n == room || !layered.stash.is_empty() || layered.failure.is_some();
        if layered.is_news || has_more || (has_ended && n > 0) {
            self.set(Flags::READABLE);
        } else if has_ended {
            self.flags.clear(Flags::READABLE);
            self.set(Flags::EOF);
            // No read follows that would show a reset.
            self.fail_if_broken(engine);
        }
        if n > 0 {
            // They may have come long ago, and move now.
            self.active_at = engine.clock.nanos;
            return Some(n);
        }
        if self.has(Flags::READABLE) {
            self.make_ready(engine);
        }
        None
    }

    /// A FIN on the wire. After the layer's own end it says nothing new.
    fn wire_ended(&mut self, engine: &mut Engine) -> Result<Option<usize>, CloseReason> {
        let Some(layered) = self.layered().filter(|_| self.is_open()) else {
            return Ok(None);
        };
        if layered.layer.ends_with_the_stream() || fault!(CutOffIsTheEnd) {
            return Ok(None);
        }
        if layered.shakes_hands() {
            let why = "the peer ended the stream during the handshake";
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
            return Err(CloseReason::Layer(error));
        }
        // The layer is well, and may have to say goodbye behind what is queued.
        self.close(CloseReason::Truncated, engine);
        Ok(None)
    }

    /// The layer cannot go on. What it has to say about that has been queued.
    fn break_layer(&mut self, reason: CloseReason, engine: &mut Engine) {
        if let Some(layered) = self.layered_mut() {
            layered.give_up(engine);
        }
        match reason {
            CloseReason::Panic => self.abort(reason, engine),
            _ if self.is_open() => self.close(reason, engine),
            // What the layer has taken leaves, and the rest cannot any more.
            _ if self.held() > 0 => {
                self.set(Flags::RESET);
                self.die(CloseReason::Local, engine);
            }
            _ => {}
        }
    }

    // Writing.

    /// Queues what the handler has written, in front of the layer.
    pub(super) fn hold(&mut self, output: Output<'_>, engine: &mut Engine) -> Flow {
        let len = output.bytes().len();
        let Some(layered) = self.layered_mut() else {
            return self.flow();
        };
        let held = layered.held.get_or_insert_with(|| engine.pool.outbound());
        match output {
            Output::Copied(bytes) => held.push(bytes, &mut engine.pool),
            Output::Shared(bytes) => held.push_shared(bytes, 0),
        }
        self.pushed(len, self.queued(), engine);
        // Its own callback is followed by a settling in any case, which this makes look.
        if engine.current == self.token {
            self.set(Flags::IN_UNFLUSHED);
        }
        self.flow()
    }

    /// Turns held output into wire bytes, as far ahead as is of use. Some leave at once.
    pub(super) fn encode(&mut self, engine: &mut Engine) {
        let mut all = 0;
        while all < config::LAYER_AHEAD
            && self.wire_queued() < config::LAYER_AHEAD
            && self.held() > 0
            && !self.is_dead()
        {
            let taken = self.encode_some(engine);
            if taken == 0 {
                return;
            }
            all += taken;
        }
    }

    fn encode_some(&mut self, engine: &mut Engine) -> usize {
        let Some(mut layered) = self.take_layer() else {
            return 0;
        };
        let taken = match &layered.held {
            Some(held) if !layered.is_broken && !layered.shakes_hands() => {
                let front = held.front();
                let most = front.len().min(config::LAYER_AHEAD);
                let layer = &mut layered.layer;
                guarded(engine, || Ok(layer.write(&front[..most]).min(most)))
            }
            _ => Ok(0),
        };
        let n = taken.as_ref().map_or(0, |&n| n);
        if let Some(held) = &mut layered.held {
            held.consume(n, &mut engine.pool);
        }
        if let Some(held) = layered.held.take_if(|held| held.is_empty()) {
            engine.pool.put_outbound(held);
        }
        engine.account(n, 0);
        self.put_layer(layered, engine);
        self.collect(n, engine);
        if let Err(reason) = taken {
            self.break_layer(reason, engine);
        }
        n
    }

    fn wire_queued(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.queued())
    }

    /// Queues what the layer has to send, which carries so many plain bytes.
    fn collect(&mut self, plain: usize, engine: &mut Engine) {
        let mut wire = mem::take(&mut engine.wire_out);
        let has_ended = self.has(Flags::FIN_SENT);
        let layered = self.layered_mut();
        if let Some(layered) = layered.filter(|layered| !layered.is_broken) {
            let layer = &mut layered.layer;
            let asked = guarded(engine, || {
                layer.send(&mut wire);
                Ok(())
            });
            if has_ended {
                // Nobody would get it.
                wire.clear();
            }
            layered.queue(wire.len(), plain);
            let is_babble = layered.words > config::LAYER_WORDS;
            if let Err(reason) = asked {
                self.break_layer(reason, engine);
            } else if is_babble {
                self.set(Flags::RESET);
                self.die(CloseReason::Overflow, engine);
            }
        }
        let left = self.send_wire(&wire, plain, engine);
        let rest = &wire[left..];
        if !rest.is_empty() {
            let out = self.out.get_or_insert_with(|| engine.pool.outbound());
            out.push(rest, &mut engine.pool);
            engine.account(0, rest.len());
        }
        wire.clear();
        wire.shrink_to(2 * config::LAYER_AHEAD);
        engine.wire_out = wire;
    }

    /// What carries much leaves from where it lies, if nothing waits before it. Answers how many
    /// wire bytes have left.
    fn send_wire(&mut self, wire: &[u8], plain: usize, engine: &mut Engine) -> usize {
        let is_much = plain > 0 && wire.len() >= config::WRITE_THROUGH;
        let waits = self.out.is_some() || !self.has(Flags::WRITABLE);
        if !is_much || waits || self.is_dead() {
            return 0;
        }
        let sent = self.send(engine, wire).unwrap_or(0);
        self.count_sent(sent, engine);
        self.ease(engine);
        sent
    }

    // Closing.

    /// Has the layer say that nothing will follow. `true`: that has left, or there is nothing
    /// to say. Whoever wants to read on first ends the handshake.
    pub(super) fn say_goodbye(&mut self, engine: &mut Engine) -> bool {
        let closes = self.has(Flags::CLOSING);
        let Some(layered) = self.layered_mut() else {
            return true;
        };
        if layered.shakes_hands() {
            if !closes {
                return false;
            }
            layered.give_up(engine);
        }
        if !layered.is_broken && !layered.is_closed {
            layered.is_closed = true;
            let layer = &mut layered.layer;
            let closed = guarded(engine, || {
                layer.close();
                Ok(())
            });
            if let Err(reason) = closed {
                self.break_layer(reason, engine);
                return false;
            }
            self.collect(0, engine);
            self.flush(engine);
        }
        self.out.is_none() && !self.is_dead()
    }
}

impl Layered {
    /// Gives the layer what was kept, or else what came; answers the plain bytes that are in
    /// it. Stops short where the handshake ends: what follows is for whoever has been told.
    fn digest(&mut self, plain: &mut [u8], wire: &[u8]) -> Result<usize, CloseReason> {
        let mut kept = mem::take(&mut self.stash);
        let (n, taken) = self.pass(plain, if kept.is_empty() { wire } else { &kept });
        if self.failure.is_some() || self.layer.progress() == Progress::Ended {
            kept.clear();
        } else if kept.is_empty() {
            kept.extend_from_slice(&wire[taken..]);
        } else {
            kept.drain(..taken);
        }
        if fault!(StashForgotten) {
            kept.clear();
        }
        // An idle connection holds no buffer.
        self.stash = if kept.is_empty() { Vec::new() } else { kept };
        match self.failure.take_if(|_| n == 0 && !self.is_news) {
            Some(failure) => Err(CloseReason::Layer(failure)),
            None => Ok(n),
        }
    }

    /// How many plain bytes came out, and how many wire bytes went in.
    fn pass(&mut self, plain: &mut [u8], wire: &[u8]) -> (usize, usize) {
        let (mut n, mut taken) = (0, 0);
        while !self.is_news && n < plain.len() {
            let got = if self.shakes_hands() {
                0
            } else {
                self.layer.read(&mut plain[n..]).min(plain.len() - n)
            };
            n += got;
            let is_over = self.failure.is_some() || self.layer.progress() == Progress::Ended;
            if taken == wire.len() || is_over {
                if got == 0 {
                    break;
                }
                continue;
            }
            match self.layer.receive(&wire[taken..]) {
                Ok(0) if got == 0 => {
                    let why = "the layer takes nothing and gives nothing";
                    self.failure = Some(io::Error::other(why));
                }
                Ok(more) => taken += more.min(wire.len() - taken),
                Err(failure) => self.failure = Some(failure),
            }
            self.note_progress();
        }
        (n, taken)
    }
}
