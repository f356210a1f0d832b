//! The pages, and how they are written.

use httparse::{Header, Request};
use httpdate::fmt_http_date;
use windlass::Conn;

use super::request::Code;
use super::server::Server;

/// A status, what follows `text/` in the type of the body, and the body.
pub(crate) type Page = (Code, &'static str, Vec<u8>);

pub(crate) fn page(conn: &mut Conn, head: &Request, server: &Server) -> Page {
    let line = |it: &Header| [it.name.as_bytes(), b":", it.value, b"\n"].concat();
    let date = fmt_http_date(conn.cx().wall());
    let path = head.path.unwrap_or_default();
    let (kind, body) = match path.split_once('?').map_or(path, |(path, _)| path) {
        "/" => ("html", include_str!("index.html").into()),
        "/time" => ("plain", (date + "\n").into()),
        "/headers" => ("plain", head.headers.iter().flat_map(line).collect()),
        "/metrics" => ("plain; version=0.0.4", metrics(conn, server).into()),
        _ => return ((404, "Not Found"), "plain", Vec::new()),
    };
    match head.method {
        Some("GET" | "HEAD") => ((200, "OK"), kind, body),
        _ => ((405, "Method Not Allowed"), "plain", Vec::new()),
    }
}

pub(crate) fn answer(conn: &mut Conn, page: &Page, is_head: bool, is_last: bool) {
    let ((code, why), kind, body) = page;
    let connection = if is_last { "close" } else { "keep-alive" };
    let (date, length) = (fmt_http_date(conn.cx().wall()), body.len());
    write!(
        conn,
        "HTTP/1.1 {code} {why}\r\nDate: {date}\r\nConnection: {connection}\r\n\
         Content-Type: text/{kind}; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
    );
    conn.write(if is_head { &[] } else { body });
    if is_last {
        conn.close();
    }
}

/// What the loop counts, in the text format of Prometheus.
fn metrics(conn: &mut Conn, server: &Server) -> String {
    let listener = server.listener.and_then(|id| conn.cx().listener(id));
    // Not every system tells.
    let queue = listener.and_then(|mut listener| listener.queue().ok());
    let (waiting, limit) = queue.map_or((f64::NAN, f64::NAN), |(n, of)| (n.into(), of.into()));
    let s = conn.cx().stats();
    let slowest = s.slowest_callback.map_or(0.0, |(_, it)| it.as_secs_f64());
    #[rustfmt::skip]
    let rows = [
        ("http_requests_total", "Requests understood and answered.", server.answered as f64),
        ("windlass_accept_queue", "Clients that wait to be accepted.", waiting),
        ("windlass_accept_queue_limit", "Clients that may wait to be accepted.", limit),
        ("windlass_turns_total", "Passes of the loop.", s.turns as f64),
        ("windlass_events_total", "Readiness reports from the kernel.", s.events as f64),
        ("windlass_stale_events_total", "Reports for what was already gone.", s.stale_events as f64),
        ("windlass_callbacks_total", "Callbacks run.", s.callbacks as f64),
        ("windlass_panics_total", "Callbacks that panicked.", s.panics as f64),
        ("windlass_accepted_total", "Connections accepted.", s.accepted as f64),
        ("windlass_refused_total", "Connections refused by the handler.", s.refused as f64),
        ("windlass_shed_total", "Connections closed for want of descriptors.", s.shed as f64),
        ("windlass_lost_total", "Clients gone before they could be accepted.", s.lost as f64),
        ("windlass_backoffs_total", "Times a listener began to wait for a descriptor or memory.", s.backoffs as f64),
        ("windlass_connected_total", "Dials that became connections.", s.connected as f64),
        ("windlass_dial_errors_total", "Tries of dials that failed.", s.dial_errors as f64),
        ("windlass_closed_total", "Connections that ended.", s.closed as f64),
        ("windlass_connections", "Connections open now.", s.open as f64),
        ("windlass_read_bytes_total", "Bytes received.", s.bytes_read as f64),
        ("windlass_written_bytes_total", "Bytes sent.", s.bytes_written as f64),
        ("windlass_discarded_bytes_total", "Bytes thrown away while closing.", s.bytes_discarded as f64),
        ("windlass_reads_total", "Receive calls.", s.reads as f64),
        ("windlass_writes_total", "Send calls.", s.writes as f64),
        ("windlass_would_blocks_total", "Calls that found nothing to do.", s.would_blocks as f64),
        ("windlass_buffered_bytes", "Unread input and unsent output now.", s.buffered as f64),
        ("windlass_descriptors_dropped_total", "Descriptors that came unasked and were closed.", s.descriptors_dropped as f64),
        ("windlass_datagrams_received_total", "Datagrams received.", s.datagrams_received as f64),
        ("windlass_datagrams_sent_total", "Datagrams sent.", s.datagrams_sent as f64),
        ("windlass_datagrams_dropped_total", "Datagrams dropped.", s.datagrams_dropped as f64),
        ("windlass_timers_total", "Deadlines and timers that fired.", s.timers as f64),
        ("windlass_posted_total", "Closures run for other threads.", s.posted as f64),
        ("windlass_posted_to_gone_total", "Closures posted to a connection that was gone.", s.posted_to_gone as f64),
        ("windlass_busy_seconds_total", "Time spent outside the poll.", s.busy.as_secs_f64()),
        ("windlass_elapsed_seconds_total", "Time since the loop was made.", s.elapsed.as_secs_f64()),
        ("windlass_longest_turn_seconds", "Longest time between two polls: the loop's lag.", s.longest_turn.as_secs_f64()),
        ("windlass_slowest_callback_seconds", "The slowest callback that was timed.", slowest),
    ];
    let told = rows.iter().filter(|(_, _, value)| !value.is_nan());
    told.map(|(name, help, value)| {
        let total = name.ends_with("_total");
        let kind = if total { "counter" } else { "gauge" };
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    })
    .collect()
}
