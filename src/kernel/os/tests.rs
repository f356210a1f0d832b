//! The verbs on real sockets of the loopback interface.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use super::limits::*;
use super::names::*;
use super::options::*;
use super::resolver::*;
use super::*;
use crate::kernel::Keepalive;
use crate::token::Kind;
#[cfg(target_os = "linux")]
use socket2::SockAddr;
use socket2::{Domain, Type};
use std::io::Read;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

#[cfg(target_os = "linux")]
mod alarm;
mod handover;
mod inherited;
mod packets;
mod unix;

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A resolver that gets no answer asks each of its servers again and again.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(180);

/// An address of nobody's (RFC 5737), and a name of nobody's (RFC 6761).
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const UNKNOWN_NAME: &str = "no-such-name.invalid";

fn kernel() -> OsKernel {
    OsKernel::new(16, 64).unwrap()
}

fn token(index: usize) -> Token {
    Token::new(Kind::Listener, index, 7)
}

fn spec(addr: impl Into<SocketAddr>) -> ListenSpec {
    ListenSpec {
        addr: Addr::from(addr.into()),
        transport: Transport::Stream,
        mode: None,
        only_v6: false,
        backlog: 16,
        reuse_port: false,
        stream: StreamOptions::default(),
        prepare: None,
    }
}

fn loopback() -> ListenSpec {
    spec((Ipv4Addr::LOCALHOST, 0))
}

fn local(kernel: &mut OsKernel, fd: Fd) -> SocketAddr {
    match kernel.local_addr(fd).unwrap() {
        Addr::Ip(addr) => addr,
        other => panic!("not an IP address: {other:?}"),
    }
}

fn listening(kernel: &mut OsKernel) -> (Fd, SocketAddr) {
    let fd = kernel.listen(&loopback()).unwrap();
    let addr = local(kernel, fd);
    (fd, addr)
}

/// Repeats `attempt` until it answers; the network's share of the work has no signal.
fn eventually<T>(attempt: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, attempt)
}

fn eventually_within<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(start.elapsed() < patience, "nothing happened");
        thread::yield_now();
    }
}

fn accepted(kernel: &mut OsKernel, listener: Fd) -> (Fd, Addr) {
    eventually(|| match kernel.accept(listener) {
        Ok(pair) => Some(pair),
        Err(Errno(libc::EAGAIN)) => None,
        Err(other) => panic!("accept: {other:?}"),
    })
}

/// A connection: the accepted end, and the peer's.
fn pair(kernel: &mut OsKernel) -> (Fd, TcpStream) {
    let (listener, addr) = listening(kernel);
    let peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (fd, from) = accepted(kernel, listener);
    assert_eq!(from, Addr::from(peer.local_addr().unwrap()));
    kernel.close(listener);
    (fd, peer)
}

fn read_some(kernel: &mut OsKernel, fd: Fd, buffer: &mut [u8]) -> usize {
    eventually(|| match kernel.read(fd, buffer) {
        Ok(count) => Some(count),
        Err(Errno(libc::EAGAIN)) => None,
        Err(other) => panic!("read: {other:?}"),
    })
}

fn polled(kernel: &mut OsKernel, timeout: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    kernel.poll(&mut events, Some(timeout)).unwrap();
    events
}

fn flags(fd: Fd, command: libc::c_int) -> libc::c_int {
    // SAFETY: the two commands used only read flags.
    unsafe { libc::fcntl(fd.0, command) }
}

/// A directory of its own for one test, gone with all that is in it when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("windlass-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn addr(&self, name: &str) -> Addr {
        named(self.path(name).as_os_str().as_bytes())
    }

    /// What is in it.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn named(name: &[u8]) -> Addr {
    Addr::Unix(UnixAddr::from_bytes(name))
}

/// An abstract name that nobody else uses.
#[cfg(target_os = "linux")]
fn abstract_name(kernel: &mut OsKernel) -> Addr {
    named(format!("\0windlass-{:x}", kernel.random()).as_bytes())
}

fn refusal(call: &'static str, errno: libc::c_int) -> Fault {
    Fault {
        call,
        errno: Errno(errno),
    }
}

fn assert_nonblocking_and_cloexec(fd: Fd) {
    assert_ne!(flags(fd, libc::F_GETFL) & libc::O_NONBLOCK, 0, "blocking");
    assert_ne!(
        flags(fd, libc::F_GETFD) & libc::FD_CLOEXEC,
        0,
        "survives exec"
    );
}

// Readiness.

#[test]
fn a_poll_never_ends_early_without_an_event() {
    let mut kernel = kernel();
    let timeout = Duration::from_millis(5);
    let start = Instant::now();
    assert_eq!(polled(&mut kernel, timeout), []);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn a_spin_is_no_longer_than_its_bound_and_the_wait_as_long_as_was_asked() {
    let bound = Duration::from_millis(5);
    let mut kernel = kernel().busy_poll(bound);
    for timeout in [0, 1, 5, 20].map(Duration::from_millis) {
        let before = kernel.spun;
        let start = Instant::now();
        assert_eq!(polled(&mut kernel, timeout), []);
        assert!(start.elapsed() >= timeout);
        let spun = kernel.spun - before;
        assert!(spun >= bound.min(timeout), "{spun:?} of {timeout:?}");
        assert_eq!(spun.is_zero(), timeout.is_zero(), "{spun:?}");
    }
}

#[test]
fn what_is_there_already_is_no_spin() {
    let mut kernel = kernel().busy_poll(Duration::from_secs(1));
    kernel.waker().wake();
    assert_eq!(polled(&mut kernel, PATIENCE).len(), 1);
    assert_eq!(kernel.spun, Duration::ZERO);
}

#[test]
fn a_wait_longer_than_the_system_allows_is_made_of_pieces() {
    let mut kernel = kernel();
    let timeout = Duration::from_millis(5);
    let start = Instant::now();
    kernel
        .wait(nanos(timeout), nanos(Duration::from_millis(2)))
        .unwrap();
    assert!(start.elapsed() >= timeout);
    assert!(kernel.buffer.is_empty());
}

#[test]
fn an_endless_wait_is_accepted_by_the_system() {
    let mut kernel = kernel();
    let waker = kernel.waker();
    for timeout in [Some(Duration::MAX), None] {
        waker.wake();
        let mut events = Vec::new();
        kernel.poll(&mut events, timeout).unwrap();
        assert_eq!(events.len(), 1);
    }
}

#[test]
fn a_poll_replaces_the_events_of_the_one_before() {
    let mut kernel = kernel();
    let mut events = Vec::new();
    for _ in 0..2 {
        kernel.waker().wake();
        kernel.poll(&mut events, Some(PATIENCE)).unwrap();
        assert_eq!(events.len(), 1);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_ends_a_poll_with_eintr() {
    assert_ended_by_a_signal(kernel());
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_ends_the_sleep_behind_a_spin_with_eintr() {
    let spinning = kernel().busy_poll(Duration::from_millis(1));
    assert_ended_by_a_signal(spinning);
}

#[cfg(target_os = "linux")]
fn assert_ended_by_a_signal(mut kernel: OsKernel) {
    use std::sync::atomic::AtomicBool;

    let handled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGUSR1, handled).unwrap();
    let done = AtomicBool::new(false);
    // SAFETY: asks for the calling thread's own id.
    let polling = unsafe { libc::pthread_self() };
    let outcome = thread::scope(|scope| {
        // Again and again, because the first may come before the wait has begun.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the thread lives for as long as this scope.
                unsafe { libc::pthread_kill(polling, libc::SIGUSR1) };
                thread::yield_now();
            }
        });
        let outcome = kernel.poll(&mut Vec::new(), Some(PATIENCE));
        done.store(true, Ordering::Relaxed);
        outcome
    });
    assert_eq!(outcome, Err(Errno(libc::EINTR)));
}

#[test]
fn many_wakes_before_a_poll_are_one_event() {
    let mut kernel = kernel();
    let waker = kernel.waker();
    let waking = thread::spawn(move || (0..100).for_each(|_| waker.wake()));
    waking.join().unwrap();
    let events = polled(&mut kernel, PATIENCE);
    assert_eq!(
        events.iter().map(|event| event.token).collect::<Vec<_>>(),
        [Token::WAKE]
    );
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    kernel.waker().wake();
    assert_eq!(polled(&mut kernel, PATIENCE).len(), 1);
}

#[test]
fn a_wake_from_another_thread_ends_a_poll() {
    let mut kernel = kernel();
    let waker = kernel.waker();
    let waking = thread::spawn(move || waker.wake());
    assert_eq!(polled(&mut kernel, PATIENCE)[0].token, Token::WAKE);
    waking.join().unwrap();
}

#[test]
fn an_edge_is_reported_once() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    kernel.register(listener, token(3), Interest::Read).unwrap();
    let _peer = TcpStream::connect(addr).unwrap();
    let events = polled(&mut kernel, PATIENCE);
    assert_eq!(
        events,
        [Event {
            token: token(3),
            ready: Readiness::READABLE
        }]
    );
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn rearming_reports_a_listener_again_for_as_long_as_it_is_ready() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    kernel.register(listener, token(3), Interest::Read).unwrap();
    let _peer = TcpStream::connect(addr).unwrap();
    let first = polled(&mut kernel, PATIENCE);
    for _ in 0..3 {
        assert_eq!(kernel.rearm(listener, token(3)), Ok(true));
        assert_eq!(polled(&mut kernel, Duration::ZERO), first);
    }
    let (fd, _) = accepted(&mut kernel, listener);
    assert_eq!(kernel.rearm(listener, token(3)), Ok(true));
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn rearming_a_connection_keeps_it_registered_for_both_directions() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    kernel.register(fd, token(1), Interest::ReadWrite).unwrap();
    assert_eq!(kernel.rearm(fd, token(1)), Ok(true));
    assert_eq!(polled(&mut kernel, PATIENCE)[0].ready, Readiness::WRITABLE);
    peer.write_all(b"x").unwrap();
    let ready = polled(&mut kernel, PATIENCE)[0].ready;
    assert!(ready.contains(Readiness::READABLE) && ready.contains(Readiness::WRITABLE));
    kernel.close(fd);
}

#[test]
fn a_connection_reports_its_peers_end() {
    let mut kernel = kernel();
    let (fd, peer) = pair(&mut kernel);
    kernel.register(fd, token(1), Interest::ReadWrite).unwrap();
    drop(peer);
    let mut ready = Readiness::default();
    eventually(|| {
        polled(&mut kernel, PATIENCE)
            .iter()
            .for_each(|event| ready.insert(event.ready));
        ready.contains(Readiness::READ_CLOSED).then_some(())
    });
    assert!(ready.contains(Readiness::READABLE));
    kernel.close(fd);
}

#[test]
fn a_deregistered_source_is_silent() {
    let mut kernel = kernel();
    let mut witness = OsKernel::new(1, 1).unwrap();
    let (listener, addr) = listening(&mut kernel);
    kernel.register(listener, token(3), Interest::Read).unwrap();
    kernel.deregister(listener);
    witness
        .register(listener, token(3), Interest::Read)
        .unwrap();
    let _peer = TcpStream::connect(addr).unwrap();
    assert_eq!(polled(&mut witness, PATIENCE).len(), 1);
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn registering_twice_or_rearming_a_stranger_answers_the_errno() {
    let mut kernel = kernel();
    let (listener, _) = listening(&mut kernel);
    assert_eq!(kernel.rearm(listener, token(3)), Err(Errno(libc::ENOENT)));
    kernel.register(listener, token(3), Interest::Read).unwrap();
    let again = kernel.register(listener, token(4), Interest::Read);
    assert_eq!(again, Err(Errno(libc::EEXIST)));
    kernel.close(listener);
}

#[test]
fn a_full_event_buffer_grows_to_its_limit_and_loses_nothing() {
    for bound in [Duration::ZERO, Duration::from_millis(1)] {
        assert_grows_to_three(OsKernel::new(1, 3).unwrap().busy_poll(bound));
    }
}

fn assert_grows_to_three(mut kernel: OsKernel) {
    let mut peers = Vec::new();
    for index in 0..3 {
        let (listener, addr) = listening(&mut kernel);
        kernel
            .register(listener, token(index), Interest::Read)
            .unwrap();
        peers.push(TcpStream::connect(addr).unwrap());
    }
    let mut seen = Vec::new();
    let mut capacities = Vec::new();
    eventually(|| {
        let events = polled(&mut kernel, PATIENCE);
        seen.extend(events.iter().map(|event| event.token.index()));
        capacities.push(kernel.buffer.capacity());
        (seen.len() == 3).then_some(())
    });
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(capacities[0], 2);
    assert!(capacities.iter().all(|capacity| *capacity <= 3));
}

// Listeners.

#[test]
fn sockets_are_nonblocking_and_close_on_exec() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    assert_nonblocking_and_cloexec(listener);
    assert_eq!(kernel.accept(listener), Err(Errno(libc::EAGAIN)));
    let _peer = TcpStream::connect(addr).unwrap();
    let (fd, _) = accepted(&mut kernel, listener);
    assert_nonblocking_and_cloexec(fd);
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn a_fault_names_the_call_that_failed() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    let taken = kernel.listen(&spec(addr));
    assert_eq!(
        taken,
        Err(Fault {
            call: "bind",
            errno: Errno(libc::EADDRINUSE)
        })
    );
    kernel.close(listener);

    let elsewhere = kernel.listen(&spec((Ipv4Addr::new(192, 0, 2, 1), 0)));
    assert_eq!(
        elsewhere,
        Err(Fault {
            call: "bind",
            errno: Errno(libc::EADDRNOTAVAIL)
        })
    );
}

#[test]
#[cfg(target_os = "linux")]
fn an_option_that_the_system_refuses_is_a_fault_of_setsockopt() {
    let mut refused = loopback();
    let keepalive = Keepalive {
        count: 100_000,
        ..Keepalive::default()
    };
    refused.stream.keepalive = Some(keepalive);
    let fault = kernel().listen(&refused);
    assert_eq!(
        fault,
        Err(Fault {
            call: "setsockopt",
            errno: Errno(libc::EINVAL)
        })
    );
}

#[test]
fn several_listeners_share_a_port_if_all_of_them_ask() {
    let mut kernel = kernel();
    let shared = ListenSpec {
        reuse_port: true,
        ..loopback()
    };
    let first = kernel.listen(&shared).unwrap();
    let addr = local(&mut kernel, first);
    let second = kernel
        .listen(&ListenSpec {
            addr: addr.into(),
            ..shared
        })
        .unwrap();
    assert!(kernel.listen(&spec(addr)).is_err());
    kernel.close(first);
    kernel.close(second);
}

#[test]
fn a_dual_stack_listener_sees_ipv4_peers_by_their_ipv4_addresses() {
    let mut kernel = kernel();
    let Ok(listener) = kernel.listen(&spec((Ipv6Addr::UNSPECIFIED, 0))) else {
        return; // This machine has no IPv6.
    };
    let port = local(&mut kernel, listener).port();
    let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (fd, from) = accepted(&mut kernel, listener);
    assert_eq!(from, Addr::from(peer.local_addr().unwrap()));
    assert_eq!(local(&mut kernel, fd), peer.peer_addr().unwrap());
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn an_ipv6_only_listener_is_marked_as_one() {
    let mut kernel = kernel();
    let only_v6 = ListenSpec {
        only_v6: true,
        ..spec((Ipv6Addr::UNSPECIFIED, 0))
    };
    let Ok(listener) = kernel.listen(&only_v6) else {
        return; // This machine has no IPv6.
    };
    assert!(SockRef::from(&listener).only_v6().unwrap());
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn accepted_sockets_inherit_the_options_of_their_listener() {
    let mut kernel = kernel();
    let stream = StreamOptions {
        nodelay: Some(true),
        keepalive: Some(Keepalive::new(
            Duration::from_millis(1500),
            Duration::ZERO,
            4,
        )),
        receive_buffer: Some(32 * 1024),
        send_buffer: Some(usize::MAX),
    };
    let listener = kernel
        .listen(&ListenSpec {
            stream,
            ..loopback()
        })
        .unwrap();
    let _peer = TcpStream::connect(local(&mut kernel, listener)).unwrap();
    let (fd, _) = accepted(&mut kernel, listener);
    assert!(kernel.has_options(fd, &stream));
    let (of_listener, of_stream) = (SockRef::from(&listener), SockRef::from(&fd));
    assert_eq!(
        of_stream.recv_buffer_size().unwrap(),
        of_listener.recv_buffer_size().unwrap()
    );
    assert_eq!(
        of_stream.tcp_keepalive_time().unwrap(),
        Duration::from_secs(2)
    );
    assert_eq!(
        of_stream.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(1)
    );
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn options_that_were_not_inherited_can_be_set_on_the_stream() {
    let mut kernel = kernel();
    let (fd, _peer) = pair(&mut kernel);
    let nodelay = StreamOptions {
        nodelay: Some(true),
        ..StreamOptions::default()
    };
    let keepalive = StreamOptions {
        keepalive: Some(Keepalive::default()),
        ..StreamOptions::default()
    };
    assert!(kernel.has_options(fd, &StreamOptions::default()));
    for options in [nodelay, keepalive] {
        assert!(!kernel.has_options(fd, &options));
        kernel.set_options(fd, &options).unwrap();
        assert!(kernel.has_options(fd, &options));
    }
    kernel.close(fd);
}

#[test]
#[cfg(target_os = "linux")]
fn the_first_refused_option_is_answered_and_the_rest_still_set() {
    let mut kernel = kernel();
    let (fd, _peer) = pair(&mut kernel);
    let before = SockRef::from(&fd).recv_buffer_size().unwrap();
    let options = StreamOptions {
        keepalive: Some(Keepalive {
            count: 100_000,
            ..Keepalive::default()
        }),
        receive_buffer: Some(8 * 1024),
        ..StreamOptions::default()
    };
    assert_eq!(kernel.set_options(fd, &options), Err(Errno(libc::EINVAL)));
    assert_ne!(SockRef::from(&fd).recv_buffer_size().unwrap(), before);
    kernel.close(fd);
}

#[test]
#[cfg(target_os = "linux")]
fn the_accept_queue_can_be_measured() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    assert_eq!(kernel.queue(listener), Ok((0, 16)));
    let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    eventually(|| (kernel.queue(listener) == Ok((3, 16))).then_some(()));
    let (fd, _) = accepted(&mut kernel, listener);
    assert_eq!(kernel.queue(listener), Ok((2, 16)));
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn the_queue_of_what_is_not_tcp_cannot_be_measured() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let fd = Fd(socket.into_raw_fd());
    let mut kernel = kernel();
    assert!(kernel.queue(fd).is_err());
    kernel.close(fd);
}

#[test]
fn an_adopted_listener_accepts_without_blocking() {
    let mut kernel = kernel();
    let inherited = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = inherited.local_addr().unwrap();
    let listener = kernel.adopt_listener(inherited.into()).unwrap().fd;
    assert_nonblocking_and_cloexec(listener);
    assert_eq!(kernel.accept(listener), Err(Errno(libc::EAGAIN)));
    let _peer = TcpStream::connect(addr).unwrap();
    let (fd, _) = accepted(&mut kernel, listener);
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn only_listening_sockets_are_adopted() {
    let mut kernel = kernel();
    let refused = |call, errno| {
        Err(Fault {
            call,
            errno: Errno(errno),
        })
    };

    let file = File::open("/dev/null").unwrap();
    let answer = kernel.adopt_listener(file.into());
    assert_eq!(answer, refused("getsockopt", libc::ENOTSOCK));

    let (fd, peer) = pair(&mut kernel);
    assert_eq!(
        kernel.adopt_listener(peer.into()),
        refused("getsockopt", libc::EINVAL)
    );
    kernel.close(fd);

    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(
        kernel.adopt_listener(datagrams.into()),
        refused("getsockopt", libc::EINVAL)
    );
}

#[test]
fn the_backlog_limit_is_known() {
    let limit = kernel().backlog_limit();
    assert!(limit > 0);
    assert_eq!(limit, system_backlog().unwrap_or(FALLBACK_BACKLOG));
}

#[test]
#[cfg(target_os = "linux")]
fn a_backlog_limit_of_any_size_is_understood() {
    for (text, limit) in [
        ("4096\n", Some(4096)),
        ("16777214\n", Some(16_777_214)),
        ("16777215\n", Some(16_777_215)),
        ("2147483647 more\n", Some(2_147_483_647)),
        ("4294967295\n", Some(u32::MAX)),
        ("4294967296\n", Some(u32::MAX)),
        ("", None),
        ("many\n", None),
    ] {
        assert_eq!(parse_backlog(text), limit, "{text:?}");
    }
}

// Dialing.

fn to(remote: impl Into<SocketAddr>) -> DialSpec {
    DialSpec {
        remote: Addr::from(remote.into()),
        transport: Transport::Stream,
        local: None,
        stream: StreamOptions::default(),
        prepare: None,
    }
}

fn from(local: impl Into<SocketAddr>, remote: impl Into<SocketAddr>) -> DialSpec {
    DialSpec {
        local: Some(Addr::from(local.into())),
        ..to(remote)
    }
}

/// A socket that has been told to connect, and how that ended: at once, or by an event.
fn dialed(kernel: &mut OsKernel, spec: &DialSpec) -> (Fd, Option<Errno>) {
    let fd = kernel.socket(spec).unwrap();
    match kernel.connect(fd, &spec.remote) {
        Ok(()) | Err(Errno(libc::EINPROGRESS | libc::EINTR)) => {}
        Err(errno) => return (fd, Some(errno)),
    }
    kernel.register(fd, token(5), Interest::ReadWrite).unwrap();
    let event = polled(kernel, PATIENCE)[0];
    assert_eq!(event.token, token(5));
    assert!(event.ready.contains(Readiness::WRITABLE));
    (fd, kernel.take_error(fd))
}

#[test]
fn a_dialed_socket_is_nonblocking_and_close_on_exec_and_has_no_peer_yet() {
    let mut kernel = kernel();
    let fd = kernel.socket(&to((Ipv4Addr::LOCALHOST, 1))).unwrap();
    assert_nonblocking_and_cloexec(fd);
    assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
    kernel.close(fd);
}

#[test]
fn a_dialed_connection_becomes_writable_and_carries_bytes() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    let (fd, error) = dialed(&mut kernel, &to(addr));
    assert_eq!(error, None);
    assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
    let (other, peer) = accepted(&mut kernel, listener);
    assert_eq!(kernel.local_addr(fd), Ok(peer));

    assert_eq!(kernel.write(fd, b"ping"), Ok(4));
    let mut buffer = [0; 16];
    assert_eq!(read_some(&mut kernel, other, &mut buffer), 4);
    kernel.close(fd);
    assert_eq!(read_some(&mut kernel, other, &mut buffer), 0);
    kernel.close(other);
    kernel.close(listener);
}

#[test]
#[cfg(target_os = "linux")]
fn a_connection_under_way_is_neither_writable_nor_has_a_peer() {
    let mut kernel = kernel();
    let full = ListenSpec {
        backlog: 0,
        ..loopback()
    };
    let listener = kernel.listen(&full).unwrap();
    let addr = local(&mut kernel, listener);
    // The queue has one place more than its limit says; then handshakes are ignored.
    let _first = TcpStream::connect(addr).unwrap();
    eventually(|| (kernel.queue(listener) == Ok((1, 0))).then_some(()));

    let fd = kernel.socket(&to(addr)).unwrap();
    assert_eq!(
        kernel.connect(fd, &addr.into()),
        Err(Errno(libc::EINPROGRESS))
    );
    assert_eq!(kernel.connect(fd, &addr.into()), Err(Errno(libc::EALREADY)));
    kernel.register(fd, token(5), Interest::ReadWrite).unwrap();
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn a_port_that_nobody_listens_on_is_refused() {
    let mut kernel = kernel();
    // Bound and not listening, so that no one else gets the port meanwhile.
    let holder = from((Ipv4Addr::LOCALHOST, 0), (Ipv4Addr::LOCALHOST, 1));
    let holder = kernel.socket(&holder).unwrap();
    let addr = local(&mut kernel, holder);
    let (fd, error) = dialed(&mut kernel, &to(addr));
    assert_eq!(error, Some(Errno(libc::ECONNREFUSED)));
    assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
    kernel.close(fd);
    kernel.close(holder);
}

#[test]
fn a_dialed_connection_comes_from_the_local_address_asked_for() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    // A free port: the system has just chosen it for another socket.
    let holder = from((Ipv4Addr::LOCALHOST, 0), addr);
    let holder = kernel.socket(&holder).unwrap();
    let own = local(&mut kernel, holder);
    assert_ne!(own.port(), 0);
    let taken = Fault {
        call: "bind",
        errno: Errno(libc::EADDRINUSE),
    };
    assert_eq!(kernel.socket(&from(own, addr)), Err(taken));
    kernel.close(holder);

    let (fd, error) = dialed(&mut kernel, &from(own, addr));
    assert_eq!(error, None);
    let (other, peer) = accepted(&mut kernel, listener);
    assert_eq!(peer, Addr::from(own));
    // The side that ends first keeps the port for a while; a reset leaves none.
    kernel.reset(fd);
    kernel.close(other);
    kernel.close(listener);
}

#[test]
fn a_local_address_that_is_not_ours_is_a_fault_of_bind() {
    let refused = kernel().socket(&from((FOREIGN, 0), (Ipv4Addr::LOCALHOST, 1)));
    let fault = Fault {
        call: "bind",
        errno: Errno(libc::EADDRNOTAVAIL),
    };
    assert_eq!(refused, Err(fault));
}

#[test]
fn any_address_of_ours_is_one_of_the_peers_family() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    for (local, remote, bound) in [
        ("0.0.0.0:7", "192.0.2.1:80", "0.0.0.0:7"),
        ("0.0.0.0:7", "[2001:db8::1]:80", "[::]:7"),
        ("[::]:7", "192.0.2.1:80", "0.0.0.0:7"),
        ("[::]:7", "[2001:db8::1]:80", "[::]:7"),
        ("127.0.0.1:7", "[2001:db8::1]:80", "127.0.0.1:7"),
        ("[::1]:7", "192.0.2.1:80", "[::1]:7"),
    ] {
        assert_eq!(own_end(address(local), address(remote)), address(bound));
    }
}

#[test]
fn a_mapped_address_is_dialed_as_the_ipv4_address_that_it_is() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let spec = from((mapped, 0), (mapped, addr.port()));
    let (fd, error) = dialed(&mut kernel, &spec);
    assert_eq!(error, None);
    assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn ipv6_is_dialed_like_ipv4() {
    let mut kernel = kernel();
    let Ok(listener) = kernel.listen(&spec((Ipv6Addr::LOCALHOST, 0))) else {
        return; // This machine has no IPv6.
    };
    let addr = local(&mut kernel, listener);
    let (fd, error) = dialed(&mut kernel, &from((Ipv4Addr::UNSPECIFIED, 0), addr));
    assert_eq!(error, None);
    assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
    kernel.close(fd);
    kernel.close(listener);
}

#[test]
fn a_dialed_socket_has_its_options_before_it_connects() {
    let mut kernel = kernel();
    let asked = DialSpec {
        stream: StreamOptions {
            nodelay: Some(true),
            keepalive: Some(Keepalive::default()),
            receive_buffer: Some(24 * 1024),
            send_buffer: Some(24 * 1024),
        },
        ..to((Ipv4Addr::LOCALHOST, 1))
    };
    let plain = kernel.socket(&to((Ipv4Addr::LOCALHOST, 1))).unwrap();
    let fd = kernel.socket(&asked).unwrap();
    assert!(kernel.has_options(fd, &asked.stream));
    assert!(!kernel.has_options(plain, &asked.stream));
    let (with, without) = (SockRef::from(&fd), SockRef::from(&plain));
    assert_ne!(
        with.recv_buffer_size().unwrap(),
        without.recv_buffer_size().unwrap()
    );
    assert_ne!(
        with.send_buffer_size().unwrap(),
        without.send_buffer_size().unwrap()
    );
    kernel.close(fd);
    kernel.close(plain);
}

#[test]
#[cfg(target_os = "linux")]
fn an_option_that_the_system_refuses_does_not_prevent_dialing() {
    let mut kernel = kernel();
    let nodelay = StreamOptions {
        nodelay: Some(true),
        ..StreamOptions::default()
    };
    let refused = StreamOptions {
        keepalive: Some(Keepalive {
            count: 100_000,
            ..Keepalive::default()
        }),
        ..nodelay
    };
    let (listener, addr) = listening(&mut kernel);
    let spec = DialSpec {
        stream: refused,
        ..to(addr)
    };
    let (fd, error) = dialed(&mut kernel, &spec);
    assert_eq!(error, None);
    assert!(!kernel.has_options(fd, &refused));
    assert!(kernel.has_options(fd, &nodelay));
    kernel.close(fd);
    kernel.close(listener);
}

// Streams.

#[test]
fn bytes_pass_in_both_directions_until_the_end() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    let mut buffer = [0; 16];
    assert_eq!(kernel.read(fd, &mut buffer), Err(Errno(libc::EAGAIN)));

    peer.write_all(b"ping").unwrap();
    let count = read_some(&mut kernel, fd, &mut buffer);
    assert_eq!(&buffer[..count], b"ping");

    assert_eq!(kernel.write(fd, b"po"), Ok(2));
    let parts = [IoSlice::new(b"n"), IoSlice::new(b""), IoSlice::new(b"g!")];
    assert_eq!(kernel.write_parts(fd, &parts), Ok(3));
    kernel.shutdown_write(fd).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pong!");

    drop(peer);
    assert_eq!(read_some(&mut kernel, fd, &mut buffer), 0);
    kernel.close(fd);
}

#[test]
fn writing_after_the_end_is_an_error_and_no_signal() {
    let mut kernel = kernel();
    let (fd, _peer) = pair(&mut kernel);
    kernel.shutdown_write(fd).unwrap();
    // Test programs ignore the signal from the start; without this nothing is proven.
    // SAFETY: the two actions are the system's own, no handler of ours is installed.
    let ignored = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let outcomes = [
        kernel.write(fd, b"late"),
        kernel.write_parts(fd, &[IoSlice::new(b"late")]),
    ];
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGPIPE, ignored) };
    assert_eq!(outcomes, [Err(Errno(libc::EPIPE)); 2]);
    kernel.close(fd);
}

#[test]
fn a_vectored_call_takes_what_the_system_allows_and_never_nothing() {
    let most = 8;
    let taken = |parts: &[IoSlice<'_>]| match one_call(parts, most) {
        Call::Parts(parts) => (parts.len(), None),
        Call::Long(part) => (1, Some(part.len())),
    };
    let [empty, two, eight, nine] = [0, 2, 8, 9].map(|length| &b"123456789"[..length]);
    let [empty, two, eight, nine] = [empty, two, eight, nine].map(IoSlice::new);
    assert_eq!(taken(&[]), (0, None));
    assert_eq!(taken(&[two, two, two, two]), (4, None));
    assert_eq!(taken(&[two, two, eight]), (2, None));
    assert_eq!(taken(&[eight, two]), (1, None));
    assert_eq!(taken(&[two, nine]), (1, None));
    assert_eq!(taken(&[nine, two]), (1, Some(9)));
    assert_eq!(taken(&[empty, nine]), (1, Some(9)));
    assert_eq!(taken(&[empty; MAX_PARTS + 1]), (MAX_PARTS, None));
}

#[test]
fn a_reset_reaches_the_peer_as_econnreset() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    kernel.reset(fd);
    let error = peer.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
}

#[test]
fn a_close_reaches_the_peer_as_the_end() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    kernel.close(fd);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_pending_error_is_taken_once() {
    let mut kernel = kernel();
    let (fd, peer) = pair(&mut kernel);
    assert_eq!(kernel.take_error(fd), None);
    SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    let error = eventually(|| kernel.take_error(fd));
    assert_eq!(error, Errno(libc::ECONNRESET));
    assert_eq!(kernel.take_error(fd), None);
    kernel.close(fd);
}

#[test]
fn only_mapped_addresses_change_their_form() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        canonical(address("[::ffff:192.0.2.7]:80")),
        address("192.0.2.7:80")
    );
    for text in [
        "192.0.2.7:80",
        "[::1]:80",
        "[fe80::1%3]:80",
        "[::192.0.2.7]:80",
    ] {
        assert_eq!(canonical(address(text)), address(text));
    }
}

#[test]
fn durations_become_whole_seconds_and_never_none() {
    for (asked, set) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (15_000, 15)] {
        assert_eq!(
            whole_seconds(Duration::from_millis(asked)),
            Duration::from_secs(set)
        );
    }
}

#[test]
fn a_buffer_size_never_becomes_a_negative_number() {
    assert_eq!(as_int(4096), 4096);
    assert_eq!(as_int(usize::MAX), libc::c_int::MAX as usize);
}

// Names, limits, chance.

#[test]
fn a_literal_address_is_looked_up_as_itself() {
    let mut kernel = kernel();
    assert_eq!(
        kernel.lookup("127.0.0.1").unwrap(),
        [IpAddr::from(Ipv4Addr::LOCALHOST)]
    );
    assert_eq!(
        kernel.lookup("::1").unwrap(),
        [IpAddr::from(Ipv6Addr::LOCALHOST)]
    );
    assert!(kernel.lookup("nul\0inside").is_err());
}

#[test]
fn looked_up_addresses_keep_their_order_without_repeats() {
    let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
    assert_eq!(without_duplicates([b, a, b, c, a].into_iter()), [b, a, c]);
}

/// The next answers, each of which must have been announced.
fn answers(kernel: &mut OsKernel, count: usize) -> Vec<LookedUp> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let events = polled(kernel, RESOLVER_PATIENCE);
        assert_eq!(events.len(), 1, "no answer was announced");
        assert_eq!(events[0].token, Token::WAKE);
        kernel.looked_up(&mut answers);
    }
    answers
}

#[test]
fn a_name_is_looked_up_in_the_background_and_its_answer_announced() {
    let mut kernel = kernel();
    kernel.look_up(Ticket(7), "localhost");
    let found = answers(&mut kernel, 1).remove(0);
    assert_eq!(found.ticket, Ticket(7));
    let addresses = found.addresses.unwrap();
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(IpAddr::is_loopback));
    assert_eq!(addresses, kernel.lookup("localhost").unwrap());

    let mut none = Vec::new();
    kernel.looked_up(&mut none);
    assert!(none.is_empty());
}

#[test]
fn an_unknown_name_answers_an_error_and_blocks_nothing() {
    let mut kernel = kernel();
    let start = Instant::now();
    kernel.look_up(Ticket(1), UNKNOWN_NAME);
    polled(&mut kernel, Duration::ZERO);
    kernel.looked_up(&mut Vec::new());
    assert!(start.elapsed() < Duration::from_secs(2));

    // The first answer may have come within that time already.
    kernel.look_up(Ticket(2), UNKNOWN_NAME);
    let found = answers(&mut kernel, 1).pop().unwrap();
    assert!(found.addresses.is_err());
}

#[test]
fn names_are_answered_in_the_order_of_asking() {
    const COUNT: u64 = 200;
    let mut kernel = kernel();
    (0..COUNT).for_each(|number| {
        let host = format!("127.0.0.{number}");
        kernel.look_up(Ticket(number), &host);
    });
    let found = answers(&mut kernel, COUNT as usize);
    assert_eq!(found.len(), COUNT as usize);
    for (answer, number) in found.into_iter().zip(0..) {
        assert_eq!(answer.ticket, Ticket(number.into()));
        assert_eq!(
            answer.addresses.unwrap(),
            [IpAddr::from([127, 0, 0, number])]
        );
    }
}

#[test]
fn a_name_that_no_resolver_could_take_answers_an_error() {
    let mut kernel = kernel();
    for (number, host) in ["nul\0inside", ""].into_iter().enumerate() {
        kernel.look_up(Ticket(number as u64), host);
    }
    for answer in answers(&mut kernel, 2) {
        assert!(answer.addresses.is_err(), "{answer:?}");
    }
}

#[test]
fn a_look_up_without_a_thread_answers_the_error_and_the_next_one_works() {
    let mut kernel = kernel();
    kernel.resolver.questions = Some(mpsc::channel().0);
    kernel.look_up(Ticket(1), "127.0.0.1");
    let failed = answers(&mut kernel, 1).remove(0);
    assert_eq!(failed.ticket, Ticket(1));
    assert!(failed.addresses.is_err());

    kernel.look_up(Ticket(2), "127.0.0.1");
    let found = answers(&mut kernel, 1).remove(0);
    assert_eq!(found.ticket, Ticket(2));
    assert!(found.addresses.is_ok());
}

#[test]
fn asking_for_answers_takes_no_lock_while_there_are_none() {
    let mut kernel = kernel();
    kernel.look_up(Ticket(1), "127.0.0.1");
    answers(&mut kernel, 1);
    let shared = Arc::clone(&kernel.resolver.answers);
    thread::scope(|scope| {
        let held = shared.list.lock().unwrap();
        let asking = scope.spawn(|| kernel.looked_up(&mut Vec::new()));
        eventually(|| asking.is_finished().then_some(()));
        drop(held);
    });
}

#[test]
fn the_resolver_starts_with_the_first_name_and_only_once() {
    let mut kernel = kernel();
    assert!(kernel.resolver.questions.is_none());
    assert_eq!(Arc::weak_count(&kernel.resolver.answers), 0);
    for number in 0..3 {
        kernel.look_up(Ticket(number), "127.0.0.1");
        assert_eq!(Arc::weak_count(&kernel.resolver.answers), 1);
    }
    drop(answers(&mut kernel, 3));
}

#[test]
fn dropping_the_kernel_waits_for_no_name() {
    let mut kernel = kernel();
    (0..100).for_each(|number| kernel.look_up(Ticket(number), UNKNOWN_NAME));
    let answers = Arc::downgrade(&kernel.resolver.answers);
    let start = Instant::now();
    drop(kernel);
    assert!(start.elapsed() < Duration::from_secs(2));
    // The thread has them in its hands for no longer than it takes to announce one.
    eventually(|| answers.upgrade().is_none().then_some(()));
}

#[test]
fn the_resolver_answers_nothing_more_once_the_kernel_is_dropped() {
    let kernel = kernel();
    let answers = Arc::downgrade(&kernel.resolver.answers);
    let (questions, asked) = mpsc::channel();
    for number in 0..100 {
        let ticket = Ticket(number);
        let host = UNKNOWN_NAME.to_owned();
        questions.send(Question { ticket, host }).unwrap();
    }
    let answering = thread::spawn(move || answer_all(&asked, &answers));
    drop(kernel);
    // At most the look-up under way comes to its end.
    eventually_within(RESOLVER_PATIENCE, || answering.is_finished().then_some(()));
    // Nobody reads them now, although they could still be asked.
    let (ticket, host) = (Ticket(100), String::new());
    assert!(questions.send(Question { ticket, host }).is_err());
}

#[test]
fn the_resolver_ends_when_nobody_can_ask_any_more() {
    let kernel = kernel();
    let answers = Arc::downgrade(&kernel.resolver.answers);
    let (questions, asked) = mpsc::channel();
    let answering = thread::spawn(move || answer_all(&asked, &answers));
    drop(questions);
    eventually(|| answering.is_finished().then_some(()));
}

#[test]
#[cfg(target_os = "linux")]
fn the_resolver_takes_no_signals() {
    let blocked = thread::spawn(|| {
        refuse_signals();
        let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: a null new set changes nothing, and the old one is written before it
        // is read.
        unsafe {
            libc::pthread_sigmask(0, ptr::null(), mask.as_mut_ptr());
            [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1]
                .map(|signal| libc::sigismember(mask.as_ptr(), signal))
        }
    });
    assert_eq!(blocked.join().unwrap(), [1; 3]);
}

#[test]
fn the_descriptor_limit_is_raised_to_the_highest_allowed() {
    let mut kernel = kernel();
    let mut limits = descriptor_limits().unwrap();
    let highest = count(highest_soft_limit(limits.rlim_max));
    // One less, so that there is something to raise and the other tests don't notice.
    limits.rlim_cur = limits.rlim_cur.min(highest_soft_limit(limits.rlim_max)) - 1;
    // SAFETY: the pointer is to a live, initialised `rlimit`, only read by the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) }).unwrap();
    assert_eq!(kernel.descriptor_limit(), count(limits.rlim_cur));
    assert_eq!(kernel.raise_descriptor_limit(), Ok(highest));
    assert_eq!(kernel.descriptor_limit(), highest);
    assert_eq!(kernel.raise_descriptor_limit(), Ok(highest));
}

#[test]
fn an_infinite_limit_is_the_largest_number() {
    assert_eq!(count(libc::RLIM_INFINITY), u64::MAX);
    assert_eq!(count(1024), 1024);
}

#[test]
fn a_spare_descriptor_is_open_and_stays_in_this_process() {
    let mut kernel = kernel();
    let spare = kernel.spare().unwrap();
    assert_eq!(flags(spare, libc::F_GETFD), libc::FD_CLOEXEC);
    kernel.close(spare);
}

#[test]
fn random_numbers_follow_the_published_generator_from_a_seed_of_their_own() {
    let mut known = SplitMix(1_234_567);
    assert_eq!(known.next(), 6_457_827_717_110_365_317);
    assert_eq!(known.next(), 3_203_168_211_198_807_973);
    assert_ne!(kernel().random(), kernel().random());
}
