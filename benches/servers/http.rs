//! HTTP as benchmarks ask for it: the same short page, on connections that are kept. Every
//! server finds the end of a request by httparse.

use std::io;
use std::net::SocketAddr;

use super::echo::{EVERYBODY, SMALL_BUFFER};
use super::exchange::{Clients, Script};
use super::protocol::{self, Protocol};
use super::workload::{Kind, Load, Workload, listen};

const CONNECTIONS: usize = 64;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    User-Agent: servers\r\n\
    Accept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 13\r\n\
    Server: servers\r\n\r\n\
    Hello, World!";
const MOST_HEADERS: usize = 16;

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    let page = |name, depth| -> Box<dyn Workload> { Box::new(Page { name, depth }) };
    vec![page("http-64", 1), page("http-64-deep16", 16)]
}

struct Page {
    name: &'static str,
    /// Requests in flight on each connection.
    depth: usize,
}

impl Workload for Page {
    fn name(&self) -> &str {
        self.name
    }

    fn says(&self) -> String {
        format!(
            "{CONNECTIONS} connections, {} x GET / in flight on each, answered by {} bytes",
            self.depth,
            ANSWER.len()
        )
    }

    fn servers(&self) -> &[Kind] {
        EVERYBODY
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        protocol::serve(kind, listen(at)?, Http, SMALL_BUFFER)
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        let script = Script::new(REQUEST.to_vec(), ANSWER.to_vec(), self.depth);
        Ok(Box::new(Clients::connect(script, at, CONNECTIONS)?))
    }
}

#[derive(Clone)]
struct Http;

impl Protocol for Http {
    fn answer(&mut self, input: &[u8], mut out: impl FnMut(&[u8])) -> Option<usize> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let parsed = httparse::Request::new(&mut headers).parse(input);
        let Ok(httparse::Status::Complete(length)) = parsed else {
            return None;
        };
        out(ANSWER);
        Some(length)
    }
}
