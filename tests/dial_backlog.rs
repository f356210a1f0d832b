//! Dialing a listener whose queue is full, which is never answered: the dial ends when it
//! was asked to, and waiting costs nothing. Linux only: there a full queue is silent.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/process.rs"]
mod process;

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use util::{PATIENCE, config, eventually, ms, open_descriptors, thread_cpu_time};
use windlass::{Config, Context, Dial, DialId, Error, Handle, Handler, Reactor, Stats};

/// What the dials are given.
const ASKED: Duration = Duration::from_millis(300);

/// How late the end of a dial may be told on a machine with nothing else to do.
const LATE: Duration = Duration::from_millis(20);

/// How often a machine that has something else to do may try to be in time.
const CHANCES: usize = 5;

/// The smallest queue there is; Linux lets one more in than was asked for.
const BACKLOG: i32 = 1;

/// How many dials at once.
const MANY: usize = 1000;

/// More turns than it takes to dial (one), to begin (one), to be asked three times and to
/// find the time come; fewer by far than one for each dial, or one for each tick.
const FEW: u64 = 50;

/// How a dial ended, and when the callback began.
struct End {
    at: Instant,
    text: String,
    is_timeout: bool,
    retry_in: Option<Duration>,
}

struct Client {
    tell: Sender<End>,
}

impl Handler for Client {
    type Session = ();

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        let end = End {
            at: Instant::now(),
            text: error.to_string(),
            is_timeout: error.is_timeout(),
            retry_in,
        };
        let _ = self.tell.send(end);
    }
}

/// A loop on a thread of its own.
struct Loop {
    handle: Handle<Client>,
    ends: Receiver<End>,
    thread: thread::JoinHandle<Stats>,
}

/// What the loop has used so far.
#[derive(Clone, Copy, Debug)]
struct Used {
    turns: u64,
    events: u64,
    open: u64,
    processor: Duration,
    at: Instant,
}

impl Loop {
    fn start(config: Config) -> Self {
        let (tell, ends) = mpsc::channel();
        let (say, handle) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::with_config(Client { tell }, config).unwrap();
            say.send(reactor.handle()).unwrap();
            reactor.run().unwrap().stats
        });
        let handle = handle.recv_timeout(PATIENCE).unwrap();
        Self {
            handle,
            ends,
            thread,
        }
    }

    /// Runs something on the loop's thread and brings back the answer.
    #[track_caller]
    fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Context<'_>) -> R + Send + 'static,
    ) -> R {
        let (say, answer) = mpsc::channel();
        let post = self.handle.post(move |_, cx| {
            let _ = say.send(question(cx));
        });
        post.expect("the loop takes posts");
        answer.recv_timeout(PATIENCE).expect("it answers in time")
    }

    /// Dials that often, and answers when the first of them was asked for.
    #[track_caller]
    fn dial(&self, dial: Dial, times: usize) -> Instant {
        self.ask(move |cx| {
            let began = Instant::now();
            for _ in 0..times {
                cx.dial(dial.clone()).unwrap();
            }
            began
        })
    }

    #[track_caller]
    fn used(&self) -> Used {
        self.ask(|cx| Used {
            turns: cx.stats().turns,
            events: cx.stats().events,
            open: cx.stats().open,
            processor: thread_cpu_time(),
            at: Instant::now(),
        })
    }

    /// Asserts that the next dial that ends does so as one without an answer does.
    #[track_caller]
    fn timed_out(&self, addr: SocketAddr) -> Instant {
        let end = self.ends.recv_timeout(PATIENCE).expect("an end");
        assert_eq!(end.text, format!("dial tcp {addr}: i/o timeout"));
        assert!(end.is_timeout && end.retry_in.is_none());
        end.at
    }

    #[track_caller]
    fn stop(self) -> Stats {
        self.handle.shutdown(Duration::ZERO).unwrap();
        let ended = eventually(PATIENCE, || self.thread.is_finished());
        assert!(ended, "the loop ends in time");
        assert!(self.ends.try_recv().is_err(), "each dial ends once");
        self.thread.join().unwrap()
    }
}

/// A listener that accepts nobody, its queue full.
struct FullListener {
    addr: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl FullListener {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(BACKLOG).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        // Until one more is not answered.
        while let Some(client) = admitted(addr) {
            waiting.push(client);
        }
        Self {
            addr,
            _listener: listener,
            _waiting: waiting,
        }
    }
}

/// A client in the queue, if it has room: over loopback the answer comes with the call.
fn admitted(addr: SocketAddr) -> Option<Socket> {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.connect_timeout(&addr.into(), ms(100)).ok()?;
    Some(client)
}

#[test]
fn a_dial_to_a_full_backlog_ends_at_the_asked_time() {
    let full = FullListener::new();
    let client = Loop::start(Config::default());
    let mut least = Duration::MAX;
    let mut latenesses = Vec::new();
    while least > LATE && latenesses.len() < CHANCES {
        let began = client.dial(Dial::from(full.addr).timeout(ASKED), 1);
        let took = client.timed_out(full.addr) - began;
        let late = took.checked_sub(ASKED);
        let late = late.unwrap_or_else(|| panic!("early: {took:?}"));
        least = least.min(late);
        latenesses.push(late);
    }
    eprintln!("MEASURED: late by {latenesses:?}");
    assert!(least <= LATE, "late by {latenesses:?}");
    let stats = client.stop();
    assert_eq!(stats.dial_errors, latenesses.len() as u64);
}

#[test]
fn a_thousand_such_dials_cost_no_thread_and_no_spin() {
    // Threads, descriptors and processor time are counted.
    process::alone(
        "a_thousand_such_dials_cost_no_thread_and_no_spin",
        a_thousand_dials,
    );
}

fn a_thousand_dials() {
    let full = FullListener::new();
    let client = Loop::start(config(|config| config.raise_descriptor_limit = true));
    let (threads, descriptors) = (count_threads(), open_descriptors());
    let before = client.used();
    let began = client.dial(Dial::from(full.addr).timeout(ASKED), MANY);
    // They have begun when this answers; from here on there is nothing to do but wait.
    let waiting = client.used();
    assert_eq!(waiting.open, MANY as u64, "all of them wait");
    assert_eq!(open_descriptors(), descriptors + MANY);
    assert_eq!(count_threads(), threads, "a thread was started");
    for _ in 0..MANY {
        let took = client.timed_out(full.addr) - began;
        assert!(took >= ASKED, "early: {took:?}");
    }
    let after = client.used();
    assert_eq!(count_threads(), threads, "a thread was started");
    assert_eq!(open_descriptors(), descriptors, "a descriptor is kept");
    assert_no_spin(&before, &after);
    assert_eq!(client.stop().dial_errors, MANY as u64);
}

#[track_caller]
fn assert_no_spin(before: &Used, after: &Used) {
    let turns = after.turns - before.turns;
    let events = after.events - before.events;
    let processor = after.processor - before.processor;
    let wall = after.at - before.at;
    eprintln!("MEASURED: {turns} turns, {events} events, {processor:?} of {wall:?}");
    assert!(turns < FEW, "{turns} turns");
    assert!(events < FEW, "{events} events");
    // A thousand sockets are made and closed in a tenth of the time; a spin takes what the
    // machine has to give.
    assert!(processor < wall / 4, "{processor:?} of {wall:?}");
}

fn count_threads() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    line.unwrap().trim().parse().unwrap()
}
