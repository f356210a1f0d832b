//! The examples as a user meets them: started as programs, spoken to over real sockets.
//!
//! Every wait has an end (`PATIENCE`), and a program that is still running when its test is
//! over is killed.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/program.rs"]
mod program;
mod util;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
use program::resident;
use program::{PATIENCE, Program, example, full_listener, listening};
#[cfg(target_os = "linux")]
use util::MIB;
use util::connect;

const SERVERS: [&str; 4] = ["daytime", "echo", "idle", "http"];

// What all of them answer.

#[test]
fn an_address_that_cannot_be_listened_on_is_one_line_and_status_1() {
    let cases = [
        (
            "nonsense",
            "listen tcp: address nonsense: missing port in address\n",
        ),
        (
            "127.0.0.1:65536",
            "listen tcp: address 65536: invalid port\n",
        ),
        // Kept for documentation: nobody has it.
        (
            "192.0.2.1:0",
            "listen tcp 192.0.2.1:0: bind: cannot assign requested address\n",
        ),
    ];
    for name in SERVERS {
        for (address, line) in cases {
            let end = Program::start(name, &[address]).end();
            assert_eq!(end.failure(), (Some(1), line), "{name} {address}");
        }
    }
}

#[test]
fn a_privileged_port_is_one_line_and_status_1() {
    let Some(mut command) = unprivileged("echo") else {
        println!("skipped: here every user may listen on port 1");
        return;
    };
    let end = Program::spawn(command.arg("127.0.0.1:1").stdin(Stdio::null())).end();
    let line = "listen tcp 127.0.0.1:1: bind: permission denied\n";
    assert_eq!(end.failure(), (Some(1), line));
}

// daytime

#[test]
fn every_daytime_client_gets_the_whole_line_also_one_that_talks() {
    let (_program, address) = listening("daytime", &["127.0.0.1:0"]);
    let started = unix_now();
    for n in 0..20 {
        let mut client = connect(address);
        if n % 2 == 1 {
            client.write_all(&[b'x'; 50_000]).unwrap();
        }
        let line = read_all(&mut client);
        let at = seconds_since_1970(&line);
        assert!((started..=unix_now()).contains(&at), "{line:?}");
    }
}

// echo

#[test]
fn echo_sends_back_what_it_receives_to_the_last_byte() {
    let (_program, address) = listening("echo", &["127.0.0.1:0"]);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = connect(address);
    let mut writer = client.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
}

#[test]
fn echo_drains_and_prints_its_statistics_on_sigterm_and_on_ctrl_c() {
    for signal in ["TERM", "INT"] {
        let (program, address) = listening("echo", &["127.0.0.1:0"]);
        let mut client = connect(address);
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        program.signal(signal);
        assert_eq!(read_all(&mut client), "", "what was left, then EOF");
        drop(client);
        let end = program.end();
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
        for line in [
            "stopped",
            "served    1 connections, 0 of them cut off at the end",
            "received  5 bytes",
            "sent      5 bytes",
            "turned    ",
        ] {
            assert!(end.out.contains(line), "{line:?} in {end:?}");
        }
    }
}

// idle

#[test]
fn idle_says_goodbye_when_nothing_was_read_for_the_time() {
    let (_program, address) = listening("idle", &["--after", "600ms", "127.0.0.1:0"]);
    let mut client = connect(address);
    let mut last = Instant::now();
    // Together longer than the deadline; each read moves it on.
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    for _ in 0..5 {
        last = Instant::now();
        client.write_all(b"still here\n").unwrap();
        let silence = client.read(&mut [0]).unwrap_err();
        assert!(is_timeout(&silence), "{silence}");
    }
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_all(&mut client), "goodbye\n");
    assert!(last.elapsed() >= Duration::from_millis(600));
}

#[test]
fn idle_waits_three_seconds_unless_told_otherwise() {
    let (_program, address) = listening("idle", &["127.0.0.1:0"]);
    let began = Instant::now();
    let mut client = connect(address);
    assert_eq!(read_all(&mut client), "goodbye\n");
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
}

// backlog

#[test]
fn backlog_never_fills_the_queue_and_ends_in_an_io_timeout() {
    let (program, address) = listening("backlog", &["never", "--backlog", "2"]);
    let end = program.end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    let line = format!("dial tcp {address}: i/o timeout");
    assert!(end.out.contains(&line), "{line:?} in {end:?}");
    assert!(end.out.contains("What you saw"), "{end:?}");
    assert!(
        !end.out.contains('\x1b'),
        "plain lines, when nobody's terminal"
    );
    if cfg!(target_os = "linux") {
        assert!(end.out.contains("waiting 3 of 2 ▇▇▇\n"), "{end:?}");
        assert!(end.out.contains("ListenOverflows "), "{end:?}");
        assert!(end.out.contains("dial 4: no answer"), "{end:?}");
    }
}

#[test]
fn backlog_slow_shows_dials_at_once_then_one_that_waits_then_a_summary() {
    let args = ["slow", "--every", "200ms", "--backlog", "2", "--dials", "5"];
    let end = Program::start("backlog", &args).end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    let lines: HashSet<&str> = end.out.lines().filter_map(happening).collect();
    for n in 1..=5 {
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(&format!("dial {n}: connected")))
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(&format!("accept {n}")))
        );
    }
    assert!(end.out.contains("What you saw"), "{end:?}");
    if cfg!(target_os = "linux") {
        assert!(end.out.contains(" waiting 3 of 2 ▇▇▇\n"), "{end:?}");
        assert!(end.out.contains("Kept waiting: "), "{end:?}");
    }
}

/// What a line says behind its time.
fn happening(line: &str) -> Option<&str> {
    let (time, what) = line.trim_start().split_once(" s  ")?;
    time.parse::<f64>().ok()?;
    Some(what)
}

// dial

#[test]
fn dial_prints_one_line_for_each_address_in_turn() {
    let (listener, open) = listener();
    let closed = util::closed_port();
    let (_held, full) = full_listener();
    let name = format!("localhost:{}", open.port());
    let (open, closed, full) = (open.to_string(), closed.to_string(), full.to_string());
    let args = ["--timeout", "400ms", &full, &closed, &open, &name];
    let began = Instant::now();
    let end = Program::start("dial", &args).end();
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(400)..DIAL_TIMEOUT).contains(&took),
        "{took:?}: {end:?}"
    );
    assert_eq!(
        (end.code, end.err.as_str()),
        (Some(1), "2 failed\n"),
        "{end:?}"
    );
    let lines: Vec<&str> = end.out.lines().collect();
    assert_eq!(lines.len(), 4, "{end:?}");
    for address in [&open, &name] {
        let line = format!("{address}  connected after ");
        assert!(lines.iter().any(|it| it.starts_with(&line)), "{end:?}");
    }
    let late = format!("dial tcp {full}: i/o timeout");
    let refused = format!("dial tcp {closed}: connect: connection refused");
    assert_eq!(lines[..2], [late, refused], "in the order of asking");
    drop(listener);
}

#[test]
fn dial_ends_well_if_all_of_them_are_connected() {
    let (_one, first) = listener();
    let (_other, second) = listener();
    let addresses = [first.to_string(), second.to_string()];
    let end = Program::start("dial", &[&addresses[0], &addresses[1]]).end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    for address in addresses {
        assert!(end.out.contains(&format!("{address}  connected after ")));
    }
}

#[test]
fn dial_fails_if_one_of_them_is_refused() {
    let (_listener, open) = listener();
    let closed = util::closed_port();
    let end = Program::start("dial", &[&closed.to_string(), &open.to_string()]).end();
    assert_eq!(
        (end.code, end.err.as_str()),
        (Some(1), "1 failed\n"),
        "{end:?}"
    );
    assert!(end.out.contains(&format!("{open}  connected after ")));
    let refused = format!("dial tcp {closed}: connect: connection refused\n");
    assert!(end.out.contains(&refused), "{end:?}");
}

#[test]
fn an_address_that_cannot_be_dialed_is_told_like_any_other_end() {
    let (_listener, open) = listener();
    for (address, line) in [
        (
            "nonsense",
            "dial tcp: address nonsense: missing port in address\n",
        ),
        ("127.0.0.1:65536", "dial tcp: address 65536: invalid port\n"),
        ("foo://127.0.0.1:1", "dial foo: unknown network foo\n"),
        (
            "tcp4://[::1]:80",
            "dial tcp4: address ::1: no suitable address found\n",
        ),
    ] {
        let end = Program::start("dial", &[address, &open.to_string(), address]).end();
        assert_eq!((end.code, &*end.err), (Some(1), "2 failed\n"), "{end:?}");
        let (first, rest) = end.out.split_at(line.len());
        assert_eq!(first, line);
        assert!(rest.starts_with(&format!("{open}  connected after ")));
        assert!(rest.ends_with(line), "{end:?}");
    }
}

/// What a dial may take unless told otherwise.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

// http; tests/http.rs has all of its answers

const GET: &[u8] = b"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn http_answers_many_requests_in_one_write_and_one_in_many_writes() {
    let (program, address) = listening("http", &["127.0.0.1:0"]);
    let mut client = connect(address);
    client.write_all(&GET.repeat(500)).unwrap();
    for _ in 0..500 {
        let (head, body) = answer(&mut client);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, "Host:a\n");
    }
    for byte in GET {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(answer(&mut client).1, "Host:a\n");
    program.signal("TERM");
    assert_eq!(
        read_all(&mut client),
        "",
        "nobody waits for the next request"
    );
    drop(client);
    let end = program.end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
}

#[test]
fn http_has_its_pages() {
    let (_program, address) = listening("http", &["127.0.0.1:0"]);
    let mut client = connect(address);
    for (path, kind, word) in [
        ("/", "text/html", "<!doctype html>"),
        ("/time", "text/plain", " GMT\n"),
        ("/headers", "text/plain", "Host:a\n"),
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "\nwindlass_accepted_total 1\n",
        ),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let (head, body) = answer(&mut client);
        assert!(
            head.contains(&format!("\r\nContent-Type: {kind}")),
            "{head}"
        );
        assert!(body.contains(word), "{path}: {body}");
        #[cfg(target_os = "linux")]
        assert!(path != "/metrics" || body.contains("\nwindlass_accept_queue 0\n"));
    }
}

#[test]
fn http_ends_a_request_that_it_cannot_trust() {
    let (_program, address) = listening("http", &["127.0.0.1:0"]);
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for (request, code) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfoo\r\n",
            "400",
        ),
        ("nonsense\r\n\r\n", "400"),
        (&huge, "431"),
    ] {
        let mut client = connect(address);
        client.write_all(request.as_bytes()).unwrap();
        let text = read_all(&mut client);
        assert!(text.starts_with(&format!("HTTP/1.1 {code} ")), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn http_does_not_grow_whatever_it_is_sent() {
    let (program, address) = listening("http", &["127.0.0.1:0"]);
    answer_to(address, GET);
    let before = resident(program.pid()).unwrap();
    let chunks = b"400\r\n".iter().chain(&[b'x'; 1024]).chain(b"\r\n");
    let chunks: Vec<u8> = chunks.copied().collect::<Vec<_>>().repeat(64);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..20 {
        // Bodies that never end, but with the patience of the server.
        let mut client = connect(address);
        client.write_all(head).unwrap();
        for _ in 0..1_000 {
            if client.write_all(&chunks).is_err() {
                break;
            }
        }
    }
    // Who asks, and does not read.
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(address)).collect();
    for client in &mut clients {
        client
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let requests = GET.repeat(1_000);
        for _ in 0..1_000 {
            if client.write_all(&requests).is_err() {
                break;
            }
        }
    }
    answer_to(address, GET);
    let grown = resident(program.pid()).unwrap().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "it has grown by {grown} bytes");
    drop(clients);
}

#[cfg(target_os = "linux")]
fn answer_to(address: SocketAddr, request: &[u8]) -> (String, String) {
    let mut client = connect(address);
    client.write_all(request).unwrap();
    answer(&mut client)
}

/// One answer, and not a byte of the next.
fn answer(client: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (_, length) = head.split_once("\r\nContent-Length: ").unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    client.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// A command that may not bind port 1; `None` where every user may, or where the program
/// cannot be started as another user.
fn unprivileged(name: &str) -> Option<Command> {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.map_or(1024, |text| text.trim().parse::<u32>().unwrap());
    if first <= 1 {
        return None;
    }
    let mut command = Command::new(example(name));
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    if user == b"0\n" {
        let mut trial = Command::new(example(name));
        trial.arg("--help").stdout(Stdio::null());
        as_nobody(&mut trial).status().ok()?;
        as_nobody(&mut command);
    }
    Some(command)
}

fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY).current_dir("/")
}

const NOBODY: u32 = 65_534;

// Clients.

fn read_all(client: &mut TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

// Time.

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Counts the days one by one, unlike the example that it checks.
fn seconds_since_1970(line: &str) -> u64 {
    assert!(line.len() == 20 && line.ends_with('\n'), "{line:?}");
    let field = |range: std::ops::Range<usize>| line[range].parse::<u64>().unwrap();
    let (year, month, day) = (field(0..4), field(5..7), field(8..10));
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    let days = years + months + day - 1;
    ((days * 24 + field(11..13)) * 60 + field(14..16)) * 60 + field(17..19)
}
