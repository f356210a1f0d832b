//! The loop without the application: the slabs, and the engine that serves them.
//!
//! Not generic. It is what a [`Context`](crate::Context) lends out; handler, sessions and
//! the read buffer are the reactor's, in fields of their own, so that all of them can be
//! lent to one callback at once.

use std::time::Instant;

use crate::config;
use crate::connection::Connection;
use crate::dialer::Dialing;
use crate::engine::{Engine, NOBODY};
use crate::error::{Cause, CloseReason, Error, Op};
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Closed;
use crate::kernel::Transport;
use crate::listener::{Listen, Listener};
use crate::packet_socket::PacketSocket;
use crate::sources::{Named, Slots};
use crate::stats::Stats;
use crate::timer::{Entry, TICK};
use crate::token::{ConnId, Kind, ListenerId, Owner, TimerId, Token};
use crate::unix_path;
use crate::watch::Watching;

/// Everything that lives in a loop, and its tools.
pub(crate) struct Core {
    pub(crate) conns: Slots<Connection>,
    pub(crate) listeners: Slots<Listener>,
    pub(crate) timers: Slots<TimerSlot>,
    pub(crate) dials: Slots<Dialing>,
    pub(crate) sockets: Slots<PacketSocket>,
    pub(crate) watches: Slots<Watching>,
    pub(crate) engine: Engine,
}

/// A connection that is no more.
pub(crate) struct Retired {
    pub(crate) owner: Owner,
    /// The listener or the dial that it came from.
    pub(crate) origin: Token,
    pub(crate) closed: Closed,
}

/// A timer that has not fired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerSlot {
    token: Token,
    pub(crate) owner: Owner,
    /// Whose callback it runs, and with whom it dies.
    pub(crate) conn: Option<ConnId>,
    entry: Entry,
}

impl Named for TimerSlot {
    fn token(&self) -> Token {
        self.token
    }
}

impl Core {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            conns: Slots::with_room(Kind::Conn, config::FIRST_CONNECTIONS),
            listeners: Slots::new(Kind::Listener),
            timers: Slots::new(Kind::Timer),
            dials: Slots::new(Kind::Dial),
            sockets: Slots::new(Kind::Socket),
            watches: Slots::new(Kind::Watch),
            engine,
        }
    }

    pub(crate) fn listen(&mut self, listen: Listen, owner: Owner) -> Result<ListenerId, Error> {
        let Self {
            listeners, engine, ..
        } = self;
        if engine.stopping() {
            return Err(Error::new(Op::Listen, None, None, Cause::Closed));
        }
        let opened = Listener::open(listen, engine)?;
        let held = opened.held();
        let made = listeners.insert(|token| Listener::new(token, opened, owner, engine));
        let Some(token) = made else {
            held.give_back(engine);
            let cause = Cause::Invalid("too many listeners".to_owned());
            return Err(Error::new(Op::Listen, None, None, cause));
        };
        let id = ListenerId::new(token);
        let registered = listeners
            .get(token)
            .map_or(Ok(()), |made| made.register(engine));
        if let Err(error) = registered {
            self.drop_listener(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Closes a listener now; whoever is in its queue is reset by the kernel.
    pub(crate) fn drop_listener(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.remove(id.token()) {
            listener.retire(&mut self.engine);
        }
    }

    pub(crate) fn set_timer(&mut self, at: Instant, owner: Owner, conn: Option<ConnId>) -> TimerId {
        let Self {
            timers,
            engine,
            conns,
            ..
        } = self;
        let at = engine
            .clock
            .at(at)
            .saturating_sub(if fault!(TimerEarly) { TICK } else { 0 });
        let made = timers.insert(|token| TimerSlot {
            token,
            owner,
            conn,
            entry: engine.wheel.insert(at, token),
        });
        // 268 million timers at once take more memory than any host of this loop has; an id
        // that names nothing is better than a panic.
        let Some(token) = made else {
            log::error!(target: "windlass::reactor", "a timer was not set: the index space is used up");
            return TimerId::NONE;
        };
        let id = TimerId::new(token);
        if let Some(conn) = conn.and_then(|conn| conns.get_mut(conn.token())) {
            conn.add_timer(id, engine);
        }
        id
    }

    pub(crate) fn cancel_timer(&mut self, id: TimerId) -> bool {
        if fault!(TimerNotCanceled) {
            return self.timers.get(id.token()).is_some();
        }
        let Some(timer) = self.timers.remove(id.token()) else {
            return false;
        };
        self.engine.wheel.cancel(timer.entry);
        if let Some(conn) = timer.conn.and_then(|conn| self.conns.get_mut(conn.token())) {
            conn.remove_timer(id);
        }
        true
    }

    /// Says of a connection, which was accepted last, what is not ordinary about it.
    #[inline(never)]
    pub(crate) fn identify(&mut self, conn: Token, transport: Transport) {
        let Self { conns, engine, .. } = self;
        if let Some(conn) = conns.get_mut(conn) {
            let remote = engine.kernel.client();
            conn.identify(remote, transport, engine);
        }
    }

    /// What the listener's connections get between wire and handler.
    #[inline(never)]
    pub(crate) fn begin_layer(&mut self, conn: Token, listener: Token) {
        let Self {
            conns,
            listeners,
            engine,
            ..
        } = self;
        let layers = listeners.get(listener).and_then(|it| it.layers.clone());
        if let (Some(conn), Some(layers)) = (conns.get_mut(conn), layers) {
            conn.begin_layer(&layers, engine);
        }
    }

    /// The callback has returned: what it wrote to its own connection leaves.
    #[inline]
    pub(crate) fn end_callback(&mut self) {
        let Self { conns, engine, .. } = self;
        if !engine.gather.is_empty()
            && let Some(conn) = conns.get_mut(engine.current)
        {
            conn.ship(engine);
        }
        engine.current = NOBODY;
    }

    /// Takes a connection out of the loop, with its timers, and gives back all that it held.
    /// Nobody finds it from here on.
    #[inline(always)]
    pub(crate) fn retire_conn(&mut self, token: Token, reason: CloseReason) -> Option<Retired> {
        let Self {
            conns,
            listeners,
            engine,
            ..
        } = self;
        let conn = conns.get_mut(token)?;
        if conn.has(Flags::ADMITTED)
            && let Some(listener) = listeners.get_mut(conn.origin)
        {
            listener.open -= usize::from(!fault!(ListenerCountKept));
        }
        let retired = Retired {
            owner: conn.owner,
            origin: conn.origin,
            closed: conn.retire(reason, engine),
        };
        let remains = conn.remains();
        conns.vacate(token);
        engine.freed = true;
        remains.close(engine);
        if !self.engine.orphans.is_empty() {
            self.cancel_orphans();
        }
        Some(retired)
    }

    /// The same of one that nobody is told of.
    #[inline(never)]
    pub(crate) fn drop_conn(&mut self, token: Token) {
        self.retire_conn(token, CloseReason::Local);
    }

    #[inline(never)]
    fn cancel_orphans(&mut self) {
        let timers = std::mem::take(&mut self.engine.orphans);
        for timer in timers.into_iter().filter(|_| !fault!(TimerOutlives)) {
            self.cancel_timer(timer);
        }
    }

    /// The wheel has let go of this timer: it fires, or its connection is gone.
    pub(crate) fn take_timer(&mut self, id: TimerId) -> Option<TimerSlot> {
        let timer = self.timers.remove(id.token())?;
        if let Some(conn) = timer.conn.and_then(|conn| self.conns.get_mut(conn.token())) {
            conn.remove_timer(id);
        }
        Some(timer)
    }

    /// Files the limits of connections that have lived for so long that they may need it.
    pub(crate) fn file_young(&mut self) {
        let Self { conns, engine, .. } = self;
        let due = engine.young.until() <= engine.clock.nanos;
        if !due && !engine.young.is_full() {
            return;
        }
        if !due && engine.young.keeps(|&token| conns.get(token).is_some()) {
            return;
        }
        let tokens = engine.young.take();
        for &token in tokens.iter().filter(|_| !fault!(YoungForgotten)) {
            if let Some(conn) = conns.get_mut(token) {
                conn.arm(engine);
            }
        }
        engine.young.give_back(tokens);
    }

    /// Whoever waited for memory goes on.
    pub(crate) fn unpark(&mut self) {
        self.engine.ease_pressure();
        if self.engine.pressed || self.engine.parked.is_empty() {
            return;
        }
        let parked = std::mem::take(&mut self.engine.parked);
        for token in parked.into_iter().filter(|_| !fault!(ParkedForgotten)) {
            if let Some(conn) = self.conns.get_mut(token) {
                conn.unpark(&mut self.engine);
            } else if let Some(listener) = self.listeners.get_mut(token) {
                listener.relieved(&mut self.engine);
            }
        }
    }

    /// A descriptor was freed, and room under the caps with it. There may be room for one
    /// client only, so the listener that had its last one longest ago goes first.
    pub(crate) fn feed(&mut self) {
        let mut starved = std::mem::take(&mut self.engine.starved);
        starved.sort_unstable_by_key(|&token| self.listeners.get(token).map(Listener::served_in));
        for token in starved.drain(..).filter(|_| !fault!(StarvedForgotten)) {
            if let Some(listener) = self.listeners.get_mut(token) {
                listener.fed(&mut self.engine);
            }
        }
        self.engine.starved = starved;
    }

    /// Nothing that a graceful stop would have to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.conns.is_empty()
            && self.listeners.is_empty()
            && self.dials.is_empty()
            && self.sockets.is_empty()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.engine.snapshot(self.conns.len())
    }
}

/// A reactor that is dropped gives back every descriptor. No callback runs for what was
/// still open: there is nobody left to run it.
impl Drop for Core {
    fn drop(&mut self) {
        for conn in self.conns.iter() {
            if let Some(path) = conn.path() {
                unix_path::remove_if_ours(self.engine.kernel.as_mut(), path);
            }
            if let Some(fd) = conn.descriptor() {
                self.engine.kernel.close(fd);
            }
        }
        for listener in self.listeners.iter() {
            listener.held().give_back(&mut self.engine);
        }
        for socket in self.sockets.iter() {
            if let Some(path) = socket.path() {
                unix_path::remove_if_ours(self.engine.kernel.as_mut(), path);
            }
            if let Some(fd) = socket.fd() {
                self.engine.kernel.close(fd);
            }
        }
        for watch in self.watches.iter() {
            // The descriptor is handed out to be closed by being dropped.
            drop(self.engine.kernel.release(watch.fd()));
        }
    }
}
