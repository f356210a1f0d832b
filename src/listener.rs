//! Accepting: backlog, batch, cap, pause, what to do without descriptors, queue depth.
//!
//! A listener is edge-triggered like everything else: whoever stops accepting before the
//! queue is empty must say who will start again. The ways to stop, and who starts again:
//!
//! | stopped because | started again by |
//! |---|---|
//! | the queue is empty | the kernel's next report |
//! | the batch is full | a re-armed registration, or the ready list where re-arming is unproven |
//! | a cap is reached | the end of any connection or dial attempt |
//! | descriptors or memory ran out | the end of any connection or dial attempt, or a timer of at most 40 ms |
//! | client after client was lost | the same timer, or the kernel's next report |
//! | buffered memory is above its limit | the relief of that pressure |
//! | `pause` | `resume` |
//! | an accept deadline has passed, of which the handler is to be told first | the ready list |
//!
//! This room never calls the handler; what it has to say goes into the engine's reports.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::address::{Addr, AddressError, Network};
use crate::config::{self, Overload};
use crate::endpoint::{Endpoint, listen_candidates};
use crate::engine::{Engine, Report, nanos};
use crate::error::{Cause, Error, Op};
use crate::faults::fault;
use crate::fd::{self, Accepted};
use crate::kernel::Transport;
use crate::kernel::{Errno, Fault, Fd, Interest, Keepalive, ListenSpec, Prepare, StreamOptions};
use crate::layer::Layers;
use crate::options::{self, layer_option, owned_text, prepare_option, stream_options};
use crate::sources::Named;
use crate::timer::{Entry, NEVER, Nanos};
use crate::token::{ListenerId, Owner, Token};
use crate::unix_path::{self, Owned};

/// What to listen on, and how. Made from an address, then adjusted:
///
/// ```no_run
/// # fn main() -> Result<(), windlass::Error> {
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut reactor = windlass::Reactor::new(App)?;
/// use windlass::Listen;
/// reactor.listen("127.0.0.1:3000")?;
/// reactor.listen(Listen::new("tcp://:3001")?.backlog(16).reuse_port(true))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listen {
    target: Target,
    backlog: Option<u32>,
    reuse_port: bool,
    max_connections: Option<usize>,
    overload: Option<Overload>,
    options: StreamOptions,
    path: PathRules,
    prepare: Option<Prepare>,
    layers: Option<Layers>,
}

/// What is to be done about a Unix path.
#[derive(Clone, Copy, Debug)]
struct PathRules {
    mode: Option<u32>,
    repair: bool,
    /// `None`: if we made it.
    unlink: Option<bool>,
}

#[derive(Debug)]
enum Target {
    Endpoint(Endpoint),
    Inherited(OwnedFd),
}

impl Listen {
    /// Listens on an address: text such as `"127.0.0.1:3000"`, `":3000"`, `"tcp6://[::1]:0"`,
    /// `"unix:///run/app.sock"`, `"unix://@abstract"` or `"unixpacket:///run/app.sock"`, or a
    /// typed one. Port 0 lets the kernel choose.
    ///
    /// A host name is looked up when the listener is opened, which may block; it listens
    /// on one of the name's addresses (the first IPv4 one if there is any, as Go does).
    ///
    /// # Errors
    ///
    /// The text does not parse, or its network has no listeners (`udp`, `unixgram`, raw IP):
    /// `listen udp 127.0.0.1:0: address 127.0.0.1:0: unexpected address type`.
    pub fn new<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<AddressError>,
    {
        match endpoint.try_into() {
            Ok(endpoint) => endpoint.try_into(),
            Err(error) => Err(error.into().into_error(Op::Listen)),
        }
    }

    /// Takes over a listening socket made elsewhere: [inherited](crate::inherited), a
    /// [duplicate](crate::Listener::try_clone_fd) of another loop's, or one of the standard
    /// library's. It may be TCP, a Unix stream, or records. It is made nonblocking and
    /// close-on-exec, and given the stream options of this [`Listen`], which its clients
    /// inherit. Everything else stays as it is, the backlog too, and so does its path when it
    /// is closed, unless [`unlink_on_close`](Self::unlink_on_close) says otherwise.
    ///
    /// Anything else than a listening socket is refused when the listener is opened:
    /// ENOTSOCK or EINVAL.
    pub fn adopt(fd: OwnedFd) -> Self {
        Self::on(Target::Inherited(fd))
    }

    fn on(target: Target) -> Self {
        Self {
            target,
            backlog: None,
            reuse_port: false,
            max_connections: None,
            overload: None,
            options: options::of_a_stream(),
            path: PathRules {
                mode: None,
                repair: true,
                unlink: None,
            },
            prepare: None,
            layers: None,
        }
    }

    /// Clients that may wait in the kernel's accept queue. Default: as many as the system
    /// allows (`net.core.somaxconn`, `kern.ipc.soacceptqueue`, `kern.ipc.somaxconn`). The
    /// kernel silently lowers what is above that; [`Listener::queue`](crate::Listener::queue)
    /// tells the effective value. Linux lets one more than the backlog wait.
    pub fn backlog(mut self, clients: u32) -> Self {
        self.backlog = Some(clients);
        self
    }

    /// Lets several sockets listen on the same port (SO_REUSEPORT; on FreeBSD
    /// SO_REUSEPORT_LB), one per loop: the kernel spreads the clients over them. A slow
    /// loop strands the clients in its own queue.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Connections of this listener that may be open; more wait in the kernel's queue.
    /// Default: only the loop's cap holds.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// What becomes of this listener's clients while descriptors are out. Default:
    /// [`Config::overload`](crate::Config::overload).
    pub fn overload(mut self, policy: Overload) -> Self {
        self.overload = Some(policy);
        self
    }

    stream_options!("accepted connections");

    prepare_option!(prepare);
    layer_option!("each accepted connection");

    /// Permission bits of a Unix path, as in chmod(2): who may connect needs `w` (on Linux;
    /// some systems look at the directory alone). They hold before anybody can connect.
    /// Default: what the umask leaves. Without effect on other addresses.
    pub fn mode(mut self, bits: u32) -> Self {
        self.path.mode = Some(bits);
        self
    }

    /// Whether a Unix path that is in use, and that nobody serves, is removed and bound once
    /// more. Default: yes, so that a server that was killed comes up again.
    ///
    /// Only a socket is ever removed, only if a connect to it is refused (so whoever serves
    /// it sees one client that comes and goes), and only if the same socket still stands
    /// there afterwards. If two processes are started on one path at the same moment, one
    /// can still take the path from the other: give them a lock of their own.
    pub fn repair_path(mut self, on: bool) -> Self {
        self.path.repair = on;
        self
    }

    /// Whether a Unix path is removed when the listener is closed, or dropped with its loop;
    /// it is removed only if it is still the same socket. Default: yes if this listener made
    /// it, no if it was adopted. Say no before a
    /// [duplicate](crate::Listener::try_clone_fd) is to serve on after this listener.
    pub fn unlink_on_close(mut self, on: bool) -> Self {
        self.path.unlink = Some(on);
        self
    }
}

/// Fails as [`Listen::new`] does for a network that has no listeners.
impl TryFrom<Endpoint> for Listen {
    type Error = Error;

    fn try_from(endpoint: Endpoint) -> Result<Self, Error> {
        endpoint.for_listen()?;
        Ok(Self::on(Target::Endpoint(endpoint)))
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self::on(Target::Endpoint(addr.into()))
    }
}

impl TryFrom<&str> for Listen {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

owned_text!(Listen);

/// One listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) token: Token,
    fd: Fd,
    pub(crate) owner: Owner,
    pub(crate) network: Network,
    transport: Transport,
    pub(crate) addr: Addr,
    pub(crate) backlog: u32,
    policy: Policy,
    /// What its connections get between wire and handler.
    pub(crate) layers: Option<Layers>,
    /// The path to be removed with it.
    path: Option<Owned>,
    /// Whether accepted sockets have the options by inheritance, as far as is known.
    inherits: bool,
    /// Clients that came without them.
    without_options: u32,
    /// Connections of this listener that are open.
    pub(crate) open: usize,
    state: State,
    spare: Option<Fd>,
    backoff: Duration,
    /// When accepting is tried again after a failure; `NEVER` while there was none.
    retry_at: Nanos,
    /// When the handler is to be told that time ran out; `NEVER` if it is not.
    deadline: Nanos,
    /// The one entry in the wheel, for whichever comes first; it may be filed too early.
    entry: Option<Entry>,
    /// Clients lost since the last one that was not, or since the last wait for that reason.
    lost_in_a_row: u32,
    batch: u32,
    /// Clients since the kernel reported them after a pause.
    burst: u32,
    rearmed_in: u64,
    /// The turn of the last accept.
    served_in: u64,
}

/// What is true of a listener, and which lists it is on.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Clients may be waiting.
    ready: bool,
    paused: bool,
    /// Accept failed for want of descriptors or memory, and has not succeeded since.
    exhausted: bool,
    /// It failed for whatever reason, or is to be tried later, and has not succeeded since.
    troubled: bool,
    /// No new clients after those in the queue.
    stopping: bool,
    /// Never again.
    dead: bool,
    in_ready: bool,
    starved: bool,
    parked: bool,
}

/// What holds for each client of a listener, as long as the listener lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) listener: Token,
    pub(crate) owner: Owner,
    pub(crate) transport: Transport,
    /// Something stands between wire and handler.
    pub(crate) is_layered: bool,
}

/// What one step of accepting came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// A client to admit. The kernel knows who it is.
    Client(Fd),
    /// Nothing more this turn; who starts again is arranged.
    Done,
}

/// A socket that listens, before it has a slot.
#[derive(Debug)]
pub(crate) struct Opened {
    fd: Fd,
    addr: Addr,
    network: Network,
    policy: Policy,
    backlog: u32,
    spare: Option<Fd>,
    path: Option<Owned>,
    layers: Option<Layers>,
}

impl Opened {
    /// What must be given back if this becomes no listener after all.
    pub(crate) fn held(&self) -> Held {
        Held {
            fd: self.fd,
            spare: self.spare,
            path: self.path.clone(),
        }
    }
}

/// What a listener holds of the system's.
#[derive(Debug)]
pub(crate) struct Held {
    fd: Fd,
    spare: Option<Fd>,
    path: Option<Owned>,
}

impl Held {
    /// The path goes first: its inode cannot be given to another file before the socket is
    /// closed.
    pub(crate) fn give_back(self, engine: &mut Engine) {
        if let Some(path) = self.path {
            unix_path::remove_if_ours(engine.kernel.as_mut(), &path);
        }
        for fd in [Some(self.fd), self.spare].into_iter().flatten() {
            engine.kernel.close(fd);
        }
    }
}

/// What a listener was asked to do with its clients.
#[derive(Clone, Copy, Debug)]
struct Policy {
    max_connections: Option<usize>,
    overload: Overload,
    options: StreamOptions,
}

impl Named for Listener {
    fn token(&self) -> Token {
        self.token
    }
}

impl Listener {
    /// Opens the socket. Nothing stays open if any step fails.
    pub(crate) fn open(listen: Listen, engine: &mut Engine) -> Result<Opened, Error> {
        let system = engine.kernel.backlog_limit();
        let backlog = listen.backlog.unwrap_or(system);
        let policy = Policy {
            max_connections: listen.max_connections,
            overload: listen.overload.unwrap_or(engine.config.overload),
            options: listen.options,
        };
        let rules = listen.path;
        let (bound, addr) = match listen.target {
            Target::Endpoint(mut endpoint) => {
                let spec = Spec {
                    backlog,
                    reuse_port: listen.reuse_port,
                    options: listen.options,
                    path: rules,
                    prepare: listen.prepare,
                };
                let bound = bind(&mut endpoint, spec, engine)?;
                let addr = own_address(&bound, engine)?;
                (bound, addr)
            }
            Target::Inherited(owned) => adopt(owned, rules, &listen.options, engine)?,
        };
        let spare = match policy.overload {
            Overload::Shed => engine.kernel.spare().ok(),
            Overload::Wait => None,
        };
        Ok(Opened {
            fd: bound.fd,
            addr,
            network: bound.network,
            policy,
            backlog: backlog.min(system),
            spare,
            path: bound.path,
            layers: listen.layers,
        })
    }

    pub(crate) fn new(token: Token, opened: Opened, owner: Owner, engine: &Engine) -> Self {
        let Opened {
            fd,
            addr,
            network,
            policy,
            backlog,
            spare,
            path,
            layers,
        } = opened;
        Self {
            token,
            fd,
            owner,
            network,
            transport: network.transport(),
            addr,
            backlog,
            policy,
            layers,
            path,
            inherits: false,
            without_options: 0,
            open: 0,
            state: State::default(),
            spare,
            backoff: engine.config.accept_backoff_min,
            retry_at: NEVER,
            deadline: NEVER,
            entry: None,
            lost_in_a_row: 0,
            batch: 1,
            burst: 0,
            rearmed_in: 0,
            served_in: 0,
        }
    }

    pub(crate) fn register(&self, engine: &mut Engine) -> Result<(), Error> {
        engine
            .kernel
            .register(self.fd, self.token, Interest::Read)
            .map_err(|errno| self.error(Op::Listen, Cause::Errno(errno)))
    }

    pub(crate) fn held(&self) -> Held {
        Held {
            fd: self.fd,
            spare: self.spare,
            path: self.path.clone(),
        }
    }

    pub(crate) fn fd(&self) -> Fd {
        self.fd
    }

    /// What holds for each of its clients.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            listener: self.token,
            owner: self.owner,
            transport: self.transport,
            is_layered: self.layers.is_some(),
        }
    }

    /// Whether clients in the queue have good reason to be there: somebody will start
    /// again. `open` are the loop's connections.
    pub(crate) fn may_wait(&self, open: usize, engine: &Engine) -> bool {
        let capped = open >= engine.max_connections || self.is_full();
        self.state.paused || engine.pressed || capped || self.retry_at != NEVER
    }

    /// Clients waiting in the kernel's queue, and its limit.
    pub(crate) fn queue(&self, engine: &mut Engine) -> Result<(u32, u32), Errno> {
        engine.kernel.queue(self.fd)
    }

    pub(crate) fn served_in(&self) -> u64 {
        self.served_in
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state.paused
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.dead
    }

    // What happens to a listener.

    /// The kernel reported clients.
    pub(crate) fn note(&mut self, engine: &Engine) {
        self.state.ready = true;
        // Re-arming reported at once: there are more clients than the batch takes.
        if self.rearmed_in != 0 && engine.stats.turns == self.rearmed_in + 1 {
            let grown = self.batch.saturating_mul(config::BATCH_GROWTH);
            self.batch = grown.min(engine.config.accept_budget);
        } else {
            self.burst = 0;
        }
    }

    /// Puts the listener on the ready list, if it has anything to do.
    pub(crate) fn make_ready(&mut self, engine: &mut Engine) {
        if !self.state.in_ready && !self.state.dead {
            self.state.in_ready = true;
            engine.ready.push(self.token);
        }
    }

    /// Whether a report leads to accepting in this turn; on the ready list it is for the next.
    pub(crate) fn leads_to_accepting(&self) -> bool {
        self.may_accept() && !self.state.in_ready
    }

    /// It has left the ready list.
    pub(crate) fn left_ready(&mut self) {
        self.state.in_ready = false;
    }

    /// A descriptor was freed, or a cap has room again.
    pub(crate) fn fed(&mut self, engine: &mut Engine) {
        self.state.starved = false;
        self.make_ready(engine);
    }

    /// Buffered memory has fallen.
    pub(crate) fn relieved(&mut self, engine: &mut Engine) {
        self.state.parked = false;
        self.make_ready(engine);
    }

    /// The wheel has let go of this listener: something may be due.
    pub(crate) fn due(&mut self, engine: &mut Engine) {
        self.entry = None;
        if self.retry_at <= engine.clock.nanos {
            self.retry_at = NEVER;
            self.lost_in_a_row = 0;
            self.make_ready(engine);
        }
        self.arm(engine);
    }

    /// Sees to it that the wheel looks at this listener no later than it must. A time moved
    /// later costs nothing: the wheel finds out when it looks.
    fn arm(&mut self, engine: &mut Engine) {
        let at = self.next_time(engine);
        match self.entry {
            None if at != NEVER => self.entry = Some(engine.wheel.insert(at, self.token)),
            Some(entry) if at < engine.wheel.at(entry) => engine.wheel.refile(entry, at),
            _ => {}
        }
    }

    /// When the wheel must look. A deadline that has passed is the ready list's.
    fn next_time(&self, engine: &Engine) -> Nanos {
        let passed = self.deadline <= engine.clock.nanos;
        self.retry_at
            .min(if passed { NEVER } else { self.deadline })
    }

    /// Whether the wheel, or the ready list, will look at this listener in time.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let filed = self.entry.map_or(NEVER, |entry| engine.wheel.at(entry));
        filed <= self.retry_at.min(self.deadline) || self.state.in_ready
    }

    // The accept deadline.

    /// One that has passed is told in the next turn, before anybody is accepted. One that is
    /// closing has none: its queue is to be emptied.
    pub(crate) fn set_deadline(&mut self, at: Nanos, engine: &mut Engine) {
        if self.state.stopping {
            return;
        }
        self.deadline = at;
        if at <= engine.clock.nanos {
            self.make_ready(engine);
        }
        self.arm(engine);
    }

    /// What the handler is to be told if the deadline has passed: once per setting.
    pub(crate) fn take_timeout(&mut self, engine: &Engine) -> Option<Error> {
        if self.deadline > engine.clock.nanos || self.state.dead || fault!(ListenDeadlineForgotten)
        {
            return None;
        }
        self.deadline = NEVER;
        Some(self.error(Op::Accept, Cause::Timeout))
    }

    /// Not one that is closing: its end waits for the clients in its queue.
    pub(crate) fn pause(&mut self) {
        self.state.paused = !self.state.stopping;
    }

    pub(crate) fn resume(&mut self, engine: &mut Engine) {
        let paused = std::mem::take(&mut self.state.paused);
        if paused && self.state.ready && !fault!(ListenerResumeForgotten) {
            self.make_ready(engine);
        }
    }

    /// Empties the queue, then closes.
    pub(crate) fn stop(&mut self, engine: &mut Engine) {
        self.state.stopping = true;
        self.state.paused = false;
        self.deadline = NEVER;
        // With full batches.
        self.batch = engine.config.accept_budget;
        self.state.ready = true;
        self.make_ready(engine);
    }

    // Accepting.

    /// Whether a turn may begin to accept here at all.
    fn may_accept(&self) -> bool {
        let paused = self.state.paused && !fault!(ListenerPauseIgnored);
        self.state.ready && !paused && !self.state.dead
    }

    /// The next client, or the end of this turn's accepting. `taken` counts what this turn
    /// has tried here, `open` the loop's connections.
    #[inline(always)]
    pub(crate) fn step(&mut self, taken: &mut u32, open: usize, engine: &mut Engine) -> Step {
        while self.may_accept() {
            if self.is_held_up(*taken, open, engine) {
                return self.hold_up(open, engine);
            }
            *taken += 1;
            match engine.kernel.take_client(self.fd) {
                Ok(fd) => return self.accepted(fd, engine),
                Err(errno) => {
                    if let Some(step) = self.not_accepted(errno, engine) {
                        return step;
                    }
                }
            }
        }
        Step::Done
    }

    /// Whether anything forbids to accept now, or this turn has accepted enough.
    #[inline]
    fn is_held_up(&self, taken: u32, open: usize, engine: &Engine) -> bool {
        self.deadline <= engine.clock.nanos
            || engine.pressed
            || (open >= engine.max_connections && !fault!(CapIgnored))
            || (self.is_full() && !fault!(ListenerCapIgnored))
            || (fault!(QueueLeftAtStop) && self.state.stopping)
            || (taken >= self.batch && !fault!(AcceptBudgetIgnored))
    }

    /// What is to be done about that, so that somebody starts again.
    #[inline(never)]
    fn hold_up(&mut self, open: usize, engine: &mut Engine) -> Step {
        if self.deadline <= engine.clock.nanos {
            self.make_ready(engine);
            return Step::Done;
        }
        if engine.pressed {
            return self.park(engine);
        }
        if open >= engine.max_connections && !fault!(CapIgnored) {
            return self.at_cap(engine);
        }
        if self.is_full() && !fault!(ListenerCapIgnored) {
            return self.starve(engine);
        }
        if fault!(QueueLeftAtStop) && self.state.stopping {
            return self.emptied(engine);
        }
        self.rearm(engine)
    }

    /// An accept has answered no client. `None`: another may.
    #[inline(never)]
    fn not_accepted(&mut self, errno: Errno, engine: &mut Engine) -> Option<Step> {
        match fd::accept_again(errno, engine.kernel.as_mut(), self.fd) {
            Accepted::Lost(errno) if fault!(LossEndsListener) => Some(self.ended(errno, engine)),
            Accepted::Conn(fd) => Some(self.accepted(fd, engine)),
            Accepted::Empty => Some(self.emptied(engine)),
            Accepted::Lost(errno) => {
                self.lost(errno, engine);
                let many = self.lost_in_a_row >= config::LOST_IN_A_ROW;
                many.then(|| self.rest_from_losses(errno, engine))
            }
            Accepted::Exhausted(errno) => Some(self.exhausted(errno, engine)),
            Accepted::Ended(errno) => Some(self.ended(errno, engine)),
        }
    }

    /// The loop has as many connections as it may. A cap that nobody asked for stands for
    /// the descriptors of the process, and is met by the same policy.
    fn at_cap(&mut self, engine: &mut Engine) -> Step {
        if !engine.cap_is_descriptors || self.policy.overload == Overload::Wait {
            return self.starve(engine);
        }
        // The reserved descriptors serve to accept with; the spare is not needed.
        match self.shed_batch(engine) {
            Some(true) => {
                self.emptied(engine);
            }
            Some(false) => self.make_ready(engine),
            None => {
                self.retry_later(engine);
                return self.starve(engine);
            }
        }
        self.log_shedding(engine);
        Step::Done
    }

    fn is_full(&self) -> bool {
        self.policy
            .max_connections
            .is_some_and(|most| self.open >= most)
    }

    fn lost(&mut self, errno: Errno, engine: &mut Engine) {
        engine.stats.lost += 1;
        self.state.troubled = true;
        self.lost_in_a_row += 1;
        log::debug!(target: "windlass::listener", "{}: a client was lost: {errno:?}", self.addr);
    }

    /// So many losses at a stretch are hardly the clients' own: accept itself is refused (a
    /// filter of system calls answers EPERM), nobody leaves the queue, and the kernel would
    /// report it again and again.
    fn rest_from_losses(&mut self, errno: Errno, engine: &mut Engine) -> Step {
        self.log_accept_error(errno, "client after client is lost", engine);
        self.retry_later(engine);
        Step::Done
    }

    #[inline]
    fn accepted(&mut self, fd: Fd, engine: &mut Engine) -> Step {
        self.served_in = engine.stats.turns;
        self.burst = self.burst.saturating_add(1);
        self.recovered(engine);
        if !self.inherits {
            self.see_to_options(fd, engine);
        }
        Step::Client(fd)
    }

    /// Options are set once on the listener where accepted sockets inherit them. Whether
    /// they do is seen on the first client; if it is one that waited since before they were
    /// set, on a later one: the second, fourth, eighth and so on are looked at.
    #[inline(never)]
    fn see_to_options(&mut self, fd: Fd, engine: &mut Engine) {
        let options = &self.policy.options;
        self.without_options = self.without_options.saturating_add(1);
        if self.without_options.is_power_of_two() {
            self.inherits = engine.kernel.has_options(fd, options);
        }
        if !self.inherits
            && let Err(errno) = engine.kernel.set_options(fd, options)
        {
            log::debug!(target: "windlass::listener", "{}: an option was refused: {errno:?}", self.addr);
        }
    }

    /// The next burst is likely to be as long as this one: a batch of that size ends with a
    /// cheap re-arming, and not with an accept for nothing.
    fn emptied(&mut self, engine: &mut Engine) -> Step {
        self.recovered(engine);
        self.state.ready = false;
        self.batch = self.burst.clamp(1, engine.config.accept_budget);
        if self.state.stopping {
            self.state.dead = true;
        }
        Step::Done
    }

    /// The batch is full. Asking the kernel to report again costs an eighth of the accept
    /// that would find the queue empty.
    fn rearm(&mut self, engine: &mut Engine) -> Step {
        if fault!(BurstForgotten) {
            return Step::Done;
        }
        if !self.state.stopping && engine.kernel.rearm(self.fd, self.token) == Ok(true) {
            self.state.ready = false;
            self.rearmed_in = engine.stats.turns;
        } else {
            self.batch = engine.config.accept_budget;
            self.make_ready(engine);
        }
        Step::Done
    }

    fn starve(&mut self, engine: &mut Engine) -> Step {
        if !self.state.starved {
            self.state.starved = true;
            engine.starved.push(self.token);
        }
        Step::Done
    }

    fn park(&mut self, engine: &mut Engine) -> Step {
        if !self.state.parked {
            self.state.parked = true;
            engine.parked.push(self.token);
        }
        Step::Done
    }

    // Without descriptors.

    fn exhausted(&mut self, errno: Errno, engine: &mut Engine) -> Step {
        let first = !std::mem::replace(&mut self.state.exhausted, true);
        self.state.troubled = true;
        if first {
            engine.stats.backoffs += 1;
            engine.reports.push(self.report(errno));
        }
        let descriptors = matches!(errno.0, libc::EMFILE | libc::ENFILE);
        if descriptors && self.policy.overload == Overload::Shed && self.shed(engine) {
            self.log_accept_error(errno, "closing clients at once", engine);
            return Step::Done;
        }
        self.log_accept_error(errno, "clients wait in the queue", engine);
        if fault!(ExhaustionSpins) {
            self.make_ready(engine);
        } else if !fault!(BackoffForgotten) {
            self.retry_later(engine);
        }
        self.starve(engine)
    }

    fn retry_later(&mut self, engine: &mut Engine) {
        if self.retry_at == NEVER {
            self.state.troubled = true;
            let wait = nanos(self.backoff);
            self.retry_at = engine.clock.nanos.saturating_add(wait).min(NEVER - 1);
            self.arm(engine);
            self.backoff = self
                .backoff
                .saturating_mul(2)
                .min(engine.config.accept_backoff_max);
        }
    }

    /// An episode without descriptors is over; the next one is told and begins anew.
    #[inline]
    fn recovered(&mut self, engine: &mut Engine) {
        if self.state.troubled || self.entry.is_some() {
            self.forget_troubles(engine);
        }
    }

    #[inline(never)]
    fn forget_troubles(&mut self, engine: &mut Engine) {
        self.state.troubled = false;
        self.lost_in_a_row = 0;
        self.state.exhausted = false;
        self.backoff = engine.config.accept_backoff_min;
        self.retry_at = NEVER;
        if self.deadline == NEVER {
            self.unfile(engine);
        }
    }

    fn unfile(&mut self, engine: &mut Engine) {
        if let Some(entry) = self.entry.take() {
            engine.wheel.cancel(entry);
        }
    }

    /// Closes the spare descriptor, accepts and closes clients with its number, and opens
    /// it again. Nobody logs and nobody calls out while it is closed. `false`: it did not
    /// work, so wait instead.
    fn shed(&mut self, engine: &mut Engine) -> bool {
        let Some(spare) = self.spare.take().or_else(|| engine.kernel.spare().ok()) else {
            return false;
        };
        engine.kernel.close(spare);
        let emptied = self.shed_batch(engine);
        self.spare = engine.kernel.spare().ok();
        match emptied {
            Some(true) => {
                self.emptied(engine);
                // The loop is still out of descriptors: the next client is no new episode.
                self.state.exhausted = true;
                self.state.troubled = true;
            }
            Some(false) => self.make_ready(engine),
            None => return false,
        }
        self.spare.is_some()
    }

    /// Whether the queue was seen empty; `None` if not even one client could be had.
    fn shed_batch(&self, engine: &mut Engine) -> Option<bool> {
        let before = engine.stats.shed;
        for _ in 0..engine.config.accept_budget {
            match fd::accept(engine.kernel.as_mut(), self.fd) {
                Accepted::Conn(fd) => {
                    if !fault!(ShedNotClosed) {
                        engine.kernel.close(fd);
                    }
                    engine.stats.shed += 1;
                }
                Accepted::Empty => return Some(true),
                Accepted::Lost(_) => engine.stats.lost += 1,
                Accepted::Exhausted(_) | Accepted::Ended(_) => return None,
            }
        }
        (engine.stats.shed > before).then_some(false)
    }

    fn log_shedding(&self, engine: &mut Engine) {
        let now = engine.clock.nanos;
        if let Some(held_back) = engine.accept_gate.pass(now, engine.config.log_interval) {
            log::warn!(
                target: "windlass::listener",
                "{}: {} connections are all that the descriptors allow; closing clients at once \
                 ({held_back} such lines held back)",
                self.addr,
                engine.max_connections
            );
        }
    }

    fn log_accept_error(&self, errno: Errno, consequence: &str, engine: &mut Engine) {
        let now = engine.clock.nanos;
        if let Some(held_back) = engine.accept_gate.pass(now, engine.config.log_interval) {
            log::warn!(
                target: "windlass::listener",
                "{}; {consequence} ({held_back} such lines held back)",
                self.accept_error(errno)
            );
        }
    }

    fn ended(&mut self, errno: Errno, engine: &mut Engine) -> Step {
        let report = self.report(errno);
        log::error!(target: "windlass::listener", "{}; this listener is gone", report.error);
        engine.reports.push(report);
        self.state.dead = true;
        Step::Done
    }

    fn report(&self, errno: Errno) -> Report {
        Report {
            listener: ListenerId::new(self.token),
            owner: self.owner,
            error: self.accept_error(errno),
        }
    }

    fn accept_error(&self, errno: Errno) -> Error {
        self.error(
            Op::Accept,
            Cause::Syscall {
                call: "accept4",
                errno,
            },
        )
    }

    fn error(&self, op: Op, cause: Cause) -> Error {
        Error::new(
            op,
            Some(self.network),
            Some(self.addr.clone().into()),
            cause,
        )
    }

    /// Gives everything back.
    pub(crate) fn retire(mut self, engine: &mut Engine) {
        engine.freed = true;
        self.unfile(engine);
        // The descriptor may have duplicates in other processes; a duplicate would keep
        // the registration alive after our close.
        engine.kernel.deregister(self.fd);
        self.held().give_back(engine);
    }
}

/// A socket that listens, before anything is known about it but what it was made from.
#[derive(Debug)]
struct Bound {
    fd: Fd,
    network: Network,
    path: Option<Owned>,
}

#[derive(Debug)]
struct Spec {
    backlog: u32,
    reuse_port: bool,
    options: StreamOptions,
    path: PathRules,
    prepare: Option<Prepare>,
}

/// Tries the endpoint's candidates in order; the error is that of the first.
fn bind(endpoint: &mut Endpoint, spec: Spec, engine: &mut Engine) -> Result<Bound, Error> {
    let network = endpoint.network();
    let fail = |cause: Cause| Error::new(Op::Listen, Some(network), None, cause);
    let transport = network.transport();
    endpoint
        .resolve_zone(|name| engine.kernel.interface_index(name))
        .map_err(fail)?;
    let looked_up = match endpoint.name() {
        Some(name) => engine
            .kernel
            .lookup(name)
            .map_err(|error| fail(Cause::lookup(name.to_owned(), &error)))?,
        None => Vec::new(),
    };
    let mut first = None;
    for (addr, only_v6) in listen_candidates(endpoint, &looked_up).map_err(fail)? {
        let listen = ListenSpec {
            addr,
            transport,
            mode: spec.path.mode,
            only_v6,
            backlog: i32::try_from(spec.backlog).unwrap_or(i32::MAX),
            reuse_port: spec.reuse_port,
            stream: spec.options,
            prepare: spec.prepare.clone(),
        };
        match bind_one(&listen, spec.path, engine) {
            Ok((fd, path)) => return Ok(Bound { fd, network, path }),
            Err(fault) => {
                let place = Some(endpoint.place());
                first.get_or_insert_with(|| Error::new(Op::Listen, Some(network), place, fault));
                if !has_no_ipv6(fault) {
                    break;
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| fail(Cause::MissingAddress)))
}

fn bind_one(
    spec: &ListenSpec,
    rules: PathRules,
    engine: &mut Engine,
) -> Result<(Fd, Option<Owned>), Fault> {
    let (fd, path) = engine.open(|kernel| {
        if rules.repair {
            unix_path::bind_repairing(kernel, &spec.addr, spec.transport, |k| k.listen(spec))
        } else {
            unix_path::bind_noting(kernel, &spec.addr, |k| k.listen(spec))
        }
    })?;
    Ok((fd, path.filter(|_| rules.unlink.unwrap_or(true))))
}

/// What it is bound to: a port, or an abstract name, may be the kernel's choice.
fn own_address(bound: &Bound, engine: &mut Engine) -> Result<Addr, Error> {
    engine.kernel.local_addr(bound.fd).map_err(|errno| {
        let held = Held {
            fd: bound.fd,
            spare: None,
            path: bound.path.clone(),
        };
        held.give_back(engine);
        let call = "getsockname";
        let cause = Cause::Syscall { call, errno };
        Error::new(Op::Listen, Some(bound.network), None, cause)
    })
}

/// A listener made elsewhere. Whoever made its path removes it, unless we were told to.
fn adopt(
    owned: OwnedFd,
    rules: PathRules,
    options: &StreamOptions,
    engine: &mut Engine,
) -> Result<(Bound, Addr), Error> {
    let adopted = engine
        .kernel
        .adopt_listener(owned)
        .map_err(|fault| Error::new(Op::Listen, None, None, fault))?;
    // Where accepted sockets inherit them, this saves five calls for each of them; where it
    // is refused, they are set on each.
    if let Err(errno) = engine.kernel.set_options(adopted.fd, options) {
        log::debug!(target: "windlass::listener", "{}: an option was refused: {errno:?}", adopted.local);
    }
    let ours = rules.unlink.unwrap_or(false);
    let path = ours
        .then(|| unix_path::note(engine.kernel.as_mut(), &adopted.local))
        .flatten();
    let bound = Bound {
        fd: adopted.fd,
        network: adopted.network(),
        path,
    };
    Ok((bound, adopted.local))
}

/// Whether a dual-stack socket failed because this host has no IPv6, so that IPv4 alone is
/// worth a try. A port in use is not such a failure.
pub(crate) fn has_no_ipv6(fault: Fault) -> bool {
    matches!(
        fault.errno.0,
        libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT
    )
}
