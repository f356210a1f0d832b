//! P3: in the steady state the loop allocates nothing, neither per request nor per turn.
//!
//! Alone in its file, because it replaces the allocator. Allocations are counted on the
//! loop's thread only, which here is the test's own: the reactor is driven turn by turn.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

mod util;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use util::{PATIENCE, connect, ip, ms, round_trip};
use windlass::{
    Bind, Conn, Datagram, Deadline, Delivery, Handler, Input, ListenerId, Reactor, Socket, TimerId,
};

const CLIENTS: usize = 10;
const WARM_UP: usize = 2_000;
const REQUESTS: usize = 10_000;
const REQUEST: [u8; 64] = [b'r'; 64];

/// Bytes that a [`Habit::Leftovers`] server always leaves unread.
const LEFT: usize = 7;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks of it.
struct Counting;

fn count() {
    // A thread that ends may free and allocate after its cells are gone.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates
// nothing, because the cell is constant-initialised and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a server does with each request besides sending it back.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Nothing,
    /// Leaves some bytes unread every time.
    Leftovers,
    /// Moves a deadline later and sets a new timer for an old one.
    Timers,
    /// Writes so much that it is above the high mark every time.
    FullOutput,
}

struct Echo(Habit);

#[derive(Default)]
struct Session {
    kept: usize,
    timer: Option<TimerId>,
}

impl Handler for Echo {
    type Session = Session;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Session> {
        if matches!(self.0, Habit::FullOutput) {
            let mut limits = conn.limits();
            (limits.low, limits.high) = (8, 32);
            conn.set_limits(limits)?;
        }
        Ok(Session::default())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        // What was kept has been sent back already.
        conn.write(&input[session.kept..]);
        session.kept = 0;
        match self.0 {
            Habit::Nothing | Habit::FullOutput => {}
            Habit::Leftovers => session.kept = LEFT,
            Habit::Timers => {
                let at = conn.now() + ms(1_000);
                conn.set_read_deadline(Some(at));
                if let Some(old) = session.timer.replace(conn.set_timer(at)) {
                    assert!(conn.cx().cancel_timer(old));
                }
            }
        }
        input.consume(input.len() - session.kept);
        Ok(())
    }

    fn on_timeout(&mut self, _: &mut Conn<'_>, _: &mut Session, which: Deadline) -> io::Result<()> {
        panic!("nothing is idle for that long: {which}");
    }
}

#[test]
fn serving_a_request_allocates_nothing() {
    for habit in [
        Habit::Nothing,
        Habit::Leftovers,
        Habit::Timers,
        Habit::FullOutput,
    ] {
        assert_eq!(allocations(habit), 0, "{habit:?}");
    }
}

/// Work is carried from turn to turn in lists that take turns themselves, and warming up
/// one by one may not touch each of them.
#[test]
fn requests_in_successive_turns_allocate_nothing_either() {
    let mut reactor = Reactor::new(Echo(Habit::FullOutput)).unwrap();
    let listener = reactor.listen("127.0.0.1:0").unwrap();
    let addr = ip(reactor.listener(listener).unwrap().local_addr());
    let mut clients = [connect(addr), connect(addr)];
    let mut ask = |reactor: &mut Reactor<Echo>, client: usize| {
        clients[client].write_all(&REQUEST).unwrap();
        let seen = reactor.stats().bytes_read;
        while reactor.stats().bytes_read == seen {
            let _ = reactor.turn(Some(ms(10))).unwrap();
        }
    };
    for at in 0..WARM_UP {
        ask(&mut reactor, at % 2);
        // What the request left for the next turn is done in a turn of its own.
        let _ = reactor.turn(Some(ms(0))).unwrap();
    }
    let before = ALLOCATIONS.get();
    for at in 0..10 {
        ask(&mut reactor, at % 2);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Datagrams that one round sends before it looks at the answers: more than one receive
/// call brings.
const BURST: usize = 40;

/// Sends each datagram back; to whom it is connected to, if it is.
#[derive(Default)]
struct Packets {
    dropped: u64,
}

impl Handler for Packets {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        let delivery = match socket.peer_addr() {
            Some(_) => socket.send(datagram.bytes()),
            None => socket.send_to(datagram.bytes(), datagram.from()),
        };
        self.dropped += u64::from(delivery != Delivery::Queued);
    }
}

// Go 147, TestAllocs: no datagram costs an allocation, whether its socket is connected or not.
#[test]
fn a_datagram_there_and_back_allocates_nothing() {
    for connected in [false, true] {
        for destinations in [false, true] {
            let what = format!("connected: {connected}, destinations: {destinations}");
            assert_eq!(allocations_of_packets(connected, destinations), 0, "{what}");
        }
    }
}

/// Allocations of a warm loop while bursts of datagrams go there and back.
fn allocations_of_packets(connected: bool, destinations: bool) -> u64 {
    let mut reactor = Reactor::new(Packets::default()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let bind = if connected {
        Bind::connect(peer.local_addr().unwrap()).unwrap()
    } else {
        Bind::new("127.0.0.1:0").unwrap()
    };
    let socket = reactor.bind(bind.destinations(destinations)).unwrap();
    let to = ip(reactor.socket(socket).unwrap().local_addr().unwrap());
    let mut burst = || {
        for _ in 0..BURST {
            peer.send_to(&REQUEST, to).unwrap();
        }
        let wanted = reactor.stats().datagrams_sent + BURST as u64;
        while reactor.stats().datagrams_sent < wanted {
            let _ = reactor.turn(Some(ms(10))).unwrap();
        }
        let mut answer = [0; 2 * REQUEST.len()];
        for _ in 0..BURST {
            let n = peer.recv(&mut answer).unwrap();
            assert_eq!(answer[..n], REQUEST);
        }
    };
    for _ in 0..WARM_UP / BURST {
        burst();
    }
    let before = ALLOCATIONS.get();
    for _ in 0..REQUESTS / BURST {
        burst();
    }
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(reactor.handler().dropped, 0);
    allocations
}

/// Allocations of a warm loop during [`REQUESTS`] requests.
fn allocations(habit: Habit) -> u64 {
    let mut reactor = Reactor::new(Echo(habit)).unwrap();
    let listener = reactor.listen("127.0.0.1:0").unwrap();
    let addr = ip(reactor.listener(listener).unwrap().local_addr());
    let (say_warm, warm) = mpsc::channel();
    let (say_done, done) = mpsc::channel();
    let (say_counted, counted) = mpsc::channel();
    let client = thread::spawn(move || ask_away(addr, &say_warm, &say_done, &counted));
    turn_until(&mut reactor, &warm);
    let before = ALLOCATIONS.get();
    turn_until(&mut reactor, &done);
    let allocations = ALLOCATIONS.get() - before;
    let read = reactor.stats().bytes_read;
    say_counted.send(()).unwrap();
    client.join().unwrap();
    assert_eq!(reactor.stats().panics, 0);
    assert_eq!(
        read as usize,
        (CLIENTS + WARM_UP + REQUESTS) * REQUEST.len()
    );
    allocations
}

fn turn_until(reactor: &mut Reactor<Echo>, over: &Receiver<()>) {
    while over.try_recv() == Err(TryRecvError::Empty) {
        let _ = reactor.turn(Some(ms(10))).unwrap();
    }
}

fn ask_away(addr: SocketAddr, warm: &Sender<()>, done: &Sender<()>, counted: &Receiver<()>) {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(addr)).collect();
    let mut ask = |n: usize| {
        for at in 0..n {
            assert_eq!(round_trip(&mut clients[at % CLIENTS], &REQUEST), REQUEST);
        }
    };
    ask(CLIENTS + WARM_UP);
    warm.send(()).unwrap();
    ask(REQUESTS);
    done.send(()).unwrap();
    // Hanging up is not part of the steady state.
    counted.recv().unwrap();
}
