//! P3, memory is bounded: what an idle connection costs.
//!
//! The server is a process of its own, so that its resident memory is its own: the clients
//! live here.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/process.rs"]
mod process;

use std::io;
use std::io::BufRead;
use std::net::{SocketAddr, TcpStream};

use process::{Puppet, role, say};
use windlass::{Config, Conn, Handler, Input, ListenerId, Reactor};

/// As many as the promise is stated for, where the system allows them.
const CONNECTIONS: usize = 10_000;

/// Descriptors that are not connections, with room to spare.
const OTHERS: usize = 200;

/// User-space bytes that an idle connection may cost, sessions of type `()`.
const BOUND: u64 = 256;

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}

#[test]
fn an_idle_connection_costs_less_than_256_bytes() {
    if role().is_some() {
        return puppet();
    }
    let limit = raised_limit();
    let connections = CONNECTIONS.min(limit.saturating_sub(OTHERS));
    let mut server = Puppet::start(
        "an_idle_connection_costs_less_than_256_bytes",
        "server",
        u32::try_from(limit).unwrap(),
    );
    let addr: SocketAddr = server.answer().parse().unwrap();
    // The first connections pay for what exists once per loop.
    let mut clients = connect(addr, OTHERS / 2);
    talk(&mut clients);
    server.until("open", |open| open == clients.len() as u64);
    let before = server.ask_number("resident");

    clients.extend(connect(addr, connections - clients.len()));
    server.until("open", |open| open == connections as u64);
    talk(&mut clients);
    let after = server.ask_number("resident");

    let each = after.saturating_sub(before) / (connections - OTHERS / 2) as u64;
    println!("{connections} idle connections: {each} bytes of resident memory each");
    assert!(each < BOUND, "{each} bytes each");
    drop(clients);
    server.until("open", |open| open == 0);
    server.finish();
}

fn connect(addr: SocketAddr, n: usize) -> Vec<TcpStream> {
    (0..n).map(|_| TcpStream::connect(addr).unwrap()).collect()
}

/// One echo each, so that what a first request allocates is counted as well.
fn talk(clients: &mut [TcpStream]) {
    use std::io::{Read, Write};
    for client in clients {
        let mut answer = [0; 64];
        client.set_read_timeout(Some(util::PATIENCE)).unwrap();
        client.write_all(&[7; 64]).unwrap();
        client.read_exact(&mut answer).unwrap();
    }
}

/// This process needs a descriptor for each client.
fn raised_limit() -> usize {
    let config = util::config(|config| config.raise_descriptor_limit = true);
    drop(Reactor::with_config(Echo, config).unwrap());
    let open_files = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = open_files
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().nth(3))
        .unwrap();
    soft.parse().unwrap_or(CONNECTIONS + OTHERS)
}

/// The server process: answers how many connections are open and how much memory it has.
fn puppet() {
    let mut reactor = Reactor::with_config(Echo, Config::default()).unwrap();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    say(reactor.listener(id).unwrap().local_addr());
    let handle = reactor.handle();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let _ = handle.post(move |_, cx| match line.as_str() {
                "open" => say(cx.stats().open),
                _ => say(resident()),
            });
        }
        let _ = handle.shutdown(util::ms(100));
    });
    reactor.run().unwrap();
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
