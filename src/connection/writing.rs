//! How a connection writes: what a callback gathers, what has to be queued, what the kernel takes;
//! and when all that makes it pause.
//!
//! Bytes go out at one place, [`Connection::send`].

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Connection;
use crate::config;
use crate::context::Flow;
use crate::engine::{Engine, NOBODY, gather_most};
use crate::error::{CloseReason, Op};
use crate::faults::fault;
use crate::fd::{self, Sent};
use crate::flags::Flags;
use crate::kernel::{Errno, MAX_FDS, MAX_PARTS};
use crate::outbound::Level;
use crate::timer::NEVER;

/// What is to be queued.
pub(super) enum Output<'a> {
    Copied(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Output<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Connection {
    /// Takes bytes to be sent. Nothing here waits, and nothing here calls back.
    pub(crate) fn write(&mut self, bytes: &[u8], engine: &mut Engine) -> Flow {
        self.unload(engine);
        if self.has(Flags::UNUSUAL_OUTPUT) {
            return self.write_cut(Output::Copied(bytes), Vec::new(), engine);
        }
        let taken = self.write_through(bytes, engine);
        if self.is_dead() {
            return Flow::Closed;
        }
        let rest = &bytes[taken..];
        if !rest.is_empty() {
            let out = self.out.get_or_insert_with(|| engine.pool.outbound());
            out.push(rest, &mut engine.pool);
            self.pushed(rest.len(), self.queued(), engine);
        }
        self.flow()
    }

    /// The same, without copying what has to wait.
    pub(crate) fn write_shared(&mut self, bytes: Arc<[u8]>, engine: &mut Engine) -> Flow {
        self.unload(engine);
        if self.has(Flags::UNUSUAL_OUTPUT) {
            return self.write_cut(Output::Shared(bytes), Vec::new(), engine);
        }
        let taken = self.write_through(&bytes, engine);
        if self.is_dead() {
            return Flow::Closed;
        }
        let rest = bytes.len() - taken;
        if rest > 0 {
            let out = self.out.get_or_insert_with(|| engine.pool.outbound());
            out.push_shared(bytes, taken);
            self.pushed(rest, self.queued(), engine);
        }
        self.flow()
    }

    // What a callback writes to its own connection gathers in the loop's one buffer, until it
    // returns or writes what has to be queued.

    /// A callback of this connection begins.
    #[inline]
    pub(crate) fn begin_callback(&self, engine: &mut Engine) {
        let queues = self.out.is_some() || self.has(Flags::UNUSUAL_OUTPUT);
        let most = (!queues).then(|| self.gather_most(engine));
        engine.begin_callback(self.token, most);
    }

    #[inline]
    pub(super) fn gather_most(&self, engine: &Engine) -> usize {
        let own = self.cold.as_ref().and_then(|cold| cold.limits.as_ref());
        own.map_or(engine.gather_most, gather_most)
    }

    pub(crate) fn gathered(&self, engine: &Engine) -> usize {
        if engine.current == self.token {
            engine.gather.len()
        } else {
            0
        }
    }

    /// Queues what was gathered, ahead of what is to be queued next.
    pub(super) fn unload(&mut self, engine: &mut Engine) {
        engine.stop_gathering(self.token);
        let len = self.gathered(engine);
        if len > 0 && !fault!(GatheredOvertaken) {
            self.queue_gathered(0, engine);
        }
    }

    /// Ends the gathering when the callback has returned: sent at once, queued if it cannot be.
    pub(crate) fn ship(&mut self, engine: &mut Engine) {
        if !engine.gather.is_empty() {
            if self.flags.is(Flags::SENDS) {
                self.send_gathered(engine);
            } else {
                self.queue_gathered(0, engine);
            }
        }
        engine.current = NOBODY;
    }

    fn send_gathered(&mut self, engine: &mut Engine) {
        engine.stats.writes += 1;
        let sent = fd::write(engine.kernel.as_mut(), self.fd, &engine.gather);
        self.gathered_sent(sent, engine);
    }

    pub(super) fn gathered_sent(&mut self, sent: Sent, engine: &mut Engine) {
        let taken = self.after_send(sent, engine).unwrap_or(0);
        self.bytes_written += taken as u64;
        engine.stats.bytes_written += taken as u64;
        if taken == engine.gather.len() || fault!(RestOfAnswerLost) {
            if fault!(AnswerToStranger) {
                return;
            }
            engine.gather.clear();
        } else {
            self.queue_gathered(taken, engine);
        }
    }

    /// Queues what was gathered but for the first bytes, which have left.
    #[cold]
    fn queue_gathered(&mut self, from: usize, engine: &mut Engine) {
        let out = self.out.get_or_insert_with(|| engine.pool.outbound());
        let rest = &engine.gather[from..];
        let len = rest.len();
        out.push(rest, &mut engine.pool);
        engine.gather.clear();
        self.pushed(len, self.queued(), engine);
    }

    /// Descriptors, to leave with the first of `bytes`; closed here once they have left.
    pub(crate) fn send_fds(
        &mut self,
        fds: Vec<OwnedFd>,
        bytes: &[u8],
        engine: &mut Engine,
    ) -> Flow {
        if fds.is_empty() || !self.takes_output() {
            return self.write(bytes, engine);
        }
        self.unload(engine);
        let refused = if !self.has(Flags::UNIX) || self.layered().is_some() {
            Some(libc::EOPNOTSUPP)
        } else if bytes.is_empty() || fds.len() > MAX_FDS {
            Some(libc::EINVAL)
        } else {
            None
        };
        if let Some(errno) = refused {
            self.fail(Op::Write, "sendmsg", Errno(errno), engine);
            return Flow::Closed;
        }
        self.write_cut(Output::Copied(bytes), fds, engine)
    }

    /// What is written while the queue has cuts, or would get one: to each record its own
    /// segment, on streams one to each set of descriptors.
    #[inline(never)]
    fn write_cut(&mut self, output: Output<'_>, fds: Vec<OwnedFd>, engine: &mut Engine) -> Flow {
        let len = output.bytes().len();
        // An empty record would be read as the end of the stream.
        if !self.takes_output() || len == 0 {
            return self.flow();
        }
        if self.layered().is_some() {
            return self.hold(output, engine);
        }
        if self.has(Flags::RECORDS) && fds.is_empty() && self.send_record(output.bytes(), engine) {
            return self.flow();
        }
        let queued = self.queued();
        let own_segment = self.has(Flags::RECORDS) || !fds.is_empty();
        let messages = self.messages_mut(engine);
        if !messages.is_cut() && queued > 0 {
            messages.extend(queued);
        }
        if own_segment && !fault!(RecordsJoined) {
            messages.push(len, fds);
        } else {
            messages.extend(len);
        }
        let load = queued + len + messages.cost();
        self.set(Flags::CUT_OUTPUT);
        let out = self.out.get_or_insert_with(|| engine.pool.outbound());
        match output {
            Output::Copied(bytes) => out.push(bytes, &mut engine.pool),
            Output::Shared(bytes) => out.push_shared(bytes, 0),
        }
        self.pushed(len, load, engine);
        self.flow()
    }

    /// Sends a large record at once if nothing is queued before it: no copy. `false`: it has
    /// to be queued.
    fn send_record(&mut self, record: &[u8], engine: &mut Engine) -> bool {
        let at_once = record.len() >= config::WRITE_THROUGH
            && self.out.is_none()
            && self.has(Flags::WRITABLE)
            && self.has(Flags::REGISTERED);
        if !at_once {
            return false;
        }
        match self.send(engine, record) {
            Some(n) => {
                self.bytes_written += n as u64;
                engine.stats.bytes_written += n as u64;
                true
            }
            None => self.is_dead(),
        }
    }

    fn takes_output(&self) -> bool {
        !self.has(Flags::NO_OUTPUT)
    }

    pub(crate) fn flow(&self) -> Flow {
        if !self.takes_output() {
            Flow::Closed
        } else if self.has(Flags::FULL) {
            Flow::Full
        } else {
            Flow::Open
        }
    }

    /// Sends a large write at once, behind what is queued: one call, no copy. Answers how
    /// many of `bytes` the kernel took.
    fn write_through(&mut self, bytes: &[u8], engine: &mut Engine) -> usize {
        let queued = self.queued();
        let large =
            bytes.len() >= config::WRITE_THROUGH || queued + bytes.len() >= config::GATHER_FLUSH;
        if !large || !self.has(Flags::WRITABLE) || !self.has(Flags::REGISTERED) {
            return 0;
        }
        match self.send(engine, bytes) {
            Some(n) => {
                self.sent(n.min(queued), engine);
                let direct = n.saturating_sub(queued);
                self.bytes_written += direct as u64;
                engine.stats.bytes_written += direct as u64;
                direct
            }
            None => 0,
        }
    }

    /// `n` bytes were queued; `load` is what the queue weighs with them.
    pub(super) fn pushed(&mut self, n: usize, load: usize, engine: &mut Engine) {
        if !fault!(OutputUnaccounted) {
            engine.account(0, n);
        }
        self.touch(engine);
        self.weigh(load, engine);
    }

    /// What follows from the weight of what is queued.
    fn weigh(&mut self, load: usize, engine: &mut Engine) {
        match self.limits(engine).watermarks().level(load) {
            Level::Over if fault!(LimitIgnored) => {}
            Level::Above if fault!(HighMarkIgnored) => {}
            Level::Over => {
                self.set(Flags::RESET);
                self.die(CloseReason::Overflow, engine);
            }
            Level::Above => self.fill_up(),
            Level::Between | Level::Below => {}
        }
    }

    /// The high mark is exceeded.
    pub(super) fn fill_up(&mut self) {
        self.set(Flags::FULL);
        // It was drained for a moment, within one callback: that is no news now.
        self.flags.clear(Flags::DRAINED);
    }

    /// Sends what is queued, until it is gone, the kernel is full, or the others are due.
    pub(super) fn flush(&mut self, engine: &mut Engine) {
        for _ in 0..config::FLUSH_CALLS {
            self.encode(engine);
            if !self.may_send() || !self.has(Flags::WRITABLE) || self.is_dead() {
                break;
            }
            // What a layer has made of more may have left already.
            if self.out.is_some() {
                match self.send(engine, &[]) {
                    Some(n) => self.sent(n, engine),
                    None => break,
                }
            }
        }
        if self.is_dead() {
            return;
        }
        if self.queued() == 0 {
            self.unstall(engine);
        }
        if !self.has_output() {
            return;
        }
        if self.has(Flags::WRITABLE) && self.may_send() {
            if self.out.is_none() {
                // Settling would find nothing to do.
                self.set(Flags::IN_UNFLUSHED);
            }
            if !fault!(FlushBudgetForgotten) {
                self.make_ready(engine);
            }
        } else {
            self.begin_to_wait(engine);
        }
    }

    fn begin_to_wait(&mut self, engine: &mut Engine) {
        if let Some(out) = &mut self.out {
            out.settle(&mut engine.pool);
        }
        // What a layer has to say for itself is no affair of the handler's.
        if self.stalled_at() == NEVER && self.queued() > 0 && !fault!(StallForgotten) {
            self.cold_mut(engine).stalled_at = engine.clock.nanos;
        }
        self.arm(engine);
    }

    /// The one place where bytes go out to the wire: what is queued, then `extra`.
    pub(super) fn send(&mut self, engine: &mut Engine, extra: &[u8]) -> Option<usize> {
        engine.stats.writes += 1;
        if self.has(Flags::CUT_OUTPUT) && self.layered().is_none() {
            return self.send_segment(engine);
        }
        let sent = match &self.out {
            None => fd::write(engine.kernel.as_mut(), self.fd, extra),
            Some(out) if extra.is_empty() && out.part_count() == 1 => {
                fd::write(engine.kernel.as_mut(), self.fd, out.front())
            }
            Some(out) => {
                let mut parts = [IoSlice::new(&[]); MAX_PARTS];
                let mut n = out.parts(&mut parts[..MAX_PARTS - 1]);
                if !extra.is_empty() && n == out.part_count() {
                    parts[n] = IoSlice::new(extra);
                    n += 1;
                }
                fd::write_parts(engine.kernel.as_mut(), self.fd, &parts[..n])
            }
        };
        self.after_send(sent, engine)
    }

    /// Sends from the front segment alone: a whole record, or descriptors with the bytes that
    /// follow, or bytes up to the next such place. What was pushed at once lies in one part,
    /// so a record is all in the first.
    #[inline(never)]
    fn send_segment(&mut self, engine: &mut Engine) -> Option<usize> {
        let messages = self.cold.as_ref().and_then(|cold| cold.messages.as_ref());
        let (Some(out), Some(cut)) = (&self.out, messages.and_then(|cuts| cuts.front())) else {
            return None;
        };
        let part = out.front();
        let bytes = &part[..part.len().min(cut.len)];
        let kernel = engine.kernel.as_mut();
        let sent = if cut.fds.is_empty() {
            fd::write(kernel, self.fd, bytes)
        } else {
            fd::send_with_fds(kernel, self.fd, bytes, &cut.fds)
        };
        self.after_send(sent, engine)
    }

    fn after_send(&mut self, sent: Sent, engine: &mut Engine) -> Option<usize> {
        match sent {
            Sent::Bytes(n) => {
                self.active_at = engine.clock.nanos;
                if let Some(cold) = &mut self.cold
                    && cold.stalled_at != NEVER
                    && !fault!(StallNotRenewed)
                {
                    cold.stalled_at = engine.clock.nanos;
                }
                Some(n)
            }
            Sent::WouldBlock => {
                engine.stats.would_blocks += 1;
                self.flags.clear(Flags::WRITABLE);
                None
            }
            Sent::Failed(errno) => {
                self.fail(Op::Write, "write", errno, engine);
                None
            }
        }
    }

    /// The kernel took `n` of the queued bytes.
    fn sent(&mut self, n: usize, engine: &mut Engine) {
        let n = n - usize::from(fault!(ByteSentTwice) && n > 1);
        self.count_sent(n, engine);
        let Some(out) = &mut self.out else { return };
        out.consume(n, &mut engine.pool);
        engine.account(n, 0);
        if out.is_empty() {
            // Also when a write by somebody else's callback has taken the queue along.
            if let Some(out) = self.out.take() {
                engine.pool.put_outbound(out);
            }
            if self.queued() == 0 {
                self.unstall(engine);
            }
        }
        self.ease(engine);
    }

    /// `n` bytes have left: as many of the handler's, or those that they carried.
    pub(super) fn count_sent(&mut self, n: usize, engine: &mut Engine) {
        let mut plain = n;
        if self.has(Flags::CUT_OUTPUT) {
            plain = self.sent_segment(n);
        }
        self.bytes_written += plain as u64;
        engine.stats.bytes_written += plain as u64;
    }

    /// Output has left: the handler hears of it if there is room again.
    pub(super) fn ease(&mut self, engine: &mut Engine) {
        if self.has(Flags::FULL) && self.load() <= self.limits(engine).low {
            self.flags.clear(Flags::FULL);
            if !fault!(WriteForgotten) {
                self.set(Flags::DRAINED);
            }
            self.offer_again();
            if !fault!(DrainedNotReady) {
                self.make_ready(engine);
            }
        }
    }

    /// Answers how many bytes of the handler's have left with these.
    #[inline(never)]
    fn sent_segment(&mut self, n: usize) -> usize {
        let Some(cold) = &mut self.cold else { return n };
        if let Some(layered) = &mut cold.layered {
            return layered.sent(n);
        }
        if let Some(messages) = &mut cold.messages {
            messages.sent(n);
            if !messages.is_cut() {
                self.flags.clear(Flags::CUT_OUTPUT);
            }
        }
        n
    }

    /// What the queue weighs: its bytes, and what its cuts cost.
    pub(super) fn load(&self) -> usize {
        let messages = self.cold.as_ref().and_then(|cold| cold.messages.as_ref());
        self.queued() + messages.map_or(0, |messages| messages.cost())
    }

    // Pausing.

    pub(crate) fn pause(&mut self) {
        self.set(Flags::PAUSED);
    }

    pub(crate) fn resume(&mut self, engine: &mut Engine) {
        if self.take(Flags::PAUSED) {
            self.offer_again();
            if !fault!(ResumeForgotten) {
                self.make_ready(engine);
            }
        }
    }

    pub(crate) fn read_again(&mut self, engine: &mut Engine) {
        self.set(Flags::OFFER);
        if !fault!(ReadAgainForgotten) {
            self.make_ready(engine);
        }
    }

    pub(crate) fn set_auto_pause(&mut self, on: bool, engine: &mut Engine) {
        let was_paused = self.is_paused();
        if on {
            self.set(Flags::AUTO_PAUSE);
        } else {
            self.flags.clear(Flags::AUTO_PAUSE);
        }
        if was_paused && !self.is_paused() {
            self.offer_again();
            self.make_ready(engine);
        }
    }

    /// Reading resumes: what was left is offered even if nothing new comes. Whether
    /// anything is left shows later: during a callback the bytes are lent out.
    fn offer_again(&mut self) {
        self.set(Flags::OFFER);
    }

    /// Waits for memory; nobody will announce the end of that wait but the engine.
    pub(crate) fn park(&mut self, engine: &mut Engine) {
        if !self.has(Flags::PARKED) {
            self.set(Flags::PARKED);
            engine.parked.push(self.token);
        }
    }

    pub(crate) fn unpark(&mut self, engine: &mut Engine) {
        self.flags.clear(Flags::PARKED);
        self.make_ready(engine);
    }
}
