//! Connecting out: start, deadline, verdict, racing several addresses, trying again.
//!
//! A dial is one wish to be connected. It looks a name up if it has to, tries the addresses
//! one after the other without waiting for the slow ones (RFC 8305: families take turns, a
//! new attempt every 250 ms or as soon as one fails, the losers keep racing), and ends in
//! exactly one of `on_connect` and `on_dial_error`. Each attempt is a connection that is
//! not connected yet, in a slot and with a registration of its own; the winner keeps both.
//!
//! This room never calls the handler: winners and ends are left on the engine's lists.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::address::{Addr, AddressError, Network, UnixAddr};
use crate::backoff::Backoff;
use crate::config;
use crate::connection::Connection;
use crate::core::Core;
use crate::endpoint::{Endpoint, dial_candidates};
use crate::engine::{Engine, nanos};
use crate::error::{Cause, Error, Op, Place};
use crate::faults::fault;
use crate::fd::{self, Connecting};
use crate::flags::Flags;
use crate::kernel::{
    Adopted, DialSpec, Errno, Event, Fault, Fd, Interest, Keepalive, LookedUp, Prepare, Readiness,
    StreamOptions, Ticket,
};
use crate::layer::Layers;
use crate::options::{self, layer_option, owned_text, prepare_option, stream_options};
use crate::sources::Named;
use crate::timer::{Entry, NEVER, Nanos};
use crate::token::{ConnId, DialId, Kind, Owner, Token};
use crate::unix_path::{self, Owned};

/// Whom to connect to, and how. Made from an address, then adjusted:
///
/// ```no_run
/// # fn main() -> Result<(), windlass::Error> {
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut reactor = windlass::Reactor::new(App)?;
/// use std::time::Duration;
/// use windlass::{Backoff, Dial};
/// reactor.dial("127.0.0.1:3000")?;
/// let dial = Dial::new("tcp://db.internal:5432")?.timeout(Duration::from_secs(3));
/// reactor.dial(dial.reconnect(Backoff::default()))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dial {
    target: Target,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    local: Option<Addr>,
    attempt_delay: Option<Duration>,
    options: StreamOptions,
    prepare: Option<Prepare>,
    layers: Option<Layers>,
    reconnect: Option<Backoff>,
}

#[derive(Clone, Debug)]
enum Target {
    Endpoint(Endpoint),
    /// A connection made elsewhere, and who is at its other end.
    Adopted(Network, Addr),
}

impl Dial {
    /// Connects to an address or a host name: text such as `"127.0.0.1:3000"`,
    /// `"tcp6://[::1]:80"`, `"db.internal:5432"`, `"unix:///run/app.sock"` or
    /// `"unixpacket://@abstract"`, or a typed address. An empty host is this one.
    ///
    /// A Unix listener whose accept queue is full is asked again, every millisecond at first
    /// and every 50 ms later, until there is room or time runs out.
    ///
    /// # Errors
    ///
    /// The text does not parse, or its network has no connections (`udp`, `unixgram`, raw
    /// IP): such sockets are opened with `bind`.
    pub fn new<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<AddressError>,
    {
        match endpoint.try_into() {
            Ok(endpoint) => endpoint.try_into(),
            Err(error) => Err(error.into().into_error(Op::Dial)),
        }
    }

    /// Time for everything: the look-up and all attempts. Default:
    /// [`Config::dial_timeout`](crate::Config::dial_timeout). With
    /// [`reconnect`](Self::reconnect) each new try has as much.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// The same as a point in time; the earlier of the two counts. One that has passed
    /// ends the dial in the next turn, without an attempt. It ends
    /// [`reconnect`](Self::reconnect) as well: no try begins after it.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    /// Our own end. Only addresses of its family are tried, unless it is a wildcard, of
    /// which only the port counts. Port 0 lets the kernel choose.
    ///
    /// A Unix path is bound before the socket connects, must not exist, and is removed again
    /// when the connection ends, if it is still the same socket.
    pub fn local_addr(mut self, addr: impl Into<Addr>) -> Self {
        self.local = Some(addr.into());
        self
    }

    /// Time before the next address is tried beside those that have not answered.
    /// Default: [`Config::attempt_delay`](crate::Config::attempt_delay).
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = Some(delay);
        self
    }

    stream_options!("the connection");

    prepare_option!(prepare);
    layer_option!("the connection, and of each that takes its place");

    fn to(target: Target) -> Self {
        Self {
            target,
            timeout: None,
            deadline: None,
            local: None,
            attempt_delay: None,
            options: options::of_a_stream(),
            prepare: None,
            layers: None,
            reconnect: None,
        }
    }

    /// The IP address that was asked for.
    #[cfg(feature = "tls")]
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        match &self.target {
            Target::Endpoint(endpoint) => endpoint.literal(),
            Target::Adopted(..) => None,
        }
    }

    /// This dial cannot be what was asked for.
    #[cfg(feature = "tls")]
    pub(crate) fn unfit(&self, cause: Cause) -> Error {
        Error::new(Op::Dial, Some(self.network()), Some(self.place()), cause)
    }

    /// The name that has to be looked up first.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.target {
            Target::Endpoint(endpoint) => endpoint.name(),
            Target::Adopted(..) => None,
        }
    }

    fn resolve_zone(&mut self, engine: &mut Engine) -> Result<(), Cause> {
        match &mut self.target {
            Target::Endpoint(endpoint) => {
                endpoint.resolve_zone(|name| engine.kernel.interface_index(name))
            }
            Target::Adopted(..) => Ok(()),
        }
    }

    fn network(&self) -> Network {
        match &self.target {
            Target::Endpoint(endpoint) => endpoint.network(),
            Target::Adopted(network, _) => *network,
        }
    }

    fn place(&self) -> Place {
        match &self.target {
            Target::Endpoint(endpoint) => endpoint.place(),
            Target::Adopted(_, peer) => peer.clone().into(),
        }
    }

    /// Whom to try, best first.
    fn candidates(&self, looked_up: &[IpAddr]) -> Result<VecDeque<Addr>, Cause> {
        match &self.target {
            Target::Endpoint(endpoint) => {
                dial_candidates(endpoint, looked_up, self.local.as_ref()).map(VecDeque::from)
            }
            Target::Adopted(..) => Ok(VecDeque::new()),
        }
    }

    /// Dials again, under the same [`DialId`], when a try fails and when the connection
    /// ends, until [`Context::cancel_dial`](crate::Context::cancel_dial) or a graceful
    /// stop. Default: once.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.reconnect = Some(backoff);
        self
    }
}

/// Fails as [`Dial::new`] does for a network that has no connections.
impl TryFrom<Endpoint> for Dial {
    type Error = Error;

    fn try_from(endpoint: Endpoint) -> Result<Self, Error> {
        endpoint.for_dial()?;
        Ok(Self::to(Target::Endpoint(endpoint)))
    }
}

impl From<SocketAddr> for Dial {
    fn from(addr: SocketAddr) -> Self {
        Self::to(Target::Endpoint(addr.into()))
    }
}

impl TryFrom<&str> for Dial {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

owned_text!(Dial);

/// One dial.
#[derive(Debug)]
pub(crate) struct Dialing {
    token: Token,
    pub(crate) owner: Owner,
    dial: Dial,
    phase: Phase,
    /// When this try ends.
    deadline: Nanos,
    /// When the next address is tried, or the next try begins; once connected, since when.
    next: Nanos,
    waiting: VecDeque<Addr>,
    attempts: Vec<Token>,
    /// What the first attempt that failed said.
    error: Option<Error>,
    /// Attempts made again because the kernel's choice of port was a bad one.
    repeats: u32,
    /// The next wait for room in a full accept queue.
    queue_wait: Duration,
    entry: Option<Entry>,
    in_ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A try is to begin.
    Fresh,
    LookingUp(Ticket),
    Racing,
    /// A connection made elsewhere, of which the handler is to be told.
    Adopted(ConnId),
    /// Over for now: somebody else's turn.
    Connected(ConnId),
    /// The next try begins at `next`.
    BackingOff,
    /// Somebody has had enough; `on_dial_error` is due.
    Canceled,
}

/// The end of a try, for the handler.
#[derive(Debug)]
pub(crate) struct DialEnd {
    pub(crate) dial: DialId,
    pub(crate) owner: Owner,
    pub(crate) error: Error,
    pub(crate) retry_in: Option<Duration>,
}

impl Named for Dialing {
    fn token(&self) -> Token {
        self.token
    }
}

impl Dialing {
    pub(crate) fn id(&self) -> DialId {
        DialId::new(self.token)
    }

    fn make_ready(&mut self, engine: &mut Engine) {
        if !self.in_ready {
            self.in_ready = true;
            engine.ready.push(self.token);
        }
    }

    /// Has the wheel look at this dial at its next point in time.
    fn arm(&mut self, engine: &mut Engine) {
        let at = self.due();
        match self.entry {
            None if at != NEVER => self.entry = Some(engine.wheel.insert(at, self.token)),
            Some(entry) if at != NEVER => engine.wheel.refile(entry, at),
            Some(entry) => {
                engine.wheel.cancel(entry);
                self.entry = None;
            }
            None => {}
        }
    }

    /// When the wheel must look at this dial; `NEVER` while something else will.
    fn due(&self) -> Nanos {
        match self.phase {
            Phase::Racing | Phase::LookingUp(_) => self.deadline.min(self.next),
            Phase::BackingOff => self.next,
            Phase::Fresh | Phase::Adopted(_) | Phase::Connected(_) | Phase::Canceled => NEVER,
        }
    }

    /// Whether the wheel will look at this dial in time.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let at = self.due();
        let filed = self.entry.map_or(NEVER, |entry| engine.wheel.at(entry));
        filed <= at || self.in_ready
    }

    fn place(&self) -> Place {
        self.dial.place()
    }

    fn network(&self) -> Network {
        self.dial.network()
    }

    fn error_at(&self, place: impl Into<Place>, cause: impl Into<Cause>) -> Error {
        let error = Error::new(Op::Dial, Some(self.network()), Some(place.into()), cause);
        match &self.dial.local {
            Some(local) => error.with_source(local.clone()),
            None => error,
        }
    }

    /// An error without a place, as Go's are when it is the text or the name that is wrong.
    fn bare_error(&self, cause: Cause) -> Error {
        Error::new(Op::Dial, Some(self.network()), None, cause)
    }

    fn begin(&mut self, engine: &mut Engine) {
        let timeout = self.dial.timeout.unwrap_or(engine.config.dial_timeout);
        let relative = engine.clock.nanos.saturating_add(nanos(timeout));
        self.deadline = relative.min(engine.clock.deadline(self.dial.deadline));
        self.next = NEVER;
        self.waiting.clear();
        self.error = None;
        self.repeats = 0;
        self.queue_wait = config::RETRY_FIRST;
    }

    fn spec(&self, remote: &Addr) -> DialSpec {
        DialSpec {
            remote: remote.clone(),
            transport: self.network().transport(),
            local: self.dial.local.clone(),
            stream: self.dial.options,
            prepare: self.dial.prepare.clone(),
        }
    }

    /// A socket for one attempt, and the path that our own end was bound to.
    fn open(&self, remote: &Addr, engine: &mut Engine) -> Result<(Fd, Option<Owned>), Fault> {
        let spec = self.spec(remote);
        engine.open(|kernel| match &spec.local {
            Some(local) => unix_path::bind_noting(kernel, local, |kernel| kernel.socket(&spec)),
            None => kernel.socket(&spec).map(|fd| (fd, None)),
        })
    }

    /// Whether the kernel chose our port, so that another try would get another one.
    fn may_repeat(&self) -> bool {
        let chosen = self
            .dial
            .local
            .as_ref()
            .is_none_or(|local| local.port() == Some(0));
        chosen && self.repeats < config::PORT_REPEATS
    }

    fn note_error(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

impl Core {
    /// A dial; what becomes of it is told by callbacks of later turns.
    pub(crate) fn dial(&mut self, dial: Dial, owner: Owner) -> Result<DialId, Error> {
        let network = dial.network();
        let made = self.dials.insert(|token| Dialing {
            token,
            owner,
            dial,
            phase: Phase::Fresh,
            deadline: NEVER,
            next: NEVER,
            waiting: VecDeque::new(),
            attempts: Vec::new(),
            error: None,
            repeats: 0,
            queue_wait: config::RETRY_FIRST,
            entry: None,
            in_ready: false,
        });
        let Some(token) = made else {
            let cause = Cause::Invalid("too many dials".to_owned());
            return Err(Error::new(Op::Dial, Some(network), None, cause));
        };
        if let Some(dialing) = self.dials.get_mut(token) {
            dialing.make_ready(&mut self.engine);
        }
        Ok(DialId::new(token))
    }

    /// A connection made elsewhere: a dial that has nothing left to do but to be told.
    pub(crate) fn adopt(&mut self, fd: OwnedFd, owner: Owner) -> Result<DialId, Error> {
        let adopted = self.engine.kernel.adopt_stream(fd);
        let adopted = adopted.map_err(|fault| Error::new(Op::Dial, None, None, fault))?;
        let peer = adopted.peer.clone().unwrap_or(UNNAMED);
        let network = adopted.network();
        let made = self.dial(Dial::to(Target::Adopted(network, peer.clone())), owner);
        let conn = made.as_ref().ok().and_then(|dial| {
            let Self { conns, engine, .. } = self;
            let Adopted { fd, transport, .. } = adopted;
            let dial = dial.token();
            conns.insert(|conn| Connection::dialed(conn, fd, peer, transport, dial, owner, engine))
        });
        match (made, conn) {
            (Ok(id), Some(conn)) => {
                if let Some(dialing) = self.dials.get_mut(id.token()) {
                    dialing.phase = Phase::Adopted(ConnId::new(conn));
                }
                Ok(id)
            }
            (made, _) => {
                self.engine.kernel.close(adopted.fd);
                let id = made?;
                self.drop_dial(id.token());
                let why = Cause::Invalid("too many connections".to_owned());
                Err(Error::new(Op::Dial, Some(network), None, why))
            }
        }
    }

    /// Ends a dial, and its reconnecting. Its connection, if it has one, is not touched.
    pub(crate) fn cancel_dial(&mut self, id: DialId) -> bool {
        let Some(dialing) = self.dials.get_mut(id.token()) else {
            return false;
        };
        match dialing.phase {
            Phase::Canceled => return false,
            // Until the handler has been told, the cancel wins.
            Phase::Connected(conn) | Phase::Adopted(conn)
                if self.conns.get(conn.token()).is_some_and(is_attempt) =>
            {
                dialing.phase = Phase::Canceled;
                dialing.make_ready(&mut self.engine);
                self.drop_attempt(conn.token());
            }
            Phase::Connected(_) | Phase::Adopted(_) | Phase::BackingOff => {
                self.drop_dial(id.token());
            }
            Phase::Fresh | Phase::LookingUp(_) | Phase::Racing => {
                dialing.phase = Phase::Canceled;
                dialing.make_ready(&mut self.engine);
            }
        }
        true
    }

    /// The wheel has let go of this dial: its time has come.
    pub(crate) fn dial_due(&mut self, token: Token) {
        if let Some(dialing) = self.dials.get_mut(token) {
            dialing.entry = None;
        }
        self.step_dial(token);
    }

    /// It came off the ready list.
    pub(crate) fn serve_dial(&mut self, token: Token) {
        if let Some(dialing) = self.dials.get_mut(token) {
            dialing.in_ready = false;
        }
        self.step_dial(token);
    }

    /// Whatever is to be done now.
    fn step_dial(&mut self, token: Token) {
        let Some(dialing) = self.dials.get_mut(token) else {
            return;
        };
        let now = self.engine.clock.nanos;
        match dialing.phase {
            Phase::Canceled => self.end_try(token, Cause::Canceled),
            Phase::Fresh => self.begin_try(token),
            Phase::Adopted(conn) => self.begin_adopted(token, conn.token()),
            Phase::BackingOff if dialing.next <= now => self.begin_try(token),
            Phase::LookingUp(_) | Phase::Racing
                if dialing.deadline <= now && !fault!(DialDeadlineIgnored) =>
            {
                self.end_try(token, Cause::Timeout);
            }
            Phase::Racing => self.race(token),
            Phase::LookingUp(_) | Phase::BackingOff | Phase::Connected(_) => {
                dialing.arm(&mut self.engine);
            }
        }
    }

    fn begin_try(&mut self, token: Token) {
        let Self { dials, engine, .. } = self;
        let Some(dialing) = dials.get_mut(token) else {
            return;
        };
        dialing.begin(engine);
        if engine.stopping() {
            return self.end_try(token, Cause::Canceled);
        }
        if dialing.deadline <= engine.clock.nanos {
            return self.end_try(token, Cause::Timeout);
        }
        if let Err(cause) = dialing.dial.resolve_zone(engine) {
            return self.fail_try(token, cause);
        }
        let Some(name) = dialing.dial.name() else {
            return self.resolved(token, &[]);
        };
        if engine.lookups.len() >= engine.config.max_lookups {
            let why = "too many look-ups are under way".to_owned();
            let cause = Cause::Lookup {
                name: name.to_owned(),
                why,
            };
            return self.fail_try(token, cause);
        }
        let ticket = engine.ticket(token);
        engine.kernel.look_up(ticket, name);
        dialing.phase = Phase::LookingUp(ticket);
        dialing.arm(engine);
    }

    /// Answers of the resolver, to whoever still waits for them.
    #[inline]
    pub(crate) fn take_lookups(&mut self) {
        if !self.engine.lookups.is_empty() {
            self.take_answers();
        }
    }

    fn take_answers(&mut self) {
        let mut answers = Vec::new();
        self.engine.kernel.looked_up(&mut answers);
        for LookedUp { ticket, addresses } in answers {
            let Some(token) = self.engine.redeem(ticket) else {
                continue;
            };
            if token.kind() == Some(Kind::Socket) {
                self.peer_looked_up(token, ticket, addresses);
                continue;
            }
            let waits = |dialing: &Dialing| dialing.phase == Phase::LookingUp(ticket);
            let Some(dialing) = self.dials.get(token).filter(|dialing| waits(dialing)) else {
                continue;
            };
            match addresses {
                Ok(addresses) => self.resolved(token, &addresses),
                Err(error) => {
                    let name = dialing.dial.name().unwrap_or_default().to_owned();
                    self.fail_try(token, Cause::lookup(name, &error));
                }
            }
        }
    }

    /// The addresses are known: the race begins.
    fn resolved(&mut self, token: Token, looked_up: &[IpAddr]) {
        let Some(dialing) = self.dials.get_mut(token) else {
            return;
        };
        match dialing.dial.candidates(looked_up) {
            Ok(candidates) => {
                dialing.waiting = candidates;
                dialing.phase = Phase::Racing;
                dialing.next = self.engine.clock.nanos;
                self.race(token);
            }
            Err(cause) => self.fail_try(token, cause),
        }
    }

    /// Tries the next address if its time has come; ends the try if there is nothing left
    /// to try or to wait for.
    fn race(&mut self, token: Token) {
        while let Some(remote) = self.next_address(token) {
            let tried = self.attempt(token, remote);
            let Self { dials, engine, .. } = self;
            if tried && let Some(dialing) = dials.get_mut(token) {
                let delay = dialing.dial.attempt_delay;
                let delay = nanos(delay.unwrap_or(engine.config.attempt_delay)).max(1);
                dialing.next = engine.clock.nanos.saturating_add(delay);
            }
        }
    }

    /// The address to be tried now. `None`: not now, and who looks again is arranged.
    fn next_address(&mut self, token: Token) -> Option<Addr> {
        let Self { dials, engine, .. } = self;
        let dialing = dials.get_mut(token)?;
        if dialing.phase != Phase::Racing {
            return None;
        }
        if dialing.waiting.is_empty() {
            dialing.next = NEVER;
            if dialing.attempts.is_empty() {
                self.end_try(token, Cause::MissingAddress);
            } else {
                dialing.arm(engine);
            }
            return None;
        }
        if dialing.next > engine.clock.nanos {
            dialing.arm(engine);
            return None;
        }
        dialing.waiting.pop_front()
    }

    /// One attempt. `false`: it has failed already, so the next address need not wait.
    fn attempt(&mut self, token: Token, remote: Addr) -> bool {
        let Self { dials, engine, .. } = self;
        let Some(dialing) = dials.get_mut(token) else {
            return false;
        };
        let (fd, path) = match dialing.open(&remote, engine) {
            Ok(opened) => opened,
            Err(fault) => {
                let error = dialing.error_at(remote, fault);
                dialing.note_error(error);
                return false;
            }
        };
        // Connect first, register after: an unconnected socket reports a hang-up.
        let started = fd::connect(engine.kernel.as_mut(), fd, &remote);
        if let Connecting::Failed(_) | Connecting::QueueFull = started {
            close_unused(fd, path.as_ref(), engine);
        }
        match started {
            Connecting::Failed(errno) => self.connect_failed(token, remote, errno),
            Connecting::QueueFull => self.queue_full(token, remote),
            Connecting::Pending | Connecting::Done => {
                let Some(conn) = self.admit_attempt(token, fd, path, &remote) else {
                    return false;
                };
                if started == Connecting::Done {
                    self.win(token, conn, remote, Readiness::default());
                }
                return true;
            }
        }
        false
    }

    /// An attempt that is under way gets a slot, and the kernel reports on it.
    fn admit_attempt(
        &mut self,
        token: Token,
        fd: Fd,
        path: Option<Owned>,
        remote: &Addr,
    ) -> Option<Token> {
        let Self {
            dials,
            conns,
            engine,
            ..
        } = self;
        let dialing = dials.get_mut(token)?;
        let (owner, transport) = (dialing.owner, dialing.network().transport());
        let peer = remote.clone();
        let made = conns
            .insert(|conn| Connection::dialed(conn, fd, peer, transport, token, owner, engine));
        let Some(conn) = made else {
            close_unused(fd, path.as_ref(), engine);
            let why = Cause::Invalid("too many connections".to_owned());
            let error = dialing.error_at(remote.clone(), why);
            dialing.note_error(error);
            return None;
        };
        if let (Some(path), Some(made)) = (path, conns.get_mut(conn)) {
            made.owns(path, engine);
        }
        if let Err(errno) = engine.kernel.register(fd, conn, Interest::ReadWrite) {
            let error = dialing.error_at(remote.clone(), errno);
            dialing.note_error(error);
            self.drop_attempt(conn);
            return None;
        }
        dialing.attempts.push(conn);
        Some(conn)
    }

    /// Nobody announces room in the accept queue of a Unix listener: the same address again,
    /// later. An error says nothing that the end of the time would not say better.
    fn queue_full(&mut self, token: Token, remote: Addr) {
        let Self { dials, engine, .. } = self;
        let Some(dialing) = dials.get_mut(token) else {
            return;
        };
        let wait = dialing.queue_wait;
        dialing.queue_wait = wait.saturating_mul(2).min(config::RETRY_MOST);
        dialing.next = engine.clock.nanos.saturating_add(nanos(wait));
        dialing.waiting.push_front(remote);
    }

    /// A connection made elsewhere: its reports begin, and the handler is told in this turn.
    fn begin_adopted(&mut self, token: Token, conn: Token) {
        let Self {
            dials,
            conns,
            engine,
            ..
        } = self;
        let (Some(dialing), Some(made)) = (dials.get_mut(token), conns.get_mut(conn)) else {
            return;
        };
        made.set(Flags::ELSEWHERE);
        let refused = if engine.stopping() {
            Some(Cause::Canceled)
        } else {
            let registered = engine.kernel.register(made.fd(), conn, Interest::ReadWrite);
            registered.err().map(Cause::Errno)
        };
        if let Some(cause) = refused {
            let error = dialing.error_at(dialing.place(), cause);
            self.drop_attempt(conn);
            return self.report_end(token, error);
        }
        dialing.phase = Phase::Connected(ConnId::new(conn));
        dialing.next = engine.clock.nanos;
        engine.connected.push(conn);
    }

    /// The kernel has something to say about an attempt.
    pub(crate) fn judge(&mut self, event: Event) {
        let conn = event.token;
        let Some((fd, dial, remote)) = self
            .conns
            .get(conn)
            .map(|made| (made.fd(), made.origin, made.peer()))
        else {
            return;
        };
        // The cancel has won: the ready list owes this dial its end, and drops the attempt.
        if self
            .dials
            .get(dial)
            .is_some_and(|dialing| dialing.phase == Phase::Canceled)
            && !fault!(CanceledDialConnects)
        {
            return;
        }
        match fd::connected(self.engine.kernel.as_mut(), fd) {
            fd::Verdict::Pending => {}
            fd::Verdict::Connected(peer) => self.win(dial, conn, peer, event.ready),
            fd::Verdict::Failed(errno) => {
                self.drop_attempt(conn);
                if let Some(dialing) = self.dials.get_mut(dial) {
                    dialing.attempts.retain(|&attempt| attempt != conn);
                    // The next address does not wait for its time.
                    dialing.next = self.engine.clock.nanos;
                }
                self.connect_failed(dial, remote, errno);
                self.race(dial);
            }
        }
    }

    /// An attempt has its errno. A bad choice of port by the kernel is worth another one.
    fn connect_failed(&mut self, token: Token, remote: Addr, errno: Errno) {
        let Some(dialing) = self.dials.get_mut(token) else {
            return;
        };
        if errno.0 == libc::EADDRNOTAVAIL && dialing.may_repeat() {
            dialing.repeats += 1;
            dialing.waiting.push_front(remote);
            return;
        }
        let call = "connect";
        let error = dialing.error_at(remote, Cause::Syscall { call, errno });
        dialing.note_error(error);
    }

    /// The first attempt that is connected ends the race; nothing was sent on the others.
    /// Unless it was connected to itself, which is nobody.
    fn win(&mut self, token: Token, conn: Token, peer: Addr, ready: Readiness) {
        if self.is_self_connected(conn, &peer) && self.repeat_self_connect(token, conn, &peer) {
            return;
        }
        let Some(dialing) = self.dials.get_mut(token) else {
            return self.drop_attempt(conn);
        };
        if !fault!(WinnerStillRaces) {
            dialing.phase = Phase::Connected(ConnId::new(conn));
        }
        dialing.arm(&mut self.engine);
        // From here on: since when it is connected.
        dialing.next = self.engine.clock.nanos;
        for loser in std::mem::take(&mut dialing.attempts) {
            if loser != conn && !fault!(LoserKept) {
                self.drop_attempt(loser);
            }
        }
        if let Some(made) = self.conns.get_mut(conn) {
            made.connected(peer, ready, &mut self.engine);
        }
        self.engine.connected.push(conn);
    }

    /// TCP alone connects to itself; the rest need not be asked.
    fn is_self_connected(&mut self, conn: Token, peer: &Addr) -> bool {
        let Self { conns, engine, .. } = self;
        conns
            .get(conn)
            .filter(|_| peer.as_socket_addr().is_some())
            .is_some_and(|made| engine.kernel.local_addr(made.fd()).as_ref() == Ok(peer))
    }

    fn repeat_self_connect(&mut self, token: Token, conn: Token, peer: &Addr) -> bool {
        let Some(dialing) = self
            .dials
            .get_mut(token)
            .filter(|dialing| dialing.may_repeat())
        else {
            return false;
        };
        dialing.repeats += 1;
        dialing.attempts.retain(|&attempt| attempt != conn);
        dialing.waiting.push_back(peer.clone());
        dialing.next = self.engine.clock.nanos;
        dialing.make_ready(&mut self.engine);
        self.drop_attempt(conn);
        true
    }

    /// This try is over. An earlier error is the better answer than that time ran out.
    fn end_try(&mut self, token: Token, cause: Cause) {
        let Some(dialing) = self.dials.get_mut(token) else {
            return;
        };
        let first = dialing.error.take();
        let error = match cause {
            Cause::Canceled => dialing.error_at(dialing.place(), cause),
            Cause::MissingAddress => first.unwrap_or_else(|| dialing.bare_error(cause)),
            _ => {
                let tried = dialing
                    .attempts
                    .first()
                    .and_then(|&conn| self.conns.get(conn));
                let place = tried.map_or_else(|| dialing.place(), |conn| conn.peer().into());
                first.unwrap_or_else(|| dialing.error_at(place, cause.clone()))
            }
        };
        self.report_end(token, error);
    }

    fn fail_try(&mut self, token: Token, cause: Cause) {
        if let Some(dialing) = self.dials.get(token) {
            let error = dialing.bare_error(cause);
            self.report_end(token, error);
        }
    }

    fn report_end(&mut self, token: Token, error: Error) {
        let Self { dials, engine, .. } = self;
        let Some(dialing) = dials.get_mut(token) else {
            return;
        };
        let now = engine.clock.nanos;
        let expired = engine.clock.deadline(dialing.dial.deadline) <= now;
        let goes_on = dialing.phase != Phase::Canceled && !engine.stopping() && !expired;
        let backoff = dialing.dial.reconnect.as_mut().filter(|_| goes_on);
        let retry_in = backoff.map(|backoff| backoff.next(engine.kernel.random()));
        engine.stats.dial_errors += 1;
        let end = DialEnd {
            dial: dialing.id(),
            owner: dialing.owner,
            error,
            retry_in,
        };
        let ends = Some(end).filter(|_| !fault!(DialErrorForgotten));
        engine.dial_ends.extend(ends);
        let attempts = std::mem::take(&mut dialing.attempts);
        match retry_in {
            Some(wait) => self.back_off(token, wait),
            None => self.drop_dial(token),
        }
        for attempt in attempts {
            self.drop_attempt(attempt);
        }
    }

    fn back_off(&mut self, token: Token, wait: Duration) {
        let Self { dials, engine, .. } = self;
        if let Some(dialing) = dials.get_mut(token) {
            dialing.phase = Phase::BackingOff;
            dialing.next = engine.clock.nanos.saturating_add(nanos(wait));
            if !fault!(RetryForgotten) {
                dialing.arm(engine);
            }
        }
    }

    /// A dialed connection has ended: the dial goes on if it was asked to.
    pub(crate) fn dialed_ended(&mut self, token: Token, conn: ConnId) {
        let Self { dials, engine, .. } = self;
        let Some(dialing) = dials
            .get_mut(token)
            .filter(|dialing| dialing.phase == Phase::Connected(conn))
        else {
            return;
        };
        let stopping = engine.stopping();
        match dialing.dial.reconnect.as_mut().filter(|_| !stopping) {
            Some(backoff) => {
                // A connection that did not last as long as the wait due now is no success:
                // a server that accepts and hangs up is not to be stormed.
                let lived = engine.clock.nanos.saturating_sub(dialing.next);
                if lived >= nanos(backoff.due()) {
                    backoff.reset();
                }
                let wait = backoff.next(engine.kernel.random());
                self.back_off(token, wait);
            }
            None => self.drop_dial(token),
        }
    }

    /// What layer the dial's connection is to have. To be asked before the handler is told,
    /// who may cancel the dial.
    pub(crate) fn dial_layers(&self, token: Token) -> Option<Layers> {
        self.dials.get(token)?.dial.layers.clone()
    }

    /// The handler has its connection; a dial that was for once is over.
    pub(crate) fn dial_told(&mut self, token: Token) {
        if self
            .dials
            .get(token)
            .is_some_and(|dialing| dialing.dial.reconnect.is_none())
        {
            self.drop_dial(token);
        }
    }

    /// No new tries, and an end for those under way.
    pub(crate) fn cancel_all_dials(&mut self) {
        if fault!(DialsOutliveStop) {
            return;
        }
        for index in 0..self.dials.end() {
            if let Some(token) = self.dials.token_at(index) {
                self.cancel_dial(DialId::new(token));
            }
        }
    }

    fn drop_dial(&mut self, token: Token) {
        if let Some(dialing) = self.dials.remove(token)
            && let Some(entry) = dialing.entry
        {
            self.engine.wheel.cancel(entry);
        }
    }

    /// An attempt that came to nothing.
    fn drop_attempt(&mut self, conn: Token) {
        if fault!(AttemptNotClosed) {
            return self.conns.vacate(conn);
        }
        self.drop_conn(conn);
    }
}

/// The path goes first, as everywhere.
fn close_unused(fd: Fd, path: Option<&Owned>, engine: &mut Engine) {
    if let Some(path) = path {
        unix_path::remove_if_ours(engine.kernel.as_mut(), path);
    }
    engine.kernel.close(fd);
}

const UNNAMED: Addr = Addr::Unix(UnixAddr::UNNAMED);

/// Whether this connection is an attempt that has not been decided.
fn is_attempt(conn: &Connection) -> bool {
    conn.has(Flags::CONNECTING)
}
