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
    let own = [
        (
            "http_requests_total",
            "Requests answered.",
            server.answered as f64,
        ),
        ("windlass_accept_queue", "Clients that wait.", waiting),
        (
            "windlass_accept_queue_limit",
            "Clients that may wait.",
            limit,
        ),
    ];
    let own = own.map(|(name, help, value)| (name.to_owned(), help, value));
    let stats = conn.cx().stats();
    let of_the_loop = stats
        .metrics()
        .map(|it| (format!("windlass_{}", it.name), it.help, it.value));
    let told = own
        .into_iter()
        .chain(of_the_loop)
        .filter(|it| !it.2.is_nan());
    told.map(|(name, help, value)| {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    })
    .collect()
}
