//! The turn: its order, its carry-over, its exits. With the rooms behind it, one for each part of
//! a turn, the only caller of [`Handler`].

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::config::{Config, PanicPolicy};
use crate::context::{Conn, Listener};
use crate::core::Core;
use crate::datagram::{Bind, Socket};
use crate::dialer::Dial;
use crate::engine::{Engine, nanos, words_of};
use crate::error::{Cause, Error, Op};
use crate::faults::fault;
use crate::handle::{Handle, Inbox, Post};
use crate::handler::Handler;
use crate::kernel::os::OsKernel;
use crate::kernel::{AnyKernel, Batch, Event, Interest};
use crate::listener::Listen;
use crate::stats::Stats;
use crate::timer::{NEVER, Nanos};
use crate::token::{DialId, ListenerId, Owner, SocketId, Token, WatchId};

mod accepting;
mod datagrams;
mod dialing;
mod events;
mod merged;
mod reading;
mod steps;
mod stopping;

/// A single-threaded event loop that owns a handler, its sessions and its sockets.
///
/// Make one, open listeners, [`run`](Self::run). One loop is one thread; more processor
/// cores are more loops. The order of a turn is published in `docs/event-model.md` and is
/// the order of the statements in [`turn`](Self::turn).
///
/// Dropping a reactor closes every descriptor it holds; no callback runs then. To end in
/// good order, use [`Context::shutdown`](crate::Context::shutdown) or [`Handle::shutdown`].
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

    /// Connects to somebody, as [`Context::dial`](crate::Context::dial) does; begins in the next turn.
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

    /// Watches a descriptor, as [`Context::watch`](crate::Context::watch) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn watch(&mut self, fd: impl Into<OwnedFd>, interest: Interest) -> Result<WatchId, Error> {
        self.core.watch(fd.into(), interest, Owner::default())
    }

    /// Takes over a connection made elsewhere, as [`Context::adopt`](crate::Context::adopt) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn adopt(&mut self, fd: impl Into<OwnedFd>) -> Result<DialId, Error> {
        self.core.adopt(fd.into(), Owner::default())
    }

    /// Ends a watch, as [`Context::unwatch`](crate::Context::unwatch) does.
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
