//! What a callback may ask for: `Context`, `Conn` and `Listener` views.
//!
//! Views perform nothing that calls back: a write is queued (or handed to the kernel), a
//! close is noted, and the reactor does the rest when the callback has returned.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::address::Addr;
use crate::config::Limits;
use crate::connection::Connection;
use crate::core::Core;
use crate::datagram::{Bind, Socket};
use crate::dialer::Dial;
use crate::engine::Engine;
use crate::error::{CloseReason, Error};
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Deadline;
use crate::input::Input;
use crate::kernel::{Errno, Interest, Keepalive, PeerCred, StreamOptions};
use crate::layer::{Layer, Layers};
use crate::listener::{self, Listen};
use crate::stats::Stats;
use crate::token::{ConnId, DialId, ListenerId, Owner, SocketId, TimerId, Token, WatchId};

/// The loop, as a callback sees it: everything that is not about one connection.
///
/// Lent for the time of a callback. Not generic, so helpers can take it by
/// `&mut Context<'_>` whatever the handler is.
pub struct Context<'a> {
    core: &'a mut Core,
    owner: Owner,
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut Core, owner: Owner) -> Self {
        Self { core, owner }
    }

    pub(crate) fn core(&self) -> &Core {
        self.core
    }

    pub(crate) fn core_mut(&mut self) -> &mut Core {
        self.core
    }

    /// Any connection, by its id: `None` once it is closed. It can be written to, paused,
    /// closed and so on, but its session belongs to its own callbacks; to have one of
    /// those run, see [`wake`](Self::wake).
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_>> {
        self.core
            .conns
            .get(id.token())
            .filter(|conn| !conn.is_dead())?;
        Some(Conn::new(self.core, self.owner, id.token()))
    }

    /// Calls `visit` for each open connection that the calling handler owns, in no
    /// particular order.
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut Conn<'_>)) {
        for index in 0..self.core.conns.end() {
            let Some(token) = self.core.conns.token_at(index) else {
                continue;
            };
            let ours = |conn: &Connection| conn.owner == self.owner && conn.is_open();
            if self.core.conns.get(token).is_some_and(ours) {
                visit(&mut Conn::new(self.core, self.owner, token));
            }
        }
    }

    /// Has [`on_wake`](crate::Handler::on_wake) run for that connection in the next turn,
    /// with its session. `false` if it is closed or closing.
    pub fn wake(&mut self, id: ConnId) -> bool {
        let Core { conns, engine, .. } = &mut *self.core;
        match conns.get_mut(id.token()) {
            Some(conn) if conn.is_open() => {
                conn.set(Flags::WAKE);
                conn.make_ready(engine);
                true
            }
            _ => false,
        }
    }

    /// Opens a listener. Its callbacks go to the handler that opened it.
    ///
    /// # Errors
    ///
    /// What [`Reactor::listen`](crate::Reactor::listen) answers.
    pub fn listen<L>(&mut self, listen: L) -> Result<ListenerId, Error>
    where
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        let listen = listen.try_into().map_err(Into::into)?;
        self.core.listen(listen, self.owner)
    }

    /// A listener, by its id: `None` once it is closed.
    pub fn listener(&mut self, id: ListenerId) -> Option<Listener<'_>> {
        self.core
            .listeners
            .get(id.token())
            .filter(|listener| !listener.is_dead())?;
        Some(Listener::new(self.core, id.token()))
    }

    /// Connects to somebody: an address or a host name, as text or typed, or a [`Dial`] with
    /// options. Ends in exactly one of [`on_connect`](crate::Handler::on_connect) and
    /// [`on_dial_error`](crate::Handler::on_dial_error), in a later turn.
    ///
    /// # Errors
    ///
    /// Only a text that does not parse; everything else is told by `on_dial_error`.
    pub fn dial<D>(&mut self, dial: D) -> Result<DialId, Error>
    where
        D: TryInto<Dial>,
        D::Error: Into<Error>,
    {
        let dial = dial.try_into().map_err(Into::into)?;
        self.core.dial(dial, self.owner)
    }

    /// Ends a dial, and its reconnecting: `on_dial_error` tells it with "operation was
    /// canceled" if a try was under way. A connection that it has led to stays. `false` if
    /// the dial is over already.
    pub fn cancel_dial(&mut self, id: DialId) -> bool {
        self.core.cancel_dial(id)
    }

    /// Opens a datagram socket: on an address, as text or typed, or a [`Bind`] with options.
    /// Its callbacks go to the handler that opened it.
    ///
    /// # Errors
    ///
    /// What [`Reactor::bind`](crate::Reactor::bind) answers.
    pub fn bind<B>(&mut self, bind: B) -> Result<SocketId, Error>
    where
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        let bind = bind.try_into().map_err(Into::into)?;
        self.core.bind(bind, self.owner)
    }

    /// A datagram socket, by its id: `None` once it is closed.
    pub fn socket(&mut self, id: SocketId) -> Option<Socket<'_>> {
        self.core
            .sockets
            .get(id.token())
            .filter(|socket| !socket.is_dead())?;
        Some(Socket::new(self.core, self.owner, id.token()))
    }

    /// Watches a descriptor of the application's own: stdin, a pipe, an eventfd, inotify, a
    /// child's output. [`on_ready`](crate::Handler::on_ready) says when it is ready, again
    /// and again until [`unwatch`](Self::unwatch); nothing is read and nothing is changed,
    /// above all not O_NONBLOCK, which stdin shares with the shell. So read or write once per
    /// `on_ready`, or the loop may block.
    ///
    /// # Errors
    ///
    /// EPERM for what is always ready and cannot be watched: regular files and directories.
    /// Read such a file where it is opened.
    pub fn watch(&mut self, fd: impl Into<OwnedFd>, interest: Interest) -> Result<WatchId, Error> {
        self.core.watch(fd.into(), interest, self.owner)
    }

    /// Ends a watch and gives its descriptor back. `None` if it had ended before.
    pub fn unwatch(&mut self, id: WatchId) -> Option<OwnedFd> {
        self.core.unwatch(id)
    }

    /// Takes over a connected stream made elsewhere: TCP, a Unix stream, or records; an end of
    /// a socket pair, or what [`Conn::detach`] gave away. It is made nonblocking and
    /// close-on-exec, and keeps its options.
    ///
    /// It is like a dial that has succeeded: [`on_connect`](crate::Handler::on_connect) runs
    /// in a later turn with the id that this answers, and [`cancel_dial`](Self::cancel_dial)
    /// takes it back until then.
    ///
    /// # Errors
    ///
    /// ENOTSOCK for what is no socket, EPROTOTYPE for one that is no stream and keeps no
    /// records, ENOTCONN for one that is not connected; in a simulated world EOPNOTSUPP for
    /// all but what was detached there. The descriptor is closed then.
    pub fn adopt(&mut self, fd: impl Into<OwnedFd>) -> Result<DialId, Error> {
        self.core.adopt(fd.into(), self.owner)
    }

    /// Has [`on_timer`](crate::Handler::on_timer) run once at `at`, never earlier, and at
    /// most 2 ms later on an idle machine. A time that has passed means the next turn.
    pub fn set_timer(&mut self, at: Instant) -> TimerId {
        self.core.set_timer(at, self.owner, None)
    }

    /// `true` if the timer was still to come; it won't.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.core.cancel_timer(id)
    }

    /// The time of this turn: read once, after the poll. Handlers that take time from here
    /// run in a simulated world unchanged.
    pub fn now(&self) -> Instant {
        self.core.engine.clock.now()
    }

    /// Wall-clock time, read at each call.
    pub fn wall(&mut self) -> SystemTime {
        self.core.engine.kernel.wall()
    }

    /// Sixty-four random bits, good for jitter and sampling. Not for secrets.
    pub fn random(&mut self) -> u64 {
        self.core.engine.kernel.random()
    }

    /// The loop's counters at this moment.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Begins a graceful stop: listeners empty their queues and close, `on_shutdown` runs
    /// for each connection, and what is still open when `grace` has passed is aborted. A
    /// second call can only bring that end forward.
    pub fn shutdown(&mut self, grace: Duration) {
        self.core.engine.stop(grace);
    }

    /// Whose callback runs, and so whose is what it opens.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The same loop, for another owner's callback.
    pub(crate) fn as_owner(&mut self, owner: Owner) -> Context<'_> {
        Context::new(self.core, owner)
    }

    pub(crate) fn note_missing(&mut self, callback: &str, how: &str) {
        if !std::mem::replace(&mut self.core.engine.missing_callback_said, true) {
            log::error!(
                target: "windlass::reactor",
                "a connection was closed: this handler has {how} it and has no {callback}"
            );
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// Whether more output is welcome, as [`Conn::write`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Flow {
    /// Taken; go on.
    Open,
    /// Taken, and the queue is above its high mark: stop until
    /// [`on_write`](crate::Handler::on_write). Reading from this peer has paused (unless
    /// [`Conn::set_auto_pause`] says otherwise). At the limit the connection is aborted.
    Full,
    /// Not taken: the connection is closing or closed, or its output was shut down.
    Closed,
}

/// One connection, lent to a callback: Go's `net.Conn`, for a loop.
///
/// Nothing here blocks, and nothing fails in the caller's face: an error of the socket
/// ends the connection, and `on_close` tells which.
pub struct Conn<'a> {
    cx: Context<'a>,
    token: Token,
}

impl<'a> Conn<'a> {
    pub(crate) fn new(core: &'a mut Core, owner: Owner, token: Token) -> Self {
        Self {
            cx: Context::new(core, owner),
            token,
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.cx.owner()
    }

    /// The loop behind this connection.
    pub fn cx(&mut self) -> &mut Context<'a> {
        &mut self.cx
    }

    /// The time of this turn; the same as `cx().now()`.
    pub fn now(&self) -> Instant {
        self.cx.now()
    }

    /// This connection's name, to be kept for as long as anybody likes.
    pub fn id(&self) -> ConnId {
        ConnId::new(self.token)
    }

    // Writing.

    /// Queues bytes. Small writes leave together when the callback returns; a large one
    /// goes straight to the socket if nothing is queued before it.
    ///
    /// On network `unixpacket` each call is one record, and leaves as one. Each that is queued
    /// counts 32 bytes more towards the limits. An empty one is not sent, since the peer would
    /// take it for the end. One that is longer than the socket's buffers allow ends the
    /// connection with EMSGSIZE.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Flow {
        if self.cx.core.engine.gathers(self.token, bytes) {
            return Flow::Open;
        }
        self.with(Flow::Closed, |conn, engine| conn.write(bytes, engine))
    }

    /// Queues bytes that many connections share, without copying them. They count fully
    /// towards the limit of each.
    pub fn write_shared(&mut self, bytes: Arc<[u8]>) -> Flow {
        self.with(Flow::Closed, |conn, engine| {
            conn.write_shared(bytes, engine)
        })
    }

    /// What `write!` calls; formats straight into the queue. On network `unixpacket` the
    /// whole text is one record.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Flow {
        match text.as_str() {
            Some(text) => self.write(text.as_bytes()),
            None if self.look(false, Connection::keeps_records) => self.write_record(text),
            None => {
                // Only a Display implementation of the caller's own can fail here; what it
                // wrote before stays written, as with any formatter.
                let _ = fmt::Write::write_fmt(&mut Text(self), text);
                self.flow()
            }
        }
    }

    fn write_record(&mut self, text: fmt::Arguments<'_>) -> Flow {
        let mut record = Whole(self.cx.core.engine.pool.buffer(0));
        // As with any formatter, what was written before a failure stays written.
        let _ = fmt::Write::write_fmt(&mut record, text);
        let flow = self.write(&record.0);
        self.cx.core.engine.pool.put_buffer(record.0);
        flow
    }

    /// Queues bytes, and descriptors that travel with the first of them: in order with
    /// everything queued before and after. The peer gets descriptors of its own for the same
    /// files. Ours are closed when they have left, or when the connection ends.
    ///
    /// Unix sockets only, with at least one byte and at most 253 descriptors (what Linux
    /// allows; `SCM_MAX_FD`): else the connection ends with EOPNOTSUPP or EINVAL, as it would
    /// if the kernel had refused. No descriptors at all are a plain [`write`](Self::write).
    ///
    /// ```
    /// # fn show(conn: &mut windlass::Conn<'_>) -> std::io::Result<()> {
    /// let log = std::fs::File::open("/dev/null")?;
    /// conn.send_fds(vec![log.into()], b"log");
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_fds(&mut self, fds: Vec<OwnedFd>, bytes: &[u8]) -> Flow {
        self.with(Flow::Closed, |conn, engine| {
            conn.send_fds(fds, bytes, engine)
        })
    }

    /// What the last write answered, or would answer for no bytes at all.
    pub fn flow(&self) -> Flow {
        self.look(Flow::Closed, Connection::flow)
    }

    /// Bytes written that the kernel has not taken yet.
    pub fn queued(&self) -> usize {
        let Core { conns, engine, .. } = &*self.cx.core;
        conns
            .get(self.token)
            .map_or(0, |conn| conn.queued() + conn.gathered(engine))
    }

    /// Bytes that the kernel has taken so far.
    pub fn bytes_written(&self) -> u64 {
        self.look(0, Connection::bytes_written)
    }

    /// Bytes received and offered so far.
    pub fn bytes_read(&self) -> u64 {
        self.look(0, Connection::bytes_read)
    }

    // Ending.

    /// Flushes what was written, sends FIN, and waits (throwing away what still comes)
    /// until the peer is done, so that it gets every byte; bounded by
    /// [`Config::linger`](crate::Config::linger) and
    /// [`Config::drain_limit`](crate::Config::drain_limit). From now on the only callback
    /// is `on_close`. A second call does nothing.
    #[inline]
    pub fn close(&mut self) {
        self.with((), |conn, engine| conn.close_here(engine));
    }

    /// Ends the connection at once with RST. What was not delivered is lost.
    pub fn abort(&mut self) {
        self.with((), |conn, engine| {
            let reason = match conn.local_reason(engine) {
                CloseReason::Shutdown => CloseReason::Shutdown,
                _ => CloseReason::Local,
            };
            conn.abort(reason, engine);
        });
    }

    /// Sends FIN once everything queued has left. Reading goes on; when the peer is done
    /// as well, the connection closes itself.
    pub fn shutdown_write(&mut self) {
        self.with((), |conn, engine| conn.shutdown_write(engine));
    }

    // Reading.

    /// Stops reading until [`resume`](Self::resume). The peer notices when the kernel's
    /// buffers are full. Deadlines run on.
    pub fn pause(&mut self) {
        self.with((), |conn, _| conn.pause());
    }

    /// Goes on reading; what was left over is offered again in the next turn.
    pub fn resume(&mut self) {
        self.with((), |conn, engine| conn.resume(engine));
    }

    /// Has `on_read` run in the next turn with what is left over, new bytes or not. Not if
    /// nothing is left, and not while reading is paused.
    pub fn read_again(&mut self) {
        self.with((), |conn, engine| conn.read_again(engine));
    }

    /// Whether reading pauses by itself while the output is above its high mark. On by
    /// default; off where two linked connections would wait for each other (a proxy),
    /// whose handler then pauses by hand.
    pub fn set_auto_pause(&mut self, on: bool) {
        self.with((), |conn, engine| conn.set_auto_pause(on, engine));
    }

    /// Other limits for this connection, for what is queued as well: above the new high mark
    /// reading pauses, and at the new low mark or below `on_write` says that there is room. What
    /// is queued above a lower `limit` does not end the connection; the next write does.
    ///
    /// Start from those that hold and change fields:
    ///
    /// ```
    /// # fn on_accept(conn: &mut windlass::Conn<'_>) -> std::io::Result<()> {
    /// let mut limits = conn.limits();
    /// limits.input = 4096;
    /// conn.set_limits(limits)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` with a sentence, if they do not rise from low to limit.
    pub fn set_limits(&mut self, limits: Limits) -> io::Result<()> {
        limits
            .check()
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        self.with((), |conn, engine| conn.set_limits(limits, engine));
        Ok(())
    }

    /// The limits that hold for this connection.
    pub fn limits(&self) -> Limits {
        let engine = &self.cx.core.engine;
        self.look(engine.config.limits, |conn| conn.limits(engine))
    }

    // Descriptors.

    /// Lets the peer of a Unix socket send descriptors, of which at most `most` wait to be
    /// taken; more are closed at once and counted in
    /// [`Stats::descriptors_dropped`](crate::Stats::descriptors_dropped). Ask in `on_accept`
    /// or `on_connect`: until then, and with 0, descriptors that come are closed by the
    /// kernel, and nobody sees them. Those that wait already can still be taken.
    ///
    /// A limit protects this process: each that waits occupies a descriptor.
    pub fn accept_fds(&mut self, most: usize) {
        self.with((), |conn, engine| conn.accept_fds(most, engine));
    }

    /// The oldest descriptor that has come, close-on-exec. It is there no later than the
    /// bytes that it came with are offered; which belongs to which is a matter of your
    /// protocol. What nobody takes is closed with the connection.
    ///
    /// A process that is out of descriptors loses those that are sent to it, and is not told.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.with(None, |conn, _| conn.take_fd())
    }

    /// Takes the descriptor out of the loop, for somebody else to go on with: registered
    /// nowhere, still nonblocking, not closed. What was written leaves first.
    ///
    /// The connection is over here: `on_close` follows with [`CloseReason::Detached`], its
    /// `unread` tells what the handler was offered and has not consumed. Whoever goes on
    /// needs those bytes, so take them first. A Unix path that our own end was bound to
    /// stays. Works in every callback and by [`Context::conn`]; in `on_accept` and
    /// `on_connect` answer `Ok` afterwards, or there is no `on_close`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` while the kernel has not taken all that was written; nothing has changed
    /// then, so try again in [`on_write`](crate::Handler::on_write) or later. EBADF if the
    /// connection is closing or closed, EPIPE if this very flush has ended it.
    pub fn detach(&mut self) -> io::Result<OwnedFd> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |conn, engine| conn.detach(engine))?)
    }

    // Time.

    /// Sets both [`set_read_deadline`](Self::set_read_deadline) and
    /// [`set_write_deadline`](Self::set_write_deadline).
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.set_read_deadline(at);
        self.set_write_deadline(at);
    }

    /// Has `on_timeout(Read)` run at that time, once, whatever is read until then; `None`
    /// takes it back. It is absolute: to renew it, set it again, which costs a store. A
    /// time that has passed means the next turn, before this connection is read. It runs
    /// while reading is paused.
    pub fn set_read_deadline(&mut self, at: Option<Instant>) {
        self.set_one(Deadline::Read, at);
    }

    /// The same for output: `on_timeout(Write)` runs at that time if output is queued
    /// then, else at the next write that has to wait.
    pub fn set_write_deadline(&mut self, at: Option<Instant>) {
        self.set_one(Deadline::Write, at);
    }

    /// Has `on_timeout(Idle)` run when no byte has moved in either direction for that
    /// long, at least 1 ms; `None` is never. Counts from now.
    pub fn set_idle_timeout(&mut self, after: Option<Duration>) {
        self.with((), |conn, engine| conn.set_idle(after, engine));
    }

    /// Has `on_timeout(Timer(id))` run once at that time. The timer dies with the
    /// connection; [`Context::cancel_timer`] ends it earlier.
    pub fn set_timer(&mut self, at: Instant) -> TimerId {
        let owner = self.look(self.cx.owner, |conn| conn.owner);
        self.cx.core.set_timer(at, owner, Some(self.id()))
    }

    // The socket.

    /// The other end. Known even after the peer has gone.
    pub fn peer_addr(&self) -> Addr {
        self.look(UNKNOWN, Connection::peer)
    }

    /// Our end.
    ///
    /// # Errors
    ///
    /// What getsockname(2) answers; EBADF once the connection is closed.
    pub fn local_addr(&mut self) -> io::Result<Addr> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |conn, engine| engine.kernel.local_addr(conn.asked()?))?)
    }

    /// Who runs the process at the other end of a Unix socket, as the kernel noted it when
    /// the connection was made.
    ///
    /// # Errors
    ///
    /// EOPNOTSUPP on a socket of another kind, what getsockopt(2) answers otherwise; EBADF
    /// once the connection is closed.
    pub fn peer_cred(&mut self) -> io::Result<PeerCred> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |conn, engine| conn.peer_cred(engine))?)
    }

    /// TCP_NODELAY on this connection alone.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) answers; EBADF once the connection is closed.
    pub fn set_nodelay(&mut self, on: bool) -> io::Result<()> {
        self.set_options(StreamOptions {
            nodelay: Some(on),
            ..StreamOptions::default()
        })
    }

    /// Keep-alive probing on this connection alone.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) answers; EBADF once the connection is closed.
    pub fn set_keepalive(&mut self, keepalive: Keepalive) -> io::Result<()> {
        self.set_options(StreamOptions {
            keepalive: Some(keepalive),
            ..StreamOptions::default()
        })
    }

    fn set_options(&mut self, options: StreamOptions) -> io::Result<()> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |conn, engine| {
            engine.kernel.set_options(conn.asked()?, &options)
        })?)
    }

    /// Puts a layer between wire and handler from here on, on a connection that is in use
    /// (STARTTLS). What was written before leaves first, as it is; what is written from now on
    /// waits for the layer's handshake. `input` is what the callback was lent, or an empty one:
    /// whatever is left of it belongs to the layer, so that nothing behind the switch can be
    /// taken for plain.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the connection has a layer, is closed, or half of it is, keeps records, or
    /// has descriptors queued. `input` is untouched then.
    pub fn set_layer(&mut self, layer: impl Layer, input: &mut Input<'_>) -> io::Result<()> {
        let gone = Err(io::ErrorKind::InvalidInput.into());
        if fault!(TakenForPlain) {
            let layer = Box::new(layer);
            return self.with(gone, |conn, engine| conn.set_layer(layer, &[], engine));
        }
        let rest = input.rest();
        self.with(gone, |conn, engine| {
            conn.set_layer(Box::new(layer), rest, engine)
        })?;
        input.take_all();
        Ok(())
    }

    /// The connection's layer, if it has one of this kind.
    pub fn layer<L: Layer>(&self) -> Option<&L> {
        let conn = self.cx.core.conns.get(self.token)?;
        let layer: &dyn Any = conn.layered()?.layer();
        layer.downcast_ref()
    }

    fn set_one(&mut self, which: Deadline, at: Option<Instant>) {
        self.with((), |conn, engine| {
            let at = engine.clock.deadline(at);
            conn.set_deadline(which, at, engine);
        });
    }

    /// Slots are freed when no view exists, so the connection is there; `gone` is for the
    /// compiler, and harmless.
    #[inline]
    fn with<R>(&mut self, gone: R, act: impl FnOnce(&mut Connection, &mut Engine) -> R) -> R {
        let Core { conns, engine, .. } = &mut *self.cx.core;
        match conns.get_mut(self.token) {
            Some(conn) => act(conn, engine),
            None => gone,
        }
    }

    fn look<R>(&self, gone: R, see: impl FnOnce(&Connection) -> R) -> R {
        self.cx.core.conns.get(self.token).map_or(gone, see)
    }
}

impl fmt::Debug for Conn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

/// Never fails and never takes less than everything, except that a closed connection
/// answers `BrokenPipe`. Backpressure shows in [`Conn::flow`].
impl io::Write for Conn<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Conn::write(self, bytes) {
            Flow::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Flow::Open | Flow::Full => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// In one piece, where pieces count.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        match Conn::write_fmt(self, text) {
            Flow::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Flow::Open | Flow::Full => Ok(()),
        }
    }
}

/// A text that is gathered before it is written.
struct Whole(Vec<u8>);

impl fmt::Write for Whole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

struct Text<'c, 'a>(&'c mut Conn<'a>);

impl fmt::Write for Text<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// One listener, as a callback (or the owner of the reactor) sees it.
pub struct Listener<'a> {
    core: &'a mut Core,
    token: Token,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(core: &'a mut Core, token: Token) -> Self {
        Self { core, token }
    }

    /// This listener's name.
    pub fn id(&self) -> ListenerId {
        ListenerId::new(self.token)
    }

    /// What it listens on, with the port that the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> Addr {
        self.look(UNKNOWN, |listener| listener.addr.clone())
    }

    /// The backlog in force: what was asked for, or the system's maximum if that is lower
    /// or nothing was asked. An adopted socket's is not known and shows as the maximum.
    pub fn backlog(&self) -> u32 {
        self.look(0, |listener| listener.backlog)
    }

    /// Connections that wait in the kernel's accept queue, and the limit of that queue.
    ///
    /// Linux lets one more wait than the limit says. One system call.
    ///
    /// # Errors
    ///
    /// `Unsupported` (ENOTSUP) on systems that do not tell.
    pub fn queue(&mut self) -> io::Result<(u32, u32)> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |listener, engine| listener.queue(engine))?)
    }

    /// Connections of this listener that are open.
    pub fn connections(&self) -> usize {
        self.look(0, |listener| listener.open)
    }

    /// Accepts nobody until [`resume`](Self::resume). Clients wait in the kernel's queue.
    /// Without effect after [`close`](Self::close), which waits for the queue to be emptied.
    pub fn pause(&mut self) {
        self.with((), |listener, _| listener.pause());
    }

    /// Accepts again.
    pub fn resume(&mut self) {
        self.with((), |listener, engine| listener.resume(engine));
    }

    /// Has [`on_accept_error`](crate::Handler::on_accept_error) run at that time, once, with
    /// an error whose `is_timeout()` is true; `None` takes it back. It is absolute, and the
    /// listener goes on accepting, whether anybody came until then or not. A time that has
    /// passed means the next turn, before anybody else is accepted. It runs on while accepting
    /// is paused; one that is closing has none.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.with((), |listener, engine| {
            let at = engine.clock.deadline(at);
            listener.set_deadline(at, engine);
        });
    }

    /// A duplicate of the listening socket, close-on-exec: for another loop or a child
    /// process, which [adopts](crate::Listen::adopt) it. Clients go to whoever accepts first;
    /// pausing or closing this listener does not concern the others.
    ///
    /// A child process gets it as its standard input, which survives the exec:
    ///
    /// ```no_run
    /// # fn spawn(listener: &mut windlass::Listener<'_>) -> std::io::Result<()> {
    /// let socket = listener.try_clone_fd()?;
    /// std::process::Command::new("worker").stdin(socket).spawn()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// There, `Listen::adopt(std::io::stdin().as_fd().try_clone_to_owned()?)`. If it has a
    /// Unix path, see [`unlink_on_close`](crate::Listen::unlink_on_close).
    ///
    /// # Errors
    ///
    /// EMFILE if this process has no descriptor left; ENOTSUP in a simulated world.
    pub fn try_clone_fd(&mut self) -> io::Result<OwnedFd> {
        let gone = Err(Errno(libc::EBADF));
        Ok(self.with(gone, |listener, engine| {
            engine.kernel.duplicate(listener.fd())
        })?)
    }

    /// What [`Listen::layer`](crate::Listen::layer) set, for clients accepted from here on: a
    /// certificate is renewed without closing the listener.
    pub fn set_layer(
        &mut self,
        make: impl Fn() -> io::Result<Box<dyn Layer>> + Send + Sync + 'static,
    ) {
        self.with((), |listener, _| listener.layers = Some(Layers::new(make)));
    }

    /// Whether [`pause`](Self::pause) holds.
    pub fn is_paused(&self) -> bool {
        self.look(false, |listener| listener.is_paused())
    }

    /// Accepts who is in the queue already, within the caps, then closes: closing at once
    /// would reset them. Its connections are not affected.
    pub fn close(&mut self) {
        self.with((), |listener, engine| listener.stop(engine));
    }

    fn with<R>(
        &mut self,
        gone: R,
        act: impl FnOnce(&mut listener::Listener, &mut Engine) -> R,
    ) -> R {
        let Core {
            listeners, engine, ..
        } = &mut *self.core;
        match listeners.get_mut(self.token) {
            Some(listener) => act(listener, engine),
            None => gone,
        }
    }

    fn look<R>(&self, gone: R, see: impl FnOnce(&listener::Listener) -> R) -> R {
        self.core.listeners.get(self.token).map_or(gone, see)
    }
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("id", &self.id())
            .field("addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}

/// Stands for the address of what is no longer there.
const UNKNOWN: Addr = Addr::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
