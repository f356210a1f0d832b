//! The examples `resp`, `proxy`, `prefork` and `workers` as programs, over real sockets.
//!
//! `WINDLASS_PROXY_BYTES` says how many bytes go through the proxy, by default 1 GiB.
//! `tests/resp.rs` and `tests/relay.rs` have two of them in a simulated world.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/host.rs"]
mod host;
#[path = "util/program.rs"]
mod program;
mod util;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use host::Dir;
use program::{PATIENCE, Program, has_ended, resident, signal};
use util::{Ending, KIB, MIB, connect, eventually, ms, pattern};

const SERVERS: [&str; 4] = ["resp", "proxy", "prefork", "workers"];

// What all of them do.

#[test]
fn an_address_that_makes_no_sense_is_one_line_and_status_1() {
    let nonsense = "listen tcp: address nonsense: missing port in address\n";
    for name in SERVERS {
        let end = Program::start(name, &["nonsense"]).end();
        assert_eq!(end.failure(), (Some(1), nonsense), "{name}");
    }
}

// resp

#[test]
fn resp_answers_a_pipeline_and_lets_it_finish_when_it_is_stopped() {
    let (program, address) = Program::listening("resp", &["127.0.0.1:0"]);
    let mut client = dial(&address);
    client
        .write_all(b"SET ship windlass\r\n*2\r\n$3\r\nGET\r\n$4\r\nship\r\nPING\r\n")
        .unwrap();
    expect(&mut client, b"+OK\r\n$8\r\nwindlass\r\n+PONG\r\n");
    program.signal("TERM");
    assert_eq!(util::read_to_eof(&mut client), b"");
    drop(client);
    program.end().expect_success();
}

#[test]
fn resp_forgets_keys_in_real_time() {
    let (_program, address) = Program::listening("resp", &["--memory", "1", "127.0.0.1:0"]);
    let mut client = BufReader::new(dial(&address));
    let began = Instant::now();
    let asked = b"SET a 1\r\nEXPIRE a 1\r\n";
    client.get_mut().write_all(asked).unwrap();
    assert_eq!(
        [line(&mut client), line(&mut client)],
        ["+OK\r\n", ":1\r\n"]
    );
    let ended = eventually(PATIENCE, || {
        client.get_mut().write_all(b"INFO\r\n").unwrap();
        let info = [(); 4].map(|()| line(&mut client));
        info[2] == "db0:keys=0\r\n"
    });
    assert!(
        ended && began.elapsed() >= ms(1000),
        "{:?}",
        began.elapsed()
    );
}

// proxy

#[test]
fn proxy_holds_little_however_stuck_both_sides_are_and_loses_nothing() {
    const MOST: usize = 64 * MIB;
    let pair = Pair::new();
    let before = resident(pair.proxy.pid());
    let sides = [(pair.client, pair.server, 1), (pair.back.0, pair.back.1, 2)];
    let (out, sent) = mpsc::channel();
    let mut reading = Vec::new();
    for (mut from, to, seed) in sides {
        let data = pattern(MOST, seed);
        let out = out.clone();
        thread::spawn({
            let data = data.clone();
            move || {
                for piece in data.chunks(64 * KIB) {
                    from.write_all(piece).unwrap();
                    out.send(piece.len()).unwrap();
                }
                from.shutdown(Shutdown::Write).unwrap();
            }
        });
        reading.push((to, data));
    }
    drop(out);
    // Nobody reads: the senders get stuck when the kernel's buffers are full, and ours.
    let mut taken = 0;
    while let Ok(n) = sent.recv_timeout(ms(500)) {
        taken += n;
    }
    assert!(
        taken < 2 * MOST,
        "the senders are stuck: {taken} bytes gone"
    );
    if let (Some(before), Some(now)) = (before, resident(pair.proxy.pid())) {
        println!(
            "MEASURED: {taken} bytes taken, {} KiB held",
            (now - before) / 1024
        );
        // Two directions of `Limits::high` and one read each, the read buffer, pools.
        assert!(
            now < before + 4 * MIB as u64,
            "{before} and then {now} bytes"
        );
    }
    let readers = reading.into_iter().map(|(mut to, data)| {
        thread::spawn(move || util::assert_same(&util::read_to_eof(&mut to), &data))
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.join().unwrap();
    }
}

#[test]
fn proxy_passes_a_gigabyte_on_unchanged_in_both_directions_at_once() {
    let wanted = std::env::var("WINDLASS_PROXY_BYTES");
    let bytes = wanted.map_or(1 << 30, |text| text.parse::<u64>().unwrap());
    let pair = Pair::new();
    let before = resident(pair.proxy.pid());
    let began = Instant::now();
    // A quarter of it comes back.
    let directions = [
        (pair.client, pair.server, bytes),
        (pair.back.0, pair.back.1, bytes / 4),
    ];
    let threads: Vec<_> = directions
        .into_iter()
        .flat_map(|(from, to, bytes)| {
            [
                thread::spawn(move || write_cycles(from, bytes)),
                thread::spawn(move || read_cycles(to, bytes)),
            ]
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let took = began.elapsed();
    println!("MEASURED: {bytes} bytes and a quarter of it back in {took:.1?}");
    if let (Some(before), Some(now)) = (before, resident(pair.proxy.pid())) {
        println!("MEASURED: {} KiB held", now.saturating_sub(before) / 1024);
        assert!(
            now < before + 8 * MIB as u64,
            "{before} and then {now} bytes"
        );
    }
}

/// Its length has no common divisor with any buffer's, so that a gap or a repeat shows.
const CYCLE: usize = 1_048_573;

fn write_cycles(mut to: TcpStream, mut left: u64) {
    let cycle = pattern(CYCLE, 3);
    while left > 0 {
        let n = left.min(CYCLE as u64);
        to.write_all(&cycle[..n as usize]).unwrap();
        left -= n;
    }
    to.shutdown(Shutdown::Write).unwrap();
}

fn read_cycles(mut from: TcpStream, bytes: u64) {
    let cycle = pattern(CYCLE, 3);
    let mut buffer = vec![0; 256 * KIB];
    let (mut at, mut read) = (0, 0);
    loop {
        let most = buffer.len().min(CYCLE - at);
        let n = from.read(&mut buffer[..most]).unwrap();
        if n == 0 {
            break;
        }
        assert!(
            buffer[..n] == cycle[at..at + n],
            "damaged behind byte {read}"
        );
        at = (at + n) % CYCLE;
        read += n as u64;
    }
    assert_eq!(read, bytes);
}

#[test]
fn proxy_passes_half_close_on_in_both_directions() {
    for client_first in [true, false] {
        let Pair {
            proxy,
            client,
            server,
            back,
        } = Pair::new();
        drop(back);
        let (mut first, mut second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        first.write_all(b"question").unwrap();
        util::finish(&first);
        assert_eq!(util::read_to_eof(&mut second), b"question");
        assert!(util::is_silent(&first), "the other direction goes on");
        second.write_all(b"a long answer").unwrap();
        expect(&mut first, b"a long");
        second.write_all(b", and more").unwrap();
        util::finish(&second);
        assert_eq!(util::read_to_eof(&mut first), b" answer, and more");
        proxy.signal("TERM");
        proxy.end().expect_success();
    }
}

#[test]
fn proxy_passes_resets_on_as_resets() {
    for client_first in [true, false] {
        let Pair {
            proxy: _proxy,
            client,
            server,
            back,
        } = Pair::new();
        drop(back);
        let (first, mut second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        util::reset(first);
        util::expect_reset(&mut second);
    }
}

#[test]
fn proxy_resets_clients_whose_server_cannot_be_reached_and_serves_on() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = closed.local_addr().unwrap();
    drop(closed);
    let (proxy, address) = Program::listening("proxy", &["127.0.0.1:0", &target.to_string()]);
    util::connect_for_a_reset(address.parse().unwrap());
    let line = format!("dial tcp {target}: connect: connection refused\n");
    assert_eq!(proxy.complaint(), line);
    let server = TcpListener::bind(target).unwrap();
    let mut client = dial(&address);
    let mut accepted = server.accept().unwrap().0;
    client.write_all(b"now").unwrap();
    expect(&mut accepted, b"now");
}

#[test]
fn proxy_resets_both_sides_when_nothing_moves() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap().to_string();
    let (_proxy, address) = Program::listening("proxy", &["--idle", "1s", "127.0.0.1:0", &target]);
    let began = Instant::now();
    let mut client = dial(&address);
    let mut accepted = server.accept().unwrap().0;
    util::expect_reset(&mut client);
    util::expect_reset(&mut accepted);
    assert!(began.elapsed() >= ms(1000), "{:?}", began.elapsed());
}

#[test]
fn proxy_joins_tcp_and_unix_sockets() {
    let dir = Dir::new();
    let server = UnixListener::bind(dir.join("server")).unwrap();
    let (listen, target) = (dir.url("unix", "proxy"), dir.url("unix", "server"));
    let (proxy, address) = Program::listening("proxy", &[&listen, &target]);
    assert!(address.ends_with("/proxy"), "{address}");
    let mut client = UnixStream::connect(dir.join("proxy")).unwrap();
    client.write_all(b"early").unwrap();
    let mut accepted = server.accept().unwrap().0;
    accepted.write_all(b"answer").unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    for (mut end, said) in [(client, "answer"), (accepted, "early")] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        end.read_to_string(&mut text).unwrap();
        assert_eq!(text, said);
    }
    let (other, address) = Program::listening("proxy", &["127.0.0.1:0", &target]);
    let mut client = dial(&address);
    client.write_all(b"over TCP").unwrap();
    let mut accepted = server.accept().unwrap().0;
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = [0; 8];
    accepted.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"over TCP");
    drop((client, accepted, other));
    proxy.signal("TERM");
    proxy.end().expect_success();
    assert!(!dir.join("proxy").exists(), "its path is gone with it");
}

/// A proxy, and a client of it joined to a server; `back` are the same two sockets in the
/// other direction.
struct Pair {
    proxy: Program,
    client: TcpStream,
    server: TcpStream,
    back: (TcpStream, TcpStream),
}

impl Pair {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let (proxy, address) = Program::listening("proxy", &["127.0.0.1:0", &target]);
        let mut client = dial(&address);
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        server.set_write_timeout(Some(PATIENCE)).unwrap();
        // The kernel accepts before the proxy knows; once a byte is through, it does.
        client.write_all(b"x").unwrap();
        expect(&mut server, b"x");
        let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        Self {
            proxy,
            client,
            server,
            back,
        }
    }
}

// prefork

#[test]
fn prefork_replaces_a_worker_that_was_killed_while_clients_are_served() {
    let (program, address) = Program::listening("prefork", &["--workers", "2", "127.0.0.1:0"]);
    let mut clients = one_of_each(&address, 2);
    let victim = clients.keys().next().unwrap().clone();
    let mut orphan = clients.remove(&victim).unwrap();
    let (survivor, mut other) = clients.drain().next().unwrap();
    signal(victim.parse().unwrap(), "KILL");
    let (_, ending) = util::read_to_end_or_reset(orphan.get_mut());
    assert!(matches!(ending, Ending::Eof | Ending::Reset));
    let replaced = eventually(PATIENCE, || {
        // Who is there serves on, and so is everybody who comes meanwhile.
        assert_eq!(echo(&mut other), "hello\n");
        let (pid, _client) = greeted(&address, "worker ");
        pid != survivor && pid != victim
    });
    assert!(replaced, "another worker has clients");
    drop(other);
    program.signal("TERM");
    let out = program.end().expect_success();
    let killed = format!("worker {victim} ended: signal: 9");
    assert!(out.contains(&killed), "{killed:?} in {out}");
}

#[test]
fn prefork_stops_all_its_workers_and_reaps_them() {
    for name in ["TERM", "INT"] {
        let (program, address) = Program::listening("prefork", &["--workers", "3", "127.0.0.1:0"]);
        let mut clients = one_of_each(&address, 3);
        program.signal(name);
        for client in clients.values_mut() {
            let mut rest = String::new();
            client.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "", "what was left, then EOF");
        }
        let pids: Vec<String> = clients.into_keys().collect();
        let out = program.end().expect_success();
        for pid in pids {
            let ended = format!("worker {pid} ended: exit status: 0\n");
            assert!(out.contains(&ended), "{ended:?} in {out}");
            assert!(out.contains(&format!("worker {pid} served ")), "{out}");
            assert!(has_ended(pid.parse().unwrap()), "{pid} is still there");
        }
    }
}

#[test]
fn a_second_signal_ends_prefork_although_a_client_stays() {
    let (program, address) = Program::listening("prefork", &["--workers", "1", "127.0.0.1:0"]);
    let (pid, mut client) = greeted(&address, "worker ");
    let began = Instant::now();
    program.signal("TERM");
    // The worker has said its part, and waits for the client to say that it has done.
    assert_eq!(client.read_line(&mut String::new()).unwrap(), 0);
    program.signal("TERM");
    let out = program.end().expect_success();
    assert!(
        out.contains(&format!("worker {pid} ended: signal: 9")),
        "{out}"
    );
    assert!(began.elapsed() < ms(5000), "{:?}", began.elapsed());
}

#[test]
fn workers_of_a_parent_that_was_killed_end_by_themselves() {
    let (program, address) = Program::listening("prefork", &["--workers", "2", "127.0.0.1:0"]);
    let pids: Vec<String> = one_of_each(&address, 2).into_keys().collect();
    program.signal("KILL");
    for pid in pids {
        let pid = pid.parse().unwrap();
        assert!(eventually(PATIENCE, || has_ended(pid)), "{pid} lives");
    }
}

/// Clients until there is one of each worker: its process, and the client.
fn one_of_each(address: &str, workers: usize) -> HashMap<String, BufReader<TcpStream>> {
    let mut clients = HashMap::new();
    let all = eventually(PATIENCE, || {
        let (pid, client) = greeted(address, "worker ");
        clients.entry(pid).or_insert(client);
        clients.len() == workers
    });
    assert!(all, "{} of {workers} workers", clients.len());
    clients
}

// workers

#[test]
fn workers_hand_clients_over_one_loop_after_the_other_and_lose_no_byte() {
    let (program, address) = Program::listening("workers", &["--loops", "3", "127.0.0.1:0"]);
    let mut clients = Vec::new();
    for n in 0..9 {
        let mut stream = dial(&address);
        // Before anybody has accepted it, perhaps.
        stream.write_all(b"early\n").unwrap();
        let mut client = BufReader::new(stream);
        assert_eq!(line(&mut client), format!("loop {}\n", n % 3 + 1));
        assert_eq!(line(&mut client), "early\n");
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(echo(client), "hello\n");
    }
    drop(clients);
    program.signal("TERM");
    let out = program.end().expect_success();
    for number in 1..=3 {
        let line = format!("loop {number} served 3 clients, 36 bytes\n");
        assert!(out.contains(&line), "{line:?} in {out}");
    }
}

#[test]
fn workers_on_one_port_serve_everybody_between_them() {
    const CLIENTS: usize = 60;
    let args = ["--reuse-port", "--loops", "2", "127.0.0.1:0"];
    let (program, address) = Program::listening("workers", &args);
    let mut of: HashMap<String, usize> = HashMap::new();
    for _ in 0..CLIENTS {
        let (number, mut client) = greeted(&address, "loop ");
        assert_eq!(echo(&mut client), "hello\n");
        *of.entry(number).or_default() += 1;
    }
    if cfg!(target_os = "linux") {
        assert_eq!(of.len(), 2, "{of:?}");
    }
    program.signal("INT");
    let out = program.end().expect_success();
    for (number, clients) in of {
        let line = format!(
            "loop {number} served {clients} clients, {} bytes\n",
            6 * clients
        );
        assert!(out.contains(&line), "{line:?} in {out}");
    }
}

#[test]
fn workers_let_their_clients_finish() {
    let ways: [&[&str]; 2] = [&["127.0.0.1:0"], &["--reuse-port", "127.0.0.1:0"]];
    for args in ways {
        let (program, address) = Program::listening("workers", args);
        let (_, mut client) = greeted(&address, "loop ");
        program.signal("TERM");
        assert_eq!(client.read_line(&mut String::new()).unwrap(), 0, "EOF");
        drop(client);
        program.end().expect_success();
    }
}

// Clients.

fn dial(address: &str) -> TcpStream {
    connect(address.parse::<SocketAddr>().unwrap())
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    util::assert_same(&util::read_exactly(stream, bytes.len()), bytes);
}

/// A client that was told who serves it.
#[track_caller]
fn greeted(address: &str, before: &str) -> (String, BufReader<TcpStream>) {
    let mut client = BufReader::new(dial(address));
    let line = line(&mut client);
    let name = line.strip_prefix(before).unwrap().trim_end().to_owned();
    (name, client)
}

fn echo(client: &mut BufReader<TcpStream>) -> String {
    client.get_mut().write_all(b"hello\n").unwrap();
    line(client)
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}
