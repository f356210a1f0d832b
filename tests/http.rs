//! The `http` example in a simulated world: every answer it has, whatever way the bytes of
//! the requests are cut, and its deadlines on a clock that costs no time.
//!
//! `tests/examples.rs` has the same program on real sockets.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "../examples/http/pages.rs"]
mod pages;
#[path = "../examples/http/request.rs"]
mod request;
#[path = "../examples/http/server.rs"]
mod server;
mod util;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use server::{KEEP_ALIVE, REQUEST_TIME, Server};
use util::{KIB, MIB, Rng};
use windlass::sim::{Client, World};

const SECOND: Duration = Duration::from_secs(1);
const PAGE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const TIME: &[u8] = b"GET /time HTTP/1.1\r\nHost: a\r\n\r\n";
/// Unread input and unsent output of one connection: `Limits::high`, one answer, one read.
const BUFFERED: u64 = (512 * KIB) as u64;

// What is answered.

#[test]
fn each_path_is_answered() {
    let mut http = Http::new(1);
    let time = http.ask("GET /time HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(time.code, "200 OK");
    assert_eq!(time.text(), format!("{}\n", time.header("date")));
    httpdate::parse_http_date(time.header("date")).unwrap();

    let headers = http.ask("GET /headers HTTP/1.1\r\nHost: a\r\nX-Two:  b  c \r\n\r\n");
    assert_eq!(headers.text(), "Host:a\nX-Two:b  c\n");

    let page = http.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().starts_with("<!doctype html>"));
    let elsewhere = ["http://", "https://", "src=", "import", "@import"];
    for word in elsewhere.iter().filter(|word| **word != "http://") {
        assert!(
            !page.text().contains(word),
            "the page loads nothing: {word}"
        );
    }
}

#[test]
fn each_metric_has_a_help_and_a_type_that_fits_its_name() {
    let mut http = Http::new(2);
    http.ask("GET /time HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = http.ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let mut values = HashMap::new();
    let text = answer.text();
    let mut lines = text.lines();
    while let Some(help) = lines.next() {
        let (name, help) = help
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(help.ends_with('.'), "{help}");
        let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
        let total = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert_eq!(kind, format!("{name} {total}"));
        let (of, value) = lines.next().unwrap().split_once(' ').unwrap();
        assert_eq!(of, name);
        let twice = values.insert(name, value.parse::<f64>().unwrap());
        assert_eq!(twice, None, "{name}");
    }
    assert_eq!(values["windlass_answers_total"], 1.0);
    assert_eq!(values["windlass_connections"], 1.0);
    assert_eq!(values["windlass_accept_queue"], 0.0);
    assert!(values["windlass_accept_queue_limit"] >= 1.0);
    // Whatever `Stats` has, and three of the example's own.
    let fields = format!("{:?}", http.world.stats()).matches(": ").count();
    assert_eq!(values.len(), fields + 3, "{:?}", http.world.stats());
}

/// Requests, and what becomes of them. `{11}` stands for the rest of a good first line and
/// one header, `{chunked}` for a head whose body comes in chunks.
const KEPT: [(&str, &[&str]); 3] = [
    (
        "200 OK",
        &[
            "GET /time {11}\r\n",
            "\r\nGET /time {11}\r\n",
            "GET /time?zone=utc {11}\r\n",
            "GET /time {11}Content-Length: 3\r\n\r\nabc",
            "GET /time HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        ],
    ),
    (
        "404 Not Found",
        &["GET /nowhere {11}\r\n", "OPTIONS * {11}\r\n"],
    ),
    (
        "405 Method Not Allowed",
        &[
            "DELETE /time {11}\r\n",
            "POST /time {11}Content-Length: 3\r\n\r\nabc",
            "POST /time {11}Content-Length: 0\r\n\r\n",
            "{chunked}3\r\nabc\r\n0\r\n\r\n",
            "{chunked}A;x=y \r\n0123456789\r\n000\r\nT: u\r\nV: w\r\n\r\n",
        ],
    ),
];

/// The same, but for what ends the connection.
const ENDED: [(&str, &[&str]); 5] = [
    (
        "200 OK",
        &[
            "GET /time HTTP/1.0\r\n\r\n",
            "GET /time {11}Connection: close\r\n\r\n",
            "GET /time {11}Connection: te, Close\r\n\r\n",
        ],
    ),
    (
        "400 Bad Request",
        &[
            "\x01\x02\x03\r\n\r\n",
            "GET /time\r\n\r\n",
            "GET /time {11}No colon\r\n\r\n",
            "GET /time {11}Space : x\r\n\r\n",
            "GET /time {11}A: b\r\n folded\r\n\r\n",
            "POST / {11}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "POST / {11}Content-Length: 3, 4\r\n\r\nabcd",
            "POST / {11}Content-Length: +3\r\n\r\nabc",
            "POST / {11}Content-Length: -3\r\n\r\nabc",
            "POST / {11}Content-Length:\r\n\r\nabc",
            "POST / {11}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / {11}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / {11}Transfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "{chunked}\r\n",
            "{chunked}x\r\n",
            "{chunked} 3\r\nabc\r\n",
            "{chunked}+3\r\nabc\r\n",
            "{chunked}0x3\r\nabc\r\n",
            "{chunked}3\nabc\r\n",
            "{chunked}3;\nx\r\nabc\r\n",
            "{chunked}3\r\nabcd\r\n",
            "{chunked}3;{long}\r\nabc\r\n",
        ],
    ),
    (
        "413 Content Too Large",
        &[
            "POST / {11}Content-Length: 1048577\r\n\r\n",
            "POST / {11}Content-Length: 99999999999999999999999\r\n\r\n",
            "{chunked}100001\r\n",
            "{chunked}fffffffffffffffff\r\n",
        ],
    ),
    (
        "431 Request Header Fields Too Large",
        &[
            "GET /{long} {11}\r\n",
            "GET / {11}X: {long}\r\n\r\n",
            "GET / {11}{many}\r\n",
            "{lines}",
        ],
    ),
    (
        "505 HTTP Version Not Supported",
        &[
            "GET /time HTTP/2.0\r\nHost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    ),
];

#[test]
fn requests_are_answered_or_refused_as_they_deserve() {
    let kept = KEPT.iter().map(|row| (row, "keep-alive"));
    let ended = ENDED.iter().map(|row| (row, "close"));
    for (&(code, requests), connection) in kept.chain(ended) {
        for request in requests {
            let mut http = Http::new(3);
            let answer = http.ask(&filled(request));
            assert_eq!(answer.code, code, "{request:?}");
            assert_eq!(answer.header("connection"), connection, "{request:?}");
            let ends = connection == "close";
            assert_eq!(http.world.saw_eof(http.client), ends, "{request:?}");
            if !ends {
                // Not a byte of the body was left.
                assert_eq!(http.ask(&filled("GET /time {11}\r\n")).code, "200 OK");
            }
            http.end();
        }
    }
}

fn filled(request: &str) -> String {
    request
        .replace(
            "{chunked}",
            "POST /time {11}Transfer-Encoding: chunked\r\n\r\n",
        )
        .replace("{11}", "HTTP/1.1\r\nHost: a\r\n")
        .replace("{long}", &"x".repeat(9 * KIB))
        .replace("{many}", &"X: y\r\n".repeat(64))
        .replace("{lines}", &"\r\n".repeat(5 * KIB))
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let mut http = Http::new(4);
    for path in ["/", "/time", "/headers", "/nowhere"] {
        let get = http.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        http.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        http.world.run();
        let head = http.world.received(http.client);
        let end = get.head.len();
        assert_eq!(String::from_utf8(head).unwrap(), get.head[..end]);
    }
}

// However the bytes come.

#[test]
fn requests_cut_at_random_get_the_same_answers() {
    let chunked = "POST /time HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let requests = [
        "GET /time HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
        "GET /headers HTTP/1.1\r\nHost: a\r\nX-Number: one\r\n\r\n",
        "PUT /time HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
        chunked,
        "5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
        "GET /headers HTTP/1.1\r\nHost: a\r\nX-Number: two\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /time HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ];
    let ends = [
        "GET /time HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
        format!("{chunked}5\r\nhello!!1\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(9 * KIB)
        ),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9 * KIB)),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
    ];
    for (n, end) in ends.iter().enumerate() {
        let bytes = requests.concat() + end;
        let whole = answers_to(n as u64, &[bytes.as_bytes()]);
        assert_eq!(whole.matches("HTTP/1.1 ").count(), 9, "{whole}");
        for seed in 0..100 {
            let pieces = cut(bytes.as_bytes(), &mut Rng::new(seed));
            assert_eq!(answers_to(seed, &pieces), whole, "seed {seed}, end {n}");
        }
    }
}

#[test]
fn a_thousand_requests_in_one_write_are_answered_in_their_order() {
    let mut http = Http::new(6);
    let requests: String = (0..1000).map(numbered).collect();
    http.send(requests.as_bytes());
    let answers = http.answers();
    assert_eq!(answers.len(), 1000);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.text(), format!("Host:a\nN:{n}\n"));
    }
}

#[test]
fn one_request_may_come_byte_by_byte() {
    let mut http = Http::new(7);
    for byte in TIME {
        assert!(http.world.received(http.client).is_empty());
        http.send(&[*byte]);
        http.world.run();
    }
    assert_eq!(http.answers().len(), 1);
}

#[test]
fn who_has_finished_sending_gets_every_answer() {
    // Into a network that has little room; into one that has all the room that there is,
    // and takes little at a time.
    for (buffers, at_a_time) in [(KIB, None), (64 * MIB, Some(KIB)), (64 * MIB, None)] {
        for n in [1, 5000] {
            let mut http = Http::new(8);
            http.world.close(http.client);
            let faults = http.world.faults();
            faults.buffers(buffers, buffers).short_writes(at_a_time);
            http.client = http.world.connect(http.addr);
            http.send(PAGE.repeat(n).as_bytes());
            http.world.finish(http.client);
            assert_eq!(http.answers().len(), n);
            assert!(http.world.saw_eof(http.client));
            http.end();
        }
    }
}

// Memory.

#[test]
fn who_does_not_read_is_not_answered_for_ever() {
    let mut http = Http::new(9);
    http.world.stop_reading(http.client);
    // Short questions with long answers: together more than `Limits::limit`.
    http.send(PAGE.repeat(10_000).as_bytes());
    http.world.run();
    let buffered = http.world.stats().buffered;
    assert!((1..=BUFFERED).contains(&buffered), "{buffered}");
    // It goes on where it stopped, and no deadline ran meanwhile.
    http.world.advance(REQUEST_TIME);
    http.world.resume_reading(http.client);
    let answers = http.answers();
    assert_eq!(answers.len(), 10_000);
    assert!(answers.iter().all(|answer| answer.code == "200 OK"));
}

#[test]
fn who_never_reads_is_closed() {
    let mut http = Http::new(10);
    http.world.stop_reading(http.client);
    http.send(PAGE.repeat(10_000).as_bytes());
    http.world.advance(KEEP_ALIVE + SECOND);
    http.end();
}

#[test]
fn a_body_that_never_ends_is_refused_and_costs_nothing() {
    for piece in [
        "1\r\nx\r\n".repeat(1000),
        format!("400\r\n{}\r\n", "x".repeat(KIB)),
        "1;x\r\ny\r\n".repeat(500),
    ] {
        let mut http = Http::new(11);
        http.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut sent = 0;
        while !http.world.saw_eof(http.client) {
            assert!(sent <= 2 * MIB, "nobody stops it");
            sent += piece.len();
            http.send(piece.as_bytes());
            http.world.run();
            assert!(http.world.stats().buffered <= piece.len() as u64);
        }
        assert!(sent >= MIB, "{sent}");
        assert_eq!(http.answers()[0].code, "413 Content Too Large");
        http.end();
    }
}

#[test]
fn trailers_that_never_end_are_refused() {
    let mut http = Http::new(12);
    http.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    let trailers = "Name: value\r\n".repeat(MIB / 10);
    http.send(trailers.as_bytes());
    assert_eq!(http.answers()[0].code, "413 Content Too Large");
    http.end();
}

// Time.

#[test]
fn a_request_has_its_time_whatever_comes_of_it_meanwhile() {
    for start in [
        "GET /time HTTP/1.1\r\nHost: ",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;",
    ] {
        let mut http = Http::new(13);
        http.send(start.as_bytes());
        http.world.run();
        for _ in 1..REQUEST_TIME.as_secs() {
            http.world.advance(SECOND);
            http.send(b"x");
        }
        http.world.advance(SECOND - Duration::from_millis(1));
        assert!(http.world.received(http.client).is_empty(), "{start:?}");
        http.world.advance(Duration::from_millis(1));
        let answers = http.answers();
        assert_eq!(answers[0].code, "408 Request Timeout", "{start:?}");
        assert_eq!(answers[0].header("connection"), "close");
        assert!(http.world.saw_eof(http.client));
        http.end();
    }
}

#[test]
fn each_request_of_a_connection_has_its_own_time() {
    let mut http = Http::new(14);
    let (first, rest) = TIME.split_at(5);
    http.send(first);
    for _ in 0..10 {
        http.world.advance(REQUEST_TIME - SECOND);
        http.send(rest);
        // Here the time of the next one begins.
        http.send(first);
        http.world.run();
        assert_eq!(http.answers().len(), 1);
    }
    http.world.advance(REQUEST_TIME - Duration::from_millis(1));
    assert!(!http.world.saw_eof(http.client));
    http.world.advance(Duration::from_millis(1));
    assert_eq!(http.answers()[0].code, "408 Request Timeout");
}

#[test]
fn between_requests_a_connection_may_be_silent_for_a_while_and_ends_without_a_word() {
    let mut http = Http::new(15);
    for _ in 0..3 {
        http.world.advance(KEEP_ALIVE - Duration::from_millis(1));
        assert_eq!(
            http.ask("GET /time HTTP/1.1\r\nHost: a\r\n\r\n").code,
            "200 OK"
        );
    }
    http.world.advance(KEEP_ALIVE - Duration::from_millis(1));
    assert!(!http.world.saw_eof(http.client));
    http.world.advance(Duration::from_millis(1));
    assert!(http.world.saw_eof(http.client));
    assert!(http.world.received(http.client).is_empty());
    http.end();
}

// The other end.

struct Http {
    world: World<Server>,
    addr: SocketAddr,
    client: Client,
}

struct Answer {
    /// Everything before the body.
    head: String,
    code: String,
    body: Vec<u8>,
}

impl Http {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, Server::default());
        let addr = world.listen("127.0.0.1:80");
        let client = world.connect(addr);
        Self {
            world,
            addr,
            client,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.world.send(self.client, bytes);
    }

    #[track_caller]
    fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes());
        self.world.run();
        let bytes = self.world.received(self.client);
        let bodiless = request.starts_with("HEAD");
        let (answer, rest) = Answer::parse(&bytes, bodiless);
        assert_eq!(rest, b"", "more than one answer to {request:?}");
        answer
    }

    /// What has been answered to requests that were not HEAD.
    #[track_caller]
    fn answers(&mut self) -> Vec<Answer> {
        self.world.run();
        let bytes = self.world.received(self.client);
        let (mut answers, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let (answer, more) = Answer::parse(rest, false);
            answers.push(answer);
            rest = more;
        }
        answers
    }

    /// Goes away; then nothing is left of the connection.
    #[track_caller]
    fn end(mut self) {
        self.world.close(self.client);
        self.world.run();
        let stats = self.world.stats();
        assert_eq!((stats.open, stats.buffered), (0, 0), "{stats:?}");
        assert_eq!(stats.closed, stats.accepted);
    }
}

impl Answer {
    #[track_caller]
    fn parse(bytes: &[u8], bodiless: bool) -> (Self, &[u8]) {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.expect("an answer") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let code = head.lines().next().unwrap();
        let code = code.strip_prefix("HTTP/1.1 ").unwrap().to_owned();
        let mut answer = Self {
            head,
            code,
            body: Vec::new(),
        };
        let length: usize = answer.header("content-length").parse().unwrap();
        let end_of_body = if bodiless { end } else { end + length };
        answer.body = bytes[end..end_of_body].to_vec();
        (answer, &bytes[end_of_body..])
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(it, _)| it.eq_ignore_ascii_case(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
            .1
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

fn numbered(n: usize) -> String {
    format!("GET /headers HTTP/1.1\r\nHost: a\r\nN: {n}\r\n\r\n")
}

/// All that a client gets that sends these pieces, each after the loop has seen the last.
fn answers_to(seed: u64, pieces: &[&[u8]]) -> String {
    let mut http = Http::new(seed);
    for piece in pieces {
        http.send(piece);
        http.world.run();
    }
    assert!(http.world.saw_eof(http.client));
    let received = http.world.received(http.client);
    http.end();
    String::from_utf8(received).unwrap()
}

/// Mostly small pieces, some large ones, from a seed.
fn cut<'b>(mut bytes: &'b [u8], rng: &mut Rng) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let most = if rng.one_in(4) { 2000 } else { 20 };
        let (piece, rest) = bytes.split_at(rng.range(1, most).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
