//! The pages, and how an answer is written.

use std::borrow::Cow;

use httparse::Request;
use windlass::Conn;

use super::metrics;
use super::request::{Code, says};
use super::server::Server;

const PAGE: &str = include_str!("index.html");
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

const OK: Code = "200 OK";
const NOT_ALLOWED: Code = "405 Method Not Allowed";

pub(crate) struct Answer {
    code: Code,
    kind: &'static str,
    body: Cow<'static, [u8]>,
    /// The client asks about the body, and does not want it.
    head_only: bool,
    keep_alive: bool,
}

impl Answer {
    pub(crate) fn to(head: &Request<'_, '_>, conn: &mut Conn<'_>, server: &Server) -> Self {
        let method = head.method.unwrap_or_default();
        let path = path(head.path.unwrap_or_default());
        let mut answer = match path {
            "/" | "/time" | "/headers" | "/metrics" if !matches!(method, "GET" | "HEAD") => {
                Self::error(NOT_ALLOWED)
            }
            "/" => Self::new(OK, HTML, PAGE.as_bytes()),
            "/time" => Self::new(OK, TEXT, (now(conn) + "\n").into_bytes()),
            "/headers" => Self::new(OK, TEXT, headers(head)),
            "/metrics" => Self::new(OK, METRICS, metrics::text(conn, server)),
            _ => Self::error("404 Not Found"),
        };
        let connection = |word| says(head.headers, "connection", word);
        answer.keep_alive =
            !connection("close") && (head.version == Some(1) || connection("keep-alive"));
        answer.head_only = method == "HEAD";
        answer
    }

    /// After which the connection ends, unless it is made the answer to a request.
    pub(crate) fn error(code: Code) -> Self {
        Self::new(code, TEXT, format!("{code}\n").into_bytes())
    }

    fn new(code: Code, kind: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            code,
            kind,
            body: body.into(),
            head_only: false,
            keep_alive: false,
        }
    }

    pub(crate) fn send(self, conn: &mut Conn<'_>, last: bool) {
        let (code, kind, length, date) = (self.code, self.kind, self.body.len(), now(conn));
        let (connection, ends) = match self.keep_alive && !last {
            true => ("keep-alive", false),
            false => ("close", true),
        };
        write!(
            conn,
            "HTTP/1.1 {code}\r\nDate: {date}\r\nConnection: {connection}\r\n"
        );
        if code == NOT_ALLOWED {
            conn.write(b"Allow: GET, HEAD\r\n");
        }
        write!(
            conn,
            "Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        if !self.head_only {
            conn.write(&self.body);
        }
        if ends {
            conn.close();
        }
    }
}

/// Without the query, and without the host that stands before it when a proxy is meant.
fn path(target: &str) -> &str {
    let host = target.strip_prefix("http://");
    let path = host.map_or(target, |host| host.find('/').map_or("/", |at| &host[at..]));
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// By the loop's wall clock, which a test can set.
fn now(conn: &mut Conn<'_>) -> String {
    httpdate::fmt_http_date(conn.cx().wall())
}

/// One line for each header, as it came.
fn headers(head: &Request<'_, '_>) -> Vec<u8> {
    let lines = head
        .headers
        .iter()
        .map(|it| [it.name.as_bytes(), b":", it.value, b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}
