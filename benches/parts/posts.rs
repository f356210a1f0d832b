//! Closures posted to the loop by one and by four threads, beside a channel of tokio's whose
//! receiver runs on a current-thread runtime, and beside tasks that are spawned there.
//!
//! The bar: ahead of tokio, and at most one wake-up per turn. Wake-ups are counted by the
//! kernel, as write calls of the posting threads, which make no others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc};
use windlass::{Config, Handler, Reactor};

use crate::measure::{Batch, Bench, timed};

const CLOSURES: usize = 1_000_000;
const THREADS: [usize; 2] = [1, 4];

pub(crate) fn run(bench: &mut Bench) {
    let runtime = Builder::new_current_thread().build();
    let runtime = &runtime.expect("a runtime");
    for threads in THREADS {
        let mut ours = Loop::new();
        let chosen = bench.part(
            &format!("post from {threads}"),
            Batch::of(CLOSURES),
            &mut [
                ("windlass", &mut || ours.post(threads)),
                ("tokio mpsc, unbounded", &mut || send(runtime, threads)),
                ("tokio spawn", &mut || spawn(runtime, threads)),
            ],
        );
        if chosen && let Some(line) = ours.wake_ups(threads) {
            bench.note(line);
        }
    }
}

/// Runs `work` on each of so many threads, with its share of the numbers, and `collect` here.
fn from_threads(threads: usize, work: impl Fn(usize) + Sync, collect: impl FnOnce()) -> Duration {
    let share = CLOSURES / threads;
    timed(|| {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..share).for_each(&work));
            }
            collect();
        });
    })
}

struct Loop {
    reactor: Reactor<Sum>,
}

#[derive(Default)]
struct Sum {
    calls: usize,
    sum: usize,
}

impl Handler for Sum {
    type Session = ();
}

impl Loop {
    fn new() -> Self {
        let mut config = Config::default();
        config.mailbox_limit = 2 * CLOSURES;
        let reactor = Reactor::with_config(Sum::default(), config).expect("a loop");
        Self { reactor }
    }

    fn post(&mut self, threads: usize) -> Duration {
        let handle = self.reactor.handle();
        self.reactor.handler_mut().calls = 0;
        let post = |n| {
            let posted = handle.post(move |app, _| {
                app.calls += 1;
                app.sum = app.sum.wrapping_add(n);
            });
            posted.expect("room in the mailbox");
        };
        from_threads(threads, post, || {
            while self.reactor.handler().calls < CLOSURES {
                let turned = self.reactor.turn(None);
                assert!(turned.is_ok(), "{turned:?}");
            }
        })
    }

    /// What one more batch costs in system calls, where the kernel tells.
    fn wake_ups(&mut self, threads: usize) -> Option<String> {
        let before = (writes_of_process()?, self.reactor.stats().turns);
        self.post(threads);
        let wake_ups = writes_of_process()? - before.0;
        let turns = self.reactor.stats().turns - before.1;
        Some(format!(
            "post from {threads}: {wake_ups} wake-ups in {turns} turns for {CLOSURES} closures"
        ))
    }
}

/// Write calls that this process has made. Nobody prints while it posts.
fn writes_of_process() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("syscw: "))?;
    line.parse().ok()
}

type Task = Box<dyn FnOnce(&mut Sum) + Send>;

fn send(runtime: &Runtime, threads: usize) -> Duration {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Task>();
    let send = |n| {
        let task: Task = Box::new(move |sum| {
            sum.calls += 1;
            sum.sum = sum.sum.wrapping_add(n);
        });
        assert!(sender.send(task).is_ok(), "the receiver is there");
    };
    let mut sum = Sum::default();
    from_threads(threads, send, || {
        runtime.block_on(async {
            while sum.calls < CLOSURES
                && let Some(task) = receiver.recv().await
            {
                task(&mut sum);
            }
        });
    })
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static SUM: AtomicUsize = AtomicUsize::new(0);
static ALL: Notify = Notify::const_new();

fn spawn(runtime: &Runtime, threads: usize) -> Duration {
    CALLS.store(0, Ordering::Relaxed);
    let handle = runtime.handle();
    let spawn = |n| {
        handle.spawn(async move {
            SUM.fetch_add(n, Ordering::Relaxed);
            if CALLS.fetch_add(1, Ordering::Relaxed) + 1 == CLOSURES {
                ALL.notify_one();
            }
        });
    };
    from_threads(threads, spawn, || runtime.block_on(ALL.notified()))
}
