//! What the loop counts, in the text format of Prometheus.

use std::fmt::Write;

use windlass::Conn;

use super::server::Server;

/// Name, type, value and help of each.
pub(crate) fn text(conn: &mut Conn<'_>, server: &Server) -> Vec<u8> {
    let listener = server.listener.and_then(|id| conn.cx().listener(id));
    // Not every system tells.
    let queue = listener.and_then(|mut listener| listener.queue().ok());
    let waiting = queue.map_or(f64::NAN, |(waiting, _)| waiting.into());
    let limit = queue.map_or(f64::NAN, |(_, limit)| limit.into());
    let s = conn.cx().stats();
    let slowest = s
        .slowest_callback
        .map_or(0.0, |(_, time)| time.as_secs_f64());
    let count = |n: u64| n as f64;
    #[rustfmt::skip]
    let rows = [
        ("http_requests_total", "counter", count(server.answered), "Requests understood and answered."),
        ("windlass_accept_queue", "gauge", waiting, "Clients that wait to be accepted."),
        ("windlass_accept_queue_limit", "gauge", limit, "Clients that may wait to be accepted."),
        ("windlass_turns_total", "counter", count(s.turns), "Passes of the loop."),
        ("windlass_events_total", "counter", count(s.events), "Readiness reports from the kernel."),
        ("windlass_stale_events_total", "counter", count(s.stale_events), "Reports for what was already gone."),
        ("windlass_callbacks_total", "counter", count(s.callbacks), "Callbacks run."),
        ("windlass_panics_total", "counter", count(s.panics), "Callbacks that panicked."),
        ("windlass_accepted_total", "counter", count(s.accepted), "Connections accepted."),
        ("windlass_refused_total", "counter", count(s.refused), "Connections refused by the handler."),
        ("windlass_shed_total", "counter", count(s.shed), "Connections closed for want of descriptors."),
        ("windlass_lost_total", "counter", count(s.lost), "Clients gone before they could be accepted."),
        ("windlass_backoffs_total", "counter", count(s.backoffs), "Times a listener began to wait for a descriptor or memory."),
        ("windlass_connected_total", "counter", count(s.connected), "Dials that became connections."),
        ("windlass_dial_errors_total", "counter", count(s.dial_errors), "Tries of dials that failed."),
        ("windlass_closed_total", "counter", count(s.closed), "Connections that ended."),
        ("windlass_connections", "gauge", count(s.open), "Connections open now."),
        ("windlass_read_bytes_total", "counter", count(s.bytes_read), "Bytes received."),
        ("windlass_written_bytes_total", "counter", count(s.bytes_written), "Bytes sent."),
        ("windlass_discarded_bytes_total", "counter", count(s.bytes_discarded), "Bytes thrown away while closing."),
        ("windlass_reads_total", "counter", count(s.reads), "Receive calls."),
        ("windlass_writes_total", "counter", count(s.writes), "Send calls."),
        ("windlass_would_blocks_total", "counter", count(s.would_blocks), "Calls that found nothing to do."),
        ("windlass_buffered_bytes", "gauge", count(s.buffered), "Unread input and unsent output now."),
        ("windlass_descriptors_dropped_total", "counter", count(s.descriptors_dropped), "Descriptors that came unasked and were closed."),
        ("windlass_datagrams_received_total", "counter", count(s.datagrams_received), "Datagrams received."),
        ("windlass_datagrams_sent_total", "counter", count(s.datagrams_sent), "Datagrams sent."),
        ("windlass_datagrams_dropped_total", "counter", count(s.datagrams_dropped), "Datagrams dropped."),
        ("windlass_timers_total", "counter", count(s.timers), "Deadlines and timers that fired."),
        ("windlass_posted_total", "counter", count(s.posted), "Closures run for other threads."),
        ("windlass_posted_to_gone_total", "counter", count(s.posted_to_gone), "Closures posted to a connection that was gone."),
        ("windlass_busy_seconds_total", "counter", s.busy.as_secs_f64(), "Time spent outside the poll."),
        ("windlass_elapsed_seconds_total", "counter", s.elapsed.as_secs_f64(), "Time since the loop was made."),
        ("windlass_longest_turn_seconds", "gauge", s.longest_turn.as_secs_f64(), "Longest time between two polls: the loop's lag."),
        ("windlass_slowest_callback_seconds", "gauge", slowest, "The slowest callback that was timed."),
    ];
    let mut text = String::new();
    for (name, kind, value, help) in rows.iter().filter(|row| !row.2.is_nan()) {
        // A String takes everything.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
    text.into_bytes()
}
