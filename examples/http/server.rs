//! The handler: takes the requests of a connection one by one, and keeps their time.

use std::io;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Request};
use windlass::{Conn, Deadline, Flow, Handler, Input, ListenerId};

use super::metrics;
use super::request::{self, Body, Code};

/// Time for one request, from its first byte to the last one of its body.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Silence that ends a connection between two requests.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
const MOST_HEADERS: usize = 64;

/// What follows `text/` in the type of a page, and the page.
type Page = Result<(&'static str, Vec<u8>), Code>;

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) answered: u64,
    pub(crate) listener: Option<ListenerId>,
}

#[derive(Default)]
pub(crate) struct Session {
    /// A body that has not wholly come; what is answered then, as to HEAD, and as the last.
    pending: Option<(Body, Page, bool, bool)>,
    /// When the request that has begun must be complete.
    due: Option<Instant>,
}

impl Handler for Server {
    type Session = Session;

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<Session> {
        self.listener = Some(listener);
        conn.set_idle_timeout(Some(KEEP_ALIVE));
        Ok(Session::default())
    }

    /// Stops at `Full`; the loop offers the rest again when the client has read on, and
    /// only then says that the client has finished, which by default closes.
    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while conn.flow() == Flow::Open {
            match self.next(conn, session, input) {
                Ok(true) => *session = Session::default(),
                Ok(false) => break,
                // Where the next request begins is not known any more.
                Err(code) => answer(conn, &Err(code), false, true),
            }
        }
        let waits = conn.flow() == Flow::Open && (session.pending.is_some() || !input.is_empty());
        // Kept as it is until the request is complete, however many bytes come.
        session.due = waits.then(|| session.due.unwrap_or_else(|| conn.now() + REQUEST_TIME));
        conn.set_read_deadline(session.due);
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        _session: &mut Session,
        which: Deadline,
    ) -> io::Result<()> {
        if which != Deadline::Read {
            return Err(io::ErrorKind::TimedOut.into());
        }
        answer(conn, &Err((408, "Request Timeout")), false, true);
        Ok(())
    }
}

impl Server {
    /// Goes on with the request that stands first in the input; whether it was answered.
    fn next(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Session,
        input: &mut Input<'_>,
    ) -> Result<bool, Code> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut head = Request::new(&mut headers);
        if session.pending.is_none() && request::parse(&mut head, input)? {
            let (body, page) = (Body::of(&head)?, self.page(conn, &head));
            let (is_head, is_last) = (head.method == Some("HEAD"), request::is_last(&head));
            session.pending = Some((body, page, is_head, is_last));
        }
        let Some((body, page, is_head, is_last)) = &mut session.pending else {
            return Ok(false);
        };
        let complete = body.skip(input)?;
        if complete {
            answer(conn, page, *is_head, *is_last);
            self.answered += 1;
        }
        Ok(complete)
    }

    fn page(&self, conn: &mut Conn<'_>, head: &Request<'_, '_>) -> Page {
        let path = head.path.unwrap_or_default();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let line = |it: &httparse::Header<'_>| [it.name.as_bytes(), b":", it.value, b"\n"].concat();
        let page = match path {
            "/" => ("html", include_bytes!("index.html").to_vec()),
            "/time" => ("plain", (now(conn) + "\n").into()),
            "/headers" => ("plain", head.headers.iter().flat_map(line).collect()),
            "/metrics" => ("plain; version=0.0.4", metrics::text(conn, self).into()),
            _ => return Err((404, "Not Found")),
        };
        match head.method {
            Some("GET" | "HEAD") => Ok(page),
            _ => Err((405, "Method Not Allowed")),
        }
    }
}

fn answer(conn: &mut Conn<'_>, page: &Page, is_head: bool, is_last: bool) {
    let (code, why, kind, body) = match page {
        Ok((kind, body)) => (200, "OK", *kind, body.clone()),
        Err((code, why)) => (*code, *why, "plain", format!("{code} {why}\n").into()),
    };
    let connection = if is_last { "close" } else { "keep-alive" };
    let (date, length) = (now(conn), body.len());
    write!(
        conn,
        "HTTP/1.1 {code} {why}\r\nDate: {date}\r\nConnection: {connection}\r\nAllow: GET, HEAD\r\n\
         Content-Type: text/{kind}; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
    );
    if !is_head {
        conn.write(&body);
    }
    if is_last {
        conn.close();
    }
}

/// By the loop's wall clock, which a test can set.
fn now(conn: &mut Conn<'_>) -> String {
    httpdate::fmt_http_date(conn.cx().wall())
}
