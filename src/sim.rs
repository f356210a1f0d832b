//! A world to test a [`Handler`] in: no sockets, no clocks, no luck.
//!
//! A [`World`] is a [`Reactor`], the very one that runs in production, on
//! a kernel that lives in memory. Its clock stands still until it is told to move, its
//! clients do what the test says, and what goes wrong is written in a script.
//!
//! ```
//! use std::io;
//! use windlass::sim::World;
//! use windlass::{Conn, Handler, Input, ListenerId};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Session = ();
//!     fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
//!         Ok(())
//!     }
//!     fn on_read(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
//!         conn.write(input.take_all());
//!         Ok(())
//!     }
//! }
//!
//! let mut world = World::new(1, Echo);
//! let addr = world.listen("127.0.0.1:7");
//! let client = world.connect(addr);
//! world.send(client, b"hello");
//! world.run();
//! assert_eq!(world.received(client), b"hello");
//! ```
//!
//! # What is promised
//!
//! - **The same seed, the same run**, if the handler takes time from
//!   [`Context::now`](crate::Context::now) and [`Context::wall`](crate::Context::wall) and
//!   randomness from [`Context::random`](crate::Context::random), and no other thread has
//!   a say.
//! - Readiness is edge-triggered as on a real system, and never repeated: what the loop
//!   forgets stays forgotten, and [`World::check`] says so.
//! - Deadlines fire in their order, and virtual time costs no real time.
//! - Every panic while a world is alive is followed by its seed and the end of its
//!   [trace](World::trace).
//!
//! # What is simpler than on a real host
//!
//! The accept queue holds exactly its limit (Linux: one more), and a client that found it
//! full joins as soon as there is room (Linux: when it retransmits). Buffers count payload
//! bytes only. The clock stands still during a turn. The kernel never gives up dialing by
//! itself, and every interface is the loopback. Unix sockets have every directory, and
//! announce room as soon as there is any (Linux: three quarters). Raw IP is not permitted.
//!
//! # Descriptors
//!
//! Those that are watched and those that are passed are real: a pipe of which the test has
//! the other end. A watched one is looked at whenever the loop polls and never waited for, so
//! that only who runs the world decides when it becomes ready. A connection that is detached
//! leaves as a descriptor that only stands for it: adopted, it is that connection again;
//! dropped, it is closed. Real sockets have no place here: adopting one, and duplicating a
//! listener, is refused with ENOTSUP (an inherited listener with ENOTSOCK).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Addr;
use crate::config::{Config, PanicPolicy};
use crate::context::{Conn, Context, Listener};
use crate::dialer::Dial;
use crate::error::Error;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::kernel::sim::{Peer, SimKernel, Trace};
use crate::kernel::{AnyKernel, Errno, Kernel};
use crate::listener::Listen;
use crate::reactor::{Reactor, Turn};
use crate::stats::Stats;
use crate::token::{ConnId, DialId, ListenerId, Owner};

pub use self::datagrams::PacketClient;
pub use self::faults::Faults;
pub use crate::kernel::sim::{Call, Remote};

mod check;
mod datagrams;
mod faults;
mod unix;

/// Turns of one run, or without time passing, after which a world gives up on its loop.
const SPIN_LIMIT: u32 = 100_000;
/// Lines of the trace in the text of a broken rule.
const TRACE_SHOWN: usize = 40;

/// One loop with its handler, one simulated host, and its clients.
///
/// Nothing happens by itself: [`run`](Self::run) and [`advance`](Self::advance) let the
/// loop turn, everything else only prepares or looks.
pub struct World<H: Handler> {
    /// Dropped first, so that the end of the loop is not in what it tells.
    witness: Witness,
    reactor: Reactor<H>,
    stopped: bool,
}

/// The other end of a connection: a client, as [`World::connect`] names it, or whoever
/// the loop has dialed, as [`World::dialed`] does. Valid as long as its world, and there
/// only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(Peer);

/// As the trace names it.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A way into the trace of a world, for the handler that runs in it: see [`World::diary`].
///
/// ```
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut world = windlass::sim::World::new(1, App);
/// let diary = world.diary(); // to be kept by the handler
/// diary.note(|| "on_read of 5 bytes".to_owned());
/// assert!(world.trace()[0].ends_with("on_read of 5 bytes"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Diary(Arc<Trace>);

impl Diary {
    /// Adds a line. While no trace is kept, it is not even made.
    pub fn note(&self, line: impl FnOnce() -> String) {
        self.0.note(line);
    }
}

/// Beginning and end.
impl<H: Handler> World<H> {
    /// A world with the limits of [`Config::default`], except that a panic in a callback
    /// is let through: an assertion in a handler under test should fail that test.
    pub fn new(seed: u64, handler: H) -> Self {
        let config = Config {
            panic_policy: PanicPolicy::Propagate,
            ..Config::default()
        };
        Self::with_config(seed, handler, config)
    }

    /// A world with limits of your own, to the letter.
    ///
    /// # Panics
    ///
    /// The limits contradict each other ([`Config::check`]).
    #[track_caller]
    pub fn with_config(seed: u64, handler: H, config: Config) -> Self {
        if let Err(error) = config.check() {
            panic!("{error}");
        }
        let kernel = SimKernel::new(seed);
        let witness = Witness {
            seed,
            trace: kernel.diary(),
            heard: false,
        };
        let reactor = Reactor::on_kernel(handler, config, AnyKernel::Other(Box::new(kernel)));
        let mut world = Self {
            reactor,
            witness,
            stopped: false,
        };
        world.set_trace(true);
        world
    }

    /// Begins a graceful stop, as [`Handle::shutdown`] does, and lets the loop turn until
    /// it has stopped. Virtual time passes as needed, at most `grace`.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), and if a descriptor is open when everything is over.
    #[track_caller]
    pub fn shutdown(&mut self, grace: Duration) {
        // A loop that has stopped needs no telling.
        let _ = self.reactor.handle().shutdown(grace);
        self.advance(grace);
        if !self.stopped {
            self.fail("the loop outlived the grace of its shutdown");
        }
        // A watch holds no loop up; it ends with the reactor.
        if self.open_descriptors() > self.kernel().watched_descriptors() {
            self.fail("descriptors are open after the end");
        }
    }

    /// Whether a graceful stop is over; [`run`](Self::run) does nothing more then.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// The application's state, at the end.
    pub fn into_handler(self) -> H {
        self.reactor.into_handler()
    }
}

/// The loop.
impl<H: Handler> World<H> {
    /// Opens a listener, as [`Reactor::listen`](crate::Reactor::listen) does, and answers
    /// its address, for [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// It can't be opened. [`try_listen`](Self::try_listen) answers why instead.
    #[track_caller]
    pub fn listen<L>(&mut self, listen: L) -> SocketAddr
    where
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        let opened = self.try_listen(listen);
        let addr = opened.map(|id| self.reactor.listener(id).map(|it| it.local_addr()));
        match addr {
            Ok(Some(addr)) => addr
                .as_socket_addr()
                .unwrap_or_else(|| self.fail("no address")),
            Ok(None) => self.fail("the listener is gone"),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Opens a listener.
    ///
    /// # Errors
    ///
    /// As [`Reactor::listen`](crate::Reactor::listen).
    pub fn try_listen<L>(&mut self, listen: L) -> Result<ListenerId, Error>
    where
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        self.reactor.listen(listen)
    }

    /// Has the loop connect to somebody, as [`Reactor::dial`] does.
    ///
    /// # Errors
    ///
    /// Only a text that does not parse.
    pub fn dial<D>(&mut self, dial: D) -> Result<DialId, Error>
    where
        D: TryInto<Dial>,
        D::Error: Into<Error>,
    {
        self.reactor.dial(dial)
    }

    /// A listener, by its id.
    pub fn listener(&mut self, id: ListenerId) -> Option<Listener<'_>> {
        self.reactor.listener(id)
    }

    /// A connection, by its id, as [`Context::conn`] has it between two callbacks: what it is
    /// asked to do is done in the next turn.
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_>> {
        let conn = self.reactor.core().conns.get(id.token());
        conn.filter(|conn| !conn.is_dead())?;
        Some(Conn::new(self.reactor.core(), Owner::default(), id.token()))
    }

    /// Lets the loop turn once, in which at most that much virtual time passes. Answers
    /// whether it would do more in another turn at the same moment, which
    /// [`run`](Self::run) goes on for. No rule is asked about: see [`check`](Self::check).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # struct App;
    /// # impl windlass::Handler for App { type Session = (); }
    /// # let mut world = windlass::sim::World::new(1, App);
    /// // As `run` does it, with a look at the handler after every turn.
    /// while world.turn(Duration::ZERO) {
    ///     let _ = world.handler();
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// `on_start` failed.
    #[track_caller]
    pub fn turn(&mut self, most: Duration) -> bool {
        let end = self.now() + most;
        self.turn_before(end);
        !self.is_at_rest()
    }

    /// Lets the loop turn until nothing more happens unless a deadline passes or somebody
    /// acts. What is on the wire arrives: with [`Faults::latency`], virtual time moves on
    /// for it, and deadlines on the way fire.
    ///
    /// # Panics
    ///
    /// `on_start` failed, a rule was broken ([`check`](Self::check)), or the loop does not
    /// come to rest.
    #[track_caller]
    pub fn run(&mut self) {
        self.turn_until(None);
    }

    /// Moves virtual time on by that much and lets the loop turn as on a real system:
    /// whatever falls due on the way happens at its time and in its order.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn advance(&mut self, by: Duration) {
        let end = self.now() + by;
        self.turn_until(Some(end));
    }

    /// Has `task` run in the next turn, as [`Handle::post`] does.
    ///
    /// # Panics
    ///
    /// The mailbox is full, or the loop has stopped.
    #[track_caller]
    pub fn post(&mut self, task: impl FnOnce(&mut H, &mut Context<'_>) + Send + 'static) {
        if let Err(error) = self.reactor.handle().post(task) {
            self.fail(&error.to_string());
        }
    }

    /// What other threads would hold. Posts through it run in the next turn.
    pub fn handle(&self) -> Handle<H> {
        self.reactor.handle()
    }

    /// The application's state.
    pub fn handler(&self) -> &H {
        self.reactor.handler()
    }

    /// The application's state.
    pub fn handler_mut(&mut self) -> &mut H {
        self.reactor.handler_mut()
    }

    /// The loop's counters.
    pub fn stats(&self) -> Stats {
        self.reactor.stats()
    }

    /// Virtual time.
    pub fn now(&mut self) -> Instant {
        let kernel = self.kernel();
        kernel.epoch() + Duration::from_nanos(kernel.nanos())
    }
}

/// The clients. Each reads whatever reaches it, until told otherwise.
impl<H: Handler> World<H> {
    /// A new client of whoever listens on `addr`. It is in the accept queue at once.
    ///
    /// # Panics
    ///
    /// Nobody listens there. [`try_connect`](Self::try_connect) answers that instead.
    #[track_caller]
    pub fn connect(&mut self, addr: SocketAddr) -> Client {
        match self.try_connect(addr) {
            Ok(client) => client,
            Err(error) => self.fail(&format!("connect to {addr}: {error}")),
        }
    }

    /// A new client.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if nobody listens on `addr`.
    pub fn try_connect(&mut self, addr: SocketAddr) -> io::Result<Client> {
        Ok(self.kernel().new_client(addr).map(Client)?)
    }

    /// The client's own address, as the loop sees it: on Unix sockets, unnamed.
    pub fn addr(&mut self, client: Client) -> Addr {
        self.kernel().client_addr(client.0)
    }

    /// The loop's end of the client's connection: the listener's address or, of a connection
    /// that was dialed, the one that the loop dialed from.
    pub fn loop_addr(&mut self, client: Client) -> Addr {
        self.kernel().client_server_addr(client.0)
    }

    /// The client sends all of it, as the network takes it. Nothing happens if it has
    /// finished or is gone.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.kernel().peer_send_all(client.0, bytes);
    }

    /// What the client has received since this was last asked.
    pub fn received(&mut self, client: Client) -> Vec<u8> {
        self.kernel().peer_received(client.0)
    }

    /// Lets the loop [`run`](Self::run), and then compares what the client has received since
    /// this was last asked.
    ///
    /// ```
    /// # use std::io;
    /// # use windlass::sim::World;
    /// # use windlass::{Conn, Handler, ListenerId};
    /// # struct Greeter;
    /// # impl Handler for Greeter {
    /// #     type Session = ();
    /// #     fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
    /// #         conn.write(b"hello\r\n");
    /// #         Ok(())
    /// #     }
    /// # }
    /// let mut world = World::new(1, Greeter);
    /// let addr = world.listen("127.0.0.1:7");
    /// let client = world.connect(addr);
    /// world.expect(client, "hello\r\n");
    /// world.expect(client, ""); // and no more
    /// ```
    ///
    /// # Panics
    ///
    /// It is something else: both are shown as text. Or as [`run`](Self::run).
    #[track_caller]
    pub fn expect(&mut self, client: Client, bytes: impl AsRef<[u8]>) {
        self.run();
        let (expected, received) = (bytes.as_ref(), self.received(client));
        if received != expected {
            let (expected, received) = (expected.escape_ascii(), received.escape_ascii());
            self.fail(&format!(
                "{client:?} received\n    \"{received}\"\n  and should have received\n    \"{expected}\""
            ));
        }
    }

    /// Whether the client has read everything up to the server's FIN.
    pub fn saw_eof(&mut self, client: Client) -> bool {
        self.kernel().peer_saw_eof(client.0)
    }

    /// Whether the server reset the connection.
    pub fn was_reset(&mut self, client: Client) -> bool {
        self.kernel().peer_error(client.0) == Some(Errno(libc::ECONNRESET))
    }

    /// The client sends FIN behind what it has sent, and reads on.
    pub fn finish(&mut self, client: Client) {
        self.kernel().peer_shutdown(client.0);
    }

    /// The client closes: FIN behind what it has sent, or RST if it leaves bytes unread.
    /// Whatever reaches it later is answered with RST.
    pub fn close(&mut self, client: Client) {
        self.kernel().peer_close(client.0);
    }

    /// The client sends RST.
    pub fn reset(&mut self, client: Client) {
        self.kernel().peer_reset(client.0);
    }

    /// The client stops reading: the network's buffers fill, then the loop's.
    pub fn stop_reading(&mut self, client: Client) {
        self.kernel().peer_pause(client.0);
    }

    /// The client reads again, everything that is there first.
    pub fn resume_reading(&mut self, client: Client) {
        self.kernel().peer_resume(client.0);
    }

    /// A client that has stopped reading reads that much at most and stops again; answers
    /// how much it was.
    pub fn read_some(&mut self, client: Client, most: usize) -> usize {
        self.kernel().peer_read_some(client.0, most)
    }
}

/// The hosts that the loop dials, and the resolver that it asks for them.
impl<H: Handler> World<H> {
    /// What becomes of whoever dials `addr`, from now on. Attempts that are under way end
    /// as they would have.
    ///
    /// An address that nothing was said about refuses, except that a listener of the loop's
    /// own gets a client (both ends are the loop's then, and no [`Client`]), and whoever
    /// dials the very address that it comes from is connected to itself, as TCP has it.
    ///
    /// ```
    /// # struct App;
    /// # impl windlass::Handler for App { type Session = (); }
    /// # let mut world = windlass::sim::World::new(1, App);
    /// use windlass::sim::Remote;
    /// let upstream = ([192, 0, 2, 7], 80).into();
    /// world.remote(upstream, Remote::Accepts);
    /// // Once the loop has dialed it:
    /// if let Some(far_end) = world.dialed(upstream) {
    ///     world.send(far_end, b"hello");
    /// }
    /// ```
    pub fn remote(&mut self, addr: SocketAddr, remote: Remote) {
        self.kernel().set_remote(addr, remote);
    }

    /// The far end of the oldest connection that `addr` has accepted and that was not
    /// asked for yet; `None` if there is none. It does what a [`connect`](Self::connect)ed
    /// client does.
    pub fn dialed(&mut self, addr: SocketAddr) -> Option<Client> {
        self.kernel().dialed(addr).map(Client)
    }

    /// What a host name resolves to, from now on. Only `localhost` is known at first, and
    /// an unknown name is answered with "no such host".
    pub fn name(&mut self, host: &str, addrs: impl Into<Vec<IpAddr>>) {
        self.kernel().set_name(host, addrs.into());
    }

    /// A host name whose question is never answered. Questions are answered one after the
    /// other, as on a real system: those behind it wait, too.
    pub fn silent_name(&mut self, host: &str) {
        self.kernel().silence_name(host);
    }

    /// Time that the resolver takes for each question that the loop does not wait for,
    /// from the next one on. Nothing at first.
    pub fn lookup_delay(&mut self, delay: Duration) {
        self.kernel().set_lookup_delay(delay);
    }
}

/// Faults, calls and rules.
impl<H: Handler> World<H> {
    /// The script of what goes wrong.
    pub fn faults(&mut self) -> Faults<'_> {
        Faults(self.kernel())
    }

    /// How often the loop has made this call since the beginning, or since
    /// [`clear_calls`](Self::clear_calls).
    pub fn calls(&mut self, call: Call) -> u64 {
        self.kernel().calls(call)
    }

    /// Counts calls from zero again.
    pub fn clear_calls(&mut self) {
        self.kernel().clear_calls();
    }

    /// Descriptors that the loop has open, watched ones included.
    pub fn open_descriptors(&mut self) -> usize {
        self.kernel().open_descriptors()
    }

    /// What has happened, the last 4,096 lines of it, oldest first, each with its time: turn
    /// by turn, what the kernel was asked and what it said, which callback ran, how
    /// connections ended, and what clients did. For people: how it reads may change.
    ///
    /// ```
    /// # use std::io;
    /// # use windlass::sim::World;
    /// # use windlass::{Conn, Handler, ListenerId};
    /// # struct App;
    /// # impl Handler for App {
    /// #     type Session = ();
    /// #     fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> { Ok(()) }
    /// # }
    /// let mut world = World::new(1, App);
    /// let addr = world.listen("127.0.0.1:7");
    /// let client = world.connect(addr);
    /// world.send(client, b"hello");
    /// world.run();
    /// assert!(world.trace().iter().any(|line| line.contains("-> on_read Conn(0.1)")));
    /// ```
    pub fn trace(&mut self) -> Vec<String> {
        self.kernel().trace()
    }

    /// Whether a trace is kept, which is the dearest part of a small world. On at first; a
    /// test that runs thousands of seeds keeps none, and runs the seed that failed again.
    /// What was kept is forgotten.
    pub fn set_trace(&mut self, on: bool) {
        self.kernel().set_trace(on);
        self.reactor.core().engine.set_traced(on);
    }

    /// What a handler writes its own lines into, between those of [`trace`](Self::trace).
    pub fn diary(&mut self) -> Diary {
        Diary(self.kernel().diary())
    }

    /// Whether the loop has kept the rules so far: no descriptor was closed twice or used
    /// when closed, and no source has work that the loop has forgotten, which the kernel
    /// would never announce again. [`run`](Self::run) and [`advance`](Self::advance) ask
    /// this when they end.
    ///
    /// # Errors
    ///
    /// A text with the seed, the rules that were broken, and the end of the trace.
    pub fn check(&mut self) -> Result<(), String> {
        let (misuses, texts) = self.kernel().violations();
        let mut broken = texts.to_vec();
        if misuses > texts.len() as u64 {
            broken.push(format!("{misuses} misuses of descriptors in all"));
        }
        if self.is_at_rest() {
            broken.extend(check::forgotten(self.reactor.core()));
        }
        if broken.is_empty() {
            return Ok(());
        }
        Err(self.describe(&broken.join("\n  ")))
    }
}

impl<H: Handler> World<H> {
    pub(crate) fn reactor(&mut self) -> &mut Reactor<H> {
        &mut self.reactor
    }

    fn kernel(&mut self) -> &mut SimKernel {
        let kernel = self.reactor.core().engine.kernel.sim();
        kernel.expect("a world is made with this kernel and has no other")
    }

    /// Turns until everything is at rest, at `end` if there is one.
    #[track_caller]
    fn turn_until(&mut self, end: Option<Instant>) {
        let mut turns = 0;
        while !self.stopped {
            let before = self.now();
            let horizon = end.or_else(|| self.kernel().next_arrival());
            self.turn_before(horizon.unwrap_or(before));
            let after = self.now();
            if self.is_at_rest() && self.is_over(after, end) {
                break;
            }
            // Time that was asked for may pass in as many turns as it takes.
            let progress = end.is_some() && after > before;
            turns = if progress { 0 } else { turns + 1 };
            if turns == SPIN_LIMIT {
                self.fail("the loop does not come to rest");
            }
        }
        if let Err(text) = self.check() {
            self.witness.heard = true;
            panic!("{text}");
        }
    }

    #[track_caller]
    fn turn_before(&mut self, horizon: Instant) {
        let turn = self.reactor.core().engine.stats.turns + 1;
        self.witness.trace.note(|| format!("turn {turn}"));
        self.kernel().set_horizon(Some(horizon));
        match self.reactor.turn(None) {
            Ok(turn) => self.stopped = turn == Turn::Stopped,
            Err(error) => self.fail(&format!("the loop ended: {error}")),
        }
    }

    fn is_over(&mut self, now: Instant, end: Option<Instant>) -> bool {
        match end {
            Some(end) => now >= end,
            None => self.kernel().next_arrival().is_none(),
        }
    }

    /// Whether another turn at this moment would do nothing, unless somebody forgot
    /// something.
    fn is_at_rest(&mut self) -> bool {
        self.stopped || (self.reactor.is_idle() && !self.kernel().has_news())
    }

    #[track_caller]
    fn fail(&mut self, what: &str) -> ! {
        let text = self.describe(what);
        self.witness.heard = true;
        panic!("{text}");
    }

    fn describe(&self, what: &str) -> String {
        let seed = self.witness.seed;
        let last = self.witness.last();
        format!("in the world of seed {seed}:\n  {what}\n{last}")
    }
}

impl<H: Handler> fmt::Debug for World<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.witness.seed)
            .field("reactor", &self.reactor)
            .finish_non_exhaustive()
    }
}

/// Tells the seed of a world, and what has happened there, when somebody panics while it is
/// alive.
struct Witness {
    seed: u64,
    trace: Arc<Trace>,
    /// The panic itself has told everything.
    heard: bool,
}

impl Witness {
    /// The end of the trace, as it is printed.
    fn last(&self) -> String {
        let trace = self.trace.lines();
        if trace.is_empty() {
            return "no trace was kept".to_owned();
        }
        let shown = &trace[trace.len().saturating_sub(TRACE_SHOWN)..];
        let count = shown.len();
        format!("the last {count} lines of its trace:\n{}", shown.join("\n"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.heard {
            let (seed, last) = (self.seed, self.last());
            eprintln!("windlass::sim: this world had the seed {seed}; {last}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use crate::datagram::Bind;
    use crate::flags::Flags;
    use crate::handler::Deadline;
    use crate::input::Input;
    use crate::token::Token;

    #[derive(Default)]
    struct Echo {
        late: Vec<Deadline>,
        times: Vec<Duration>,
    }

    impl Handler for Echo {
        type Session = ();

        fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            Ok(())
        }

        fn on_read(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            input: &mut Input<'_>,
        ) -> io::Result<()> {
            match input.take_all() {
                b"panic" => panic!("as asked"),
                bytes => drop(conn.write(bytes)),
            }
            Ok(())
        }

        fn on_timeout(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            which: Deadline,
        ) -> io::Result<()> {
            self.late.push(which);
            self.times.push(conn.cx().stats().elapsed);
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    fn served() -> (World<Echo>, Client) {
        let mut world = World::new(7, Echo::default());
        let addr = world.listen("127.0.0.1:7");
        let client = world.connect(addr);
        world.run();
        (world, client)
    }

    fn conn(world: &mut World<Echo>) -> &mut Connection {
        world.reactor.core().conns.at_mut(0).unwrap()
    }

    #[track_caller]
    fn assert_broken(world: &mut World<Echo>, rule: &str) {
        let text = world.check().unwrap_err();
        assert!(text.contains(rule), "{text}");
        assert!(text.contains("seed 7"), "{text}");
    }

    #[test]
    fn a_sound_world_passes_its_check() {
        let (mut world, client) = served();
        world.send(client, b"x");
        world.run();
        assert_eq!(world.check(), Ok(()));
    }

    #[test]
    fn forgotten_input_is_found() {
        let (mut world, client) = served();
        world.send(client, b"x");
        // The report is taken and nobody serves it.
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "input waits to be read");
    }

    #[test]
    fn forgotten_output_is_found() {
        let (mut world, client) = served();
        world.kernel().fail(Call::Write, Errno(libc::EAGAIN), 1);
        world.send(client, b"x");
        let _ = world.reactor.turn(Some(Duration::ZERO)).unwrap();
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "output waits and could leave");
    }

    #[test]
    fn a_forgotten_client_is_found() {
        let (mut world, _) = served();
        world.connect(([127, 0, 0, 1], 7).into());
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "clients wait in its queue");
    }

    #[test]
    fn a_forgotten_error_is_found() {
        let (mut world, client) = served();
        world.reset(client);
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "an error waits to be taken");
    }

    #[test]
    fn forgotten_notes_are_found() {
        let rules = [
            (Flags::WAKE, "a callback is due"),
            (Flags::EOF, "on_eof was not called"),
            (Flags::CLOSING, "FIN was not sent"),
            (Flags::DEAD, "on_close was not called"),
        ];
        for (flag, rule) in rules {
            let (mut world, _) = served();
            conn(&mut world).set(flag);
            assert_broken(&mut world, rule);
        }
    }

    #[test]
    fn a_connection_without_a_deadline_in_the_wheel_is_found() {
        let (mut world, _) = served();
        conn(&mut world).unfiled();
        assert_eq!(world.check(), Ok(()), "it is young, and will be filed");
        world.reactor.core().engine.young.take();
        assert_broken(&mut world, "its deadline is not in the wheel");
    }

    #[test]
    fn a_source_that_waits_for_memory_that_is_there_is_found() {
        let (mut world, _) = served();
        world.reactor.core().engine.parked.push(Token::WAKE);
        assert_broken(&mut world, "memory that is there");
    }

    /// A world with a datagram socket, and a client of it.
    fn bound() -> (World<Echo>, Addr, PacketClient) {
        let mut world = World::new(7, Echo::default());
        let addr = world.bind("udp://127.0.0.1:7");
        let client = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
        world.run();
        (world, addr, client)
    }

    #[test]
    fn forgotten_datagrams_are_found() {
        let (mut world, addr, client) = bound();
        world.send_datagram(client, &addr, b"x");
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "datagrams wait to be received");
        let id = world.reactor.core().sockets.iter().next().unwrap().id();
        world.socket(id).unwrap().pause();
        assert_eq!(world.check(), Ok(()));
    }

    #[test]
    fn datagrams_that_could_leave_are_found() {
        let (mut world, ..) = bound();
        let id = world.reactor.core().sockets.iter().next().unwrap().id();
        world.faults().send_buffers_full(true);
        let nowhere = SocketAddr::from(([10, 0, 0, 9], 5000));
        world.socket(id).unwrap().send_to(b"x", nowhere);
        world.run();
        world.faults().send_buffers_full(false);
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "datagrams wait and could leave");
    }

    #[test]
    fn a_refusal_that_nobody_takes_is_found() {
        let mut world = World::new(7, Echo::default());
        let bind = Bind::connect("udp://10.0.0.9:5000").unwrap();
        let id = world.try_bind(bind).unwrap();
        world.faults().latency(Duration::from_millis(1));
        world.socket(id).unwrap().send(b"x");
        let _ = world.reactor.turn(Some(Duration::ZERO)).unwrap();
        world.kernel().advance(Duration::from_secs(1));
        world.kernel().poll(&mut Vec::new(), None).unwrap();
        assert_broken(&mut world, "an error waits to be taken");
    }

    #[test]
    fn a_descriptor_closed_twice_is_found() {
        let (mut world, _) = served();
        let fd = conn(&mut world).fd();
        world.kernel().close(fd);
        world.kernel().close(fd);
        assert_broken(&mut world, "which is not open");
    }

    #[test]
    #[should_panic(expected = "does not come to rest")]
    fn a_loop_that_spins_is_found() {
        fn post_for_ever(handle: &Handle<Echo>) {
            let next = handle.clone();
            handle.post(move |_, _| post_for_ever(&next)).unwrap();
        }
        let (mut world, _) = served();
        post_for_ever(&world.handle());
        world.run();
    }

    #[test]
    #[should_panic(expected = "as asked")]
    fn a_panic_in_a_callback_fails_the_test() {
        let (mut world, client) = served();
        world.send(client, b"panic");
        world.run();
    }

    #[test]
    fn time_passes_only_when_told_and_deadlines_fire_on_the_way() {
        let (mut world, client) = served();
        let start = world.now();
        world.send(client, b"x");
        world.run();
        assert_eq!(world.now(), start);
        world.advance(Duration::from_secs(1000));
        assert_eq!(world.now() - start, Duration::from_secs(1000));
        assert_eq!(world.handler().late, [Deadline::Idle]);
        assert_eq!(world.handler().times, [Duration::from_secs(300)]);
        assert!(world.saw_eof(client));
    }

    #[test]
    fn a_run_lets_what_is_on_the_wire_arrive() {
        let (mut world, client) = served();
        let start = world.now();
        world.faults().latency(Duration::from_millis(20));
        world.send(client, b"there and back");
        world.run();
        assert_eq!(world.received(client), b"there and back");
        assert_eq!(world.now() - start, Duration::from_millis(40));
    }

    #[test]
    fn a_shutdown_leaves_nothing_open_and_the_world_at_peace() {
        let (mut world, client) = served();
        assert_eq!(world.open_descriptors(), 2);
        world.send(client, b"x");
        world.run();
        world.shutdown(Duration::from_secs(5));
        assert!(world.has_stopped());
        assert_eq!(world.open_descriptors(), 0);
        world.run();
        world.advance(Duration::from_secs(1));
        assert!(world.handle().post(|_, _| ()).is_err());
    }

    #[test]
    fn nobody_is_home_before_there_is_a_listener() {
        let mut world = World::new(1, Echo::default());
        let nowhere = ([127, 0, 0, 1], 9).into();
        let error = world.try_connect(nowhere).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
