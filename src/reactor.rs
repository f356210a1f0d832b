//! The turn: its order, its carry-over, its exits. The only caller of [`Handler`].

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::config::{Config, PanicPolicy};
use crate::connection::{Budget, Connection, Filled};
use crate::context::{Conn, Context, Listener};
use crate::core::{Core, Retired};
use crate::datagram::{Bind, Datagram, Socket};
use crate::dialer::{Dial, DialEnd};
use crate::endings::Ending;
use crate::engine::{Engine, NOBODY, Report, SocketReport, nanos, words_of};
use crate::error::{Cause, CloseReason, Error, Op};
use crate::faults::fault;
use crate::flags::Flags;
use crate::handle::{Handle, Inbox, Post};
use crate::handler::{Deadline, Handler};
use crate::input::Input;
use crate::kernel::os::OsKernel;
use crate::kernel::{AnyKernel, Batch, Event, Fd, Interest, Moved, Transport};
use crate::layer::Layers;
use crate::listener::{Listen, Step, Terms};
use crate::packet_socket::PacketSocket;
use crate::stats::Stats;
use crate::timer::{NEVER, Nanos};
use crate::token::{ConnId, DialId, Kind, ListenerId, Owner, SocketId, TimerId, Token, WatchId};

mod merged;

/// A single-threaded event loop that owns a handler, its sessions and its sockets.
///
/// Make one, open listeners, [`run`](Self::run). One loop is one thread; more processor
/// cores are more loops. The order of a turn is published in `docs/event-model.md` and is
/// the order of the statements in [`turn`](Self::turn).
///
/// Dropping a reactor closes every descriptor it holds; no callback runs then. To end in
/// good order, use [`Context::shutdown`] or [`Handle::shutdown`].
pub struct Reactor<H: Handler> {
    handler: H,
    // By the index of the connection.
    sessions: Vec<Option<H::Session>>,
    core: Core,
    // What every connection is read into.
    buffer: Box<[u8]>,
    inbox: Inbox<H>,
    phase: Phase,
    // How many of the events somebody has begun with, and how many bytes the callback was
    // offered that ran last: both outlive a panic.
    served: usize,
    offered: usize,
    // Lists that are swapped or refilled each turn; kept here for their capacity.
    events: Vec<Event>,
    serving: Vec<Token>,
    accepting: Vec<Token>,
    tasks: VecDeque<Post<H>>,
    // What datagrams are received into; made for the first.
    batch: Option<Batch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// `on_start` has not run.
    Fresh,
    Running,
    /// A graceful stop has begun, and everybody has been told.
    Stopping,
    /// `on_stop` has run, or `on_start` failed.
    Stopped,
}

/// Whether there will be another turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a stopped loop does nothing more"]
pub enum Turn {
    /// Call [`Reactor::turn`] again.
    Running,
    /// The graceful stop is over.
    Stopped,
}

/// What a loop did, as [`Reactor::run`] answers when it is over.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The counters at the end.
    pub stats: Stats,
    /// Connections that were still open when the grace of the stop ended.
    pub aborted: u64,
}

impl<H: Handler> Reactor<H> {
    /// A loop with the limits of [`Config::default`].
    ///
    /// # Errors
    ///
    /// The system has no descriptors for the loop itself.
    pub fn new(handler: H) -> Result<Self, Error> {
        Self::with_config(handler, Config::default())
    }

    /// A loop with limits of your own.
    ///
    /// # Errors
    ///
    /// The limits contradict each other ([`Config::check`]), or the system has no
    /// descriptors for the loop itself.
    pub fn with_config(handler: H, config: Config) -> Result<Self, Error> {
        config.check()?;
        let kernel = OsKernel::new(config.events, config.max_events).map_err(|error| {
            let why = Cause::Invalid(format!("no event loop: {error}"));
            Error::new(Op::Run, None, None, why)
        })?;
        let kernel = kernel.busy_poll(config.busy_poll);
        Ok(Self::on_kernel(handler, config, AnyKernel::System(kernel)))
    }

    /// The same loop on a kernel of choice; the configuration has been checked.
    pub(crate) fn on_kernel(handler: H, config: Config, kernel: AnyKernel) -> Self {
        let inbox = Inbox::new(config.mailbox_limit, kernel.waker());
        // The ready list and the one it is swapped with both have room from the start, or
        // the steady state would allocate when the second is first needed, whenever that is.
        let events = config.events;
        Self {
            handler,
            sessions: Vec::new(),
            buffer: vec![0; config.read_buffer].into_boxed_slice(),
            core: Core::new(Engine::new(kernel, config)),
            inbox,
            phase: Phase::Fresh,
            served: 0,
            offered: 0,
            events: Vec::with_capacity(events),
            serving: Vec::with_capacity(events),
            accepting: Vec::new(),
            tasks: VecDeque::new(),
            batch: None,
        }
    }

    /// Opens a listener: on a text (`"127.0.0.1:3000"`, `"tcp://:80"`), a typed address, or
    /// a [`Listen`] with options.
    ///
    /// # Errors
    ///
    /// One line that names the call and the address, as in
    /// `listen tcp 127.0.0.1:3000: bind: address already in use`.
    pub fn listen<L>(&mut self, listen: L) -> Result<ListenerId, Error>
    where
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        let listen = listen.try_into().map_err(Into::into)?;
        self.core.listen(listen, Owner::default())
    }

    /// Connects to somebody, as [`Context::dial`] does; begins in the next turn.
    ///
    /// # Errors
    ///
    /// Only a text that does not parse; everything else is told by
    /// [`on_dial_error`](Handler::on_dial_error).
    pub fn dial<D>(&mut self, dial: D) -> Result<DialId, Error>
    where
        D: TryInto<Dial>,
        D::Error: Into<Error>,
    {
        let dial = dial.try_into().map_err(Into::into)?;
        self.core.dial(dial, Owner::default())
    }

    /// Opens a datagram socket: on a text (`":5353"`, `"udp6://[::1]:0"`,
    /// `"unixgram:///run/x.sock"`), a typed address, or a [`Bind`] with options.
    ///
    /// # Errors
    ///
    /// One line that names the call and the address, as in
    /// `listen udp 127.0.0.1:53: bind: permission denied`, or `dial udp …` for one that was
    /// to be connected.
    pub fn bind<B>(&mut self, bind: B) -> Result<SocketId, Error>
    where
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        let bind = bind.try_into().map_err(Into::into)?;
        self.core.bind(bind, Owner::default())
    }

    /// A datagram socket, by its id.
    pub fn socket(&mut self, id: SocketId) -> Option<Socket<'_>> {
        self.core
            .sockets
            .get(id.token())
            .filter(|socket| !socket.is_dead())?;
        Some(Socket::new(&mut self.core, Owner::default(), id.token()))
    }

    /// Watches a descriptor, as [`Context::watch`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn watch(&mut self, fd: impl Into<OwnedFd>, interest: Interest) -> Result<WatchId, Error> {
        self.core.watch(fd.into(), interest, Owner::default())
    }

    /// Takes over a connection made elsewhere, as [`Context::adopt`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn adopt(&mut self, fd: impl Into<OwnedFd>) -> Result<DialId, Error> {
        self.core.adopt(fd.into(), Owner::default())
    }

    /// Ends a watch, as [`Context::unwatch`] does.
    pub fn unwatch(&mut self, id: WatchId) -> Option<OwnedFd> {
        self.core.unwatch(id)
    }

    /// A listener, by its id.
    pub fn listener(&mut self, id: ListenerId) -> Option<Listener<'_>> {
        self.core
            .listeners
            .get(id.token())
            .filter(|listener| !listener.is_dead())?;
        Some(Listener::new(&mut self.core, id.token()))
    }

    /// A way in for other threads.
    pub fn handle(&self) -> Handle<H> {
        self.inbox.handle()
    }

    /// The application's state.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The application's state.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// The application's state, at the end. What is still open is closed without callbacks.
    pub fn into_handler(self) -> H {
        self.handler
    }

    /// The loop's counters at this moment.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Turns until a graceful stop is over.
    ///
    /// # Errors
    ///
    /// What `on_start` answered, or a poll that failed for another reason than a signal
    /// (a descriptor closed behind the loop's back). Errors of connections and listeners
    /// never come out here. A loop that has stopped does not run again.
    pub fn run(&mut self) -> io::Result<Summary> {
        if self.phase == Phase::Stopped {
            return Err(io::Error::other("this loop has stopped"));
        }
        let aborted = self.core.engine.aborted;
        while self.pass(NEVER)? == Turn::Running {}
        Ok(Summary {
            stats: self.stats(),
            aborted: self.core.engine.aborted - aborted,
        })
    }

    /// One pass of the loop, for embedding in a loop of your own: waits at most `timeout`
    /// (`None`: until something happens).
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        // Whoever calls this may have been elsewhere since the last turn ended.
        self.core.engine.measure();
        self.pass(timeout.map_or(NEVER, nanos))
    }

    /// The turn itself; waits at most `most` long.
    fn pass(&mut self, most: Nanos) -> io::Result<Turn> {
        match self.phase {
            Phase::Fresh => self.start()?,
            Phase::Running | Phase::Stopping => {}
            Phase::Stopped => return Ok(Turn::Stopped),
        }
        let wait = self.core.engine.wait(most, self.inbox.is_rung()); // 1. choose the wait
        self.core.engine.poll(&mut self.events, wait)?; //               2. poll, 3. read the clock
        if fault!(PostsFirst) {
            self.run_posts();
        }
        if fault!(TimersFirst) {
            self.fire_timers();
        }
        self.serve_ready(); //                                           4. what the last turn left,
        self.serve_events(); //                                             then what came
        if !self.is_done() {
            self.finish();
        }
        let turn = self.see_to_stop();
        self.core.engine.end_turn();
        Ok(turn)
    }

    /// Whether none of the steps that follow has anything to do: none of them would begin, and
    /// so none could leave anything to another.
    #[inline]
    fn is_done(&self) -> bool {
        self.accepting.is_empty() && self.core.engine.is_quiet() && !self.inbox.is_rung()
    }

    /// The steps of a turn that follow its events.
    #[inline(never)]
    fn finish(&mut self) {
        self.core.take_lookups(); //      names that were looked up,
        self.serve_listeners(); //        newcomers last
        if fault!(ClosesFirst) {
            self.deliver_closes();
        }
        self.run_posts(); //           5. posted closures
        self.fire_timers(); //         6. deadlines and timers
        self.tell_dials(); //             and what became of dials
        self.tell_sockets(); //           and of datagrams
        self.flush_touched(); //       7. what was written elsewhere
        self.deliver_closes(); //      8. closes; slots and descriptors
    }

    // Beginning and end.

    fn start(&mut self) -> io::Result<()> {
        let handle = self.inbox.handle();
        let Self { handler, core, .. } = self;
        core.engine.start();
        let started = guarded(core, "on_start", |core| {
            handler.on_start(&mut Context::new(core, Owner::default()), &handle)
        });
        match started.unwrap_or_else(|| Err(io::Error::other("on_start panicked"))) {
            Ok(()) => {
                self.phase = Phase::Running;
                Ok(())
            }
            Err(error) => {
                self.phase = Phase::Stopped;
                self.inbox.stop();
                Err(error)
            }
        }
    }

    /// The graceful stop: tell everybody once, wait for them, cut off who is late.
    fn see_to_stop(&mut self) -> Turn {
        let Some(at) = self.core.engine.stop_at else {
            return Turn::Running;
        };
        self.core.engine.stop_is_news = false;
        if self.phase == Phase::Running {
            if !fault!(ShutdownToldAgain) {
                self.phase = Phase::Stopping;
            }
            self.tell_everybody_to_stop();
        }
        if self.core.engine.clock.nanos >= at && !fault!(GraceIgnored) {
            self.cut_off_everybody();
        }
        if !self.core.is_empty() && !fault!(StopsTooEarly) {
            return Turn::Running;
        }
        self.phase = Phase::Stopped;
        let Self { handler, core, .. } = self;
        guarded(core, "on_stop", |core| {
            if fault!(StopToldTwice) {
                handler.on_stop(&mut Context::new(core, Owner::default()));
            }
            if !fault!(StopForgotten) {
                handler.on_stop(&mut Context::new(core, Owner::default()));
            }
        });
        self.inbox.stop();
        Turn::Stopped
    }

    fn tell_everybody_to_stop(&mut self) {
        if fault!(ShutdownUntold) {
            return;
        }
        let Core {
            conns,
            listeners,
            sockets,
            engine,
            ..
        } = &mut self.core;
        for index in 0..listeners.end() {
            if let Some(listener) = listeners.at_mut(index) {
                listener.stop(engine);
            }
        }
        for index in 0..conns.end() {
            if let Some(conn) = conns.at_mut(index)
                && !conn.has(Flags::CONNECTING)
            {
                conn.set(Flags::SHUTDOWN);
                conn.make_ready(engine);
            }
        }
        for index in 0..sockets.end() {
            if let Some(socket) = sockets.at_mut(index) {
                socket.close(engine);
            }
        }
        self.core.cancel_all_dials();
    }

    fn cut_off_everybody(&mut self) {
        for index in 0..self.core.listeners.end() {
            if let Some(token) = self.core.listeners.token_at(index) {
                self.core.drop_listener(ListenerId::new(token));
            }
        }
        for index in 0..self.core.sockets.end() {
            if let Some(token) = self.core.sockets.token_at(index) {
                self.core.drop_socket(token);
            }
        }
        let Core { conns, engine, .. } = &mut self.core;
        for index in 0..conns.end() {
            // Attempts end with their dials, which have been canceled.
            if let Some(conn) = conns
                .at_mut(index)
                .filter(|conn| !conn.has(Flags::CONNECTING))
            {
                engine.aborted += 1;
                conn.abort(CloseReason::Shutdown, engine);
            }
        }
        self.deliver_closes();
    }

    // Step 4.

    fn serve_ready(&mut self) {
        if self.core.engine.ready.is_empty() {
            return;
        }
        std::mem::swap(&mut self.serving, &mut self.core.engine.ready);
        for at in 0..self.serving.len() {
            let token = self.serving[at];
            match token.kind() {
                Some(Kind::Conn) => {
                    self.serve(token);
                    self.set_served(token, !fault!(TwoBudgets));
                }
                Some(Kind::Listener) => {
                    if let Some(listener) = self.core.listeners.get_mut(token) {
                        listener.left_ready();
                        self.accepting.push(token);
                        self.tell_accept_timeout(token);
                    }
                }
                Some(Kind::Dial) => self.core.serve_dial(token),
                Some(Kind::Socket) => self.serve_socket(token),
                Some(Kind::Watch) => self.serve_watch(token),
                Some(Kind::Timer) | None => {}
            }
        }
    }

    /// Whoever came off the ready list has had its share of this turn, whatever is reported.
    fn set_served(&mut self, token: Token, served: bool) {
        if let Some(conn) = self.core.conns.get_mut(token) {
            if served {
                conn.set(Flags::SERVED);
            } else {
                conn.take(Flags::SERVED);
            }
        }
    }

    fn serve_events(&mut self) {
        self.served = 0;
        while self.served < self.events.len() {
            match self.core.engine.config.panic_policy {
                PanicPolicy::Isolate if fault!(PanicEndsLoop) => self.serve_each(),
                PanicPolicy::Isolate => self.serve_isolated(),
                PanicPolicy::Propagate => self.serve_each(),
            }
        }
        if !self.serving.is_empty() {
            self.all_served();
        }
    }

    /// The events are through: whoever came off the ready list may be served again.
    fn all_served(&mut self) {
        for at in 0..self.serving.len() {
            self.set_served(self.serving[at], false);
        }
        self.serving.clear();
    }

    /// One guard for all callbacks of the short way: to set one up for each costs more than
    /// anything else about a callback. After a panic the next event is served under another.
    fn serve_isolated(&mut self) {
        let all = AssertUnwindSafe(|| self.serve_each());
        if let Err(payload) = catch_unwind(all) {
            self.read_panicked(payload);
            if fault!(PanicCostsOthers) {
                self.served = self.events.len();
            }
        }
    }

    /// Those events that have not been taken yet.
    fn serve_each(&mut self) {
        // Only the long way times callbacks.
        let short = !self.core.engine.times_callbacks;
        while let Some(event) = self.next_event() {
            let done = short && self.serve_shortly(event);
            if !done {
                self.serve_event(event);
            }
        }
    }

    #[inline(always)]
    fn next_event(&mut self) -> Option<Event> {
        let event = *self.events.get(self.served)?;
        self.served += 1;
        Some(event)
    }

    /// The short ways. `false`: this event has to go the long way, and nothing was done.
    #[inline(always)]
    fn serve_shortly(&mut self, event: Event) -> bool {
        if event.ready.is_plain_read() {
            return self.exchange(event);
        }
        if event.ready.is_last_read() {
            self.serve_leaves(event);
            return true;
        }
        // Whoever is plain has known of the room, and has nothing to put there.
        let conn = self.core.conns.get(event.token);
        event.ready.is_plain_write() && conn.is_some_and(Connection::is_plain)
    }

    /// This event, and those right behind it that say the same: that the peer has finished.
    #[inline(never)]
    fn serve_leaves(&mut self, first: Event) {
        let mut event = first;
        loop {
            if !self.take_leave(event) {
                self.serve_event(event);
            }
            match self.events.get(self.served) {
                Some(next) if next.ready.is_last_read() => event = *next,
                _ => return,
            }
            self.served += 1;
        }
    }

    /// The short way, which nearly every event goes: one receive, one callback, one send.
    /// `false`: this event has to go the long way, and nothing was done.
    ///
    /// It does nothing that [`serve_event`](Self::serve_event) would not do; it knows that
    /// there is nothing else to do. What turns up in between goes on there.
    #[inline]
    fn exchange(&mut self, event: Event) -> bool {
        let token = event.token;
        let Self {
            handler,
            sessions,
            core,
            buffer,
            ..
        } = self;
        let buffer: &mut [u8] = buffer;
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        if !conn.is_plain() || engine.pressed {
            return false;
        }
        let Some(Some(session)) = sessions.get_mut(token.index()) else {
            return false;
        };
        let len = match conn.receive_plain(engine, buffer) {
            Ok(len) => len,
            Err(moved) => return self.received_first(event, moved),
        };
        let owner = conn.owner;
        conn.begin_plain_callback(engine);
        engine.stats.callbacks += 1;
        self.offered = len;
        let mut input = Input::new(&buffer[..len]);
        let outcome = handler.on_read(&mut Conn::new(core, owner, token), session, &mut input);
        let consumed = input.consumed();
        let Core { conns, engine, .. } = core;
        if outcome.is_ok()
            && consumed == len
            && engine.gathers_still()
            && let Some(conn) = conns.get_mut(token)
            && conn.ship_plain(engine)
        {
            return true;
        }
        self.exchanged(token, Some(outcome), len, consumed);
        true
    }

    /// What follows a callback on the short way, if more came of it than an answer that the
    /// kernel has taken.
    #[inline(never)]
    fn exchanged(
        &mut self,
        token: Token,
        outcome: Option<io::Result<()>>,
        len: usize,
        consumed: usize,
    ) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if fault!(HalfAnswerLeaves) {
            conn.ship(engine);
        }
        conn.called_back(outcome, engine);
        conn.ship(engine);
        // A handler may have put another `Input` in the place of the one it was lent.
        conn.keep(&self.buffer[consumed.min(len)..len], engine);
        conn.settle(engine);
        if !conn.is_open() || conn.wants_reading() {
            self.read_after_first(token, len);
        }
    }

    /// The first read of the short way came to something else than some bytes.
    #[inline(never)]
    fn received_first(&mut self, event: Event, moved: Moved) -> bool {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(event.token) else {
            return true;
        };
        let got = conn.received_first(moved, event.ready, engine, &mut self.buffer);
        self.go_on(event.token, got)
    }

    /// The short way of an event that says that the peer has finished, if this one does: one
    /// receive, one callback, and mostly the end.
    #[inline(always)]
    fn take_leave(&mut self, event: Event) -> bool {
        let token = event.token;
        let Self {
            handler,
            sessions,
            core,
            buffer,
            ..
        } = self;
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        if !conn.is_plain() || engine.pressed {
            return false;
        }
        let Some(Some(session)) = sessions.get_mut(token.index()) else {
            return false;
        };
        if let Err(moved) = conn.receive_end(engine, buffer) {
            return self.received_first(event, moved);
        }
        if fault!(LeaveUntold) {
            return true;
        }
        let owner = conn.owner;
        conn.begin_plain_callback(engine);
        engine.stats.callbacks += 1;
        self.offered = 0;
        let mut input = Input::new(&[]);
        let outcome = handler.on_eof(&mut Conn::new(core, owner, token), session, &mut input);
        let Core { conns, engine, .. } = core;
        if let Some(conn) = conns.get_mut(token)
            && !(outcome.is_ok() && conn.end_plain(engine))
        {
            conn.called_back(Some(outcome), engine);
            conn.ship(engine);
            conn.settle(engine);
        }
        true
    }

    /// Goes on as the long way does after its first read.
    fn go_on(&mut self, token: Token, got: Option<usize>) -> bool {
        match got {
            Some(len) => {
                if self.offer_shared(token, len) {
                    self.read_after_first(token, len);
                }
            }
            None => self.tell_eof(token),
        }
        true
    }

    /// The rest of a turn's share, of which one read was for `len` bytes.
    fn read_after_first(&mut self, token: Token, len: usize) {
        let mut budget = Budget::of_a_turn(&self.core.engine);
        budget.spend(len);
        self.read_on(token, budget, false);
    }

    /// What went through the guard of the short way.
    #[cold]
    fn read_panicked(&mut self, payload: Box<dyn Any + Send>) {
        let Core { conns, engine, .. } = &mut self.core;
        let token = engine.current;
        if token == NOBODY {
            // Nobody's callback was running: the fault is the loop's own, and nothing to hide.
            resume_unwind(payload);
        }
        // The end is told once, and nothing is read after it.
        let at_end = conns
            .get(token)
            .is_some_and(|conn| conn.has(Flags::EOF_TOLD));
        let name = if at_end { "on_eof" } else { "on_read" };
        engine.panicked(name, words_of(payload.as_ref()));
        self.exchanged(token, None, self.offered, 0);
    }

    #[inline(never)]
    fn serve_event(&mut self, event: Event) {
        let Core {
            conns,
            listeners,
            engine,
            ..
        } = &mut self.core;
        if let Some(conn) = conns.get_mut(event.token) {
            if conn.has(Flags::CONNECTING) {
                return self.core.judge(event);
            }
            conn.note(event, engine);
            if conn.has(Flags::SERVED) {
                conn.make_ready(engine);
            } else if !conn.has(Flags::IN_READY) {
                self.serve(event.token);
            }
        } else if let Some(listener) = listeners.get_mut(event.token) {
            listener.note(engine);
            // Whoever came off the ready list accepts in this turn anyway, once.
            if listener.leads_to_accepting() && !self.accepting.contains(&event.token) {
                self.accepting.push(event.token);
            }
        } else {
            self.serve_other(event);
        }
    }

    /// Events of sources that few loops have.
    fn serve_other(&mut self, event: Event) {
        let Core {
            sockets,
            watches,
            engine,
            ..
        } = &mut self.core;
        if let Some(socket) = sockets.get_mut(event.token) {
            socket.note(event);
            // Whoever is on the ready list has had its share of this turn.
            if !socket.is_ready_listed() {
                self.serve_socket(event.token);
            }
        } else if let Some(watch) = watches.get_mut(event.token) {
            watch.note(event);
            self.serve_watch(event.token);
        } else if event.token != Token::WAKE {
            engine.stats.stale_events += 1;
        }
    }

    /// Everything that one connection is due, within its budget.
    fn serve(&mut self, token: Token) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        conn.take(Flags::IN_READY);
        if conn.is_dead() {
            return;
        }
        if conn.has(Flags::NOTES) {
            self.serve_notes(token);
        } else if conn.has_output() && conn.has(Flags::WRITABLE) {
            conn.settle(engine);
            // The flush may have reached the low mark; that is news for the next turn.
        }
        self.read(token);
    }

    /// Callbacks that are due for another reason than bytes.
    fn serve_notes(&mut self, token: Token) {
        let Some(conn) = self.core.conns.get_mut(token) else {
            return;
        };
        // All of them at once: what these callbacks bring about is for the next turn.
        let notes = conn.take_notes();
        if notes.has(Flags::DUE) {
            // Even of a closing connection: its linger time may be over.
            self.fire_deadlines(token);
        }
        self.settle(token);
        if notes.has(Flags::DRAINED) && self.is_due(token, Flags::DRAINED) {
            self.callback(token, "on_write", |handler, conn, session, _| {
                handler.on_write(conn, session)
            });
            self.settle(token);
        }
        if notes.has(Flags::WAKE) && !fault!(WakeForgotten) && self.is_due(token, Flags::WAKE) {
            self.callback(token, "on_wake", |handler, conn, session, _| {
                handler.on_wake(conn, session)
            });
            self.settle(token);
        }
        if notes.has(Flags::SHUTDOWN) && self.is_due(token, Flags::SHUTDOWN) {
            self.callback(token, "on_shutdown", |handler, conn, session, _| {
                handler.on_shutdown(conn, session)
            });
            self.settle(token);
        }
    }

    /// Whether the callback for a note is still in order after those before it. A closing
    /// connection gets none. One whose output was filled again gets its `on_write` when that
    /// has drained. The same note, made once more meanwhile, is answered along with the first.
    fn is_due(&mut self, token: Token, note: Flags) -> bool {
        self.core.conns.get_mut(token).is_some_and(|conn| {
            conn.take(note);
            let full = conn.has(Flags::FULL) && !fault!(WriteToldWhileFull);
            conn.is_open() && !(note == Flags::DRAINED && full)
        })
    }

    // Reading.

    /// Reads and offers until the socket is drained, the budget is spent, or reading
    /// pauses. Whoever stops with work left is on a list, or waits for a callback that
    /// resumes it.
    fn read(&mut self, token: Token) {
        self.read_on(token, Budget::of_a_turn(&self.core.engine), true);
    }

    fn read_on(&mut self, token: Token, mut budget: Budget, mut first: bool) {
        while let Some(filled) = self.fill(token, &mut budget, std::mem::take(&mut first)) {
            match filled {
                Filled::Shared(len) => {
                    if !self.offer_shared(token, len) {
                        return;
                    }
                }
                Filled::Own => self.offer_own(token, false),
                Filled::Agreed => self.tell_handshake(token),
                Filled::Nothing => {
                    self.tell_eof(token);
                    return;
                }
            }
        }
    }

    /// What is to be offered next; `None` if this connection's turn is over. Leftovers are
    /// offered again by the first call only: who asks for that while it runs asks for the
    /// next turn, or a handler could hold the loop for ever.
    fn fill(&mut self, token: Token, budget: &mut Budget, first: bool) -> Option<Filled> {
        let Core { conns, engine, .. } = &mut self.core;
        let conn = conns.get_mut(token)?;
        if !conn.is_open() {
            conn.drain(engine, &mut self.buffer);
            return None;
        }
        let offer = first && conn.has(Flags::OFFER);
        if !offer && !conn.wants_reading() {
            return None;
        }
        if !conn.may_read(engine) {
            conn.fail_if_broken(engine);
        }
        if !conn.may_offer() && !conn.shakes_hands() {
            return None;
        }
        let mut filled = Filled::Nothing;
        if engine.pressed && !conn.reads_to_free() {
            conn.park(engine);
        } else if conn.has(Flags::READABLE) {
            if budget.is_spent() && !fault!(BudgetIgnored) {
                if !fault!(BudgetForgotten) {
                    conn.make_ready(engine);
                }
                return None;
            }
            filled = conn.fill(engine, &mut self.buffer, budget);
        }
        if offer {
            conn.take(Flags::OFFER);
        }
        if filled == Filled::Nothing && offer && conn.unread() > 0 && conn.is_open() {
            filled = Filled::Own;
        }
        Some(filled)
    }

    fn tell_handshake(&mut self, token: Token) {
        self.core.engine.stats.handshakes += 1;
        self.callback(token, "on_handshake", |handler, conn, session, _| {
            handler.on_handshake(conn, session)
        });
        // What was written before this leaves now, whoever wrote it.
        if let Some(conn) = self.core.conns.get_mut(token) {
            conn.set(Flags::IN_UNFLUSHED);
            if fault!(HeldForgotten) {
                conn.forget_held(&mut self.core.engine);
            }
        }
        self.settle(token);
    }

    /// Whether there is more to do here: more to read, or a close to see to.
    fn offer_shared(&mut self, token: Token, len: usize) -> bool {
        let mut consumed = 0;
        self.callback(token, "on_read", |handler, conn, session, buffer| {
            let mut input = Input::new(&buffer[..len]);
            let outcome = handler.on_read(conn, session, &mut input);
            // A handler may have put another `Input` in the place of the one it was lent.
            consumed = input.consumed().min(len);
            outcome
        });
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        conn.keep(&self.buffer[consumed..len], engine);
        conn.settle(engine);
        !conn.is_open() || conn.wants_reading()
    }

    fn offer_own(&mut self, token: Token, at_eof: bool) {
        let Some(conn) = self.core.conns.get_mut(token) else {
            return;
        };
        let leftover = conn.lend_leftover();
        let bytes = leftover.as_ref().map_or(&[][..], |left| left.bytes());
        let mut consumed = 0;
        let name = if at_eof { "on_eof" } else { "on_read" };
        self.callback(token, name, |handler, conn, session, _| {
            let mut input = Input::new(bytes);
            let outcome = if at_eof {
                handler.on_eof(conn, session, &mut input)
            } else {
                handler.on_read(conn, session, &mut input)
            };
            consumed = input.consumed();
            outcome
        });
        let Core { conns, engine, .. } = &mut self.core;
        if let Some(conn) = conns.get_mut(token) {
            if let Some(leftover) = leftover {
                conn.return_leftover(leftover, consumed, engine);
            }
            conn.settle(engine);
        }
    }

    /// Once, after every byte was offered, and only while reading is not paused. What waits
    /// to be offered again, because output was full when it was offered, goes before.
    fn tell_eof(&mut self, token: Token) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if conn.has(Flags::OFFER) && conn.unread() > 0 && !fault!(EofBeforeLeftovers) {
            return conn.make_ready(engine);
        }
        if conn.has(Flags::EOF) && !conn.has(Flags::EOF_TOLD) && conn.may_offer() {
            if !fault!(EofToldTwice) {
                conn.set(Flags::EOF_TOLD);
            }
            if conn.unread() > 0 {
                return self.offer_own(token, true);
            }
            self.callback(token, "on_eof", |handler, conn, session, _| {
                handler.on_eof(conn, session, &mut Input::new(&[]))
            });
            self.settle(token);
        }
    }

    // Datagrams and watches.

    /// Everything that one socket is due, within its budget.
    fn serve_socket(&mut self, token: Token) {
        let Some(socket) = self.core.sockets.get_mut(token) else {
            return;
        };
        socket.left_ready();
        if socket.take_past() {
            self.fire_socket(token);
        }
        self.settle(token);
        if let Some(socket) = self.core.sockets.get_mut(token)
            && socket.take_drained()
        {
            self.socket_callback(token, "on_socket_writable", |handler, socket| {
                handler.on_socket_writable(socket);
            });
            self.settle(token);
        }
        let mut budget = self.core.engine.config.datagram_budget;
        let socket = self.core.sockets.get(token);
        if socket.is_some_and(PacketSocket::merges) {
            return self.serve_merged(token, budget);
        }
        while let Some(n) = self.receive(token, &mut budget) {
            for at in 0..n {
                self.offer_datagram(token, at);
            }
            self.settle(token);
        }
    }

    /// How many datagrams lie in the batch; `None` if this socket's turn is over.
    fn receive(&mut self, token: Token, budget: &mut usize) -> Option<usize> {
        let Core {
            sockets, engine, ..
        } = &mut self.core;
        let config = &engine.config;
        // One call alone never goes beyond the budget.
        let places = config.datagram_batch.min(config.datagram_budget);
        let batch = self
            .batch
            .get_or_insert_with(|| Batch::new(places, config.max_datagram));
        sockets.get_mut(token)?.receive(batch, budget, engine)
    }

    fn offer_datagram(&mut self, token: Token, at: usize) {
        let Self {
            handler,
            core,
            batch: Some(batch),
            ..
        } = self
        else {
            return;
        };
        let Some(socket) = core.sockets.get(token).filter(|it| it.may_offer()) else {
            return;
        };
        if fault!(DatagramSkipped) && at == 1 {
            return;
        }
        let (arrival, bytes) = batch.arrival(at);
        let datagram = Datagram {
            bytes: socket.payload(bytes, &arrival.from),
            from: &arrival.from,
            to: arrival.to,
            truncated: arrival.truncated && !fault!(TruncationUntold),
        };
        let owner = socket.owner;
        call_socket(core, token, owner, "on_datagram", |socket| {
            handler.on_datagram(socket, &datagram);
        });
    }

    fn socket_callback(
        &mut self,
        token: Token,
        name: &'static str,
        call: impl FnOnce(&mut H, &mut Socket<'_>),
    ) {
        let Self { handler, core, .. } = self;
        if let Some(owner) = core.sockets.get(token).map(|socket| socket.owner) {
            call_socket(core, token, owner, name, |socket| call(handler, socket));
        }
    }

    fn fire_socket(&mut self, token: Token) {
        loop {
            let Core {
                sockets, engine, ..
            } = &mut self.core;
            let Some(socket) = sockets.get_mut(token) else {
                return;
            };
            // A deadline set in the past by one of these callbacks waits for its turn.
            if socket.is_dead() || socket.has_past() {
                return;
            }
            let Some(which) = socket.take_due(engine) else {
                return;
            };
            engine.stats.timers += 1;
            self.socket_callback(token, "on_socket_timeout", |handler, socket| {
                handler.on_socket_timeout(socket, which);
            });
            self.settle(token);
        }
    }

    /// What datagram sockets had to say while callbacks could not be run.
    fn tell_sockets(&mut self) {
        if self.core.engine.socket_reports.is_empty() {
            return;
        }
        let mut reports = std::mem::take(&mut self.core.engine.socket_reports);
        for SocketReport {
            socket,
            owner,
            error,
        } in reports.drain(..)
        {
            let Self { handler, core, .. } = self;
            // Whoever has closed it meanwhile hears nothing more of it.
            let known = core.sockets.get(socket.token());
            if known.is_some_and(PacketSocket::is_closing) {
                continue;
            }
            guarded(core, "on_socket_error", |core| {
                handler.on_socket_error(&mut Context::new(core, owner), socket, &error);
            });
        }
        // What these callbacks brought about was told to the list that stands in meanwhile.
        std::mem::swap(&mut self.core.engine.socket_reports, &mut reports);
        self.core.engine.socket_reports.append(&mut reports);
    }

    fn serve_watch(&mut self, token: Token) {
        let Core {
            watches, engine, ..
        } = &mut self.core;
        let Some(watch) = watches.get_mut(token) else {
            return;
        };
        watch.left_ready();
        let owner = watch.owner;
        let Some(ready) = watch.take_ready() else {
            return watch.ask_if_due(engine);
        };
        let Self { handler, core, .. } = self;
        guarded(core, "on_ready", |core| {
            handler.on_ready(&mut Context::new(core, owner), WatchId::new(token), ready);
        });
        let Core {
            watches, engine, ..
        } = core;
        if let Some(watch) = watches.get_mut(token) {
            watch.ask_again(engine);
        }
    }

    // Accepting.

    fn serve_listeners(&mut self) {
        for at in 0..self.accepting.len() {
            self.accept(self.accepting[at]);
        }
        self.accepting.clear();
        self.report();
    }

    fn accept(&mut self, token: Token) {
        let mut taken = 0;
        let mut admitted = 0;
        loop {
            let Core {
                conns,
                listeners,
                engine,
                ..
            } = &mut self.core;
            let Some(listener) = listeners.get_mut(token) else {
                return;
            };
            // Whom the last round has admitted: one look-up serves both.
            listener.open += std::mem::take(&mut admitted);
            match listener.step(&mut taken, conns.len(), engine) {
                Step::Client(fd) => {
                    let terms = listener.terms();
                    admitted = usize::from(self.admit(terms, fd));
                }
                Step::Done => break,
            }
        }
        if self
            .core
            .listeners
            .get(token)
            .is_some_and(|listener| listener.is_dead())
        {
            self.core.drop_listener(ListenerId::new(token));
        }
    }

    /// Asks the handler whether it wants this client; registers it if so. Whether it is admitted.
    #[inline]
    fn admit(&mut self, terms: Terms, fd: Fd) -> bool {
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        let Core { conns, engine, .. } = &mut *core;
        let made = conns.place(|token| Connection::accepted(token, fd, terms, engine));
        let Some(conn) = made else {
            engine.stats.refused += 1;
            engine.kernel.close(fd);
            return false;
        };
        let token = conn.token;
        let known = conn.recognize(terms.transport, engine);
        make_room(sessions, token);
        let gathers = terms.transport == Transport::Stream;
        engine.begin_callback(token, gathers.then_some(engine.gather_most));
        if !known {
            core.identify(token, terms.transport);
        }
        let id = ListenerId::new(terms.listener);
        let answer = guarded(core, "on_accept", |core| {
            handler.on_accept(&mut Conn::new(core, terms.owner, token), id)
        });
        core.end_callback();
        let Some(Ok(session)) = answer else {
            self.refuse(token);
            return false;
        };
        sessions[token.index()] = Some(session);
        self.register(token, terms);
        true
    }

    #[inline]
    fn register(&mut self, token: Token, terms: Terms) {
        if terms.is_layered {
            self.core.begin_layer(token, terms.listener);
        }
        let Core { conns, engine, .. } = &mut self.core;
        engine.stats.accepted += 1;
        if let Some(conn) = conns.get_mut(token) {
            conn.set(Flags::ADMITTED);
            conn.register(engine);
        }
    }

    /// No session, so no `on_close`.
    fn refuse(&mut self, token: Token) {
        self.core.engine.stats.refused += 1;
        if fault!(RefusedNotClosed) {
            return self.core.conns.vacate(token);
        }
        self.core.drop_conn(token);
    }

    /// Before anybody is accepted, if that time had run out when this turn began.
    fn tell_accept_timeout(&mut self, token: Token) {
        let Self { handler, core, .. } = self;
        let Core {
            listeners, engine, ..
        } = core;
        let Some(listener) = listeners.get_mut(token) else {
            return;
        };
        let Some(error) = listener.take_timeout(engine) else {
            return;
        };
        engine.stats.timers += 1;
        let (owner, id) = (listener.owner, ListenerId::new(token));
        guarded(core, "on_accept_error", |core| {
            handler.on_accept_error(&mut Context::new(core, owner), id, &error);
        });
    }

    /// What listeners had to say while callbacks could not be run.
    fn report(&mut self) {
        if self.core.engine.reports.is_empty() {
            return;
        }
        let mut reports = std::mem::take(&mut self.core.engine.reports);
        for Report {
            listener,
            owner,
            error,
        } in reports.drain(..)
        {
            let Self { handler, core, .. } = self;
            guarded(core, "on_accept_error", |core| {
                handler.on_accept_error(&mut Context::new(core, owner), listener, &error);
            });
        }
        self.core.engine.reports = reports;
    }

    // Dialing.

    /// Winners and losers of this turn's races.
    fn tell_dials(&mut self) {
        let engine = &self.core.engine;
        if engine.connected.is_empty() && engine.dial_ends.is_empty() {
            return;
        }
        let mut connected = std::mem::take(&mut self.core.engine.connected);
        for token in connected.drain(..) {
            self.tell_connected(token);
        }
        self.core.engine.connected = connected;
        let mut ends = std::mem::take(&mut self.core.engine.dial_ends);
        for DialEnd {
            dial,
            owner,
            error,
            retry_in,
        } in ends.drain(..)
        {
            let Self { handler, core, .. } = self;
            guarded(core, "on_dial_error", |core| {
                handler.on_dial_error(&mut Context::new(core, owner), dial, &error, retry_in);
            });
        }
        self.core.engine.dial_ends = ends;
    }

    fn tell_connected(&mut self, token: Token) {
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        // It is gone if the dial was canceled after all.
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        let (owner, dial) = (conn.owner, conn.origin);
        conn.take(Flags::CONNECTING);
        conn.begin_callback(engine);
        make_room(sessions, token);
        let layers = core.dial_layers(dial);
        let answer = guarded(core, "on_connect", |core| {
            handler.on_connect(&mut Conn::new(core, owner, token), DialId::new(dial))
        });
        core.end_callback();
        core.engine.stats.connected += 1;
        match answer {
            Some(Ok(session)) => {
                sessions[token.index()] = Some(session);
                self.core.dial_told(dial);
                self.admit_dialed(token, layers);
            }
            Some(Err(_)) | None => {
                self.refuse(token);
                self.core.dialed_ended(dial, ConnId::new(token));
            }
        }
    }

    fn admit_dialed(&mut self, token: Token, layers: Option<Layers>) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if let Some(layers) = layers {
            conn.begin_layer(&layers, engine);
        }
        conn.set(Flags::REGISTERED);
        if engine.stopping() {
            conn.set(Flags::SHUTDOWN);
        }
        // The report that decided the race may have announced bytes as well.
        conn.make_ready(engine);
        conn.arm(engine);
        conn.settle(engine);
    }

    // Steps 5 to 8.

    fn run_posts(&mut self) {
        if !self.inbox.is_rung() {
            return;
        }
        let most = if fault!(PostBudgetIgnored) {
            usize::MAX
        } else {
            self.core.engine.config.post_budget
        };
        let grace = self.inbox.collect(&mut self.tasks, most);
        if let Some(grace) = grace {
            self.core.engine.stop(grace);
        }
        while let Some(post) = self.tasks.pop_front() {
            match post {
                Post::Loop { owner, task } => {
                    self.core.engine.stats.posted += 1;
                    let Self { handler, core, .. } = self;
                    guarded(core, "post", |core| {
                        task(handler, &mut Context::new(core, owner));
                    });
                }
                Post::Conn { id, owner, task } => {
                    let token = id.token();
                    let may = |conn: &Connection| {
                        (conn.is_open() || fault!(PostToClosing))
                            && owner.is_none_or(|owner| owner == conn.owner)
                    };
                    if !self.core.conns.get(token).is_some_and(may) {
                        self.core.engine.stats.posted_to_gone += 1;
                        // What the closure holds is the application's, and so is its end.
                        guarded(&mut self.core, "post_to", |_| drop(task));
                        continue;
                    }
                    self.core.engine.stats.posted += 1;
                    self.callback(token, "post_to", |handler, conn, session, _| {
                        task(handler, conn, session)
                    });
                    self.settle(token);
                }
            }
        }
    }

    /// Readiness that came in the same turn has been served, so a deadline that a callback
    /// has moved is not due any more. What was due is known since the clock was read: a
    /// timer set for the past since then waits for the next turn.
    fn fire_timers(&mut self) {
        self.core.file_young();
        while let Some((_, token)) = self.core.engine.wheel.pop_due() {
            match token.kind() {
                Some(Kind::Conn) => {
                    if let Some(conn) = self.core.conns.get_mut(token) {
                        conn.unfiled();
                        self.fire_deadlines(token);
                    }
                }
                Some(Kind::Timer) => self.fire_timer(TimerId::new(token)),
                Some(Kind::Dial) => self.core.dial_due(token),
                Some(Kind::Listener) => {
                    let Core {
                        listeners, engine, ..
                    } = &mut self.core;
                    if let Some(listener) = listeners.get_mut(token) {
                        listener.due(engine);
                    }
                    self.tell_accept_timeout(token);
                }
                Some(Kind::Socket) => {
                    if let Some(socket) = self.core.sockets.get_mut(token) {
                        socket.unfiled();
                        self.fire_socket(token);
                    }
                }
                Some(Kind::Watch) | None => {}
            }
        }
    }

    fn fire_deadlines(&mut self, token: Token) {
        loop {
            let Core { conns, engine, .. } = &mut self.core;
            let Some(conn) = conns.get_mut(token) else {
                return;
            };
            // A deadline set in the past by one of these callbacks waits for its turn.
            if conn.is_dead() || conn.has(Flags::DUE) {
                return;
            }
            match conn.take_due(engine) {
                None if fault!(DeadlineNotRefiled) => return,
                None => return conn.arm(engine),
                Some(Deadline::Linger) => return conn.linger_ended(engine),
                Some(late @ Deadline::Handshake) => {
                    return conn.abort(CloseReason::Timeout(late), engine);
                }
                Some(which) => self.time_out(token, which),
            }
        }
    }

    fn time_out(&mut self, token: Token, which: Deadline) {
        self.core.engine.stats.timers += 1;
        let mut late = None;
        self.callback(
            token,
            "on_timeout",
            |handler, conn, session, _| match handler.on_timeout(conn, session, which) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    late = Some(CloseReason::Timeout(which));
                    Ok(())
                }
                Err(error) => {
                    late = Some(CloseReason::Handler(error));
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
        );
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        match late {
            // There is nobody to flush to.
            Some(reason) if which == Deadline::WriteStall => conn.abort(reason, engine),
            Some(reason) => conn.close(reason, engine),
            None => {}
        }
        conn.settle(engine);
    }

    fn fire_timer(&mut self, id: TimerId) {
        let Some(timer) = self.core.take_timer(id) else {
            return;
        };
        match timer.conn {
            Some(conn) => {
                if self
                    .core
                    .conns
                    .get(conn.token())
                    .is_some_and(Connection::is_open)
                {
                    self.time_out(conn.token(), Deadline::Timer(id));
                }
            }
            None => {
                self.core.engine.stats.timers += 1;
                let Self { handler, core, .. } = self;
                guarded(core, "on_timer", |core| {
                    handler.on_timer(&mut Context::new(core, timer.owner), id);
                });
            }
        }
    }

    fn flush_touched(&mut self) {
        if self.core.engine.unflushed.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.core.engine.unflushed);
        for token in touched.drain(..).filter(|_| !fault!(TouchedForgotten)) {
            self.settle(token);
        }
        self.core.engine.unflushed = touched;
    }

    /// Closes what is over. A slot is free from here on; whatever this turn fetched from
    /// the kernel has been served, and a later tenant has another generation anyway.
    #[inline]
    fn deliver_closes(&mut self) {
        if self.core.engine.has_ends() {
            self.deliver_ends();
        }
    }

    fn deliver_ends(&mut self) {
        // An `on_close` may end further connections; they join the list as it is emptied.
        while let Some(ending) = self.core.engine.closing.next() {
            self.deliver_close(ending);
        }
        // Whoever freed something this turn: a close, a refusal, an attempt that came to
        // nothing, a listener that went.
        if std::mem::take(&mut self.core.engine.freed) {
            self.core.feed();
        }
        self.core.unpark();
    }

    #[inline]
    fn deliver_close(&mut self, ending: Ending) {
        let Ending { token, why } = ending;
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        let Some(reason) = core.engine.closing.reason(why) else {
            return core.drop_socket(token);
        };
        let Some(Retired {
            owner,
            origin,
            closed,
        }) = core.retire_conn(token, reason)
        else {
            return;
        };
        core.engine.stats.closed += 1;
        core.engine.note_end(token, &closed.reason);
        let Some(session) = sessions.get_mut(token.index()).and_then(Option::take) else {
            return;
        };
        if fault!(CloseUntold) {
            return;
        }
        if fault!(PanicUntold) && matches!(closed.reason, CloseReason::Panic) {
            return;
        }
        guarded(core, "on_close", |core| {
            handler.on_close(&mut Context::new(core, owner), session, &closed);
        });
        if origin.kind() == Some(Kind::Dial) {
            core.dialed_ended(origin, closed.id);
        }
        closed.reason.let_go();
    }

    // For the simulated world.

    /// Whether the next turn would wait, if the kernel had nothing to report.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.core.engine.wait(NEVER, self.inbox.is_rung()) != 0
    }

    pub(crate) fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    // Calling out.

    /// Runs one callback of one connection. `Err` closes it, a panic aborts it.
    fn callback(
        &mut self,
        token: Token,
        name: &'static str,
        call: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::Session, &[u8]) -> io::Result<()>,
    ) {
        let Self {
            handler,
            sessions,
            core,
            buffer,
            ..
        } = self;
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        let Some(Some(session)) = sessions.get_mut(token.index()) else {
            return;
        };
        let owner = conn.owner;
        conn.begin_callback(engine);
        let outcome = guarded(core, name, |core| {
            call(handler, &mut Conn::new(core, owner, token), session, buffer)
        });
        let Core { conns, engine, .. } = core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if fault!(HalfAnswerLeaves) {
            conn.ship(engine);
        }
        conn.called_back(outcome, engine);
        conn.ship(engine);
    }

    fn settle(&mut self, token: Token) {
        let Core {
            conns,
            sockets,
            engine,
            ..
        } = &mut self.core;
        if let Some(conn) = conns.get_mut(token) {
            conn.settle(engine);
        } else if let Some(socket) = sockets.get_mut(token) {
            socket.settle(engine);
        }
    }
}

impl<H: Handler> fmt::Debug for Reactor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("phase", &self.phase)
            .field("connections", &self.core.conns.len())
            .field("listeners", &self.core.listeners.len())
            .finish_non_exhaustive()
    }
}

/// Sessions stand beside their connections, by index.
fn make_room<S>(sessions: &mut Vec<Option<S>>, token: Token) {
    if sessions.len() <= token.index() {
        sessions.resize_with(token.index() + 1, || None);
    }
}

/// One callback of a datagram socket.
#[inline]
fn call_socket(
    core: &mut Core,
    token: Token,
    owner: Owner,
    name: &'static str,
    call: impl FnOnce(&mut Socket<'_>),
) {
    core.engine.begin_callback(token, None);
    guarded(core, name, |core| {
        call(&mut Socket::new(core, owner, token));
    });
    core.end_callback();
}

/// Runs a callback: counted, timed if somebody is looking, isolated if the policy says so.
/// `None`: it panicked.
fn guarded<R>(core: &mut Core, name: &'static str, call: impl FnOnce(&mut Core) -> R) -> Option<R> {
    let engine = &mut core.engine;
    engine.stats.callbacks += 1;
    let began = engine.times_callbacks.then(|| engine.callback_begins(name));
    let outcome = match engine.config.panic_policy {
        PanicPolicy::Isolate if fault!(PanicEndsLoop) => Ok(call(core)),
        PanicPolicy::Isolate => catch_unwind(AssertUnwindSafe(|| call(core))),
        PanicPolicy::Propagate => Ok(call(core)),
    };
    if let Some(began) = began {
        core.engine.callback_took(name, began);
    }
    outcome
        .map_err(|payload| core.engine.panicked(name, words_of(payload.as_ref())))
        .ok()
}
