//! `Config::busy_poll`: a wait that begins without sleep is as bounded, and ends for the same
//! reasons, as any other.
//!
//! Whether a thread slept is asked of the system, which counts how often each gives its
//! processor away of its own accord.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io;
#[cfg(target_os = "linux")]
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use util::{Server, connect};
use util::{config, ms, serve_with, thread_cpu_time};
use windlass::sim::World;
use windlass::{Config, Conn, Context, Handler, Input, ListenerId, Reactor, TimerId, Turn};

/// The longest bound there may be. Whatever has to wait for its end, if only sometimes, is
/// seen by it.
const LONG: Duration = Duration::from_secs(1);

/// Much less than [`LONG`], and more than anything takes that need not wait for its end.
const SOON: Duration = Duration::from_millis(700);

const ROUNDS: u32 = 50;

fn spinning(bound: Duration) -> Config {
    config(|config| config.busy_poll = bound)
}

/// Echoes; remembers when its timers fired.
#[derive(Default)]
struct Echo {
    fired: Vec<Instant>,
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerId) {
        self.fired.push(Instant::now());
    }
}

// Whether the loop's thread spins or sleeps, as the system sees it.

#[test]
#[cfg(target_os = "linux")]
fn what_comes_within_the_bound_is_served_without_having_slept() {
    let server = serve_with(spinning(LONG), Echo::default());
    let clock = server.ask(|_, _| linux::thread_clock());
    let slept = sleeps_in_an_exchange(&server, || {
        // Nobody asks it for anything, so what it works at is the wait.
        let before = linux::read(clock);
        linux::until(|| linux::read(clock) > before + Duration::from_micros(100));
    });
    // The mailbox has a lock, for which the loop may have had to wait.
    assert!(slept <= 2, "{slept} times in {ROUNDS} rounds");
    assert!(server.stats().spun > Duration::ZERO);
    server.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn a_loop_that_was_not_asked_to_spin_sleeps_at_once() {
    assert_eq!(Config::default().busy_poll, Duration::ZERO);
    let server = serve_with(Config::default(), Echo::default());
    let thread = server.ask(|_, _| linux::thread_id());
    let slept = sleeps_in_an_exchange(&server, || {
        linux::until(|| linux::is_asleep(thread));
    });
    assert!(slept >= u64::from(ROUNDS), "{slept} times only");
    assert_eq!(server.stats().spun, Duration::ZERO);
    server.stop();
}

/// How often the loop went to sleep while a client had messages echoed, for each of which it
/// waited until the loop waits.
#[cfg(target_os = "linux")]
fn sleeps_in_an_exchange(server: &Server<Echo>, until_it_waits: impl Fn()) -> u64 {
    let mut client = connect(server.addr);
    let before = server.ask(|_, _| linux::sleeps());
    let mut message = [7; 64];
    for _ in 0..ROUNDS {
        until_it_waits();
        client.write_all(&message).unwrap();
        client.read_exact(&mut message).unwrap();
    }
    server.ask(|_, _| linux::sleeps()) - before
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the standard library asks nothing about threads"
)]
mod linux {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::util::PATIENCE;

    /// How often the calling thread has gone to sleep.
    pub(crate) fn sleeps() -> u64 {
        // SAFETY: rusage is plain numbers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a valid rusage for the call to fill.
        let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        assert_eq!(answer, 0, "getrusage");
        usage.ru_nvcsw as u64
    }

    pub(crate) fn thread_id() -> libc::pid_t {
        // SAFETY: asks for the calling thread's own number.
        unsafe { libc::gettid() }
    }

    pub(crate) fn is_asleep(thread: libc::pid_t) -> bool {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        // Behind the name, which stands in parentheses.
        stat.rsplit(") ").next().unwrap().starts_with('S')
    }

    /// The clock of the calling thread's processor time, for others to read.
    pub(crate) fn thread_clock() -> libc::clockid_t {
        let mut clock = 0;
        // SAFETY: pthread_self names the calling thread, and the clock lives across the call.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        clock
    }

    pub(crate) fn read(clock: libc::clockid_t) -> Duration {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a valid timespec for the call to fill.
        let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
        assert_eq!(answer, 0, "clock_gettime");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// Sleep between the looks would let the spin pass its bound; a yield does not.
    pub(crate) fn until(holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "it never came true");
            std::thread::yield_now();
        }
    }
}

// What bounds a spin.

/// One wait for nothing: what it took of the processor.
fn idle_wait(reactor: &mut Reactor<Echo>, wait: Duration) -> Duration {
    let (began, before) = (Instant::now(), thread_cpu_time());
    assert_eq!(reactor.turn(Some(wait)).unwrap(), Turn::Running);
    assert!(began.elapsed() >= wait, "it ended early");
    thread_cpu_time() - before
}

#[test]
fn a_wait_takes_the_processor_for_the_bound_and_no_longer() {
    let bound = ms(20);
    let mut reactor = Reactor::with_config(Echo::default(), spinning(bound)).unwrap();
    for waits in 1..=3 {
        let used = idle_wait(&mut reactor, ms(200));
        assert!(used < bound * 2, "{used:?}");
        assert!(reactor.stats().spun >= bound * waits);
    }
    // So the time is its own, and not that of the callbacks.
    let stats = reactor.stats();
    assert!(stats.busy < stats.spun / 2, "{stats:?}");
    assert!(stats.longest_turn < bound, "{stats:?}");
}

#[test]
fn what_was_spun_is_not_slept_once_more() {
    let (bound, wait) = (ms(40), ms(60));
    let mut reactor = Reactor::with_config(Echo::default(), spinning(bound)).unwrap();
    let took = (0..5).map(|_| {
        let began = Instant::now();
        idle_wait(&mut reactor, wait);
        began.elapsed()
    });
    // Any of them may have been held up by others on the machine.
    let fastest = took.min().unwrap();
    assert!(fastest < wait + bound / 2, "{fastest:?}");
}

#[test]
fn a_spin_is_one_turn() {
    let mut reactor = Reactor::with_config(Echo::default(), spinning(ms(20))).unwrap();
    idle_wait(&mut reactor, ms(30));
    assert_eq!(reactor.stats().turns, 1);
}

#[test]
fn a_turn_by_hand_waits_no_longer_than_it_was_asked_to() {
    let mut reactor = Reactor::with_config(Echo::default(), spinning(LONG)).unwrap();
    idle_wait(&mut reactor, Duration::ZERO);
    assert_eq!(
        reactor.stats().spun,
        Duration::ZERO,
        "nothing was waited for"
    );
    let began = Instant::now();
    idle_wait(&mut reactor, ms(5));
    let took = began.elapsed();
    assert!(took < SOON, "{took:?}");
    assert!(reactor.stats().spun >= ms(5));
}

/// Sets a timer, and turns until it has fired; answers how late that was.
fn lateness(bound: Duration, delay: Duration) -> Duration {
    let mut reactor = Reactor::with_config(Echo::default(), spinning(bound)).unwrap();
    let handle = reactor.handle();
    handle
        .post(move |_, cx| {
            cx.set_timer(cx.now() + delay);
        })
        .unwrap();
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    let due = Instant::now() + delay;
    while reactor.handler().fired.is_empty() {
        let _ = reactor.turn(None).unwrap();
    }
    reactor.handler().fired[0].saturating_duration_since(due)
}

#[test]
fn a_timer_ends_the_spin() {
    for delay in [ms(1), ms(20)] {
        let late = lateness(LONG, delay);
        assert!(late < SOON, "{late:?} after {delay:?}");
    }
}

#[test]
fn a_timer_behind_the_bound_is_slept_for() {
    let late = lateness(ms(1), ms(30));
    assert!(late < SOON, "{late:?}");
}

#[test]
fn a_post_ends_the_spin() {
    let server = serve_with(spinning(LONG), Echo::default());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        server.ask(|_, _| ());
    }
    let took = began.elapsed();
    assert!(took < LONG * ROUNDS / 4, "{took:?}");
    server.stop();
}

#[test]
fn a_stop_ends_the_spin() {
    const LOOPS: u32 = 8;
    let began = Instant::now();
    for _ in 0..LOOPS {
        let server = serve_with(spinning(LONG), Echo::default());
        server.ask(|_, _| ());
        server.stop();
    }
    let took = began.elapsed();
    assert!(took < LONG * LOOPS / 2, "{took:?}");
}

// Elsewhere.

/// What a loop did in the simulated world: the answer, when, and in how many turns.
fn simulated(bound: Duration) -> (Vec<u8>, Duration, u64) {
    let mut world = World::with_config(7, Echo::default(), spinning(bound));
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, b"hello");
    world.run();
    let answer = world.received(client);
    world.advance(Duration::from_secs(1000));
    let stats = world.stats();
    assert_eq!(stats.spun, Duration::ZERO);
    (answer, stats.elapsed, stats.turns)
}

#[test]
fn the_simulated_world_goes_the_same_way() {
    let (answer, elapsed, turns) = simulated(LONG);
    assert_eq!(answer, b"hello");
    assert_eq!((answer, elapsed, turns), simulated(Duration::ZERO));
}

#[test]
fn a_bound_of_more_than_a_second_is_refused_by_name() {
    assert!(spinning(LONG).check().is_ok());
    let error = spinning(LONG + ms(1)).check().unwrap_err().to_string();
    assert!(error.contains("busy_poll must be at most 1s"), "{error}");
}
