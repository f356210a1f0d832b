//! What whoever runs the world says to the host, and asks of it.
//!
//! Each setting goes to the room that it is about; nothing is decided here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::fault::Call;
use super::net::Remote;
use super::peer::Peer;
use super::table::Entry;
use super::trace::Trace;
use super::{SimKernel, nanos};
use crate::kernel::{Errno, Fd, Readiness};

impl SimKernel {
    /// Virtual time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.net.now())
    }

    /// Moves the clock and delivers what falls due, whatever the horizon.
    #[cfg(test)]
    pub(crate) fn advance(&mut self, by: Duration) {
        self.pass_to(self.net.now().saturating_add(nanos(by)));
        self.note(|| "the clock was moved".to_owned());
    }

    /// No poll moves the clock past this instant; at it, a poll without events returns at
    /// once. `None`: a poll may take all the time that it was given.
    pub(crate) fn set_horizon(&mut self, horizon: Option<Instant>) {
        self.horizon = horizon.map(|it| nanos(it.saturating_duration_since(self.base)));
    }

    /// The process stands still for that long when it polls next.
    pub(crate) fn stand_still(&mut self, time: Duration) {
        self.script.standstill = self.script.standstill.saturating_add(nanos(time));
        self.note(|| format!("the process is stopped for {time:?}"));
    }

    /// What the wall clock shows now. It goes on from there.
    pub(crate) fn set_wall(&mut self, now: SystemTime) {
        let elapsed = self.elapsed();
        self.wall_epoch = now.checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH);
        self.note(|| "the wall clock was set".to_owned());
    }

    /// Whether the last poll would have waited for ever: no timeout, and nothing under way.
    #[cfg(test)]
    pub(crate) fn stalled(&self) -> bool {
        self.stalled
    }

    /// Whether a poll at this moment would bring anything.
    pub(crate) fn has_news(&mut self) -> bool {
        self.look_outside();
        self.settle();
        self.poller.has_changes()
            || self.net.has_pieces()
            || self.bell.0.load(Ordering::Acquire)
            || self.next_due().is_some_and(|due| due <= self.net.now())
    }

    /// What is true of a descriptor now, announced or not.
    pub(crate) fn state_of(&self, fd: Fd) -> Readiness {
        match self.table.peek(fd) {
            Some(Entry::Stream(link)) => self.net.links[link].state(),
            Some(Entry::Listener(listener)) => self.net.listeners[listener].state(),
            Some(Entry::Packets(end)) => self.packets.state(end),
            Some(Entry::Kept) => self.kept.state(fd),
            Some(Entry::Spare) | None => Readiness::default(),
        }
    }

    /// When the next thing that is under way arrives, from the network or the resolver.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        let due = self.next_due()?;
        Some(self.base + Duration::from_nanos(due))
    }

    /// The next `times` calls of `call` fail with `errno` and have no other effect.
    ///
    /// EAGAIN from `Read`, `Write` or `Accept` is followed by a fresh edge, as a real
    /// kernel owes one. A step of `listen` fails under its own name.
    pub(crate) fn fail(&mut self, call: Call, errno: Errno, times: usize) {
        self.script.fail(call, errno, times);
    }

    /// Scripted failures that have not happened yet.
    pub(crate) fn pending_faults(&self) -> usize {
        self.script.pending()
    }

    pub(crate) fn pending_faults_of(&self, call: Call) -> usize {
        self.script.pending_of(call)
    }

    pub(crate) fn clear_faults(&mut self) {
        self.script.clear();
    }

    /// At most `most` bytes arrive on a connection between two polls, each piece with its
    /// own edge. (A read can't be cut in any other way: on a real kernel a short read
    /// says that the buffer is empty, and the loop relies on it.)
    pub(crate) fn short_reads(&mut self, most: Option<usize>) {
        self.net.piece = most.map(|it| it.max(1));
    }

    /// A write call takes at most `most` bytes. While there is room, whoever goes on finds it
    /// without a report.
    pub(crate) fn short_writes(&mut self, most: Option<usize>) {
        self.script.short_writes = most.map(|it| it.max(1));
    }

    /// The next poll reports `fd` as readable and writable, true or not.
    pub(crate) fn spurious(&mut self, fd: Fd) {
        self.settle();
        let mut ready = Readiness::READABLE;
        ready.insert(Readiness::WRITABLE);
        self.poller.mark_falsely(fd, ready);
    }

    /// [`spurious`](Self::spurious) for everything registered.
    pub(crate) fn spurious_all(&mut self) {
        for fd in self.poller.registered() {
            // Whoever reads a real descriptor because of it would wait for ever.
            if self.table.peek(fd) != Some(Entry::Kept) {
                self.spurious(fd);
            }
        }
    }

    /// What clients send takes so long to arrive, and what they are sent as well.
    pub(crate) fn set_latency(&mut self, one_way: Duration) {
        self.net.latency = nanos(one_way);
        self.packets.weather.latency = nanos(one_way);
    }

    /// Buffer sizes of connections made from now on, in both directions; the sum is what
    /// one direction holds. A listener's own options go before these.
    pub(crate) fn set_buffers(&mut self, send: usize, receive: usize) {
        self.net.send_capacity = send;
        self.net.receive_capacity = receive;
    }

    /// Whether accepting a connection that was reset in the queue fails with ECONNABORTED
    /// (BSD), or succeeds and leaves the error to the first read (Linux, the default).
    pub(crate) fn abort_reset_accepts(&mut self, abort: bool) {
        self.script.abort_reset_accepts = abort;
    }

    /// Whether `rearm` works (epoll, the default) or answers `false` (kqueue).
    pub(crate) fn set_rearm(&mut self, works: bool) {
        self.script.cannot_rearm = !works;
    }

    /// Whether accepted sockets have their listener's options (the default).
    pub(crate) fn inherit_options(&mut self, inherit: bool) {
        self.script.forget_options = !inherit;
    }

    /// Events that one poll reports at most.
    pub(crate) fn set_batch(&mut self, batch: usize) {
        self.poller.batch = batch.max(1);
    }

    pub(crate) fn set_backlog_limit(&mut self, limit: u32) {
        self.backlog_limit = limit;
    }

    /// The limits of open descriptors. Those that are open stay so.
    pub(crate) fn set_descriptor_limit(&mut self, soft: u64, hard: u64) {
        self.table.soft_limit = soft;
        self.table.hard_limit = hard.max(soft);
    }

    /// Hands out the lowest free number, as POSIX does. Off (the default), no number is
    /// used twice and every use of a closed descriptor is seen.
    pub(crate) fn reuse_descriptors(&mut self, reuse: bool) {
        self.table.reuse_numbers = reuse;
    }

    /// Who asks for `host` is answered these.
    pub(crate) fn set_name(&mut self, host: &str, addrs: Vec<IpAddr>) {
        self.resolver.set_name(host, Some(addrs));
    }

    /// Who asks for `host` is never answered, and neither is whoever asks after that.
    pub(crate) fn silence_name(&mut self, host: &str) {
        self.resolver.set_name(host, None);
    }

    /// Time that each question takes from now on, if the loop goes on meanwhile.
    pub(crate) fn set_lookup_delay(&mut self, delay: Duration) {
        self.resolver.delay = nanos(delay);
    }

    /// What becomes of attempts to connect to `addr` from now on.
    pub(crate) fn set_remote(&mut self, addr: SocketAddr, remote: Remote) {
        self.net.set_remote(addr.into(), remote);
    }

    /// The remote end of the oldest connection to `addr` that was not asked for yet.
    pub(crate) fn dialed(&mut self, addr: SocketAddr) -> Option<Peer> {
        self.net.dialed(&addr.into()).map(Peer)
    }

    /// How often a verb was called since the start or [`clear_calls`](Self::clear_calls).
    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.tally.of(call)
    }

    pub(crate) fn clear_calls(&mut self) {
        self.tally.clear();
    }

    /// Descriptors open now.
    pub(crate) fn open_descriptors(&self) -> usize {
        self.table.open_now()
    }

    /// Descriptors ever opened, and ever closed.
    #[cfg(test)]
    pub(crate) fn descriptors_used(&self) -> (u64, u64) {
        (self.table.opened, self.table.closed)
    }

    /// How often the process misused the kernel (closed twice, used what was closed), and
    /// the first few cases in words.
    pub(crate) fn violations(&self) -> (u64, &[String]) {
        self.table.violations()
    }

    /// Starts (empty) or ends the trace of what each verb did.
    pub(crate) fn set_trace(&self, on: bool) {
        self.trace.keep(on);
    }

    /// The trace itself, for others to add to.
    pub(crate) fn diary(&self) -> Arc<Trace> {
        Arc::clone(&self.trace)
    }

    /// The last lines of the trace, oldest first.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.trace.lines()
    }

    /// One in `odds` datagrams is lost on its way. 0: none.
    pub(crate) fn set_loss(&mut self, odds: u64) {
        self.packets.weather.loss = odds;
    }

    /// One in `odds` datagrams arrives twice. 0: none.
    pub(crate) fn set_duplicates(&mut self, odds: u64) {
        self.packets.weather.duplicates = odds;
    }

    /// Each datagram takes up to `most` longer, whatever was sent before it.
    pub(crate) fn set_disorder(&mut self, most: Duration) {
        self.packets.weather.disorder = nanos(most);
    }

    /// Whether the send buffers of all sockets for datagrams are full.
    pub(crate) fn set_send_buffers_full(&mut self, full: bool) {
        self.packets.set_full(full);
    }

    /// Datagrams that one call sends or receives at most.
    pub(crate) fn short_batches(&mut self, most: Option<usize>) {
        self.packets.most = most.unwrap_or(usize::MAX).max(1);
    }
}
