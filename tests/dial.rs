//! Dialing on real sockets: exactly one end for each try, in time, with Go's words.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/process.rs"]
mod process;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use util::{PATIENCE, config, ms};
use windlass::{
    Backoff, Closed, Config, Conn, ConnId, Context, Dial, DialId, Error, Handle, Handler, Input,
    Reactor,
};

/// What the loop has told about its dials.
#[derive(Debug)]
enum Told {
    Connected(DialId, ConnId, SocketAddr),
    Failed(DialId, String, bool, Option<Duration>),
    Read(Vec<u8>),
    Closed,
}

struct Client {
    tell: Sender<Told>,
    greeting: &'static [u8],
}

impl Handler for Client {
    type Session = DialId;

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<DialId> {
        conn.write(self.greeting);
        let peer = conn.peer_addr().as_socket_addr().unwrap();
        let _ = self.tell.send(Told::Connected(dial, conn.id(), peer));
        Ok(dial)
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        let told = Told::Failed(dial, error.to_string(), error.is_timeout(), retry_in);
        let _ = self.tell.send(told);
    }

    fn on_read(
        &mut self,
        _: &mut Conn<'_>,
        _: &mut DialId,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let _ = self.tell.send(Told::Read(input.take_all().to_vec()));
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: DialId, _: &Closed) {
        let _ = self.tell.send(Told::Closed);
    }
}

/// A loop with a client on a thread of its own.
struct Loop {
    handle: Handle<Client>,
    told: Receiver<Told>,
    thread: Option<std::thread::JoinHandle<io::Result<windlass::Summary>>>,
}

impl Loop {
    fn start(config: Config, first: Vec<Dial>) -> Self {
        let (tell, told) = mpsc::channel();
        let (say, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let client = Client {
                tell,
                greeting: b"hello\n",
            };
            let mut reactor = Reactor::with_config(client, config)?;
            for dial in first {
                reactor.dial(dial)?;
            }
            say.send(reactor.handle()).unwrap();
            reactor.run()
        });
        let handle = handle.recv_timeout(PATIENCE).unwrap();
        Self {
            handle,
            told,
            thread: Some(thread),
        }
    }

    fn dialing(dial: Dial) -> Self {
        Self::start(Config::default(), vec![dial])
    }

    #[track_caller]
    fn told(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("news of a dial")
    }

    #[track_caller]
    fn failure(&self) -> String {
        match self.told() {
            Told::Failed(_, text, ..) => text,
            other => panic!("not a failure: {other:?}"),
        }
    }

    /// Ends the loop, and answers what it still had to tell.
    #[track_caller]
    fn stop(mut self) -> (windlass::Summary, Vec<Told>) {
        let _ = self.handle.shutdown(ms(200));
        let thread = self.thread.take().unwrap();
        let ended = util::eventually(PATIENCE, || thread.is_finished());
        assert!(ended, "the loop ends in time");
        let summary = thread.join().unwrap().unwrap();
        assert_eq!(summary.stats.panics, 0, "a callback panicked");
        (summary, self.told.try_iter().collect())
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A listener whose queue is full: a dial to it is never answered.
fn full_listener() -> (Vec<Socket>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(1).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![socket];
    // Until one more is not answered.
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if client.connect_timeout(&addr.into(), ms(300)).is_err() {
            return (held, addr);
        }
        held.push(client);
    }
}

fn dial(addr: SocketAddr) -> Dial {
    Dial::from(addr)
}

#[test]
fn a_dial_connects_and_bytes_pass_both_ways() {
    let (listener, addr) = listener();
    let client = Loop::dialing(dial(addr));
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 6];
    server.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello\n");
    assert!(matches!(client.told(), Told::Connected(_, _, peer) if peer == addr));
    server.write_all(b"welcome").unwrap();
    assert!(matches!(client.told(), Told::Read(bytes) if bytes == b"welcome"));
    drop(server);
    assert!(matches!(client.told(), Told::Closed));
    let (summary, rest) = client.stop();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!((summary.stats.connected, summary.stats.closed), (1, 1));
}

#[test]
fn bytes_that_come_with_the_connection_are_read() {
    let (listener, addr) = listener();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"first").unwrap();
        stream
    });
    let client = Loop::dialing(dial(addr));
    assert!(matches!(client.told(), Told::Connected(..)));
    assert!(matches!(client.told(), Told::Read(bytes) if bytes == b"first"));
    drop(server.join());
}

#[test]
fn a_refused_dial_says_so_in_gos_words() {
    let addr = util::closed_port();
    let client = Loop::dialing(dial(addr));
    assert_eq!(
        client.failure(),
        format!("dial tcp {addr}: connect: connection refused")
    );
    let (summary, rest) = client.stop();
    assert!(rest.is_empty(), "exactly one end: {rest:?}");
    assert_eq!(summary.stats.dial_errors, 1);
}

#[test]
fn a_dial_to_a_full_queue_times_out_when_asked_and_not_before() {
    let (_held, addr) = full_listener();
    let began = Instant::now();
    let client = Loop::dialing(dial(addr).timeout(ms(300)));
    let Told::Failed(_, text, is_timeout, retry_in) = client.told() else {
        panic!("it cannot connect")
    };
    let took = began.elapsed();
    assert_eq!(text, format!("dial tcp {addr}: i/o timeout"));
    assert!(is_timeout && retry_in.is_none());
    assert!(took >= ms(300), "early: {took:?}");
    assert!(took < ms(600), "late: {took:?}");
}

#[test]
fn a_deadline_that_has_passed_ends_the_dial_without_an_attempt() {
    let (listener, addr) = listener();
    listener.set_nonblocking(true).unwrap();
    let client = Loop::dialing(dial(addr).deadline(Instant::now()));
    assert_eq!(client.failure(), format!("dial tcp {addr}: i/o timeout"));
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_earlier_of_timeout_and_deadline_counts() {
    let (_held, addr) = full_listener();
    let far = Instant::now() + Duration::from_secs(3600);
    let client = Loop::dialing(dial(addr).deadline(far).timeout(ms(100)));
    assert!(client.failure().ends_with("i/o timeout"));
    let far = dial(addr)
        .timeout(Duration::MAX)
        .deadline(Instant::now() + ms(100));
    let client = Loop::dialing(far);
    assert!(client.failure().ends_with("i/o timeout"));
}

#[test]
fn a_thousand_dials_to_a_full_queue_cost_no_thread_and_no_spin() {
    // Threads are counted.
    process::alone(
        "a_thousand_dials_to_a_full_queue_cost_no_thread_and_no_spin",
        a_thousand_dials,
    );
}

fn a_thousand_dials() {
    let (_held, addr) = full_listener();
    let client = Loop::start(Config::default(), Vec::new());
    let threads = thread_count();
    let (say, cpu) = mpsc::channel();
    let before = say.clone();
    client
        .handle
        .post(move |_, cx| {
            before.send(util::thread_cpu_time()).unwrap();
            for _ in 0..1000 {
                cx.dial(dial(addr).timeout(ms(700))).unwrap();
            }
        })
        .unwrap();
    let cpu_before = cpu.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    for _ in 0..1000 {
        assert!(client.failure().ends_with("i/o timeout"));
    }
    assert!(began.elapsed() >= ms(650));
    assert!(thread_count() <= threads, "no thread for a literal address");
    client
        .handle
        .post(move |_, _| say.send(util::thread_cpu_time()).unwrap())
        .unwrap();
    let spent = cpu.recv_timeout(PATIENCE).unwrap() - cpu_before;
    assert!(spent < ms(350), "it spun: {spent:?} of processor time");
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[test]
fn a_canceled_dial_ends_as_canceled_and_once() {
    let (_held, addr) = full_listener();
    let client = Loop::start(Config::default(), Vec::new());
    let (say, answered) = mpsc::channel();
    client
        .handle
        .post(move |_, cx| {
            let id = cx.dial(addr).unwrap();
            say.send((cx.cancel_dial(id), cx.cancel_dial(id))).unwrap();
        })
        .unwrap();
    assert_eq!(answered.recv_timeout(PATIENCE).unwrap(), (true, false));
    assert_eq!(
        client.failure(),
        format!("dial tcp {addr}: operation was canceled")
    );
    let (_, rest) = client.stop();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn canceling_after_the_connect_leaves_the_connection_alone() {
    let (listener, addr) = listener();
    let client = Loop::dialing(dial(addr));
    let (mut server, _) = listener.accept().unwrap();
    let Told::Connected(id, conn, _) = client.told() else {
        panic!("it connects")
    };
    let (say, canceled) = mpsc::channel();
    client
        .handle
        .post(move |_, cx| {
            say.send((cx.cancel_dial(id), cx.conn(conn).is_some()))
                .unwrap();
        })
        .unwrap();
    assert_eq!(canceled.recv_timeout(PATIENCE).unwrap(), (false, true));
    server.write_all(b"still here").unwrap();
    assert!(matches!(client.told(), Told::Read(_)));
}

#[test]
fn a_name_is_looked_up_and_its_addresses_are_tried() {
    let (listener, addr) = listener();
    let name = format!("tcp://localhost:{}", addr.port());
    let client = Loop::dialing(Dial::new(name.as_str()).unwrap());
    assert!(
        matches!(client.told(), Told::Connected(..)),
        "::1 refuses, 127.0.0.1 answers"
    );
    drop(listener);
}

#[test]
fn an_empty_host_is_this_one() {
    let (listener, addr) = listener();
    let client = Loop::dialing(Dial::new(format!(":{}", addr.port()).as_str()).unwrap());
    assert!(matches!(client.told(), Told::Connected(..)));
    drop(listener);
}

#[test]
fn text_that_does_not_parse_is_refused_at_once_in_gos_words() {
    let refused = |text: &str| Dial::new(text).unwrap_err().to_string();
    assert_eq!(
        refused("127.0.0.1"),
        "dial tcp: address 127.0.0.1: missing port in address"
    );
    assert_eq!(
        refused("::1:80"),
        "dial tcp: address ::1:80: too many colons in address"
    );
    assert_eq!(
        refused("127.0.0.1:65536"),
        "dial tcp: address 65536: invalid port"
    );
    assert_eq!(refused("foo://1.2.3.4:5"), "dial foo: unknown network foo");
}

#[test]
fn nobody_to_dial_is_told_by_a_callback() {
    for (text, says) in [
        ("tcp://:0", "dial tcp: missing address"),
        (
            "tcp4://[::1]:80",
            "dial tcp4: address ::1: no suitable address found",
        ),
        (
            "tcp6://127.0.0.1:80",
            "dial tcp6: address 127.0.0.1: no suitable address found",
        ),
    ] {
        let client = Loop::dialing(Dial::new(text).unwrap());
        assert_eq!(client.failure(), says);
    }
}

#[test]
fn our_own_end_can_be_chosen() {
    let (listener, addr) = listener();
    let local = "127.0.0.2:0".parse::<SocketAddr>().unwrap();
    let client = Loop::dialing(dial(addr).local_addr(local));
    let (_server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), local.ip());
    assert!(matches!(client.told(), Told::Connected(..)));

    let strange: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let client = Loop::dialing(dial(addr).local_addr(strange));
    assert_eq!(
        client.failure(),
        format!("dial tcp {strange}->{addr}: bind: cannot assign requested address")
    );
    let other: SocketAddr = "[::1]:0".parse().unwrap();
    let client = Loop::dialing(dial(addr).local_addr(other));
    assert_eq!(
        client.failure(),
        format!("dial tcp: address {other}: no suitable address found")
    );
}

#[test]
fn a_dial_that_reconnects_comes_back_under_the_same_name() {
    let (listener, addr) = listener();
    let patient = Backoff::new(ms(5), ms(20));
    let client = Loop::dialing(dial(addr).reconnect(patient));
    let mut names = Vec::new();
    for _ in 0..3 {
        let (server, _) = listener.accept().unwrap();
        let Told::Connected(id, ..) = client.told() else {
            panic!("it connects")
        };
        names.push(id);
        drop(server);
        assert!(matches!(client.told(), Told::Closed));
    }
    assert!(names.iter().all(|&id| id == names[0]));
    // Nobody listens any more: each try is told, and says when the next one comes.
    drop(listener);
    for _ in 0..3 {
        match client.told() {
            Told::Failed(id, text, _, Some(wait)) => {
                assert_eq!(id, names[0]);
                assert!(text.ends_with("connection refused"), "{text}");
                assert!(wait <= ms(20));
            }
            // One more client may have stood in the queue of the listener that went.
            Told::Connected(..) | Told::Closed => {}
            other => panic!("{other:?}"),
        }
    }
    // The server is back, and so is the client.
    let listener = TcpListener::bind(addr).unwrap();
    let connected = util::eventually(PATIENCE, || matches!(client.told(), Told::Connected(..)));
    assert!(connected);
    drop(listener);
}

#[test]
fn canceling_ends_the_reconnecting() {
    let addr = util::closed_port();
    let client = Loop::dialing(dial(addr).reconnect(Backoff::new(ms(1), ms(5))));
    let Told::Failed(id, _, _, Some(_)) = client.told() else {
        panic!("refused, to be tried again")
    };
    let (say, canceled) = mpsc::channel();
    client
        .handle
        .post(move |_, cx| say.send(cx.cancel_dial(id)).unwrap())
        .unwrap();
    assert!(canceled.recv_timeout(PATIENCE).unwrap());
    let (summary, _) = client.stop();
    assert_eq!(summary.aborted, 0);
}

#[test]
fn a_graceful_stop_cancels_the_dials_under_way() {
    let (_held, addr) = full_listener();
    let reconnecting = dial(addr).reconnect(Backoff::default());
    let client = Loop::start(Config::default(), vec![dial(addr), reconnecting]);
    let (summary, told) = client.stop();
    assert_eq!(told.len(), 2, "{told:?}");
    for end in told {
        match end {
            Told::Failed(_, text, _, None) => {
                assert_eq!(text, format!("dial tcp {addr}: operation was canceled"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((summary.aborted, summary.stats.dial_errors), (0, 2));
}

#[test]
fn a_handler_without_on_connect_refuses_and_lives() {
    struct Mute;
    impl Handler for Mute {
        type Session = ();
    }
    let (listener, addr) = listener();
    let mut reactor = Reactor::new(Mute).unwrap();
    reactor.dial(addr).unwrap();
    let handle = reactor.handle();
    let thread = std::thread::spawn(move || reactor.run());
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0, "closed at once");
    handle.shutdown(ms(100)).unwrap();
    assert_eq!(thread.join().unwrap().unwrap().stats.refused, 1);
}

#[test]
fn dials_in_every_way_leave_no_descriptor_behind() {
    // Descriptors are counted, so nobody else may open any.
    process::alone(
        "dials_in_every_way_leave_no_descriptor_behind",
        leave_none_behind,
    );
}

fn leave_none_behind() {
    let (listener, addr) = listener();
    let (_held, full) = full_listener();
    let refused = util::closed_port();
    let client = Loop::start(config(|config| config.linger = ms(50)), Vec::new());
    let before = util::open_descriptors();
    for _ in 0..20 {
        client
            .handle
            .post(move |_, cx| {
                cx.dial(dial(full).timeout(ms(20))).unwrap();
                cx.dial(refused).unwrap();
                let id = cx.dial(full).unwrap();
                cx.cancel_dial(id);
                cx.dial(addr).unwrap();
            })
            .unwrap();
        let (server, _) = listener.accept().unwrap();
        drop::<TcpStream>(server);
        // Connected, closed, and three failures.
        for _ in 0..5 {
            match client.told() {
                Told::Read(bytes) => panic!("nobody sent {bytes:?}"),
                Told::Connected(..) | Told::Failed(..) | Told::Closed => {}
            }
        }
    }
    let back = util::eventually(PATIENCE, || util::open_descriptors() <= before);
    assert!(back, "{} before, {} now", before, util::open_descriptors());
}
