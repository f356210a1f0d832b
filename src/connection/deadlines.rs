//! The time limits of a connection, and its one entry in the wheel.

use std::time::Duration;

use super::Connection;
use crate::cold::Cold;
use crate::engine::{Engine, at_least_a_tick};
use crate::error::CloseReason;
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Deadline;
use crate::timer::{NEVER, Nanos, TICK};

impl Connection {
    pub(crate) fn set_deadline(&mut self, which: Deadline, at: Nanos, engine: &mut Engine) {
        // Only the linger time holds from `close` on.
        if !self.is_open() {
            return;
        }
        let cold = self.cold_mut(engine);
        let deadline = match which {
            Deadline::Read => &mut cold.read_deadline,
            Deadline::Write => &mut cold.write_deadline,
            _ => return,
        };
        let before = std::mem::replace(deadline, at);
        // The wheel looks in time for an earlier one, and finds out then.
        if before > engine.clock.nanos && before <= at && self.entry.is_some() {
            return;
        }
        self.arm(engine);
    }

    /// Counts from now, and is renewed by every byte that moves.
    pub(crate) fn set_idle(&mut self, after: Option<Duration>, engine: &mut Engine) {
        let after = after.map_or(NEVER, at_least_a_tick);
        self.cold_mut(engine).idle = Some(after);
        self.active_at = engine.clock.nanos;
        self.arm(engine);
    }

    /// The earliest limit that holds now.
    #[inline]
    fn next_deadline(&self, engine: &Engine) -> Nanos {
        if self.has(Flags::CLOSING) {
            return self.lingers_until();
        }
        let idle = self.idle_deadline(engine);
        match &self.cold {
            None => idle,
            Some(cold) => idle
                .min(cold.read_deadline)
                .min(self.output_deadline(cold, engine))
                .min(cold.handshake_until()),
        }
    }

    #[inline]
    fn idle_deadline(&self, engine: &Engine) -> Nanos {
        let own = self.cold.as_ref().and_then(|cold| cold.idle);
        let early = if fault!(IdleEarly) { TICK } else { 0 };
        self.active_at
            .saturating_add(own.unwrap_or(engine.idle) - early)
    }

    /// Limits that hold only while output waits.
    fn output_deadline(&self, cold: &Cold, engine: &Engine) -> Nanos {
        if cold.stalled_at == NEVER && !fault!(WriteDeadlineAlways) {
            return NEVER;
        }
        let stall = cold.stalled_at.saturating_add(engine.stall);
        cold.write_deadline.min(stall)
    }

    /// Sees to it that the wheel looks at this connection no later than its next limit. A
    /// limit moved later costs nothing here: the wheel finds out when it looks.
    pub(crate) fn arm(&mut self, engine: &mut Engine) {
        let at = self.next_deadline(engine);
        if at <= engine.clock.nanos {
            if fault!(PastDeadlineForgotten) {
                return;
            }
            // Past already: next turn, before this connection is read.
            self.set(Flags::DUE);
            self.make_ready(engine);
            return;
        }
        match self.entry {
            None if at != NEVER => self.entry = Some(engine.wheel.insert(at, self.token)),
            Some(entry) if at < engine.wheel.at(entry) => engine.wheel.refile(entry, at),
            _ => {}
        }
    }

    /// The same for a new connection. One that has no other limit than everybody's has time
    /// until it is filed.
    pub(crate) fn arm_new(&mut self, engine: &mut Engine) {
        let ordinary = self.entry.is_none() && self.cold.is_none();
        let young = ordinary
            && engine.idle != NEVER
            && engine
                .young
                .takes(self.token, engine.clock.nanos, engine.idle);
        if !young {
            self.arm(engine);
        }
    }

    /// The wheel has let go of this connection.
    pub(crate) fn unfiled(&mut self) {
        self.entry = None;
    }

    /// Whether the wheel will look at this connection in time for its next limit.
    pub(crate) fn is_watched(&self, engine: &Engine) -> bool {
        let at = self.next_deadline(engine);
        let young = || engine.young.until() <= at && engine.young.holds(self.token);
        at == NEVER || self.entry.is_some_and(|entry| engine.wheel.at(entry) <= at) || young()
    }

    /// The first limit that has passed. It is taken off, so that it fires once per setting;
    /// the idle limit begins anew.
    pub(crate) fn take_due(&mut self, engine: &Engine) -> Option<Deadline> {
        let now = engine.clock.nanos;
        if self.has(Flags::CLOSING) {
            return (self.lingers_until() <= now).then_some(Deadline::Linger);
        }
        if let Some(cold) = &mut self.cold {
            if cold.handshake_until() <= now {
                return Some(Deadline::Handshake);
            }
            let stalled = cold.stalled_at != NEVER || fault!(WriteDeadlineAlways);
            if cold.read_deadline <= now {
                if !fault!(DeadlineFiresTwice) {
                    cold.read_deadline = NEVER;
                }
                return Some(Deadline::Read);
            }
            if stalled && cold.write_deadline <= now {
                cold.write_deadline = NEVER;
                return Some(Deadline::Write);
            }
            if stalled && cold.stalled_at.saturating_add(engine.stall) <= now {
                cold.stalled_at = now;
                return Some(Deadline::WriteStall);
            }
        }
        if self.idle_deadline(engine) <= now {
            self.active_at = now;
            return Some(Deadline::Idle);
        }
        None
    }

    /// The linger time is over: the end, with the reason telling whether all was delivered.
    pub(crate) fn linger_ended(&mut self, engine: &mut Engine) {
        if self.has_output() {
            self.abort(CloseReason::Timeout(Deadline::Linger), engine);
        } else {
            self.die(CloseReason::Local, engine);
        }
    }
}
