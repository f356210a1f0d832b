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
use std::time::{Duration, Instant};

use crate::address::{Addr, AddressError, Network};
use crate::backoff::Backoff;
use crate::config;
use crate::connection::{Connection, Flags};
use crate::core::Core;
use crate::endpoint::{Endpoint, dial_candidates};
use crate::engine::{Engine, nanos};
use crate::error::{Cause, Error, Op, Place};
use crate::fd::{self, Connecting};
use crate::kernel::{
    DialSpec, Errno, Event, Interest, Keepalive, LookedUp, Readiness, StreamOptions, Ticket,
};
use crate::timer::{Entry, NEVER, Nanos};
use crate::token::{ConnId, DialId, Kind, Owner, Token};

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
    endpoint: Endpoint,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    local: Option<Addr>,
    attempt_delay: Option<Duration>,
    options: StreamOptions,
    reconnect: Option<Backoff>,
}

impl Dial {
    /// Connects to an address or a host name: text such as `"127.0.0.1:3000"`,
    /// `"tcp6://[::1]:80"` or `"db.internal:5432"`, or a typed address. An empty host is
    /// this one.
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

    fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            timeout: None,
            deadline: None,
            local: None,
            attempt_delay: None,
            options: StreamOptions {
                nodelay: Some(true),
                keepalive: Some(Keepalive::default()),
                receive_buffer: None,
                send_buffer: None,
            },
            reconnect: None,
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

    /// TCP_NODELAY. Default: on, as in Go.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.nodelay = Some(on);
        self
    }

    /// Keep-alive probing. Default: [`Keepalive::default`].
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.options.keepalive = keepalive;
        self
    }

    /// SO_RCVBUF, in bytes; the kernel rounds. Default: the system's.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.options.receive_buffer = Some(bytes);
        self
    }

    /// SO_SNDBUF, in bytes; the kernel rounds. Default: the system's.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.options.send_buffer = Some(bytes);
        self
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
        Ok(Self::to(endpoint))
    }
}

impl From<SocketAddr> for Dial {
    fn from(addr: SocketAddr) -> Self {
        Self::to(addr.into())
    }
}

impl TryFrom<&str> for Dial {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Dial {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text.as_str())
    }
}

impl TryFrom<&String> for Dial {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self, Error> {
        Self::new(text.as_str())
    }
}

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
    entry: Option<Entry>,
    in_ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A try is to begin.
    Fresh,
    LookingUp(Ticket),
    Racing,
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
            Phase::Fresh | Phase::Connected(_) | Phase::Canceled => NEVER,
        }
    }

    /// Whether the wheel will look at this dial in time.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let at = self.due();
        let filed = self.entry.map_or(NEVER, |entry| engine.wheel.at(entry));
        filed <= at || self.in_ready
    }

    fn place(&self) -> Place {
        self.dial.endpoint.place()
    }

    fn network(&self) -> Network {
        self.dial.endpoint.network()
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

    fn begin(&mut self, engine: &Engine) {
        let timeout = self.dial.timeout.unwrap_or(engine.config.dial_timeout);
        let relative = engine.clock.nanos.saturating_add(nanos(timeout));
        self.deadline = relative.min(engine.clock.deadline(self.dial.deadline));
        self.next = NEVER;
        self.waiting.clear();
        self.error = None;
        self.repeats = 0;
    }

    fn spec(&self, remote: &Addr) -> DialSpec {
        DialSpec {
            remote: remote.clone(),
            transport: self.network().transport(),
            local: self.dial.local.clone(),
            stream: self.dial.options,
        }
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
        let network = dial.endpoint.network();
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

    /// Ends a dial, and its reconnecting. Its connection, if it has one, is not touched.
    pub(crate) fn cancel_dial(&mut self, id: DialId) -> bool {
        let Some(dialing) = self.dials.get_mut(id.token()) else {
            return false;
        };
        match dialing.phase {
            Phase::Canceled => return false,
            // Until the handler has been told, the cancel wins.
            Phase::Connected(conn) if self.conns.get(conn.token()).is_some_and(is_attempt) => {
                dialing.phase = Phase::Canceled;
                dialing.make_ready(&mut self.engine);
                self.drop_attempt(conn.token());
            }
            Phase::Connected(_) | Phase::BackingOff => self.drop_dial(id.token()),
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
            Phase::BackingOff if dialing.next <= now => self.begin_try(token),
            Phase::LookingUp(_) | Phase::Racing if dialing.deadline <= now => {
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
        let endpoint = &mut dialing.dial.endpoint;
        if let Err(cause) = endpoint.resolve_zone(|name| engine.kernel.interface_index(name)) {
            return self.fail_try(token, cause);
        }
        let Some(name) = endpoint.name() else {
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
    pub(crate) fn take_lookups(&mut self) {
        if self.engine.lookups.is_empty() {
            return;
        }
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
                    let name = dialing.dial.endpoint.name().unwrap_or_default().to_owned();
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
        let local = dialing.dial.local.as_ref();
        match dial_candidates(&dialing.dial.endpoint, looked_up, local) {
            Ok(candidates) => {
                dialing.waiting = candidates.into();
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
        let Self {
            dials,
            conns,
            engine,
            ..
        } = self;
        let Some(dialing) = dials.get_mut(token) else {
            return false;
        };
        let fd = match engine.kernel.socket(&dialing.spec(&remote)) {
            Ok(fd) => fd,
            Err(fault) => {
                let error = dialing.error_at(remote, fault);
                dialing.note_error(error);
                return false;
            }
        };
        // Connect first, register after: an unconnected socket reports a hang-up.
        let started = fd::connect(engine.kernel.as_mut(), fd, &remote);
        if let Connecting::Failed(errno) = started {
            engine.kernel.close(fd);
            self.connect_failed(token, remote, errno);
            return false;
        }
        let owner = dialing.owner;
        let peer = remote.clone();
        let made = conns.insert(|conn| Connection::dialed(conn, fd, peer, token, owner, engine));
        let Some(conn) = made else {
            engine.kernel.close(fd);
            let why = "too many connections".to_owned();
            let error = dialing.error_at(remote, Cause::Invalid(why));
            dialing.note_error(error);
            return false;
        };
        if let Err(errno) = engine.kernel.register(fd, conn, Interest::ReadWrite) {
            let error = dialing.error_at(remote, errno);
            dialing.note_error(error);
            self.drop_attempt(conn);
            return false;
        }
        dialing.attempts.push(conn);
        if started == Connecting::Done {
            self.win(token, conn, remote, Readiness::default());
        }
        true
    }

    /// The kernel has something to say about an attempt.
    pub(crate) fn judge(&mut self, event: Event) {
        let conn = event.token;
        let Some((fd, dial, remote)) = self
            .conns
            .get(conn)
            .map(|made| (made.fd(), made.origin, made.peer.clone()))
        else {
            return;
        };
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
        dialing.phase = Phase::Connected(ConnId::new(conn));
        dialing.arm(&mut self.engine);
        // From here on: since when it is connected.
        dialing.next = self.engine.clock.nanos;
        for loser in std::mem::take(&mut dialing.attempts) {
            if loser != conn {
                self.drop_attempt(loser);
            }
        }
        if let Some(made) = self.conns.get_mut(conn) {
            made.connected(peer, ready, &self.engine);
        }
        self.engine.connected.push(conn);
    }

    fn is_self_connected(&mut self, conn: Token, peer: &Addr) -> bool {
        let Self { conns, engine, .. } = self;
        conns
            .get(conn)
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
                let place = tried.map_or_else(|| dialing.place(), |conn| conn.peer.clone().into());
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
        engine.dial_ends.push(DialEnd {
            dial: dialing.id(),
            owner: dialing.owner,
            error,
            retry_in,
        });
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
            dialing.arm(engine);
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
        if let Some(conn) = self.conns.remove(conn) {
            conn.retire(&mut self.engine);
        }
    }
}

/// Whether this connection is an attempt that has not been decided.
fn is_attempt(conn: &Connection) -> bool {
    conn.has(Flags::CONNECTING)
}
