//! What the loop says about itself: counters, and log lines that cannot flood.
//!
//! The counters cost two clock reads per turn, which the turn needs anyway; nothing here
//! reads a clock.

use std::time::Duration;

use crate::timer::Nanos;

/// Counters since the loop was made. All of them only grow, except `open` and `buffered`.
///
/// A snapshot: [`Context::stats`](crate::Context::stats) and
/// [`Reactor::stats`](crate::Reactor::stats) copy it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Passes of the loop.
    pub turns: u64,
    /// Readiness reports from the kernel.
    pub events: u64,
    /// Readiness reports for sources that were already gone.
    pub stale_events: u64,
    /// Callbacks run.
    pub callbacks: u64,
    /// Callbacks that panicked.
    pub panics: u64,

    /// Connections taken off an accept queue and admitted by `on_accept`.
    pub accepted: u64,
    /// Connections refused by `on_accept` or `on_connect`.
    pub refused: u64,
    /// Connections closed unseen by [`Overload::Shed`](crate::Overload::Shed).
    pub shed: u64,
    /// Clients that were gone before they could be accepted (ECONNABORTED and its kin).
    pub lost: u64,
    /// Times a listener began to wait for a descriptor or for memory.
    pub backoffs: u64,
    /// Dials that became connections.
    pub connected: u64,
    /// Tries of dials that failed.
    pub dial_errors: u64,
    /// Connections that ended, for whatever reason.
    pub closed: u64,
    /// Connections open now, closing ones and attempts of dials included.
    pub open: u64,

    /// Bytes received and offered to handlers.
    pub bytes_read: u64,
    /// Bytes taken by the kernel.
    pub bytes_written: u64,
    /// Bytes thrown away while draining closing connections.
    pub bytes_discarded: u64,
    /// Receive calls made.
    pub reads: u64,
    /// Send calls made.
    pub writes: u64,
    /// Receive and send calls that found nothing to do (EAGAIN).
    pub would_blocks: u64,
    /// Unconsumed input and queued output now, in bytes, over all connections.
    pub buffered: u64,

    /// Handshakes of layers that came to an end both ends agree on.
    pub handshakes: u64,
    /// Connections that ended before that: refused by either end, broken off, or out of time.
    pub handshakes_failed: u64,

    /// Descriptors that came on connections and were closed, because as many as were asked
    /// for waited already ([`Conn::accept_fds`](crate::Conn::accept_fds)).
    pub descriptors_dropped: u64,

    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams that the kernel took.
    pub datagrams_sent: u64,
    /// Datagrams dropped by this loop: a queue was full, the kernel refused them, or nobody
    /// took them in time.
    pub datagrams_dropped: u64,

    /// Deadlines and timers that fired.
    pub timers: u64,
    /// Posted closures run.
    pub posted: u64,
    /// Closures posted to a connection that was gone.
    pub posted_to_gone: u64,

    /// Time spent outside the poll.
    pub busy: Duration,
    /// Time spent inside the poll without sleeping, as
    /// [`Config::busy_poll`](crate::Config::busy_poll) asks for. Nobody was served in it, so
    /// it is no part of `busy` or `longest_turn`; together with `busy` it is what the loop
    /// takes of a processor.
    pub spun: Duration,
    /// Time since the loop was made, as of its last turn.
    pub elapsed: Duration,
    /// The longest time between two polls: how late an event or a timer can have been
    /// served because of what came before it (the loop's lag).
    pub longest_turn: Duration,
    /// The slowest callback that was timed (see
    /// [`Config::slow_turn`](crate::Config::slow_turn)), and its name.
    pub slowest_callback: Option<(&'static str, Duration)>,
}

impl Stats {
    /// The share of its time that the loop was not waiting, 0 to 1.
    pub fn busy_share(&self) -> f64 {
        if self.elapsed.is_zero() {
            return 0.0;
        }
        self.busy.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// One number of [`Stats`], for whoever exports them to a monitoring system.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// As Prometheus and its kin name it: with the unit at the end, and `_total` behind that
    /// if it only grows.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// Seconds, bytes, or how many.
    pub value: f64,
}

impl Metric {
    /// Whether it only grows. Others go up and down.
    pub fn is_counter(&self) -> bool {
        self.name.ends_with("_total")
    }
}

impl Stats {
    /// All of them, in the order of the fields.
    ///
    /// ```
    /// # let reactor = windlass::Reactor::new(App).unwrap();
    /// # struct App;
    /// # impl windlass::Handler for App { type Session = (); }
    /// for metric in reactor.stats().metrics() {
    ///     println!("windlass_{} {}", metric.name, metric.value);
    /// }
    /// ```
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + use<> {
        let slowest = self
            .slowest_callback
            .map_or(0.0, |(_, took)| took.as_secs_f64());
        #[rustfmt::skip]
        let rows = [
            ("turns_total", "Passes of the loop.", self.turns as f64),
            ("events_total", "Readiness reports from the kernel.", self.events as f64),
            ("stale_events_total", "Reports for what was already gone.", self.stale_events as f64),
            ("callbacks_total", "Callbacks run.", self.callbacks as f64),
            ("panics_total", "Callbacks that panicked.", self.panics as f64),
            ("accepted_total", "Connections accepted.", self.accepted as f64),
            ("refused_total", "Connections refused by the handler.", self.refused as f64),
            ("shed_total", "Connections closed for want of descriptors.", self.shed as f64),
            ("lost_total", "Clients gone before they could be accepted.", self.lost as f64),
            ("backoffs_total", "Times a listener began to wait for a descriptor or memory.", self.backoffs as f64),
            ("connected_total", "Dials that became connections.", self.connected as f64),
            ("dial_errors_total", "Tries of dials that failed.", self.dial_errors as f64),
            ("closed_total", "Connections that ended.", self.closed as f64),
            ("connections", "Connections open now.", self.open as f64),
            ("read_bytes_total", "Bytes received.", self.bytes_read as f64),
            ("written_bytes_total", "Bytes sent.", self.bytes_written as f64),
            ("discarded_bytes_total", "Bytes thrown away while closing.", self.bytes_discarded as f64),
            ("reads_total", "Receive calls.", self.reads as f64),
            ("writes_total", "Send calls.", self.writes as f64),
            ("would_blocks_total", "Calls that found nothing to do.", self.would_blocks as f64),
            ("buffered_bytes", "Unread input and unsent output now.", self.buffered as f64),
            ("handshakes_total", "Handshakes of layers (TLS) that succeeded.", self.handshakes as f64),
            ("handshakes_failed_total", "Connections that ended before their handshake.", self.handshakes_failed as f64),
            ("descriptors_dropped_total", "Descriptors that came unasked and were closed.", self.descriptors_dropped as f64),
            ("datagrams_received_total", "Datagrams received.", self.datagrams_received as f64),
            ("datagrams_sent_total", "Datagrams sent.", self.datagrams_sent as f64),
            ("datagrams_dropped_total", "Datagrams dropped.", self.datagrams_dropped as f64),
            ("timers_total", "Deadlines and timers that fired.", self.timers as f64),
            ("posted_total", "Closures run for other threads.", self.posted as f64),
            ("posted_to_gone_total", "Closures posted to a connection that was gone.", self.posted_to_gone as f64),
            ("busy_seconds_total", "Time spent outside the poll.", self.busy.as_secs_f64()),
            ("spun_seconds_total", "Time spent in the poll without sleeping.", self.spun.as_secs_f64()),
            ("elapsed_seconds_total", "Time since the loop was made.", self.elapsed.as_secs_f64()),
            ("longest_turn_seconds", "Longest time between two polls: the loop's lag.", self.longest_turn.as_secs_f64()),
            ("slowest_callback_seconds", "The slowest callback that was timed.", slowest),
        ];
        rows.into_iter()
            .map(|(name, help, value)| Metric { name, help, value })
    }
}

/// Lets one log line through per interval and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    opens_at: Nanos,
    held_back: u64,
}

impl LogGate {
    /// `Some(lines held back since the last one)` if a line may be written now.
    pub(crate) fn pass(&mut self, now: Nanos, interval: Duration) -> Option<u64> {
        if now < self.opens_at {
            self.held_back += 1;
            return None;
        }
        self.opens_at = now.saturating_add(crate::engine::nanos(interval));
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_log_lines_becomes_one_and_a_count() {
        let mut gate = LogGate::default();
        let interval = Duration::from_secs(5);
        assert_eq!(gate.pass(1, interval), Some(0));
        for at in 2..102 {
            assert_eq!(gate.pass(at, interval), None);
        }
        assert_eq!(gate.pass(5_000_000_001, interval), Some(100));
        assert_eq!(gate.pass(5_000_000_002, interval), None);
    }

    #[test]
    fn every_field_is_a_metric() {
        let fields = format!("{:#?}", Stats::default());
        let fields = fields
            .lines()
            .filter(|line| line.starts_with("    "))
            .count();
        assert_eq!(Stats::default().metrics().count(), fields);
        let stats = Stats {
            accepted: 7,
            busy: Duration::from_millis(1500),
            slowest_callback: Some(("on_read", Duration::from_secs(2))),
            ..Stats::default()
        };
        let value_of = |name: &str| {
            let found = stats.metrics().find(|metric| metric.name == name);
            found.map(|metric| metric.value)
        };
        assert_eq!(value_of("accepted_total"), Some(7.0));
        assert_eq!(value_of("busy_seconds_total"), Some(1.5));
        assert_eq!(value_of("slowest_callback_seconds"), Some(2.0));
        let names: std::collections::BTreeSet<_> = stats.metrics().map(|it| it.name).collect();
        assert_eq!(names.len(), fields, "no name stands twice");
    }

    #[test]
    fn the_busy_share_of_a_loop_that_never_ran_is_zero() {
        assert_eq!(Stats::default().busy_share(), 0.0);
    }
}
