//! One datagram socket: how it receives within a budget, sends from a bounded queue, and
//! keeps its deadlines.
//!
//! Edge-triggered like everything else. Who starts again what has stopped:
//!
//! | stopped because | started again by |
//! |---|---|
//! | nothing has come, or the kernel takes no more | the kernel's next report |
//! | the budget of the turn is spent | the ready list |
//! | the kernel is short of memory, error follows error, or a Unix receiver is full | a timer of at most [`RETRY_MOST`](config::RETRY_MOST) |
//! | `pause` | `resume` |
//!
//! The last two keep what of a merged arrival was not handed out, in `kept`.
//!
//! This room never calls the handler. It leaves notes that the reactor turns into callbacks.

use std::net::IpAddr;
use std::time::Duration;

use crate::address::{Addr, Network};
use crate::config;
use crate::datagram::{BindOptions, Delivery, DropPolicy, SocketStats};
use crate::engine::{Engine, SocketReport, nanos};
use crate::error::{Cause, Error, Op};
use crate::faults::fault;
use crate::fd::{self, Arrived, Posted};
use crate::handler::Deadline;
use crate::kernel::{
    Batch, Errno, Event, Fd, MAX_PACKETS, Packet, PacketOption, Readiness, Ticket, Transport,
};
use crate::merged::Merged;
use crate::packet_open::{Opened, Opening};
use crate::packet_queue::PacketQueue;
use crate::sources::Named;
use crate::timer::{Entry, NEVER, Nanos};
use crate::token::{Owner, SocketId, Token};
use crate::unix_path::{self, Owned};

/// Send calls of one flush to Unix receivers, each with one datagram: as many datagrams as
/// any other socket may send.
const EACH_CALLS: usize = config::FLUSH_CALLS as usize * MAX_PACKETS;

/// Turns are counted from one.
const NO_TURN: u64 = 0;

/// One datagram socket.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    pub(crate) token: Token,
    pub(crate) owner: Owner,
    /// `None` while the name of the other end is being looked up.
    fd: Option<Fd>,
    network: Network,
    local: Option<Addr>,
    remote: Option<Addr>,
    /// What is left to be done once that name is known.
    opening: Option<Box<Opening>>,
    state: State,
    /// The kernel may hand out several datagrams as one.
    merges: bool,
    /// What of them was fetched, and not handed out yet.
    kept: Option<Box<Merged>>,
    queue: PacketQueue,
    /// Unless the loop's limit holds.
    queue_limit: Option<usize>,
    drop_policy: DropPolicy,
    pub(crate) stats: SocketStats,
    read_deadline: Nanos,
    write_deadline: Nanos,
    /// When sending, or receiving, is tried again although no report came.
    retry_at: Nanos,
    retry_after: Duration,
    /// The end of the linger time, once `close` was called; of the look-up, before it is open.
    ends_at: Nanos,
    /// The path that goes when the socket does.
    path: Option<Owned>,
    entry: Option<Entry>,
    errors_in_a_row: u32,
    /// Sends that failed for an earlier one's sake, without one in between that left.
    refused_in_a_row: u32,
    /// Unix receivers that were full when they were last asked.
    full: Vec<Addr>,
    /// Datagrams at the front of the queue that are all for them.
    held: usize,
    /// The last turn in which an error was told.
    error_told_in: u64,
}

/// What is true of a socket, and which lists it is on.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    readable: bool,
    writable: bool,
    /// An error was announced, so a short batch has not drained the socket.
    error_seen: bool,
    paused: bool,
    closing: bool,
    dead: bool,
    /// A datagram was dropped for want of room; `on_socket_writable` is owed.
    full: bool,
    /// `on_socket_writable` is due.
    drained: bool,
    /// Sending goes on when the timer fires, and not earlier.
    send_waits: bool,
    /// So does receiving.
    receive_waits: bool,
    /// A deadline was set that had passed.
    due: bool,
    in_ready: bool,
    in_unflushed: bool,
}

impl Named for PacketSocket {
    fn token(&self) -> Token {
        self.token
    }
}

impl PacketSocket {
    pub(crate) fn new(token: Token, owner: Owner, network: Network, options: &BindOptions) -> Self {
        Self {
            token,
            owner,
            fd: None,
            network,
            local: None,
            remote: None,
            opening: None,
            state: State {
                writable: true,
                ..State::default()
            },
            merges: false,
            kept: None,
            queue: PacketQueue::default(),
            queue_limit: options.queue_limit,
            drop_policy: options.drop_policy,
            stats: SocketStats::default(),
            read_deadline: NEVER,
            write_deadline: NEVER,
            retry_at: NEVER,
            retry_after: config::RETRY_FIRST,
            ends_at: NEVER,
            path: None,
            entry: None,
            errors_in_a_row: 0,
            refused_in_a_row: 0,
            full: Vec::new(),
            held: 0,
            error_told_in: NO_TURN,
        }
    }

    // Opening.

    /// The socket is there.
    pub(crate) fn opened(&mut self, opened: Opened, engine: &Engine) {
        self.merges = engine.kernel.merges(opened.fd);
        self.fd = Some(opened.fd);
        self.local = Some(opened.local);
        self.remote = opened.remote;
        self.path = opened.path;
    }

    /// It will be, once a name is known; or at that time it will not.
    pub(crate) fn waits_for_name(&mut self, opening: Opening, until: Nanos, engine: &mut Engine) {
        self.opening = Some(Box::new(opening));
        self.ends_at = until;
        self.arm(engine);
    }

    /// The name is known, or nobody knows it.
    pub(crate) fn take_opening(&mut self, ticket: Ticket) -> Option<Box<Opening>> {
        let opening = self.opening.take_if(|opening| opening.ticket == ticket)?;
        self.ends_at = NEVER;
        Some(opening)
    }

    /// There will be no socket.
    pub(crate) fn could_not_open(&mut self, error: Error, engine: &mut Engine) {
        self.stats.errors += 1;
        self.tell(error, engine);
        self.die(engine);
    }

    pub(crate) fn id(&self) -> SocketId {
        SocketId::new(self.token)
    }

    pub(crate) fn fd(&self) -> Option<Fd> {
        self.fd
    }

    /// What is to be removed with it.
    pub(crate) fn path(&self) -> Option<&Owned> {
        self.path.as_ref()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.dead
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.weight()
    }

    pub(crate) fn local_addr(&self) -> Option<Addr> {
        self.local.clone()
    }

    pub(crate) fn peer_addr(&self) -> Option<Addr> {
        self.remote.clone()
    }

    fn is_open(&self) -> bool {
        !self.state.closing && !self.state.dead
    }

    /// Its owner has closed it and hears nothing more of it.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.closing
    }

    // The ready list and its siblings.

    pub(crate) fn make_ready(&mut self, engine: &mut Engine) {
        if !self.state.in_ready && !self.state.dead {
            self.state.in_ready = true;
            engine.ready.push(self.token);
        }
    }

    pub(crate) fn left_ready(&mut self) {
        self.state.in_ready = false;
    }

    pub(crate) fn is_ready_listed(&self) -> bool {
        self.state.in_ready
    }

    pub(crate) fn touch(&mut self, engine: &mut Engine) {
        if engine.current != self.token && !self.state.in_unflushed {
            self.state.in_unflushed = true;
            engine.unflushed.push(self.token);
        }
    }

    pub(crate) fn note(&mut self, event: Event) {
        let ready = event.ready;
        if ready.contains(Readiness::READABLE)
            || ready.contains(Readiness::READ_CLOSED)
            || ready.contains(Readiness::ERROR)
        {
            self.state.readable = true;
        }
        if ready.contains(Readiness::WRITABLE) || ready.contains(Readiness::WRITE_CLOSED) {
            self.state.writable = true;
        }
        if ready.contains(Readiness::ERROR) {
            self.state.error_seen = true;
        }
    }

    /// Takes the note off that `on_socket_writable` is due.
    pub(crate) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.state.drained) && self.is_open()
    }

    /// Takes the note off that a deadline was set that had passed.
    pub(crate) fn take_past(&mut self) -> bool {
        std::mem::take(&mut self.state.due)
    }

    /// Whether the next turn has a deadline to see to that was set in this one.
    pub(crate) fn has_past(&self) -> bool {
        self.state.due
    }

    // Receiving.

    pub(crate) fn pause(&mut self) {
        self.state.paused = true;
    }

    pub(crate) fn resume(&mut self, engine: &mut Engine) {
        let paused = std::mem::take(&mut self.state.paused);
        if paused && (self.state.readable || self.kept.is_some()) {
            self.make_ready(engine);
        }
    }

    /// Whether what has come may be shown to the handler.
    pub(crate) fn may_offer(&self) -> bool {
        self.is_open()
    }

    /// Whether what has come would be received, if there were a report of it.
    pub(crate) fn may_receive(&self) -> bool {
        self.is_open() && !self.state.paused && !self.state.receive_waits
    }

    /// Whether something waits to be sent as soon as there is a report of room.
    pub(crate) fn may_send(&self) -> bool {
        !self.state.dead && self.queue.len() > self.held && !self.state.send_waits
    }

    /// Receives once. Answers how many datagrams lie in the batch; `None` if this socket's
    /// turn is over.
    pub(crate) fn receive(
        &mut self,
        batch: &mut Batch,
        budget: &mut usize,
        engine: &mut Engine,
    ) -> Option<usize> {
        let n = self.fetch(batch, budget, engine)?;
        *budget = budget.saturating_sub(n);
        self.stats.received += n as u64;
        engine.stats.datagrams_received += n as u64;
        for at in 0..n {
            let (arrival, _) = batch.arrival(at);
            self.stats.truncated += u64::from(arrival.truncated);
            engine.stats.bytes_read += arrival.len as u64;
        }
        Some(n)
    }

    /// One receive call that brings something: how many places of the batch it has filled.
    fn fetch(
        &mut self,
        batch: &mut Batch,
        budget: &mut usize,
        engine: &mut Engine,
    ) -> Option<usize> {
        while self.state.readable && self.may_receive() {
            let fd = self.fd?;
            if *budget == 0 && !fault!(DatagramBudgetIgnored) {
                if !fault!(DatagramBudgetForgotten) {
                    self.make_ready(engine);
                }
                return None;
            }
            engine.stats.reads += 1;
            match fd::receive(engine.kernel.as_mut(), fd, batch) {
                Arrived::Datagrams(came) => {
                    // Unless an error is still to be fetched.
                    if came.drained && !self.state.error_seen {
                        self.state.readable = false;
                    }
                    self.no_error();
                    return Some(came.count);
                }
                Arrived::WouldBlock => {
                    engine.stats.would_blocks += 1;
                    self.state.readable = false;
                    self.state.error_seen = false;
                    self.no_error();
                }
                Arrived::Failed(errno) => {
                    *budget -= 1;
                    self.failed_to_receive(errno, engine);
                }
                Arrived::Ended(errno) => {
                    self.untell(engine);
                    self.failed_to_receive(errno, engine);
                    self.die(engine);
                }
            }
        }
        None
    }

    // Receiving what the kernel has merged.

    /// Whether it may: then the next three take the place of [`receive`](Self::receive).
    pub(crate) fn merges(&self) -> bool {
        self.merges
    }

    /// What was fetched and not handed out yet, or places to fetch more into.
    pub(crate) fn lend_merged(&mut self, engine: &mut Engine) -> Box<Merged> {
        match self.kept.take() {
            Some(kept) => {
                engine.account(kept.room(), 0);
                kept
            }
            None => engine.merged.take(engine.config.datagram_batch),
        }
    }

    /// Fetches more once everything is handed out. `false`: this socket's turn is over.
    pub(crate) fn receive_merged(
        &mut self,
        merged: &mut Merged,
        budget: &mut usize,
        engine: &mut Engine,
    ) -> bool {
        let Some(count) = self.fetch(merged.places(), budget, engine) else {
            return false;
        };
        engine.stats.bytes_read += merged.filled(count) as u64;
        true
    }

    /// Keeps what was not handed out, for as long as that may take.
    pub(crate) fn return_merged(&mut self, merged: Box<Merged>, engine: &mut Engine) {
        if merged.is_empty() || !self.is_open() || fault!(KeptDatagramsForgotten) {
            return engine.merged.give(merged);
        }
        engine.account(0, merged.room());
        self.kept = Some(merged);
        if !self.state.paused && !fault!(KeptNotReady) {
            self.make_ready(engine);
        }
    }

    /// Whether the next datagram may be shown to the handler: unlike a batch, which is through
    /// soon, what was merged waits while the socket is paused.
    pub(crate) fn takes_merged(&self) -> bool {
        self.is_open() && !self.state.paused
    }

    /// Whether something waits that was fetched.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// One datagram is handed out.
    pub(crate) fn took(&mut self, truncated: bool, engine: &mut Engine) {
        self.stats.received += 1;
        self.stats.truncated += u64::from(truncated);
        engine.stats.datagrams_received += 1;
    }

    /// The next error is the first again, and so is the next wait unless one is running.
    fn no_error(&mut self) {
        self.errors_in_a_row = 0;
        if self.retry_at == NEVER {
            self.retry_after = config::RETRY_FIRST;
        }
    }

    /// An error is an event, and not the end. Error after error, though, is not worth a
    /// processor: after a while the socket rests between them.
    fn failed_to_receive(&mut self, errno: Errno, engine: &mut Engine) {
        let call = if self.remote.is_some() {
            "read"
        } else {
            "recvfrom"
        };
        let place = self.remote.clone();
        self.report(Op::Read, place, Cause::Syscall { call, errno }, engine);
        self.errors_in_a_row += 1;
        if self.errors_in_a_row >= config::ERRORS_IN_A_ROW {
            self.errors_in_a_row = 0;
            self.state.receive_waits = true;
            self.retry_later(engine);
        }
    }

    /// What of a datagram's bytes is the application's: of raw IPv4 not the header that the
    /// kernel leaves before it (raw(7)), as in Go.
    pub(crate) fn payload<'a>(&self, bytes: &'a [u8], from: &Addr) -> &'a [u8] {
        let raw = matches!(self.network.transport(), Transport::Raw(_));
        if raw && matches!(from.ip(), Some(IpAddr::V4(_))) {
            without_header(bytes)
        } else {
            bytes
        }
    }

    // Sending.

    pub(crate) fn send(&mut self, bytes: &[u8], to: Option<Addr>, engine: &mut Engine) -> Delivery {
        if !self.is_open() {
            return Delivery::Closed;
        }
        if let Err(cause) = self.check_destination(to.as_ref()) {
            self.dropped(1, engine);
            self.report(Op::Write, to, cause, engine);
            return Delivery::Dropped;
        }
        let weight = PacketQueue::weight_of(bytes.len());
        if weight > self.limit(engine) {
            // No datagram that leaves makes room for this one.
            self.dropped(1, engine);
            let place = to.or_else(|| self.remote.clone());
            let cause = Cause::Invalid(LONGER_THAN_QUEUE.to_owned());
            self.report(Op::Write, place, cause, engine);
            return Delivery::Dropped;
        }
        if !self.make_room(weight, engine) {
            self.dropped(1, engine);
            return Delivery::Dropped;
        }
        self.queue.push(bytes, to, engine.clock.nanos);
        engine.account(0, weight);
        self.touch(engine);
        Delivery::Queued
    }

    /// A datagram goes where the socket is connected to, or where it says itself.
    fn check_destination(&self, to: Option<&Addr>) -> Result<(), Cause> {
        let connected = self.remote.is_some() || self.opening.is_some();
        match to {
            Some(_) if connected => Err(Cause::Invalid(SEND_TO_CONNECTED.to_owned())),
            None if !connected => Err(Cause::Syscall {
                call: "write",
                errno: Errno(libc::EDESTADDRREQ),
            }),
            _ => Ok(()),
        }
    }

    /// Sees to it that the queue has room, by sending and then by the policy.
    fn make_room(&mut self, weight: usize, engine: &mut Engine) -> bool {
        let limit = self.limit(engine);
        if self.queue.weight() + weight <= limit || fault!(DatagramQueueUnbounded) {
            return true;
        }
        self.flush(engine);
        if self.queue.weight() + weight > limit {
            self.state.full = true;
        }
        while self.drop_policy == DropPolicy::Oldest
            && !self.queue.is_empty()
            && self.queue.weight() + weight > limit
        {
            self.take_off(1, engine);
            self.dropped(1, engine);
        }
        self.is_open() && self.queue.weight() + weight <= limit
    }

    /// Sends what is queued, until it is gone, the kernel takes no more, or the others are
    /// due. A closing socket whose queue is empty is over.
    pub(crate) fn settle(&mut self, engine: &mut Engine) {
        self.state.in_unflushed = false;
        if self.state.dead {
            return;
        }
        self.flush(engine);
        // Half of what may wait: then there is room worth telling of.
        if self.state.full && self.queue.weight() <= self.limit(engine) / 2 {
            self.state.full = false;
            self.state.drained = true;
            self.make_ready(engine);
        }
        if self.state.closing && self.queue.is_empty() {
            self.die(engine);
        } else if !self.queue.is_empty() {
            self.arm(engine);
        }
    }

    fn limit(&self, engine: &Engine) -> usize {
        self.queue_limit.unwrap_or(engine.config.datagram_queue)
    }

    fn flush(&mut self, engine: &mut Engine) {
        let Some(fd) = self.fd else { return };
        if self.state.send_waits {
            return;
        }
        if self.network == Network::Unixgram && self.remote.is_none() {
            return self.flush_each(fd, engine);
        }
        for _ in 0..config::FLUSH_CALLS {
            if !self.state.writable || !self.may_send() {
                return;
            }
            let posted = if self.queue.len() == 1 {
                self.post::<1>(fd, 0, engine)
            } else {
                self.post::<MAX_PACKETS>(fd, 0, engine)
            };
            match posted {
                Posted::Taken(n) => self.sent(n, engine),
                Posted::WouldBlock => {
                    engine.stats.would_blocks += 1;
                    self.state.writable = false;
                }
                Posted::Transient(_) => {
                    self.state.send_waits = true;
                    return self.retry_later(engine);
                }
                Posted::Failed(errno) => self.failed_to_send(0, errno, engine),
                Posted::Ended(errno) => {
                    self.untell(engine);
                    self.failed_to_send(0, errno, engine);
                    self.die(engine);
                }
            }
        }
        if self.state.writable && self.may_send() {
            self.make_ready(engine);
        }
    }

    /// One send call, for at most `MOST` of those that wait, from that place on.
    fn post<const MOST: usize>(&self, fd: Fd, at: usize, engine: &mut Engine) -> Posted {
        let mut packets = [Packet {
            bytes: &[],
            to: None,
        }; MOST];
        let n = self.queue.packets(at, &mut packets);
        engine.stats.writes += 1;
        fd::post(engine.kernel.as_mut(), fd, &packets[..n])
    }

    /// Unix sockets that are not connected send to receivers of which each may be full, and
    /// nobody reports when one has room again. Whoever is full holds up nobody else.
    fn flush_each(&mut self, fd: Fd, engine: &mut Engine) {
        let mut calls = 0;
        while self.held < self.queue.len() && !self.state.dead {
            let at = self.held;
            let to = self.queue.destination(at);
            if to.is_some_and(|to| self.full.contains(to)) {
                self.held += 1;
                continue;
            }
            if calls == EACH_CALLS {
                self.make_ready(engine);
                break;
            }
            calls += 1;
            match self.post::<1>(fd, at, engine) {
                Posted::Taken(_) => self.sent_at(at, engine),
                Posted::WouldBlock | Posted::Transient(_) => {
                    engine.stats.would_blocks += 1;
                    self.full.extend(self.queue.destination(at).cloned());
                    self.held += 1;
                }
                Posted::Failed(errno) => self.failed_to_send(at, errno, engine),
                Posted::Ended(errno) => {
                    self.untell(engine);
                    self.failed_to_send(at, errno, engine);
                    self.die(engine);
                }
            }
        }
        if !self.full.is_empty() {
            self.retry_later(engine);
        }
    }

    fn sent(&mut self, n: usize, engine: &mut Engine) {
        let n = n + usize::from(fault!(DatagramUnsent)) - usize::from(fault!(DatagramSentTwice));
        self.take_off(n, engine);
        self.stats.sent += n as u64;
        engine.stats.datagrams_sent += n as u64;
        self.refused_in_a_row = 0;
        self.retry_after = config::RETRY_FIRST;
    }

    fn sent_at(&mut self, at: usize, engine: &mut Engine) {
        let before = self.queue.weight();
        self.queue.remove(at);
        engine.account(before, self.queue.weight());
        self.stats.sent += 1;
        engine.stats.datagrams_sent += 1;
        if self.full.is_empty() {
            self.retry_after = config::RETRY_FIRST;
        }
    }

    fn take_off(&mut self, n: usize, engine: &mut Engine) {
        let before = self.queue.weight();
        self.queue.sent(n);
        self.held = self.held.saturating_sub(n);
        engine.account(before, self.queue.weight());
    }

    /// That datagram is lost, unless the error is of an earlier one: then it is tried again.
    fn failed_to_send(&mut self, at: usize, errno: Errno, engine: &mut Engine) {
        let call = if self.remote.is_some() {
            "write"
        } else {
            "sendto"
        };
        let to = self.queue.destination(at).cloned();
        let place = to.or_else(|| self.remote.clone());
        self.report(Op::Write, place, Cause::Syscall { call, errno }, engine);
        let of_an_earlier_one = errno.0 == libc::ECONNREFUSED && self.network != Network::Unixgram;
        if of_an_earlier_one {
            return self.refused(engine);
        }
        let before = self.queue.weight();
        self.queue.remove(at);
        engine.account(before, self.queue.weight());
        self.dropped(1, engine);
    }

    /// Nothing has left, and nothing is lost. That may come once for each earlier datagram;
    /// without end it is not worth a processor, either.
    fn refused(&mut self, engine: &mut Engine) {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row >= config::ERRORS_IN_A_ROW {
            self.refused_in_a_row = 0;
            self.state.send_waits = true;
            self.retry_later(engine);
        }
    }

    fn dropped(&mut self, n: u64, engine: &mut Engine) {
        self.stats.dropped += n;
        engine.stats.datagrams_dropped += n;
    }

    fn retry_later(&mut self, engine: &mut Engine) {
        if self.retry_at == NEVER {
            let wait = nanos(self.retry_after);
            self.retry_at = engine.clock.nanos.saturating_add(wait);
            self.retry_after = self.retry_after.saturating_mul(2).min(config::RETRY_MOST);
        }
        self.arm(engine);
    }

    // Errors and ends.

    /// Tells the handler of an error, once a turn; counts the others.
    fn report(&mut self, op: Op, place: Option<Addr>, cause: Cause, engine: &mut Engine) {
        self.stats.errors += 1;
        let turn = engine.stats.turns + 1;
        let told = std::mem::replace(&mut self.error_told_in, turn) == turn;
        if told || self.state.closing {
            return;
        }
        let error = Error::new(op, Some(self.network), place.map(Into::into), cause);
        let error = match &self.local {
            Some(local) => error.with_source(local.clone()),
            None => error,
        };
        engine.socket_reports.push(SocketReport {
            socket: self.id(),
            owner: self.owner,
            error,
        });
    }

    /// What was to be told makes room for word of the end, which the handler gets once.
    fn untell(&mut self, engine: &mut Engine) {
        self.error_told_in = NO_TURN;
        let id = self.id();
        engine.socket_reports.retain(|report| report.socket != id);
    }

    /// Sends what is queued, then ends.
    pub(crate) fn close(&mut self, engine: &mut Engine) {
        if !self.is_open() {
            return;
        }
        self.state.closing = true;
        self.ends_at = engine
            .clock
            .nanos
            .saturating_add(nanos(engine.config.linger));
        if self.fd.is_none() {
            // Nobody knows where to.
            return self.die(engine);
        }
        self.arm(engine);
        self.touch(engine);
    }

    fn die(&mut self, engine: &mut Engine) {
        if !std::mem::replace(&mut self.state.dead, true) {
            engine.closing.push_untold(self.token);
        }
    }

    /// Gives everything back.
    pub(crate) fn retire(mut self, engine: &mut Engine) {
        let weight = self.queue.weight();
        let lost = self.queue.clear();
        engine.account(weight, 0);
        self.dropped(lost as u64, engine);
        if let Some(kept) = self.kept.take() {
            engine.account(kept.room(), 0);
            engine.merged.give(kept);
        }
        if let Some(entry) = self.entry {
            engine.wheel.cancel(entry);
        }
        if let Some(path) = &self.path {
            unix_path::remove_if_ours(engine.kernel.as_mut(), path);
        }
        if let Some(fd) = self.fd {
            engine.freed = true;
            // It may have duplicates elsewhere, which would keep the registration alive.
            engine.kernel.deregister(fd);
            engine.kernel.close(fd);
        }
    }

    // Deadlines.

    pub(crate) fn set_deadline(&mut self, which: Deadline, at: Nanos, engine: &mut Engine) {
        if !self.is_open() {
            return;
        }
        match which {
            Deadline::Read => self.read_deadline = at,
            _ => self.write_deadline = at,
        }
        self.arm(engine);
    }

    fn stall_deadline(&self, engine: &Engine) -> Nanos {
        let stall = nanos(engine.config.write_stall_timeout);
        self.queue
            .oldest()
            .map_or(NEVER, |since| since.saturating_add(stall))
    }

    fn next_deadline(&self, engine: &Engine) -> Nanos {
        let write = if self.queue.is_empty() {
            NEVER
        } else {
            self.write_deadline
        };
        let asked = if self.state.closing {
            NEVER
        } else {
            self.read_deadline.min(write)
        };
        asked
            .min(self.retry_at)
            .min(self.ends_at)
            .min(self.stall_deadline(engine))
    }

    fn arm(&mut self, engine: &mut Engine) {
        let at = self.next_deadline(engine);
        if at <= engine.clock.nanos {
            // Past already: next turn, before this socket receives.
            self.state.due = true;
            self.make_ready(engine);
            return;
        }
        match self.entry {
            None if at != NEVER => self.entry = Some(engine.wheel.insert(at, self.token)),
            Some(entry) if at < engine.wheel.at(entry) => engine.wheel.refile(entry, at),
            _ => {}
        }
    }

    /// The wheel has let go of this socket.
    pub(crate) fn unfiled(&mut self) {
        self.entry = None;
    }

    /// Whether the wheel will look at this socket in time for its next limit.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let at = self.next_deadline(engine);
        at == NEVER
            || self.state.due
            || self.entry.is_some_and(|entry| engine.wheel.at(entry) <= at)
    }

    /// Does what is due, and answers what the application is owed: each limit that has
    /// passed, one per call, then none.
    pub(crate) fn take_due(&mut self, engine: &mut Engine) -> Option<Deadline> {
        let now = engine.clock.nanos;
        if self.ends_at <= now {
            self.end_of_patience(engine);
            return None;
        }
        if self.retry_at <= now {
            self.retry_at = NEVER;
            self.state.send_waits = false;
            self.state.receive_waits = false;
            self.full.clear();
            self.held = 0;
            self.make_ready(engine);
        }
        self.drop_stalled(now, engine);
        if self.write_deadline <= now {
            // What only waits for the end of the turn is not late.
            self.flush(engine);
        }
        if self.is_open() && self.read_deadline <= now {
            self.read_deadline = NEVER;
            return Some(Deadline::Read);
        }
        if self.is_open() && !self.queue.is_empty() && self.write_deadline <= now {
            self.write_deadline = NEVER;
            return Some(Deadline::Write);
        }
        self.arm(engine);
        None
    }

    /// The linger time is over, or the resolver has not answered in time.
    fn end_of_patience(&mut self, engine: &mut Engine) {
        self.ends_at = NEVER;
        if let Some(opening) = self.opening.take() {
            let error = Error::new(
                Op::Dial,
                Some(self.network),
                Some(opening.endpoint.place()),
                Cause::Timeout,
            );
            self.stats.errors += 1;
            self.tell(error, engine);
        }
        self.die(engine);
    }

    /// Whoever could not leave for so long is not worth the memory.
    fn drop_stalled(&mut self, now: Nanos, engine: &mut Engine) {
        if self.stall_deadline(engine) <= now {
            // The room is worth telling of; or there is nothing left to stay open for.
            self.touch(engine);
        }
        while self.stall_deadline(engine) <= now {
            let to = self.queue.destination(0).cloned();
            let place = to.or_else(|| self.remote.clone());
            self.take_off(1, engine);
            self.dropped(1, engine);
            self.report(Op::Write, place, Cause::Timeout, engine);
        }
    }

    fn tell(&self, error: Error, engine: &mut Engine) {
        engine.socket_reports.push(SocketReport {
            socket: self.id(),
            owner: self.owner,
            error,
        });
    }

    pub(crate) fn set_option(
        &self,
        option: PacketOption,
        engine: &mut Engine,
    ) -> Result<(), Errno> {
        let fd = self.fd.filter(|_| !self.state.dead);
        let fd = fd.ok_or(Errno(libc::EBADF))?;
        engine.kernel.set_packet_option(fd, option)
    }
}

/// Bytes behind an IPv4 header (RFC 791 section 3.1: its length in words stands in the low
/// half of the first byte). What is no IPv4 packet stays as it is.
fn without_header(bytes: &[u8]) -> &[u8] {
    let Some(&first) = bytes.first() else {
        return bytes;
    };
    let length = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || length < IPV4_HEADER_LEAST {
        return bytes;
    }
    bytes.get(length..).unwrap_or(bytes)
}

const IPV4_HEADER_LEAST: usize = 20;

const LONGER_THAN_QUEUE: &str = "a datagram longer than the socket's queue";

/// Go's words for it (`net.ErrWriteToConnected`).
const SEND_TO_CONNECTED: &str = "use of WriteTo with pre-connected connection";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_ipv4_is_taken_off_whatever_its_length() {
        let mut packet = vec![0x45; 20];
        packet.extend(b"echo");
        assert_eq!(without_header(&packet), b"echo");
        let mut with_options = vec![0x46; 24];
        with_options.extend(b"echo");
        assert_eq!(without_header(&with_options), b"echo");
    }

    #[test]
    fn what_is_no_ipv4_packet_stays_as_it_is() {
        for bytes in [&b""[..], b"\x60 six", b"\x41 short", b"\x4f too short"] {
            assert_eq!(without_header(bytes), bytes);
        }
    }
}
