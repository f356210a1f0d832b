//! One stream: what it knows, and which lists it is on. How it reads, writes, ends and keeps time
//! is in rooms behind this one, and so is the short way of one that is plain.
//!
//! Bytes pass between wire and handler at exactly one place on the way in
//! ([`Connection::receive`]) and one on the way out ([`Connection::send`]); everything
//! above them sees plain bytes. What a layer does there has a room of its own, too.
//!
//! None of these rooms calls the handler. They leave notes (flags, and entries on the engine's
//! lists) that the reactor turns into callbacks.

use std::os::fd::OwnedFd;

use crate::address::{Addr, Network};
use crate::cold::Cold;
use crate::config::Limits;
use crate::engine::Engine;
use crate::error::{Cause, CloseReason, Error, Op};
use crate::flags::Flags;
use crate::input::Leftover;
use crate::kernel::{Errno, Event, Fd, PeerCred, Readiness, Transport};
use crate::listener::Terms;
use crate::messages::Messages;
use crate::outbound::Outbound;
use crate::peer::{Peer, Remote};
use crate::sources::Named;
use crate::timer::{Entry, NEVER, Nanos};
use crate::token::{ConnId, Owner, TimerId, Token};
use crate::unix_path::Owned;

mod closing;
mod deadlines;
mod layered;
mod plain;
mod reading;
mod writing;

pub(crate) use layered::Layered;
pub(crate) use reading::{Budget, Filled};

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

/// Ten thousand of them are mostly idle.
const _: () = assert!(size_of::<Connection>() == 88 && size_of::<Option<Connection>>() == 88);

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
        self.set_peer(remote, engine);
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

    fn set_peer(&mut self, peer: Remote, engine: &mut Engine) {
        match peer {
            Remote::Packed(packed) => {
                self.peer = packed;
                if let Some(cold) = &mut self.cold {
                    cold.peer = None;
                }
            }
            Remote::Unpacked(addr) => self.cold_mut(engine).peer = Some(addr),
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
        self.set_peer(Remote::from(peer), engine);
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
