//! One stream: what it knows, how it reads, flushes and closes.
//!
//! Bytes pass between wire and handler at exactly one place on the way in
//! ([`Connection::receive`]) and one on the way out ([`Connection::send`]); everything
//! above them sees plain bytes. What a layer does there is in a room behind this one.
//!
//! This room never calls the handler. It leaves notes (flags, and entries on the engine's
//! lists) that the reactor turns into callbacks.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::address::{Addr, Network};
use crate::cold::Cold;
use crate::config::{self, Limits};
use crate::context::Flow;
use crate::engine::{Engine, NOBODY, at_least_a_tick, gather_most, nanos};
use crate::error::{Cause, CloseReason, Error, Op};
use crate::faults::fault;
use crate::fd::{self, Received, Sent};
use crate::flags::Flags;
use crate::handler::{Closed, Deadline};
use crate::input::Leftover;
use crate::kernel::{Errno, Event, Fd, MAX_FDS, MAX_PARTS, Moved, PeerCred, Readiness, Transport};
use crate::listener::Terms;
use crate::messages::Messages;
use crate::outbound::{Level, Outbound};
use crate::peer::{Peer, Remote};
use crate::sources::Named;
use crate::timer::{Entry, NEVER, Nanos, TICK};
use crate::token::{ConnId, Owner, TimerId, Token};
use crate::unix_path::{self, Owned};

mod layered;

pub(crate) use layered::Layered;

/// One established stream.
pub(crate) struct Connection {
    pub(crate) token: Token,
    fd: Fd,
    flags: Flags,
    pub(crate) owner: Owner,
    /// The listener or the dial that it came from; either may be gone by now.
    pub(crate) origin: Token,
    peer: Peer,

    /// Output that the kernel has not taken; `None` while there is none.
    out: Option<Box<Outbound>>,
    /// What few connections have; `None` while there is nothing.
    cold: Option<Box<Cold>>,

    active_at: Nanos,
    entry: Option<Entry>,

    bytes_read: u64,
    bytes_written: u64,
}

/// What a connection that is over still holds: its descriptor, and what decides how it goes.
#[derive(Clone, Copy)]
pub(crate) struct Remains {
    fd: Fd,
    flags: Flags,
}

impl Remains {
    #[inline]
    pub(crate) fn close(self, engine: &mut Engine) {
        if fault!(DescriptorLeaked) {
            return;
        }
        if fault!(DescriptorClosedTwice) && self.fd != GIVEN_AWAY {
            engine.kernel.close(self.fd);
        }
        if self.flags.has(Flags::ENDS_WITH_CARE) {
            self.close_with_care(engine);
        } else {
            engine.kernel.close_stream(self.fd);
        }
    }

    #[inline(never)]
    fn close_with_care(self, engine: &mut Engine) {
        if self.fd == GIVEN_AWAY {
            return;
        }
        if self.flags.has(Flags::ELSEWHERE) {
            engine.kernel.deregister(self.fd);
        }
        if self.flags.has(Flags::RESET) {
            engine.kernel.reset(self.fd);
        } else {
            engine.kernel.close(self.fd);
        }
    }
}

/// Ten thousand of them are mostly idle.
const _: () = assert!(size_of::<Connection>() == 88 && size_of::<Option<Connection>>() == 88);

/// What is to be queued.
enum Output<'a> {
    Copied(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Output<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Where the bytes that a callback is to be offered lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// In the loop's shared buffer, that many from its start.
    Shared(usize),
    /// In the connection's own leftover.
    Own,
    /// Nowhere: nothing came.
    Nothing,
    /// Nowhere, but the connection's layer has come to terms with the peer's.
    Agreed,
}

/// What is left of a turn's allowance for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: usize,
    calls: u32,
}

impl Budget {
    pub(crate) fn of_a_turn(engine: &Engine) -> Self {
        Self {
            bytes: engine.config.read_budget,
            calls: engine.config.read_calls,
        }
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.calls = self.calls.saturating_sub(1);
    }

    pub(crate) fn is_spent(self) -> bool {
        self.bytes == 0 || self.calls == 0
    }
}

impl Named for Connection {
    fn token(&self) -> Token {
        self.token
    }
}

impl Connection {
    /// One that has nothing but its descriptor.
    #[inline(always)]
    fn bare(
        token: Token,
        fd: Fd,
        peer: Peer,
        origin: Token,
        owner: Owner,
        engine: &Engine,
    ) -> Self {
        Self {
            token,
            fd,
            flags: Flags::NEW,
            owner,
            origin,
            peer,
            out: None,
            cold: None,
            active_at: engine.clock.nanos,
            entry: None,
            bytes_read: 0,
            bytes_written: 0,
        }
    }

    /// A client that was accepted. Who it is, [`recognize`](Self::recognize) or
    /// [`identify`](Self::identify) says.
    #[inline(always)]
    pub(crate) fn accepted(token: Token, fd: Fd, terms: Terms, engine: &Engine) -> Self {
        let Terms {
            listener, owner, ..
        } = terms;
        Self::bare(token, fd, Peer::ELSEWHERE, listener, owner, engine)
    }

    /// Notes who was accepted last, if it is one of those that most are.
    #[inline(always)]
    pub(crate) fn recognize(&mut self, transport: Transport, engine: &Engine) -> bool {
        if transport != Transport::Stream {
            return false;
        }
        match engine.kernel.ordinary_client() {
            Some(peer) => {
                self.peer = peer;
                true
            }
            None => false,
        }
    }

    /// Says who it is that was accepted last, and what kind of a connection this is.
    pub(crate) fn identify(&mut self, remote: Remote, transport: Transport, engine: &mut Engine) {
        self.flags = Flags::of_a_new(&remote, transport);
        match remote {
            Remote::Packed(peer) => self.peer = peer,
            Remote::Unpacked(addr) => self.cold_mut(engine).peer = Some(addr),
        }
    }

    /// An accepted connection begins to be reported on.
    #[inline(always)]
    pub(crate) fn register(&mut self, engine: &mut Engine) {
        if self.is_dead() {
            return;
        }
        if let Err(errno) = engine.kernel.register_stream(self.fd, self.token) {
            return self.not_registered(errno, engine);
        }
        self.set(Flags::REGISTERED);
        if engine.stopping() {
            self.set(Flags::SHUTDOWN);
            self.make_ready(engine);
        }
        self.arm_new(engine);
        self.settle(engine);
    }

    #[inline(never)]
    fn not_registered(&mut self, errno: Errno, engine: &mut Engine) {
        let peer = Some(self.peer().into());
        let network = Some(self.network());
        let error = Error::new(Op::Accept, network, peer, Cause::Errno(errno));
        self.die(CloseReason::Io(error), engine);
    }

    fn set_peer(&mut self, peer: Addr, engine: &mut Engine) {
        match Peer::pack(&peer) {
            Some(packed) => {
                self.peer = packed;
                if let Some(cold) = &mut self.cold {
                    cold.peer = None;
                }
            }
            None => self.cold_mut(engine).peer = Some(peer),
        }
    }

    pub(crate) fn peer(&self) -> Addr {
        let elsewhere = self.cold.as_ref().and_then(|cold| cold.peer.clone());
        elsewhere.unwrap_or_else(|| self.peer.unpack())
    }

    #[inline]
    fn cold_mut(&mut self, engine: &mut Engine) -> &mut Cold {
        self.cold.get_or_insert_with(|| engine.spares.take())
    }

    /// Gives the cold fields back, if none of them is in use any more.
    fn cool(&mut self, engine: &mut Engine) {
        if let Some(cold) = self.cold.take_if(|cold| cold.is_blank()) {
            engine.spares.give(cold);
        }
    }

    /// An attempt of a dial, to `remote`.
    pub(crate) fn dialed(
        token: Token,
        fd: Fd,
        remote: Addr,
        transport: Transport,
        dial: Token,
        owner: Owner,
        engine: &mut Engine,
    ) -> Self {
        let mut conn = Self::bare(token, fd, Peer::ELSEWHERE, dial, owner, engine);
        conn.identify(Remote::from(remote), transport, engine);
        conn.set(Flags::CONNECTING);
        conn
    }

    /// The attempt has won. It stays an attempt until the handler is told.
    pub(crate) fn connected(&mut self, peer: Addr, ready: Readiness, engine: &mut Engine) {
        self.set_peer(peer, engine);
        self.active_at = engine.clock.nanos;
        self.mark(ready);
    }

    pub(crate) fn id(&self) -> ConnId {
        ConnId::new(self.token)
    }

    pub(crate) fn fd(&self) -> Fd {
        self.fd
    }

    /// The descriptor, for a question that the handler asks; EBADF once it was given away.
    pub(crate) fn asked(&self) -> Result<Fd, Errno> {
        if self.fd == GIVEN_AWAY {
            Err(Errno(libc::EBADF))
        } else {
            Ok(self.fd)
        }
    }

    /// What to close when no callback is left to be told.
    pub(crate) fn descriptor(&self) -> Option<Fd> {
        self.asked().ok()
    }

    pub(crate) fn network(&self) -> Network {
        match (self.has(Flags::UNIX), self.has(Flags::RECORDS)) {
            (false, _) => Network::Tcp,
            (true, false) => Network::Unix,
            (true, true) => Network::Unixpacket,
        }
    }

    /// Whether each write is one record.
    pub(crate) fn keeps_records(&self) -> bool {
        self.has(Flags::RECORDS)
    }

    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.flags.has(flag)
    }

    /// Takes a note off: true if it was there.
    pub(crate) fn take(&mut self, flag: Flags) -> bool {
        let had = self.flags.has(flag);
        self.flags.clear(flag);
        had
    }

    /// Takes all callbacks off that are due for another reason than bytes.
    pub(crate) fn take_notes(&mut self) -> Flags {
        let notes = self.flags.among(Flags::NOTES);
        self.flags.clear(notes);
        notes
    }

    pub(crate) fn set(&mut self, flag: Flags) {
        self.flags.set(flag);
    }

    pub(crate) fn queued(&self) -> usize {
        match self.layered() {
            Some(layered) => layered.queued(),
            None => self.out.as_ref().map_or(0, |out| out.queued()),
        }
    }

    /// Whether any output is still to leave, from either side of a layer.
    pub(crate) fn has_output(&self) -> bool {
        self.out.is_some() || self.layered().is_some_and(Layered::will_send)
    }

    /// Whether any output waits for nothing but the kernel.
    pub(crate) fn may_send(&self) -> bool {
        self.out.is_some() || (self.has_output() && !self.shakes_hands())
    }

    pub(crate) fn unread(&self) -> usize {
        self.leftover().map_or(0, Leftover::len)
    }

    fn leftover(&self) -> Option<&Leftover> {
        self.cold.as_ref()?.leftover.as_ref()
    }

    fn take_leftover(&mut self) -> Option<Leftover> {
        self.cold.as_mut()?.leftover.take()
    }

    fn discarded(&self) -> u32 {
        self.cold.as_ref().map_or(0, |cold| cold.discarded)
    }

    fn stalled_at(&self) -> Nanos {
        self.cold.as_ref().map_or(NEVER, |cold| cold.stalled_at)
    }

    /// The end of the linger time; `NEVER` if it has not begun.
    fn lingers_until(&self) -> Nanos {
        self.cold.as_ref().map_or(NEVER, |cold| cold.lingers_until)
    }

    /// No output waits any more.
    #[inline]
    fn unstall(&mut self, engine: &mut Engine) {
        if let Some(cold) = &mut self.cold
            && cold.stalled_at != NEVER
        {
            cold.stalled_at = NEVER;
            self.cool(engine);
        }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.has(Flags::DEAD)
    }

    /// Open as far as the handler is concerned: connected, and no `close` or `abort` yet.
    pub(crate) fn is_open(&self) -> bool {
        !self.flags.has(Flags::NOT_OPEN)
    }

    pub(crate) fn limits(&self, engine: &Engine) -> Limits {
        self.cold
            .as_ref()
            .and_then(|cold| cold.limits)
            .unwrap_or(engine.config.limits)
    }

    // The ready list and its siblings.

    /// Puts the connection on the ready list: it has work that nobody will announce.
    #[inline(never)]
    pub(crate) fn make_ready(&mut self, engine: &mut Engine) {
        if !self.has(Flags::IN_READY) && !self.is_dead() {
            self.set(Flags::IN_READY);
            engine.ready.push(self.token);
        }
    }

    /// Sees to it that the connection is flushed this turn: after its callback if that is
    /// running, else in the turn's flush step.
    #[inline]
    fn touch(&mut self, engine: &mut Engine) {
        if engine.current != self.token {
            self.be_flushed(engine);
        }
    }

    #[inline(never)]
    fn be_flushed(&mut self, engine: &mut Engine) {
        if !self.has(Flags::IN_UNFLUSHED) {
            self.set(Flags::IN_UNFLUSHED);
            engine.unflushed.push(self.token);
        }
    }

    /// Notes what the kernel reported, and acts on an error: it ends even a paused
    /// connection.
    pub(crate) fn note(&mut self, event: Event, engine: &mut Engine) {
        self.mark(event.ready);
        // Where no read comes, or none but those that answer 0, the error is asked for.
        if self.has(Flags::ERROR_SEEN) && (self.has(Flags::EOF) || !self.may_read(engine)) {
            self.fail_if_broken(engine);
        }
    }

    /// Whether nothing is to be known of this connection but that bytes come and go: if that is
    /// what an event says, one receive, one callback and one send are all there is to it.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        if !self.flags.is(Flags::PLAIN) || self.out.is_some() {
            return false;
        }
        match &self.cold {
            None => true,
            Some(cold) => cold.lets_be_plain(),
        }
    }

    /// The one read of a plain connection, into the whole of the shared buffer. If it answers
    /// as most do, with some bytes that do not fill it, the socket is drained and the
    /// connection as plain as before; else the answer is for
    /// [`received_first`](Self::received_first).
    #[inline]
    pub(crate) fn receive_plain(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Result<usize, Moved> {
        engine.stats.reads += 1;
        let n = engine.kernel.recv_some(self.fd, shared)?;
        if !fault!(IdleNotRenewed) {
            self.active_at = engine.clock.nanos;
        }
        self.gained(n, engine);
        Ok(n)
    }

    /// The same, where the event says that the end is behind the bytes: `Ok` if it was all that
    /// was left, and the handler is to be told.
    #[inline]
    pub(crate) fn receive_end(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Result<(), Moved> {
        engine.stats.reads += 1;
        let moved = engine.kernel.recv(self.fd, shared);
        if !moved.is_nothing() {
            return Err(moved);
        }
        self.set(Flags::ENDED);
        Ok(())
    }

    /// Ends a plain connection whose handler has closed it when it was told of the end, if there
    /// is nothing to be sent any more. `false`: there is more to see to.
    #[inline(always)]
    pub(crate) fn end_plain(&mut self, engine: &mut Engine) -> bool {
        let over = self.flags.is(Flags::OVER) && self.out.is_none() && engine.gather.is_empty();
        if over {
            engine.current = NOBODY;
            self.set(Flags::DEAD);
            engine.closing.push_eof(self.token);
        }
        over
    }

    /// What else the first read may have come to.
    pub(crate) fn received_first(
        &mut self,
        moved: Moved,
        ready: Readiness,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Option<usize> {
        self.mark(ready);
        let received = fd::after_read(moved, engine.kernel.as_mut(), self.fd, shared);
        let n = self.received(received, engine, shared.len())?;
        self.gained(n, engine);
        Some(n)
    }

    /// A callback of a plain connection begins.
    #[inline]
    pub(crate) fn begin_plain_callback(&self, engine: &mut Engine) {
        let most = self.gather_most(engine);
        engine.begin_callback(self.token, Some(most));
    }

    /// Sends what the callback of a plain connection has gathered, if that is all that came of
    /// it. `false`: there is more to see to.
    #[inline(always)]
    pub(crate) fn ship_plain(&mut self, engine: &mut Engine) -> bool {
        let len = engine.gather.len();
        if len > 0 {
            engine.stats.writes += 1;
            if let Err(moved) = engine.kernel.send_all(self.fd, &engine.gather) {
                self.sent_first(moved, engine);
                return false;
            }
            // Nothing else can be due: the turn's time was noted by the read.
            self.bytes_written += len as u64;
            engine.stats.bytes_written += len as u64;
            if !fault!(AnswerToStranger) {
                engine.gather.clear();
            }
        }
        engine.current = NOBODY;
        true
    }

    /// What else that send may have come to.
    #[cold]
    fn sent_first(&mut self, moved: Moved, engine: &mut Engine) {
        let kernel = engine.kernel.as_mut();
        let sent = fd::after_write(moved, kernel, self.fd, &engine.gather);
        self.gathered_sent(sent, engine);
    }

    fn mark(&mut self, ready: Readiness) {
        // After the end of the stream there is nothing to read but an error.
        let readable =
            ready.contains(Readiness::READABLE) || ready.contains(Readiness::READ_CLOSED);
        if readable && (!self.has(Flags::EOF) || ready.contains(Readiness::ERROR)) {
            self.set(Flags::READABLE);
        }
        if ready.contains(Readiness::READ_CLOSED) {
            self.set(Flags::FIN_SEEN);
        }
        if ready.contains(Readiness::URGENT) {
            self.set(Flags::URGENT_SEEN);
        }
        if ready.contains(Readiness::WRITABLE) || ready.contains(Readiness::WRITE_CLOSED) {
            self.set(Flags::WRITABLE);
        }
        if ready.contains(Readiness::ERROR) {
            self.set(Flags::ERROR_SEEN);
        }
    }

    /// Ends the connection if an error was announced that no read has shown, because a FIN
    /// hides it or because reading has paused: it is not announced twice.
    pub(crate) fn fail_if_broken(&mut self, engine: &mut Engine) {
        if self.take(Flags::ERROR_SEEN)
            && !self.is_dead()
            && let Some(errno) = engine.kernel.take_error(self.fd)
        {
            self.fail(Op::Read, "getsockopt", errno, engine);
        }
    }

    // Reading.

    /// Whether no reason to pause reading holds.
    pub(crate) fn may_read(&self, engine: &Engine) -> bool {
        self.may_offer() && !engine.pressed
    }

    /// Whether the handler may be shown what has been read. It may while memory is short:
    /// consuming what is left over is how memory is freed.
    pub(crate) fn may_offer(&self) -> bool {
        self.is_open() && !self.is_paused()
    }

    fn is_paused(&self) -> bool {
        let full = self.has(Flags::FULL) && !fault!(FullOutputReadOn);
        (self.has(Flags::PAUSED) && !fault!(PauseIgnored)) || (full && self.has(Flags::AUTO_PAUSE))
    }

    /// Whether a service of the read side would find news.
    pub(crate) fn wants_reading(&self) -> bool {
        self.has(Flags::READABLE) || (self.has(Flags::EOF) && !self.has(Flags::EOF_TOLD))
    }

    /// One read call at most, joined with what was left over. Clears `READABLE` when the
    /// socket is drained; sets `EOF` or ends the connection when it says so.
    pub(crate) fn fill(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
        budget: &mut Budget,
    ) -> Filled {
        let left = self.unread();
        let filled = if left == 0 || (left <= config::LEFTOVER_JOIN && left * 2 <= shared.len()) {
            self.fill_shared(engine, shared, left, budget)
        } else {
            self.fill_own(engine, budget)
        };
        if filled == Filled::Nothing && self.take_handshake_news() {
            return Filled::Agreed;
        }
        filled
    }

    fn gained(&mut self, n: usize, engine: &mut Engine) {
        self.bytes_read += n as u64;
        engine.stats.bytes_read += n as u64;
    }

    fn fill_shared(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
        left: usize,
        budget: &mut Budget,
    ) -> Filled {
        if let Some(leftover) = self.leftover() {
            shared[..left].copy_from_slice(leftover.bytes());
        }
        let Some(n) = self.receive(engine, &mut shared[left..]) else {
            return Filled::Nothing;
        };
        budget.spend(n);
        if fault!(LeftoverReordered) {
            shared[..left + n].rotate_left(left);
        }
        if let Some(leftover) = self.take_leftover() {
            engine.account(left, 0);
            leftover.release(&mut engine.pool);
            self.cool(engine);
        }
        self.gained(n, engine);
        Filled::Shared(left + n)
    }

    fn fill_own(&mut self, engine: &mut Engine, budget: &mut Budget) -> Filled {
        let Some(mut leftover) = self.take_leftover() else {
            return Filled::Nothing;
        };
        let before = leftover.len();
        // Twice what can be unread at once: then each byte is moved a bounded number of
        // times, however small the pieces that arrive and are consumed.
        let most = self
            .limits(engine)
            .input
            .saturating_add(config::LEFTOVER_READ);
        let cap = most.saturating_mul(2);
        let got = self.receive(engine, leftover.spare(config::LEFTOVER_READ, cap));
        if let Some(n) = got {
            budget.spend(n);
            leftover.filled(n);
            engine.account(before, before + n);
            self.gained(n, engine);
        }
        self.cold_mut(engine).leftover = Some(leftover);
        got.map_or(Filled::Nothing, |_| Filled::Own)
    }

    /// Plain bytes, whatever they were on the wire.
    fn receive(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Option<usize> {
        if self.layered().is_some() {
            self.receive_layered(engine, buffer)
        } else {
            self.receive_wire(engine, buffer)
        }
    }

    /// The one place where bytes come in from the wire.
    #[inline]
    fn receive_wire(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Option<usize> {
        engine.stats.reads += 1;
        let received = if self.has(Flags::MESSAGES) {
            self.receive_message(engine, buffer)
        } else {
            fd::read(engine.kernel.as_mut(), self.fd, buffer)
        };
        self.received(received, engine, buffer.len())
    }

    #[inline]
    fn received(&mut self, received: Received, engine: &mut Engine, room: usize) -> Option<usize> {
        let Received::Bytes(n) = received else {
            return self.received_no_bytes(received, engine);
        };
        let short = n < room || fault!(FullReadIsLast);
        if short && (!self.has(Flags::CUT_SHORT) || fault!(FinIgnored)) {
            self.flags.clear(Flags::READABLE);
        }
        if !fault!(IdleNotRenewed) {
            self.active_at = engine.clock.nanos;
        }
        Some(n)
    }

    #[cold]
    fn received_no_bytes(&mut self, received: Received, engine: &mut Engine) -> Option<usize> {
        match received {
            Received::Bytes(n) => return Some(n),
            Received::Cut(n) => {
                self.active_at = engine.clock.nanos;
                if !self.is_open() {
                    return Some(n);
                }
                self.discard(n, engine);
                self.close(CloseReason::InputTooLong, engine);
            }
            Received::Eof => {
                self.flags.clear(Flags::READABLE);
                self.set(Flags::EOF);
                // A FIN hides the reset that followed it from every later read.
                self.fail_if_broken(engine);
            }
            Received::WouldBlock => {
                engine.stats.would_blocks += 1;
                if fault!(IdleRenewedByNothing) {
                    self.active_at = engine.clock.nanos;
                }
                self.flags.clear(Flags::READABLE);
                self.flags.clear(Flags::URGENT_SEEN);
            }
            Received::Failed(errno) => {
                self.flags.clear(Flags::READABLE);
                self.fail(Op::Read, "read", errno, engine);
            }
        }
        None
    }

    /// One call that keeps the bounds of records and may bring descriptors.
    #[inline(never)]
    fn receive_message(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Received {
        let kernel = engine.kernel.as_mut();
        let (fd, records, open) = (self.fd, self.has(Flags::RECORDS), self.is_open());
        let messages = self.cold.as_mut().and_then(|cold| cold.messages.as_mut());
        let Some(messages) = messages.filter(|messages| open && messages.takes_fds()) else {
            return if records {
                fd::receive_message(kernel, fd, buffer, None)
            } else {
                fd::read(kernel, fd, buffer)
            };
        };
        let before = messages.waiting();
        let received = fd::receive_message(kernel, fd, buffer, Some(messages.arrivals()));
        engine.stats.descriptors_dropped += messages.trim(before) as u64;
        received
    }

    /// Lends out what the connection keeps, for one callback.
    pub(crate) fn lend_leftover(&mut self) -> Option<Leftover> {
        self.take_leftover()
    }

    /// Takes back what was lent, less what the callback consumed.
    pub(crate) fn return_leftover(
        &mut self,
        mut leftover: Leftover,
        consumed: usize,
        engine: &mut Engine,
    ) {
        let before = leftover.len();
        leftover.consume(consumed.saturating_sub(usize::from(fault!(ByteOfferedTwice))));
        engine.account(before, leftover.len());
        if self.leaves_to_layer(leftover.bytes(), engine) {
            engine.account(leftover.len(), 0);
            return leftover.release(&mut engine.pool);
        }
        if leftover.is_empty() {
            leftover.release(&mut engine.pool);
            self.cool(engine);
        } else {
            // Only what the handler consumed can have left a buffer mostly unused; growing
            // and shrinking it by turns would cost a copy per arriving byte.
            if consumed > 0 {
                leftover.settle(&mut engine.pool);
            }
            self.cold_mut(engine).leftover = Some(leftover);
        }
        self.check_input(engine);
    }

    /// Keeps what a callback left of the shared buffer.
    pub(crate) fn keep(&mut self, rest: &[u8], engine: &mut Engine) {
        if rest.is_empty() || self.leaves_to_layer(rest, engine) || fault!(LeftoverLost) {
            return;
        }
        engine.account(0, rest.len());
        let leftover = Leftover::keep(rest, &mut engine.pool);
        self.cold_mut(engine).leftover = Some(leftover);
        if self.has(Flags::RECORDS) {
            // Joined with the next it would be no record any more.
            let why = "a record was not consumed whole";
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            return self.close(CloseReason::Handler(error), engine);
        }
        self.check_input(engine);
    }

    fn check_input(&mut self, engine: &mut Engine) {
        if self.is_open() && self.unread() > self.limits(engine).input && !fault!(InputLimitIgnored)
        {
            self.close(CloseReason::InputTooLong, engine);
        }
    }

    /// Receives and throws away, so that our close does not turn into a reset that
    /// destroys the end of our output. Ends the connection when the peer is done, or has
    /// sent more than the drain limit.
    pub(crate) fn drain(&mut self, engine: &mut Engine, shared: &mut [u8]) {
        let mut budget = Budget::of_a_turn(engine);
        while self.has(Flags::READABLE) && !self.is_dead() {
            if budget.is_spent() {
                self.make_ready(engine);
                return;
            }
            let came = self.receive(engine, shared);
            budget.spend(came.unwrap_or(0));
            if let Some(n) = came {
                self.discard(n, engine);
                let over = self.discarded() as usize > engine.config.drain_limit;
                if over && !fault!(DrainLimitIgnored) {
                    self.set(Flags::RESET);
                    self.die(CloseReason::Local, engine);
                    return;
                }
            }
        }
        self.settle(engine);
    }

    fn discard(&mut self, n: usize, engine: &mut Engine) {
        let n32 = u32::try_from(n).unwrap_or(u32::MAX);
        let cold = self.cold_mut(engine);
        cold.discarded = cold.discarded.saturating_add(n32);
        engine.stats.bytes_discarded += n as u64;
    }

    // Writing.

    /// Takes bytes to be sent. Nothing here waits, and nothing here calls back.
    pub(crate) fn write(&mut self, bytes: &[u8], engine: &mut Engine) -> Flow {
        self.unload(engine);
        if self.has(Flags::UNUSUAL_OUTPUT) {
            return self.write_cut(Output::Copied(bytes), Vec::new(), engine);
        }
        let taken = self.write_through(bytes, engine);
        if self.is_dead() {
            return Flow::Closed;
        }
        let rest = &bytes[taken..];
        if !rest.is_empty() {
            let out = self.out.get_or_insert_with(|| engine.pool.outbound());
            out.push(rest, &mut engine.pool);
            self.pushed(rest.len(), self.queued(), engine);
        }
        self.flow()
    }

    /// The same, without copying what has to wait.
    pub(crate) fn write_shared(&mut self, bytes: Arc<[u8]>, engine: &mut Engine) -> Flow {
        self.unload(engine);
        if self.has(Flags::UNUSUAL_OUTPUT) {
            return self.write_cut(Output::Shared(bytes), Vec::new(), engine);
        }
        let taken = self.write_through(&bytes, engine);
        if self.is_dead() {
            return Flow::Closed;
        }
        let rest = bytes.len() - taken;
        if rest > 0 {
            let out = self.out.get_or_insert_with(|| engine.pool.outbound());
            out.push_shared(bytes, taken);
            self.pushed(rest, self.queued(), engine);
        }
        self.flow()
    }

    // What a callback writes to its own connection gathers in the loop's one buffer, until it
    // returns or writes what has to be queued.

    /// A callback of this connection begins.
    #[inline]
    pub(crate) fn begin_callback(&self, engine: &mut Engine) {
        let queues = self.out.is_some() || self.has(Flags::UNUSUAL_OUTPUT);
        let most = (!queues).then(|| self.gather_most(engine));
        engine.begin_callback(self.token, most);
    }

    #[inline]
    fn gather_most(&self, engine: &Engine) -> usize {
        let own = self.cold.as_ref().and_then(|cold| cold.limits.as_ref());
        own.map_or(engine.gather_most, gather_most)
    }

    pub(crate) fn gathered(&self, engine: &Engine) -> usize {
        if engine.current == self.token {
            engine.gather.len()
        } else {
            0
        }
    }

    /// Queues what was gathered, ahead of what is to be queued next.
    fn unload(&mut self, engine: &mut Engine) {
        engine.stop_gathering(self.token);
        let len = self.gathered(engine);
        if len > 0 && !fault!(GatheredOvertaken) {
            self.queue_gathered(0, engine);
        }
    }

    /// Ends the gathering when the callback has returned: sent at once, queued if it cannot be.
    pub(crate) fn ship(&mut self, engine: &mut Engine) {
        if !engine.gather.is_empty() {
            if self.flags.is(Flags::SENDS) {
                self.send_gathered(engine);
            } else {
                self.queue_gathered(0, engine);
            }
        }
        engine.current = NOBODY;
    }

    fn send_gathered(&mut self, engine: &mut Engine) {
        engine.stats.writes += 1;
        let sent = fd::write(engine.kernel.as_mut(), self.fd, &engine.gather);
        self.gathered_sent(sent, engine);
    }

    fn gathered_sent(&mut self, sent: Sent, engine: &mut Engine) {
        let taken = self.after_send(sent, engine).unwrap_or(0);
        self.bytes_written += taken as u64;
        engine.stats.bytes_written += taken as u64;
        if taken == engine.gather.len() || fault!(RestOfAnswerLost) {
            if fault!(AnswerToStranger) {
                return;
            }
            engine.gather.clear();
        } else {
            self.queue_gathered(taken, engine);
        }
    }

    /// Queues what was gathered but for the first bytes, which have left.
    #[cold]
    fn queue_gathered(&mut self, from: usize, engine: &mut Engine) {
        let out = self.out.get_or_insert_with(|| engine.pool.outbound());
        let rest = &engine.gather[from..];
        let len = rest.len();
        out.push(rest, &mut engine.pool);
        engine.gather.clear();
        self.pushed(len, self.queued(), engine);
    }

    /// Descriptors, to leave with the first of `bytes`; closed here once they have left.
    pub(crate) fn send_fds(
        &mut self,
        fds: Vec<OwnedFd>,
        bytes: &[u8],
        engine: &mut Engine,
    ) -> Flow {
        if fds.is_empty() || !self.takes_output() {
            return self.write(bytes, engine);
        }
        self.unload(engine);
        let refused = if !self.has(Flags::UNIX) || self.layered().is_some() {
            Some(libc::EOPNOTSUPP)
        } else if bytes.is_empty() || fds.len() > MAX_FDS {
            Some(libc::EINVAL)
        } else {
            None
        };
        if let Some(errno) = refused {
            self.fail(Op::Write, "sendmsg", Errno(errno), engine);
            return Flow::Closed;
        }
        self.write_cut(Output::Copied(bytes), fds, engine)
    }

    /// What is written while the queue has cuts, or would get one: to each record its own
    /// segment, on streams one to each set of descriptors.
    #[inline(never)]
    fn write_cut(&mut self, output: Output<'_>, fds: Vec<OwnedFd>, engine: &mut Engine) -> Flow {
        let len = output.bytes().len();
        // An empty record would be read as the end of the stream.
        if !self.takes_output() || len == 0 {
            return self.flow();
        }
        if self.layered().is_some() {
            return self.hold(output, engine);
        }
        if self.has(Flags::RECORDS) && fds.is_empty() && self.send_record(output.bytes(), engine) {
            return self.flow();
        }
        let queued = self.queued();
        let own_segment = self.has(Flags::RECORDS) || !fds.is_empty();
        let messages = self.messages_mut(engine);
        if !messages.is_cut() && queued > 0 {
            messages.extend(queued);
        }
        if own_segment && !fault!(RecordsJoined) {
            messages.push(len, fds);
        } else {
            messages.extend(len);
        }
        let load = queued + len + messages.cost();
        self.set(Flags::CUT_OUTPUT);
        let out = self.out.get_or_insert_with(|| engine.pool.outbound());
        match output {
            Output::Copied(bytes) => out.push(bytes, &mut engine.pool),
            Output::Shared(bytes) => out.push_shared(bytes, 0),
        }
        self.pushed(len, load, engine);
        self.flow()
    }

    /// Sends a large record at once if nothing is queued before it: no copy. `false`: it has
    /// to be queued.
    fn send_record(&mut self, record: &[u8], engine: &mut Engine) -> bool {
        let at_once = record.len() >= config::WRITE_THROUGH
            && self.out.is_none()
            && self.has(Flags::WRITABLE)
            && self.has(Flags::REGISTERED);
        if !at_once {
            return false;
        }
        match self.send(engine, record) {
            Some(n) => {
                self.bytes_written += n as u64;
                engine.stats.bytes_written += n as u64;
                true
            }
            None => self.is_dead(),
        }
    }

    fn takes_output(&self) -> bool {
        !self.has(Flags::NO_OUTPUT)
    }

    pub(crate) fn flow(&self) -> Flow {
        if !self.takes_output() {
            Flow::Closed
        } else if self.has(Flags::FULL) {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Sends a large write at once, behind what is queued: one call, no copy. Answers how
    /// many of `bytes` the kernel took.
    fn write_through(&mut self, bytes: &[u8], engine: &mut Engine) -> usize {
        let queued = self.queued();
        let large =
            bytes.len() >= config::WRITE_THROUGH || queued + bytes.len() >= config::GATHER_FLUSH;
        if !large || !self.has(Flags::WRITABLE) || !self.has(Flags::REGISTERED) {
            return 0;
        }
        match self.send(engine, bytes) {
            Some(n) => {
                self.sent(n.min(queued), engine);
                let direct = n.saturating_sub(queued);
                self.bytes_written += direct as u64;
                engine.stats.bytes_written += direct as u64;
                direct
            }
            None => 0,
        }
    }

    /// `n` bytes were queued; `load` is what the queue weighs with them.
    fn pushed(&mut self, n: usize, load: usize, engine: &mut Engine) {
        if !fault!(OutputUnaccounted) {
            engine.account(0, n);
        }
        self.touch(engine);
        self.weigh(load, engine);
    }

    /// What follows from the weight of what is queued.
    fn weigh(&mut self, load: usize, engine: &mut Engine) {
        match self.limits(engine).watermarks().level(load) {
            Level::Over if fault!(LimitIgnored) => {}
            Level::Above if fault!(HighMarkIgnored) => {}
            Level::Over => {
                self.set(Flags::RESET);
                self.die(CloseReason::Overflow, engine);
            }
            Level::Above => self.fill_up(),
            Level::Between | Level::Below => {}
        }
    }

    /// The high mark is exceeded.
    fn fill_up(&mut self) {
        self.set(Flags::FULL);
        // It was drained for a moment, within one callback: that is no news now.
        self.flags.clear(Flags::DRAINED);
    }

    /// Sends what is queued, until it is gone, the kernel is full, or the others are due.
    fn flush(&mut self, engine: &mut Engine) {
        for _ in 0..config::FLUSH_CALLS {
            self.encode(engine);
            if !self.may_send() || !self.has(Flags::WRITABLE) || self.is_dead() {
                break;
            }
            // What a layer has made of more may have left already.
            if self.out.is_some() {
                match self.send(engine, &[]) {
                    Some(n) => self.sent(n, engine),
                    None => break,
                }
            }
        }
        if self.is_dead() {
            return;
        }
        if self.queued() == 0 {
            self.unstall(engine);
        }
        if !self.has_output() {
            return;
        }
        if self.has(Flags::WRITABLE) && self.may_send() {
            if self.out.is_none() {
                // Settling would find nothing to do.
                self.set(Flags::IN_UNFLUSHED);
            }
            if !fault!(FlushBudgetForgotten) {
                self.make_ready(engine);
            }
        } else {
            self.begin_to_wait(engine);
        }
    }

    fn begin_to_wait(&mut self, engine: &mut Engine) {
        if let Some(out) = &mut self.out {
            out.settle(&mut engine.pool);
        }
        // What a layer has to say for itself is no affair of the handler's.
        if self.stalled_at() == NEVER && self.queued() > 0 && !fault!(StallForgotten) {
            self.cold_mut(engine).stalled_at = engine.clock.nanos;
        }
        self.arm(engine);
    }

    /// The one place where bytes go out to the wire: what is queued, then `extra`.
    pub(super) fn send(&mut self, engine: &mut Engine, extra: &[u8]) -> Option<usize> {
        engine.stats.writes += 1;
        if self.has(Flags::CUT_OUTPUT) && self.layered().is_none() {
            return self.send_segment(engine);
        }
        let sent = match &self.out {
            None => fd::write(engine.kernel.as_mut(), self.fd, extra),
            Some(out) if extra.is_empty() && out.part_count() == 1 => {
                fd::write(engine.kernel.as_mut(), self.fd, out.front())
            }
            Some(out) => {
                let mut parts = [IoSlice::new(&[]); MAX_PARTS];
                let mut n = out.parts(&mut parts[..MAX_PARTS - 1]);
                if !extra.is_empty() && n == out.part_count() {
                    parts[n] = IoSlice::new(extra);
                    n += 1;
                }
                fd::write_parts(engine.kernel.as_mut(), self.fd, &parts[..n])
            }
        };
        self.after_send(sent, engine)
    }

    /// Sends from the front segment alone: a whole record, or descriptors with the bytes that
    /// follow, or bytes up to the next such place. What was pushed at once lies in one part,
    /// so a record is all in the first.
    #[inline(never)]
    fn send_segment(&mut self, engine: &mut Engine) -> Option<usize> {
        let messages = self.cold.as_ref().and_then(|cold| cold.messages.as_ref());
        let (Some(out), Some(cut)) = (&self.out, messages.and_then(|cuts| cuts.front())) else {
            return None;
        };
        let part = out.front();
        let bytes = &part[..part.len().min(cut.len)];
        let kernel = engine.kernel.as_mut();
        let sent = if cut.fds.is_empty() {
            fd::write(kernel, self.fd, bytes)
        } else {
            fd::send_with_fds(kernel, self.fd, bytes, &cut.fds)
        };
        self.after_send(sent, engine)
    }

    fn after_send(&mut self, sent: Sent, engine: &mut Engine) -> Option<usize> {
        match sent {
            Sent::Bytes(n) => {
                self.active_at = engine.clock.nanos;
                if let Some(cold) = &mut self.cold
                    && cold.stalled_at != NEVER
                    && !fault!(StallNotRenewed)
                {
                    cold.stalled_at = engine.clock.nanos;
                }
                Some(n)
            }
            Sent::WouldBlock => {
                engine.stats.would_blocks += 1;
                self.flags.clear(Flags::WRITABLE);
                None
            }
            Sent::Failed(errno) => {
                self.fail(Op::Write, "write", errno, engine);
                None
            }
        }
    }

    /// The kernel took `n` of the queued bytes.
    fn sent(&mut self, n: usize, engine: &mut Engine) {
        let n = n - usize::from(fault!(ByteSentTwice) && n > 1);
        self.count_sent(n, engine);
        let Some(out) = &mut self.out else { return };
        out.consume(n, &mut engine.pool);
        engine.account(n, 0);
        if out.is_empty() {
            // Also when a write by somebody else's callback has taken the queue along.
            if let Some(out) = self.out.take() {
                engine.pool.put_outbound(out);
            }
            if self.queued() == 0 {
                self.unstall(engine);
            }
        }
        self.ease(engine);
    }

    /// `n` bytes have left: as many of the handler's, or those that they carried.
    pub(super) fn count_sent(&mut self, n: usize, engine: &mut Engine) {
        let mut plain = n;
        if self.has(Flags::CUT_OUTPUT) {
            plain = self.sent_segment(n);
        }
        self.bytes_written += plain as u64;
        engine.stats.bytes_written += plain as u64;
    }

    /// Output has left: the handler hears of it if there is room again.
    pub(super) fn ease(&mut self, engine: &mut Engine) {
        if self.has(Flags::FULL) && self.load() <= self.limits(engine).low {
            self.flags.clear(Flags::FULL);
            if !fault!(WriteForgotten) {
                self.set(Flags::DRAINED);
            }
            self.offer_again();
            if !fault!(DrainedNotReady) {
                self.make_ready(engine);
            }
        }
    }

    /// Answers how many bytes of the handler's have left with these.
    #[inline(never)]
    fn sent_segment(&mut self, n: usize) -> usize {
        let Some(cold) = &mut self.cold else { return n };
        if let Some(layered) = &mut cold.layered {
            return layered.sent(n);
        }
        if let Some(messages) = &mut cold.messages {
            messages.sent(n);
            if !messages.is_cut() {
                self.flags.clear(Flags::CUT_OUTPUT);
            }
        }
        n
    }

    /// What the queue weighs: its bytes, and what its cuts cost.
    fn load(&self) -> usize {
        let messages = self.cold.as_ref().and_then(|cold| cold.messages.as_ref());
        self.queued() + messages.map_or(0, |messages| messages.cost())
    }

    // Pausing.

    pub(crate) fn pause(&mut self) {
        self.set(Flags::PAUSED);
    }

    pub(crate) fn resume(&mut self, engine: &mut Engine) {
        if self.take(Flags::PAUSED) {
            self.offer_again();
            if !fault!(ResumeForgotten) {
                self.make_ready(engine);
            }
        }
    }

    pub(crate) fn read_again(&mut self, engine: &mut Engine) {
        self.set(Flags::OFFER);
        if !fault!(ReadAgainForgotten) {
            self.make_ready(engine);
        }
    }

    pub(crate) fn set_auto_pause(&mut self, on: bool, engine: &mut Engine) {
        let was_paused = self.is_paused();
        if on {
            self.set(Flags::AUTO_PAUSE);
        } else {
            self.flags.clear(Flags::AUTO_PAUSE);
        }
        if was_paused && !self.is_paused() {
            self.offer_again();
            self.make_ready(engine);
        }
    }

    /// Reading resumes: what was left is offered even if nothing new comes. Whether
    /// anything is left shows later: during a callback the bytes are lent out.
    fn offer_again(&mut self) {
        self.set(Flags::OFFER);
    }

    /// Waits for memory; nobody will announce the end of that wait but the engine.
    pub(crate) fn park(&mut self, engine: &mut Engine) {
        if !self.has(Flags::PARKED) {
            self.set(Flags::PARKED);
            engine.parked.push(self.token);
        }
    }

    pub(crate) fn unpark(&mut self, engine: &mut Engine) {
        self.flags.clear(Flags::PARKED);
        self.make_ready(engine);
    }

    // Closing.

    /// What a callback answered; `None` if it panicked.
    #[inline]
    pub(crate) fn called_back(&mut self, answer: Option<io::Result<()>>, engine: &mut Engine) {
        match answer {
            Some(Ok(())) => {}
            Some(Err(_)) if fault!(ErrIgnored) => {}
            None if fault!(PanicForgiven) => {}
            Some(Err(error)) => self.close(CloseReason::Handler(error), engine),
            None => self.abort(CloseReason::Panic, engine),
        }
    }

    /// As the application closes: for the reason that a plain `close()` has at this moment.
    #[inline]
    pub(crate) fn close_here(&mut self, engine: &mut Engine) {
        if self.has(Flags::EOF) && self.is_open() {
            self.set(Flags::CLOSING);
            self.set(Flags::AFTER_EOF);
            return self.begin_to_close(engine);
        }
        self.close_locally(engine);
    }

    #[inline(never)]
    fn close_locally(&mut self, engine: &mut Engine) {
        let reason = self.local_reason(engine);
        self.close(reason, engine);
    }

    /// Flush, FIN, bounded drain. The first reason counts.
    pub(crate) fn close(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_open() {
            return;
        }
        self.set(Flags::CLOSING);
        match reason {
            CloseReason::Local => {}
            CloseReason::Eof => self.set(Flags::AFTER_EOF),
            other => self.cold_mut(engine).reason = Some(other),
        }
        self.begin_to_close(engine);
    }

    #[inline]
    fn begin_to_close(&mut self, engine: &mut Engine) {
        engine.stop_gathering(self.token);
        self.touch(engine);
        // What the peer has already sent must be drained, and nobody will announce it again.
        if self.has(Flags::READABLE) && !fault!(CloseForgetsInput) {
            self.make_ready(engine);
        }
    }

    /// The reason that a plain `close()` has at this moment.
    pub(crate) fn local_reason(&self, engine: &Engine) -> CloseReason {
        if self.has(Flags::EOF) {
            CloseReason::Eof
        } else if engine.stopping() {
            CloseReason::Shutdown
        } else {
            CloseReason::Local
        }
    }

    /// RST, and nothing more is delivered.
    pub(crate) fn abort(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_dead() {
            if !fault!(AbortIsClose) {
                self.set(Flags::RESET);
            }
            // An abort overrides an earlier close: that is what happens now.
            self.end(reason, engine);
        }
    }

    /// FIN once everything queued has left; reading goes on.
    pub(crate) fn shutdown_write(&mut self, engine: &mut Engine) {
        if self.is_open() {
            self.set(Flags::FIN_ASKED);
            engine.stop_gathering(self.token);
            self.touch(engine);
        }
    }

    /// The socket reported an error: nothing more can be sent or received.
    fn fail(&mut self, op: Op, call: &'static str, errno: Errno, engine: &mut Engine) {
        // A peer that resets after it has had all our output ends a close that is done.
        if self.has(Flags::CLOSING) && !self.has_output() {
            return self.die(CloseReason::Local, engine);
        }
        if fd::is_reset(errno) {
            return self.end(CloseReason::Reset, engine);
        }
        let cause = Cause::Syscall { call, errno };
        let error = Error::new(op, Some(self.network()), Some(self.peer().into()), cause);
        let error = match engine.kernel.local_addr(self.fd) {
            Ok(local) => error.with_source(local),
            Err(_) => error,
        };
        self.end(CloseReason::Io(error), engine);
    }

    /// The connection is over, for the reason of its `close` if there was one.
    pub(crate) fn die(&mut self, reason: CloseReason, engine: &mut Engine) {
        let reason = self.first_reason().unwrap_or(reason);
        self.end(reason, engine);
    }

    fn first_reason(&mut self) -> Option<CloseReason> {
        if !self.has(Flags::CLOSING) {
            return None;
        }
        if self.has(Flags::AFTER_EOF) {
            return Some(CloseReason::Eof);
        }
        let unusual = self.cold.as_mut().and_then(|cold| cold.reason.take());
        Some(unusual.unwrap_or(CloseReason::Local))
    }

    /// The connection is over, for this reason; `on_close` follows at the end of this turn.
    fn end(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_dead() {
            self.set(Flags::DEAD);
            engine.stop_gathering(self.token);
            engine.closing.push(self.token, reason);
        }
    }

    /// What follows every callback, and every piece of work: flush, then FIN or the end,
    /// if they are due.
    #[inline]
    pub(crate) fn settle(&mut self, engine: &mut Engine) {
        if self.out.is_some() || self.has(Flags::UNSETTLED) {
            self.settle_output(engine);
        }
    }

    fn settle_output(&mut self, engine: &mut Engine) {
        self.flags.clear(Flags::IN_UNFLUSHED);
        if self.is_dead() || !self.has(Flags::REGISTERED) {
            return;
        }
        if self.has_output() {
            self.flush(engine);
        }
        if self.has(Flags::CLOSING) {
            return self.settle_close(engine);
        }
        if (self.has_output() && !fault!(FinBeforeOutput)) || self.is_dead() {
            return;
        }
        let fin_is_due = self.has(Flags::FIN_ASKED) && !self.has(Flags::FIN_SENT);
        if fin_is_due && self.say_goodbye(engine) {
            self.send_fin(engine);
        }
        if self.has(Flags::FIN_SENT) && self.has(Flags::EOF_TOLD) {
            self.die(CloseReason::Eof, engine);
        }
    }

    /// What is left of a connection that closes: the rest of its output, the FIN, the wait for
    /// the peer's. From the first time that any of it has to wait, the linger time runs.
    fn settle_close(&mut self, engine: &mut Engine) {
        let flushed = !self.has_output() || fault!(CloseWithoutFlush);
        if flushed && !self.is_dead() && self.say_goodbye(engine) {
            self.finish(engine);
        }
        if !self.is_dead() && self.lingers_until() == NEVER && !fault!(LingerForgotten) {
            let linger = nanos(engine.config.linger);
            let until = engine.clock.nanos.saturating_add(linger).min(NEVER - 1);
            self.cold_mut(engine).lingers_until = until;
            self.arm(engine);
        }
    }

    /// Everything is flushed. The end, unless closing now could destroy what the peer has
    /// not read yet: then FIN, and drain until it has.
    fn finish(&mut self, engine: &mut Engine) {
        let has_spoken = self.bytes_written > 0 || self.layered().is_some();
        if self.has(Flags::EOF) || !has_spoken || fault!(CloseWithoutDrain) {
            self.die(CloseReason::Local, engine);
        } else if !self.has(Flags::FIN_SENT) {
            self.send_fin(engine);
        }
    }

    fn send_fin(&mut self, engine: &mut Engine) {
        self.set(Flags::FIN_SENT);
        if fault!(FinForgotten) {
            return;
        }
        if let Err(errno) = engine.kernel.shutdown_write(self.fd) {
            self.fail(Op::Close, "shutdown", errno, engine);
        }
    }

    /// Gives the descriptor away: what is queued leaves first, as far as the kernel takes it
    /// now. EAGAIN if that is not all; nothing else has changed then.
    pub(crate) fn detach(&mut self, engine: &mut Engine) -> Result<OwnedFd, Errno> {
        if !self.is_open() {
            return Err(Errno(libc::EBADF));
        }
        // Whoever had it would lack what its layer knows.
        if self.layered().is_some() {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        self.unload(engine);
        while self.out.is_some() && self.has(Flags::WRITABLE) && !self.is_dead() {
            self.flush(engine);
        }
        if self.out.is_some() && !self.is_dead() {
            return Err(Errno(libc::EAGAIN));
        }
        if self.has(Flags::FIN_ASKED) && !self.has(Flags::FIN_SENT) && !self.is_dead() {
            self.send_fin(engine);
        }
        if self.is_dead() {
            return Err(Errno(libc::EPIPE));
        }
        let fd = engine.kernel.release(self.fd)?;
        self.fd = GIVEN_AWAY;
        self.set(Flags::ELSEWHERE);
        self.die(CloseReason::Detached, engine);
        Ok(fd)
    }

    /// How it ended. What is left is a husk, to be dropped, and a descriptor.
    #[inline]
    pub(crate) fn retire(&mut self, reason: CloseReason, engine: &mut Engine) -> Closed {
        let holds_more = self.out.is_some() || self.cold.is_some() || self.entry.is_some();
        let (unread, unsent) = if holds_more {
            self.give_back(engine)
        } else {
            (0, 0)
        };
        Closed {
            id: self.id(),
            reason,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            unread,
            unsent,
        }
    }

    /// Gives everything back but the descriptor, the timers to the engine; answers how many bytes nobody has read, and how
    /// many the kernel never took.
    #[inline(never)]
    fn give_back(&mut self, engine: &mut Engine) -> (u64, u64) {
        let mut unsent = self.retire_output(engine);
        let mut unread = 0;
        if let Some(cold) = &mut self.cold {
            engine.orphans = std::mem::take(&mut cold.timers);
            if let Some(layered) = cold.layered.take() {
                unsent = layered.retire(engine) as u64;
            }
            unread = self.retire_cold(engine);
        }
        if let Some(entry) = self.entry.take() {
            engine.wheel.cancel(entry);
        }
        (unread, unsent)
    }

    /// Answers how many bytes the kernel never took.
    fn retire_output(&mut self, engine: &mut Engine) -> u64 {
        let Some(mut out) = self.out.take() else {
            return 0;
        };
        let unsent = out.clear(&mut engine.pool);
        if !fault!(UnsentNotGivenBack) {
            engine.account(unsent, 0);
        }
        engine.pool.put_outbound(out);
        unsent as u64
    }

    /// Answers how many bytes nobody has read.
    fn retire_cold(&mut self, engine: &mut Engine) -> u64 {
        let unread = self.unread() as u64 + u64::from(self.discarded());
        if let Some(leftover) = self.take_leftover() {
            if !fault!(UnreadNotGivenBack) {
                engine.account(leftover.len(), 0);
            }
            leftover.release(&mut engine.pool);
        }
        if let Some(path) = self.path() {
            unix_path::remove_if_ours(engine.kernel.as_mut(), path);
        }
        if let Some(cold) = self.cold.take() {
            engine.spares.give(cold);
        }
        unread
    }

    /// What is to be closed when nothing else is left, and how.
    #[inline]
    pub(crate) fn remains(&self) -> Remains {
        Remains {
            fd: self.fd,
            flags: self.flags,
        }
    }

    // Deadlines.

    pub(crate) fn set_deadline(&mut self, which: Deadline, at: Nanos, engine: &mut Engine) {
        // Only the linger time holds from `close` on.
        if !self.is_open() {
            return;
        }
        let cold = self.cold_mut(engine);
        let deadline = match which {
            Deadline::Read => &mut cold.read_deadline,
            Deadline::Write => &mut cold.write_deadline,
            _ => return,
        };
        let before = std::mem::replace(deadline, at);
        // The wheel looks in time for an earlier one, and finds out then.
        if before > engine.clock.nanos && before <= at && self.entry.is_some() {
            return;
        }
        self.arm(engine);
    }

    /// Counts from now, and is renewed by every byte that moves.
    pub(crate) fn set_idle(&mut self, after: Option<Duration>, engine: &mut Engine) {
        let after = after.map_or(NEVER, at_least_a_tick);
        self.cold_mut(engine).idle = Some(after);
        self.active_at = engine.clock.nanos;
        self.arm(engine);
    }

    /// The earliest limit that holds now.
    #[inline]
    fn next_deadline(&self, engine: &Engine) -> Nanos {
        if self.has(Flags::CLOSING) {
            return self.lingers_until();
        }
        let idle = self.idle_deadline(engine);
        match &self.cold {
            None => idle,
            Some(cold) => idle
                .min(cold.read_deadline)
                .min(self.output_deadline(cold, engine))
                .min(cold.handshake_until()),
        }
    }

    #[inline]
    fn idle_deadline(&self, engine: &Engine) -> Nanos {
        let own = self.cold.as_ref().and_then(|cold| cold.idle);
        let early = if fault!(IdleEarly) { TICK } else { 0 };
        self.active_at
            .saturating_add(own.unwrap_or(engine.idle) - early)
    }

    /// Limits that hold only while output waits.
    fn output_deadline(&self, cold: &Cold, engine: &Engine) -> Nanos {
        if cold.stalled_at == NEVER && !fault!(WriteDeadlineAlways) {
            return NEVER;
        }
        let stall = cold.stalled_at.saturating_add(engine.stall);
        cold.write_deadline.min(stall)
    }

    /// Sees to it that the wheel looks at this connection no later than its next limit. A
    /// limit moved later costs nothing here: the wheel finds out when it looks.
    pub(crate) fn arm(&mut self, engine: &mut Engine) {
        let at = self.next_deadline(engine);
        if at <= engine.clock.nanos {
            if fault!(PastDeadlineForgotten) {
                return;
            }
            // Past already: next turn, before this connection is read.
            self.set(Flags::DUE);
            self.make_ready(engine);
            return;
        }
        match self.entry {
            None if at != NEVER => self.entry = Some(engine.wheel.insert(at, self.token)),
            Some(entry) if at < engine.wheel.at(entry) => engine.wheel.refile(entry, at),
            _ => {}
        }
    }

    /// The same for a new connection. One that has no other limit than everybody's has time
    /// until it is filed.
    pub(crate) fn arm_new(&mut self, engine: &mut Engine) {
        let ordinary = self.entry.is_none() && self.cold.is_none();
        let young = ordinary
            && engine.idle != NEVER
            && engine
                .young
                .takes(self.token, engine.clock.nanos, engine.idle);
        if !young {
            self.arm(engine);
        }
    }

    /// The wheel has let go of this connection.
    pub(crate) fn unfiled(&mut self) {
        self.entry = None;
    }

    /// Whether the wheel will look at this connection in time for its next limit.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let at = self.next_deadline(engine);
        let young = || engine.young.until() <= at && engine.young.holds(self.token);
        at == NEVER || self.entry.is_some_and(|entry| engine.wheel.at(entry) <= at) || young()
    }

    /// The first limit that has passed. It is taken off, so that it fires once per setting;
    /// the idle limit begins anew.
    pub(crate) fn take_due(&mut self, engine: &Engine) -> Option<Deadline> {
        let now = engine.clock.nanos;
        if self.has(Flags::CLOSING) {
            return (self.lingers_until() <= now).then_some(Deadline::Linger);
        }
        if let Some(cold) = &mut self.cold {
            if cold.handshake_until() <= now {
                return Some(Deadline::Handshake);
            }
            let stalled = cold.stalled_at != NEVER || fault!(WriteDeadlineAlways);
            if cold.read_deadline <= now {
                if !fault!(DeadlineFiresTwice) {
                    cold.read_deadline = NEVER;
                }
                return Some(Deadline::Read);
            }
            if stalled && cold.write_deadline <= now {
                cold.write_deadline = NEVER;
                return Some(Deadline::Write);
            }
            if stalled && cold.stalled_at.saturating_add(engine.stall) <= now {
                cold.stalled_at = now;
                return Some(Deadline::WriteStall);
            }
        }
        if self.idle_deadline(engine) <= now {
            self.active_at = now;
            return Some(Deadline::Idle);
        }
        None
    }

    /// The linger time is over: the end, with the reason telling whether all was delivered.
    pub(crate) fn linger_ended(&mut self, engine: &mut Engine) {
        if self.has_output() {
            self.abort(CloseReason::Timeout(Deadline::Linger), engine);
        } else {
            self.die(CloseReason::Local, engine);
        }
    }

    // Descriptors, and who is at the other end.

    /// How many descriptors may wait to be taken; with none, those that come are closed.
    pub(crate) fn accept_fds(&mut self, most: usize, engine: &mut Engine) {
        if !self.has(Flags::UNIX) {
            return;
        }
        self.messages_mut(engine).accept(most);
    }

    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.cold.as_mut()?.messages.as_mut()?.take()
    }

    pub(crate) fn peer_cred(&self, engine: &mut Engine) -> Result<PeerCred, Errno> {
        if !self.has(Flags::UNIX) {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        engine.kernel.peer_cred(self.asked()?)
    }

    /// The path that our own end was bound to, for as long as the descriptor is ours.
    pub(crate) fn path(&self) -> Option<&Owned> {
        let messages = self.cold.as_ref()?.messages.as_ref()?;
        messages.path.as_ref().filter(|_| self.fd != GIVEN_AWAY)
    }

    /// Our own end was bound to a path, which is to go with it.
    pub(crate) fn owns(&mut self, path: Owned, engine: &mut Engine) {
        self.messages_mut(engine).path = Some(path);
    }

    fn messages_mut(&mut self, engine: &mut Engine) -> &mut Messages {
        self.cold_mut(engine).messages.get_or_insert_default()
    }

    // What few connections have.

    /// They hold for what is queued, too; but above the limit nothing ends before the next
    /// write.
    pub(crate) fn set_limits(&mut self, limits: Limits, engine: &mut Engine) {
        self.unload(engine);
        self.cold_mut(engine).limits = Some(limits);
        if self.load() > limits.high {
            self.fill_up();
        } else {
            self.ease(engine);
        }
    }

    pub(crate) fn add_timer(&mut self, timer: TimerId, engine: &mut Engine) {
        self.cold_mut(engine).timers.push(timer);
    }

    pub(crate) fn remove_timer(&mut self, timer: TimerId) {
        if let Some(cold) = &mut self.cold {
            cold.timers.retain(|&other| other != timer);
        }
    }
}

/// Stands for the descriptor that a detached connection had.
const GIVEN_AWAY: Fd = Fd(-1);
