//! The pages, and how they are written.

use httparse::{Header, Request};
use httpdate::fmt_http_date;
use windlass::Conn;

use super::request::{Page, empty};
use super::server::Server;

pub(crate) fn page(conn: &mut Conn, head: &Request, server: &Server) -> Page {
    let line = |it: &Header| [it.name.as_bytes(), b":", it.value, b"\n"].concat();
    let date = fmt_http_date(conn.cx().wall());
    let (kind, body) = match head.path.and_then(|path| path.split('?').next()) {
        Some("/") => ("html", include_str!("index.html").into()),
        Some("/time") => ("plain", (date + "\n").into()),
        Some("/headers") => ("plain", head.headers.iter().flat_map(line).collect()),
        Some("/metrics") => ("plain; version=0.0.4", metrics(conn, server).into()),
        _ => return empty((404, "Not Found")),
    };
    match head.method {
        Some("GET" | "HEAD") => ((200, "OK"), kind, body),
        _ => empty((405, "Method Not Allowed")),
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

/// What the loop counts, and the example, in the text format of Prometheus.
fn metrics(conn: &mut Conn, server: &Server) -> String {
    // Not every system tells, and NaN is the format's word for that.
    let queue = |id| conn.cx().listener(id).and_then(|mut it| it.queue().ok());
    let queue = server.listener.and_then(queue);
    let (waiting, limit) = queue.map_or((f64::NAN, f64::NAN), |(n, of)| (n.into(), of.into()));
    let answered = server.answered as f64;
    let own = [
        ("answers_total", "Requests answered.", answered),
        ("accept_queue", "Clients that wait.", waiting),
        ("accept_queue_limit", "Clients that may wait.", limit),
    ];
    let stats = conn.cx().stats().metrics();
    let stats = stats.map(|it| (it.name, it.help, it.value));
    let row = |(name, help, value): (&str, &str, f64)| {
        let kind = ["gauge", "counter"][usize::from(name.ends_with("_total"))];
        let name = format!("windlass_{name}");
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    };
    stats.chain(own).map(row).collect()
}
