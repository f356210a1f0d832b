//! How each example begins and ends: what its command line may say, and what Ctrl-C and
//! SIGTERM do. The first one lets it finish, the second one ends it at once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/program.rs"]
mod program;
mod util;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{PATIENCE, Program, accept, example, full_listener, listening, names, signal};
use util::{connect, eventually, ms};

/// What one signal alone may wait.
const GRACE: Duration = Duration::from_secs(5);

/// What ends in good order when a signal came, and how it is started as a server.
const SERVERS: &[(&str, &[&str])] = &[
    ("daytime", &["127.0.0.1:0"]),
    ("echo", &["127.0.0.1:0"]),
    ("echo", &["ok", "127.0.0.1:0"]),
    ("chat", &["127.0.0.1:0"]),
    ("idle", &["--after", "1h", "127.0.0.1:0"]),
    ("timeserver", &["127.0.0.1:0"]),
    ("heartbeat", &["serve", "127.0.0.1:0"]),
    ("http", &["127.0.0.1:0"]),
    ("resp", &["127.0.0.1:0"]),
    ("proxy", &["127.0.0.1:0"]), // before another one
    ("prefork", &["--workers", "2", "127.0.0.1:0"]),
    ("workers", &["--loops", "2", "127.0.0.1:0"]),
    ("workers", &["--reuse-port", "127.0.0.1:0"]),
    #[cfg(feature = "tls")]
    ("https", &["127.0.0.1:0"]),
    #[cfg(feature = "tls")]
    ("tls_echo", &["127.0.0.1:0"]),
    #[cfg(feature = "tls")]
    ("proxy", &["--tls", "127.0.0.1:0"]),
];

// The command line.

/// Command lines that make no sense.
const NONSENSE: &[(&str, &[&str])] = &[
    ("backlog", &["sometimes"]),
    ("backlog", &["--every", "0s"]),
    ("backlog", &["--every", "99999999999s"]),
    ("backlog", &["--dials", "-1"]),
    ("chat", &["--port"]),
    ("chat", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("client", &["--port"]),
    ("client", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("daytime", &["--port"]),
    ("daytime", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("daytime", &["client", "127.0.0.1:1", "127.0.0.1:1"]),
    ("dial", &[]),
    ("dial", &["--port"]),
    ("dial", &["--timeout", "3s"]),
    ("dial", &["--timeout", "soon", "127.0.0.1:1"]),
    ("dial", &["--timeout", "99999999999999s", "127.0.0.1:1"]),
    ("echo", &["--port"]),
    ("echo", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("head", &[]),
    ("head", &["--post", "127.0.0.1:1"]),
    ("heartbeat", &[]),
    ("heartbeat", &["client", "127.0.0.1:1", "soon"]),
    ("heartbeat", &["client", "127.0.0.1:1", "0s"]),
    ("heartbeat", &["client", "127.0.0.1:1", "99999999999999s"]),
    ("http", &["--port"]),
    ("http", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("idle", &["--before", "3s"]),
    ("idle", &["--after"]),
    ("idle", &["--after", "soon"]),
    ("idle", &["--after", "99999999999999s"]),
    ("idle", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("parse_ip", &[]),
    ("parse_ip", &["::1", "::1"]),
    ("prefork", &["--port"]),
    ("prefork", &["--workers", "0"]),
    ("prefork", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("proxy", &["--idle", "soon"]),
    ("proxy", &["--idle"]),
    ("proxy", &["--idle", "0s"]),
    ("proxy", &["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]),
    ("resp", &["--port"]),
    ("resp", &["--memory", "much"]),
    ("resp", &["127.0.0.1:0", "127.0.0.1:0"]),
    ("timeserver", &["--after", "soon"]),
    ("timeserver", &["--after"]),
    ("udp", &[]),
    ("udp", &["127.0.0.1:0"]),
    ("udp", &["client", "--port", "many"]),
    ("workers", &["--loops", "0"]),
    ("workers", &["--loops"]),
    #[cfg(feature = "tls")]
    ("https", &["--cert"]),
    #[cfg(feature = "tls")]
    ("https", &["--cert", "only-one-of-two"]),
    #[cfg(feature = "tls")]
    ("tls_client", &["--name"]),
    #[cfg(feature = "tls")]
    ("tls_echo", &["127.0.0.1:0", "127.0.0.1:0"]),
    #[cfg(not(feature = "tls"))]
    ("proxy", &["--tls"]),
];

#[test]
fn each_example_says_how_it_is_used() {
    for name in names() {
        for flag in ["--help", "-h"] {
            let out = Program::start(&name, &[flag]).end().expect_success();
            assert!(out.contains(&format!("usage: {name} ")), "{out}");
        }
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_one_line_with_a_hint_and_status_1() {
    for &(name, args) in NONSENSE {
        let end = Program::start(name, args).end();
        let (code, line) = end.failure();
        assert_eq!(code, Some(1), "{name} {args:?}: {end:?}");
        assert!(line.contains("--help"), "{name} {args:?}: {end:?}");
        assert_eq!(line.lines().count(), 1, "{name} {args:?}: {end:?}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_one_line_and_status_1() {
    for name in names() {
        let argument = OsStr::from_bytes(b"127.0.0.1:\xff");
        let mut command = Command::new(example(&name));
        let end = Program::spawn(command.arg(argument).stdin(Stdio::null())).end();
        assert_eq!(end.code, Some(1), "{name}: {end:?}");
        let said = end.out.clone() + &end.err;
        assert_eq!(said.lines().count(), 1, "{name}: {end:?}");
        assert!(!said.contains("panicked"), "{name}: {end:?}");
    }
}

// Servers.

#[test]
fn a_port_in_use_is_one_line_and_status_1() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let in_use = format!("listen tcp {taken}: bind: address already in use\n");
    for &(name, args) in SERVERS {
        let (_, options) = args.split_last().unwrap();
        let args = [options, &[&taken]].concat();
        let end = Program::start(name, &args).end();
        assert_eq!(end.failure(), (Some(1), &*in_use), "{name} {args:?}");
    }
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let end = Program::start("udp", &["serve", &taken]).end();
    let in_use = format!("listen udp {taken}: bind: address already in use\n");
    assert_eq!(end.failure(), (Some(1), &*in_use));
}

#[test]
fn each_server_ends_well_at_a_signal_with_a_client_connected() {
    for &(name, args) in SERVERS {
        for signal in ["TERM", "INT"] {
            let (server, address, behind) = serving(name, args);
            let mut client = connect(address);
            if behind.is_some() {
                util::round_trip(&mut client, b"joined");
            }
            server.signal(signal);
            // Both say that this was all.
            util::finish(&client);
            let _ = util::read_to_end_or_reset(&mut client);
            drop(client);
            server.end().expect_success();
        }
    }
}

#[test]
fn a_second_signal_ends_each_server_although_a_client_stays() {
    for &(name, args) in SERVERS {
        let (server, address, _behind) = serving(name, args);
        let client = connect(address);
        let began = Instant::now();
        server.signal("TERM");
        // Two of one kind, when the first has been noticed: who stops accepts nobody.
        if name != "prefork" {
            let deaf = eventually(PATIENCE, || TcpStream::connect(address).is_err());
            assert!(deaf, "{name} {args:?}");
        }
        server.signal("INT");
        let end = server.end();
        let took = began.elapsed();
        assert_eq!(end.code, Some(0), "{name} {args:?}: {end:?}");
        assert!(took < GRACE, "{name} {args:?}: {took:?}");
        drop(client);
    }
}

/// A server, and for the proxy the one behind it.
#[track_caller]
fn serving(name: &str, args: &[&str]) -> (Program, SocketAddr, Option<Program>) {
    if name != "proxy" {
        let (server, address) = listening(name, args);
        return (server, address, None);
    }
    let (behind, target) = Program::listening("echo", &["127.0.0.1:0"]);
    let (server, address) = listening(name, &[args, &[&target]].concat());
    (server, address, Some(behind))
}

#[test]
fn a_server_whose_output_nobody_reads_ends_at_the_second_signal() {
    for (name, args) in [
        ("echo", &["ok", "127.0.0.1:0"][..]),
        ("chat", &["127.0.0.1:0"]),
    ] {
        let mut command = Command::new(example(name));
        command.args(args).stdin(Stdio::null());
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = server.stdout.take().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\n") {
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        let said = String::from_utf8(said).unwrap();
        let address = said.strip_prefix("listening on ").unwrap().trim_end();
        let mut client = connect(address.parse().unwrap());
        client.set_nonblocking(true).unwrap();
        let line = [vec![b'x'; 1000], vec![b'\n']].concat();
        // Until it is not read from any more: it hangs in a write to the pipe.
        let mut last = Instant::now();
        let stuck = eventually(PATIENCE, || {
            while client.write(&line).is_ok() {
                last = Instant::now();
            }
            let _ = client.read(&mut [0; 65536]);
            last.elapsed() > ms(300)
        });
        assert!(stuck);
        signal(server.id(), "TERM");
        signal(server.id(), "INT");
        let ended = eventually(PATIENCE, || server.try_wait().unwrap().is_some());
        if !ended {
            server.kill().unwrap();
        }
        assert!(ended, "{name}");
    }
}

// Clients.

#[test]
fn a_client_that_is_stopped_prints_what_is_under_way_and_ends_well() {
    for (name, args) in CLIENTS {
        for signal in ["TERM", "INT"] {
            let (mut client, mut server) = dialed_by(name, args);
            server.write_all(b"early\n").unwrap();
            assert_eq!(client.next_line(), "early\n", "{name}");
            client.signal(signal);
            server.write_all(b"late\n").unwrap();
            util::finish(&server);
            let end = client.end();
            assert_eq!(end.out, "early\nlate\n", "{name}: {end:?}");
            assert_eq!((end.code, &*end.err), (Some(0), ""), "{name}: {end:?}");
        }
    }
}

#[test]
fn a_second_signal_ends_a_client_whose_server_is_silent() {
    for (name, args) in CLIENTS {
        let began = Instant::now();
        let (mut client, mut server) = dialed_by(name, args);
        server.write_all(b"early\n").unwrap();
        assert_eq!(client.next_line(), "early\n", "{name}");
        // Two kinds, because two of one kind may be one.
        client.signal("TERM");
        client.signal("INT");
        let end = client.end();
        assert_eq!((end.code, &*end.err), (Some(0), ""), "{name}: {end:?}");
        assert!(began.elapsed() < GRACE, "{name}");
        drop(server);
    }
}

#[test]
fn the_client_that_is_stopped_tells_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::with_input("client", &[&address], Stdio::piped());
    let mut stdin = client.stdin();
    stdin.write_all(b"hello\n").unwrap();
    let mut server = accept(&listener);
    assert_eq!(util::read_exactly(&mut server, 6), b"hello\n");
    client.signal("INT");
    assert_eq!(
        util::read_to_eof(&mut server),
        b"",
        "and waits for the answer"
    );
    server.write_all(b"ok\n").unwrap();
    drop(server);
    assert_eq!(client.end().expect_success(), "ok\n");
}

#[test]
fn whoever_is_stopped_while_it_dials_ends_well() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = silent.local_addr().unwrap().to_string();
    let (_held, full) = full_listener();
    let full = full.to_string();
    let checked = format!("udp://{udp}");
    let cases: [(&str, &[&str]); 9] = [
        ("client", &[&full]),
        ("daytime", &["client", &full]),
        ("head", &[&full]),
        ("heartbeat", &["client", &full]),
        ("dial", &["--timeout", "1h", &full]),
        ("dial", &["--timeout", "1h", &checked]),
        ("udp", &["client", &udp]),
        ("udp", &["connect", &udp]),
        ("backlog", &["--every", "1h"]),
    ];
    for (name, args) in cases {
        let program = Program::start(name, args);
        assert!(eventually(PATIENCE, || catches_signals(&program)), "{name}");
        let began = Instant::now();
        program.signal("TERM");
        let end = program.end();
        assert_eq!(end.code, Some(0), "{name} {args:?}: {end:?}");
        assert!(began.elapsed() < GRACE, "{name} {args:?}");
    }
}

/// Those that print what a server says.
const CLIENTS: [(&str, &[&str]); 3] = [("client", &[]), ("daytime", &["client"]), ("head", &[])];

/// Whether its handler for SIGTERM is in place; before, a signal just kills it.
fn catches_signals(program: &Program) -> bool {
    const SIGTERM: u32 = 15;
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid()));
    let Ok(status) = status else {
        // Not every system tells; then a little later it is.
        std::thread::sleep(ms(500));
        return true;
    };
    let line = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    caught >> (SIGTERM - 1) & 1 == 1
}

/// A client that is connected to us, its standard input open and silent.
fn dialed_by(name: &str, args: &[&str]) -> (Program, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let args = [args, &[&address]].concat();
    let client = Program::with_input(name, &args, Stdio::piped());
    let server = accept(&listener);
    (client, server)
}
