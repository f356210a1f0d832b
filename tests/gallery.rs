//! The smaller examples as a user meets them: started as programs, fed and spoken to over
//! real sockets. `tests/examples.rs` has what all of them answer alike.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/program.rs"]
mod program;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;
use std::ptr::null_mut;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use program::{PATIENCE, Program, accept, listening};
use util::connect;

/// Those that serve, and what starts them as servers.
const SERVERS: [(&str, &[&str]); 7] = [
    ("daytime", &[]),
    ("echo", &[]),
    ("echo", &["ok"]),
    ("chat", &[]),
    ("idle", &[]),
    ("timeserver", &[]),
    ("heartbeat", &["serve"]),
];

fn with<'a>(args: &[&'a str], last: &'a str) -> Vec<&'a str> {
    [args, &[last]].concat()
}

// What they have in common.

#[test]
fn a_client_without_its_server_says_so_in_one_line_and_ends_with_status_1() {
    let closed = util::closed_port().to_string();
    let line = format!("dial tcp {closed}: connect: connection refused\n");
    for (name, args) in [
        ("daytime", with(&["client"], &closed)),
        ("client", with(&[], &closed)),
        ("head", with(&[], &closed)),
        ("head", with(&["--get"], &closed)),
    ] {
        let end = Program::start(name, &args).end();
        assert_eq!(end.failure(), (Some(1), line.as_str()), "{name} {args:?}");
    }
}

#[test]
fn an_address_that_makes_no_sense_is_one_line_and_status_1() {
    let why = "address nonsense: missing port in address\n";
    for (name, args) in SERVERS {
        let end = Program::start(name, &with(args, "nonsense")).end();
        let line = format!("listen tcp: {why}");
        assert_eq!(end.failure(), (Some(1), line.as_str()), "{name} {args:?}");
    }
    for (name, args) in [("client", &[][..]), ("head", &[]), ("daytime", &["client"])] {
        let end = Program::start(name, &with(args, "nonsense")).end();
        let line = format!("dial tcp: {why}");
        assert_eq!(end.failure(), (Some(1), line.as_str()), "{name} {args:?}");
    }
}

// daytime

#[test]
fn the_daytime_client_prints_what_the_server_says() {
    let (_server, address) = listening("daytime", &["127.0.0.1:0"]);
    let end = Program::start("daytime", &["client", &address.to_string()]).end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    assert_eq!(end.out.len(), "2026-01-31 12:34:56\n".len(), "{end:?}");
}

// echo and its client

#[test]
fn echo_answers_each_line_with_ok_and_prints_it() {
    let (mut server, address) = listening("echo", &["ok", "127.0.0.1:0"]);
    let mut client = connect(address);
    client.write_all(b"first\r\nsec").unwrap();
    assert_eq!(util::read_exactly(&mut client, 3), b"ok\n");
    assert!(util::is_silent(&client), "the second one is not whole");
    client.write_all(b"ond\n").unwrap();
    assert_eq!(util::read_exactly(&mut client, 3), b"ok\n");
    server.whole_line("first\n");
    server.whole_line("second\n");
}

#[test]
fn the_client_sends_lines_from_a_pipe_trimmed_and_ends_with_the_input_or_a_q() {
    for (rest, heard) in [
        ("", "hello\n"),
        ("q\nnever sent\n", "hello\n"),
        ("  Q  \nnever sent\n", "hello\n"),
        ("\nquit\n", "hello\nquit\n"),
        ("no end of line", "hello\nno end of line\n"),
    ] {
        let (server, address) = listening("echo", &["ok", "127.0.0.1:0"]);
        let address = address.to_string();
        let mut client = Program::with_input("client", &[&address], Stdio::piped());
        let mut stdin = client.stdin();
        stdin.write_all(b"  hello \n").unwrap();
        assert_eq!(client.next_line(), "ok\n", "while the pipe is open");
        stdin.write_all(rest.as_bytes()).unwrap();
        drop(stdin);
        let end = client.end();
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{rest:?}");
        assert_eq!(end.out, "ok\n".repeat(heard.lines().count()), "{rest:?}");
        server.signal("TERM");
        let out = server.end().out;
        let (_, lines) = out.split_once(&format!("{address}\n")).unwrap();
        assert!(
            lines.starts_with(&format!("{heard}stopped\n")),
            "{rest:?}: {lines}"
        );
    }
}

#[test]
fn the_client_sends_what_a_file_holds() {
    let (_server, address) = listening("echo", &["127.0.0.1:0"]);
    let lines: String = (0..20_000)
        .map(|n| format!("line {n} of a file\n"))
        .collect();
    let path = std::env::temp_dir().join(format!("windlass-gallery-{}", std::process::id()));
    fs::write(&path, &lines).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let end = Program::with_input("client", &[&address.to_string()], file).end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
    assert!(
        end.out == lines,
        "{} of {} bytes",
        end.out.len(),
        lines.len()
    );
}

#[test]
fn the_client_reads_no_more_of_a_pipe_than_the_server_takes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::with_input("client", &[&address], Stdio::piped());
    let mut stdin = client.stdin();
    let total = 40 << 20;
    let writing = thread::spawn(move || {
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        for _ in 0..total / line.len() {
            stdin.write_all(&line).unwrap();
        }
    });
    let mut server = accept(&listener);
    // More than `Limits::limit`, had all of it been queued.
    assert!(!util::eventually(Duration::from_millis(300), || writing.is_finished()));
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), total);
    writing.join().unwrap();
    drop(server);
    let end = client.end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
}

#[test]
fn the_client_is_led_from_a_terminal() {
    let (mut server, address) = listening("echo", &["ok", "127.0.0.1:0"]);
    for last in ["q\n", "\x04"] {
        let (mut keyboard, terminal) = terminal();
        let mut client = Program::with_input("client", &[&address.to_string()], terminal);
        keyboard.write_all(b"hello\n").unwrap();
        assert_eq!(client.next_line(), "ok\n");
        keyboard.write_all(last.as_bytes()).unwrap();
        let end = client.end();
        assert_eq!(
            (end.code, end.out.as_str(), end.err.as_str()),
            (Some(0), "ok\n", "")
        );
        server.whole_line("hello\n");
    }
}

#[test]
fn the_client_says_so_when_the_server_resets_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::with_input("client", &[&address], Stdio::piped());
    let mut stdin = client.stdin();
    stdin.write_all(b"hello\n").unwrap();
    let mut server = accept(&listener);
    assert_eq!(util::read_exactly(&mut server, 6), b"hello\n");
    util::reset(server);
    let end = client.end();
    assert_eq!(end.failure(), (Some(1), "connection reset by peer\n"));
}

/// Somebody's keyboard, and the terminal that belongs to it.
#[allow(unsafe_code, reason = "the standard library has no terminals")]
fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let (name, modes, size) = (null_mut(), null_mut(), null_mut());
    // SAFETY: both numbers are valid places for the call to fill; what is null is optional.
    let answer = unsafe { libc::openpty(&mut master, &mut slave, name, modes, size) };
    assert_eq!(answer, 0, "openpty");
    // SAFETY: the call has just opened both for us, and nobody else knows them.
    unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

// chat

#[test]
fn chat_greets_and_tells_the_others_what_one_says() {
    let (mut server, address) = listening("chat", &["127.0.0.1:0"]);
    let mut guests: Vec<_> = (0..3).map(|_| Guest::enter(address)).collect();
    for guest in &guests {
        let line = format!("Connection from:  {}\n", guest.addr);
        server.whole_line(&line);
    }
    guests[0].say("Tom says: ahoy");
    server.whole_line("<14:Tom says: ahoy>\n");
    guests[1].say("nameless\x1b[2J");
    let nameless = format!("{} says: nameless?[2J", guests[1].addr);
    let line = format!("<{}:{nameless}>\n", nameless.len());
    server.whole_line(&line);
    assert_eq!(guests[2].heard(), "Tom says: ahoy");
    assert_eq!(guests[2].heard(), nameless);
    assert_eq!(guests[0].heard(), nameless, "and not what it said itself");
    assert_eq!(guests[1].heard(), "Tom says: ahoy");
}

struct Guest {
    stream: BufReader<TcpStream>,
    addr: SocketAddr,
}

impl Guest {
    fn enter(server: SocketAddr) -> Self {
        Self::greeted(connect(server))
    }

    fn greeted(stream: TcpStream) -> Self {
        let addr = stream.local_addr().unwrap();
        let stream = BufReader::new(stream);
        let mut guest = Self { stream, addr };
        assert_eq!(guest.heard(), format!("Welcome, {addr}!"));
        guest
    }

    fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stream.get_mut().write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    fn heard(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Guests of the crowded room, the stuck one not counted.
const CROWD: usize = 999;

#[test]
fn in_a_crowded_chat_one_who_does_not_read_is_cut_off_alone_and_delays_nobody() {
    let (soft, hard) = util::descriptor_limit();
    util::set_descriptor_limit(hard.min(4096).max(soft));
    let (mut server, address) = listening("chat", &["127.0.0.1:0"]);
    let mut guests: Vec<_> = (0..CROWD).map(|_| Guest::enter(address)).collect();
    let alone = median_delay(&mut guests, "before");
    let stuck = Guest::greeted(util::connect_small(address, 4096));
    let cut_off = format!("Cut off:  {} (output limit exceeded)\n", stuck.addr);

    let beside = median_delay(&mut guests, "beside");
    // Now it is sent more than is kept for it, and the others read along.
    let long = "x".repeat(4000);
    for n in 0..100 {
        relay(
            &mut guests,
            &[
                format!("Tom says: {n}"),
                format!("Tom says: {long}"),
                format!("Tom says: {long}"),
                format!("Tom says: {long}"),
                format!("Tom says: {long}"),
            ],
        );
    }
    let line = server.line("Cut off");
    assert_eq!(line, cut_off);
    let after = median_delay(&mut guests, "after");
    println!("median delay to {CROWD}: {alone:?} alone, {beside:?} beside it, {after:?} after");
    assert!(beside < 3 * alone + NOISE, "{beside:?} against {alone:?}");
    assert!(after < 3 * alone + NOISE, "{after:?} against {alone:?}");
    let (_, ending) = util::read_to_end_or_reset(&mut stuck.stream.into_inner());
    assert_eq!(ending, util::Ending::Reset);

    server.signal("TERM");
    drop(guests);
    let end = server.end();
    assert_eq!(
        end.out.matches("output limit exceeded").count(),
        1,
        "nobody else"
    );
    assert_eq!(end.code, Some(0));
}

/// What a busy machine adds to a delay without anybody's fault.
const NOISE: Duration = Duration::from_millis(50);

/// From the saying of a short message until the last one has heard it.
fn median_delay(guests: &mut [Guest], what: &str) -> Duration {
    let mut delays: Vec<_> = (0..9)
        .map(|n| relay(guests, &[format!("Tom says: {what} {n}")]))
        .collect();
    delays.sort();
    delays[delays.len() / 2]
}

/// The first guest says it, and all the others hear it.
fn relay(guests: &mut [Guest], messages: &[String]) -> Duration {
    let (speaker, audience) = guests.split_first_mut().unwrap();
    let began = Instant::now();
    speaker.say(&messages.join("\n"));
    for guest in audience {
        for message in messages {
            assert_eq!(guest.heard(), *message);
        }
    }
    began.elapsed()
}

// idle

#[test]
fn idle_prints_keep_alive_at_each_sign_of_life_and_goodbye_at_the_end() {
    let (mut server, address) = listening("idle", &["--after", "300ms", "127.0.0.1:0"]);
    let mut client = connect(address);
    for _ in 0..3 {
        client.write_all(b"here").unwrap();
        assert_eq!(server.next_line(), "keep alive\n");
    }
    assert_eq!(server.next_line(), "goodbye\n");
    assert_eq!(util::read_to_eof(&mut client), b"goodbye\n");
}

// timeserver

#[test]
fn the_timeserver_answers_seconds_or_the_date_again_and_again() {
    let (_server, address) = listening("timeserver", &["127.0.0.1:0"]);
    let mut client = BufReader::new(connect(address));
    for _ in 0..3 {
        let before = unix_now();
        let seconds: u64 = ask(&mut client, "timestamp\n").parse().unwrap();
        assert!((before..=unix_now()).contains(&seconds), "{seconds}");
        let date = ask(&mut client, "what day is it?\r\n");
        let date = humantime::parse_rfc3339(&date).unwrap();
        assert!(date.duration_since(UNIX_EPOCH).unwrap().as_secs() >= seconds);
    }
}

#[test]
fn the_timeserver_refuses_a_request_of_more_than_128_bytes() {
    let (_server, address) = listening("timeserver", &["127.0.0.1:0"]);
    let mut client = BufReader::new(connect(address));
    let longest = "x".repeat(128);
    ask(&mut client, &format!("{longest}\n"));
    // One more, and it need not have an end.
    let refusal = ask(&mut client, &format!("{longest}x"));
    assert_eq!(refusal, "frame too long: 129 bytes where 128 are allowed");
    assert_eq!(util::read_to_eof(client.get_mut()), b"");
}

#[test]
fn the_timeserver_ends_a_connection_without_requests_even_if_bytes_trickle_in() {
    let args = ["--after", "400ms", "127.0.0.1:0"];
    let (_server, address) = listening("timeserver", &args);
    let mut client = connect(address);
    let began = Instant::now();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let end = loop {
        assert!(began.elapsed() < PATIENCE);
        // It may be gone when the byte arrives; the read tells.
        let _ = client.write_all(b"x");
        match client.read(&mut [0; 16]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            end => break end,
        }
    };
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(matches!(end, Ok(0)) || end.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset));
}

fn ask(client: &mut BufReader<TcpStream>, request: &str) -> String {
    client.get_mut().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

fn unix_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

// udp

#[test]
fn udp_asks_from_a_chosen_port_and_is_told_the_time() {
    for host in hosts() {
        let (mut server, address) = listening("udp", &["serve", &format!("{host}:0")]);
        // Free a moment ago: the kernel hands ports out in no order.
        let port = UdpSocket::bind(format!("{host}:0"))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let args = ["client", "--port", &port.to_string(), &address.to_string()];
        let end = Program::start("udp", &args).end();
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
        is_time(&end.out, address);
        let line = format!("{host}:{port}: can you hear me?\n");
        server.whole_line(&line);
        server.signal("TERM");
        assert_eq!(server.end().code, Some(0));
    }
}

#[test]
fn udp_asks_from_a_connected_socket() {
    for host in hosts() {
        let (mut server, address) = listening("udp", &["serve", &format!("{host}:0")]);
        let end = Program::start("udp", &["connect", &address.to_string()]).end();
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
        is_time(&end.out, address);
        server.line(": can you hear me?\n");
    }
}

#[test]
fn a_connected_udp_client_learns_that_nobody_listens_and_another_one_waits_in_vain() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let end = Program::start("udp", &["client", &address]).end();
    assert_eq!(end.failure(), (Some(1), "no answer within 3 s\n"));
    closed_udp_port(nobody);
    let end = Program::start("udp", &["connect", &address]).end();
    let (code, why) = end.failure();
    assert!(why.ends_with(": connection refused\n"), "{why}");
    assert_eq!((code, why.lines().count()), (Some(1), 1));
}

fn is_time(line: &str, server: SocketAddr) {
    let time = line.strip_prefix(&format!("{server}: ")).unwrap();
    humantime::parse_rfc3339(time.trim_end()).unwrap();
}

/// Loopback addresses as they stand before a port.
fn hosts() -> Vec<&'static str> {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => vec!["127.0.0.1", "[::1]"],
        Err(_) => vec!["127.0.0.1"],
    }
}

// dial

#[test]
fn dial_says_in_turn_what_tcp_udp_and_ipv6_endpoints_did() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut asked = vec![format!("tcp://{}", tcp.local_addr().unwrap())];
    let mut said = vec![format!("{}  connected after ", asked[0])];
    let mut listeners = vec![tcp];
    if let Ok(six) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        asked.push(six.local_addr().unwrap().to_string());
        said.push(format!("{}  connected after ", asked[1]));
        listeners.push(six);
    }
    let (_server, answering) = listening("udp", &["serve", "127.0.0.1:0"]);
    asked.push(format!("udp://{answering}"));
    said.push(format!("udp://{answering}  answered after "));
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    asked.push(format!("udp://{}", silent.local_addr().unwrap()));
    said.push(format!(
        "{}  neither refused nor answered after ",
        asked.last().unwrap()
    ));
    let args: Vec<_> = asked.iter().map(String::as_str).collect();
    let end = Program::start("dial", &[&["--timeout", "200ms"], &args[..]].concat()).end();
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    let lines: Vec<_> = end.out.lines().collect();
    assert_eq!(lines.len(), said.len(), "{end:?}");
    for (line, beginning) in lines.iter().zip(&said) {
        assert!(line.starts_with(beginning), "{line:?}, not {beginning:?}");
    }
}

#[test]
fn dial_tells_a_refused_datagram_and_goes_on() {
    let closed = closed_udp_port(UdpSocket::bind("127.0.0.1:0").unwrap());
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = (open.local_addr().unwrap().to_string(), open);
    let end = Program::start("dial", &[&format!("udp://{closed}"), &open.0]).end();
    assert_eq!(
        (end.code, end.err.as_str()),
        (Some(1), "1 failed\n"),
        "{end:?}"
    );
    let lines: Vec<_> = end.out.lines().collect();
    assert!(lines[0].ends_with("connection refused"), "{end:?}");
    assert!(
        lines[1].starts_with(&format!("{}  connected", open.0)),
        "{end:?}"
    );
}

// head

#[test]
fn head_sends_its_request_and_prints_all_that_comes_back() {
    for (args, request) in [
        (&[][..], "HEAD / HTTP/1.0\r\n\r\n"),
        (&["--get"], "GET / HTTP/1.0\r\n\r\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let program = Program::start("head", &with(args, &address));
        let mut server = accept(&listener);
        let got = util::read_exactly(&mut server, request.len());
        assert_eq!(String::from_utf8_lossy(&got), request);
        let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", "body ".repeat(50_000));
        server.write_all(answer.as_bytes()).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let end = program.end();
        assert_eq!((end.code, end.err.as_str()), (Some(0), ""));
        assert!(
            end.out == answer,
            "{} of {} bytes",
            end.out.len(),
            answer.len()
        );
    }
}

// parse_ip

#[test]
fn parse_ip_prints_the_address_or_that_it_is_none() {
    for (text, line, code) in [
        ("127.0.0.1", "127.0.0.1\n", 0),
        ("2001:DB8:0::7", "2001:db8::7\n", 0),
        ("::ffff:127.0.0.1", "127.0.0.1\n", 0),
        ("127.0.0.01", "Invalid address\n", 1),
        ("localhost", "Invalid address\n", 1),
        ("", "Invalid address\n", 1),
    ] {
        let end = Program::start("parse_ip", &[text]).end();
        let all = (end.out.as_str(), end.err.as_str(), end.code);
        assert_eq!(all, (line, "", Some(code)), "{text}");
    }
}

// heartbeat

#[test]
fn heartbeat_outlives_restarts_of_its_server() {
    let (mut server, address) = listening("heartbeat", &["serve", "127.0.0.1:0"]);
    let address = address.to_string();
    let mut client = Program::start("heartbeat", &["client", &address, "20ms"]);
    for _ in 0..2 {
        client.whole_line(&format!("connected to {address}\n"));
        for _ in 0..3 {
            client.whole_line("pong\n");
        }
        server.signal("TERM");
        assert_eq!(server.end().code, Some(0));
        client.line("connection lost: ");
        let refused = format!("dial tcp {address}: connect: connection refused\n");
        assert_eq!(client.complaint(), refused);
        server = listening("heartbeat", &["serve", &address]).0;
    }
    client.whole_line("pong\n");
    client.signal("TERM");
    assert_eq!(client.end().code, Some(0));
}

#[test]
fn heartbeat_hangs_up_and_dials_again_when_a_pong_is_missed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start("heartbeat", &["client", &address, "50ms"]);
    for _ in 0..2 {
        let mut server = accept(&listener);
        // It listens and says nothing: only the deadline can tell.
        assert_eq!(util::read_exactly(&mut server, 5), b"ping\n");
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "no second ping");
        drop(server);
        client.whole_line("connection lost: timed out: read deadline\n");
    }
}

/// A port that no socket for datagrams has.
fn closed_udp_port(socket: UdpSocket) -> SocketAddr {
    let address = socket.local_addr().unwrap();
    drop(socket);
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    probe.connect(address).unwrap();
    let is_refused = || {
        // The refusal of one comes with the next.
        (0..2).any(|_| probe.send(b"").is_err())
    };
    assert!(util::eventually(PATIENCE, is_refused));
    address
}
