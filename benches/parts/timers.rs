//! Timers: set, cancel, move and fire with few and with many outstanding, beside tokio's
//! `DelayQueue` and beside a binary heap whose canceled entries stay until they surface.
//!
//! The bar: each at most 100 ns, and the same for a thousand as for a million. To move a timer
//! is to cancel it and to set another. "oldest" are canceled in the order in which they were
//! set, as timeouts are; "any" is drawn from all that are outstanding, so that with a million
//! of them nearly every access misses the caches, whatever the structure. "fire" sets all of
//! them, to be due at 4,000 in a millisecond, and counts the turns in which they fire.
//!
//! Where that is so, "one look" says what missing costs on this machine and at this moment: one
//! load from a random place in as much memory as that many timers take, and the next place is
//! known only when it has come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::{unconstrained, yield_now};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;
use windlass::{Context, Handler, Reactor, TimerId};

use crate::measure::{Batch, Bench, Random, Subject, timed};
use crate::sockets::turn;

const OUTSTANDING: [(usize, &str); 4] = [
    (1_000, "1k"),
    (10_000, "10k"),
    (100_000, "100k"),
    (1_000_000, "1M"),
];
/// Operations of one batch.
const OPS: usize = 1_000;
/// Those that are not to fire are due within an hour, and not before that.
const LATER: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
/// Those that fire are due when all of them are set, which takes less than that for each.
const TO_SET: Duration = Duration::from_nanos(500);
/// And then one after the other.
const APART: Duration = Duration::from_nanos(250);
const TICK: Duration = Duration::from_millis(1);

/// What a timer of a loop takes: its slot, its node in the wheel, and a little on its list.
const TIMER_WORDS: usize = 7;

pub(crate) fn run(bench: &mut Bench) {
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = &runtime.expect("a runtime");
    for (count, name) in OUTSTANDING {
        let mut ours = Case::new(Loop::new(), count);
        let mut queue = Case::new(Queue::new(runtime), count);
        let mut heap = Case::new(Heap::default(), count);
        let mut looks = Looks::new(&ours.shuffled);
        let mut part = |what: &str, ops: usize, measure: fn(&mut dyn Measure) -> Duration| {
            let subjects: &mut [Subject<'_>] = &mut [
                ("windlass", &mut || measure(&mut ours)),
                ("DelayQueue", &mut || measure(&mut queue)),
                ("BinaryHeap, lazily", &mut || measure(&mut heap)),
                ("one look", &mut || looks.take(ops)),
            ];
            bench.part(&format!("timers {name}: {what}"), Batch::of(ops), subjects);
        };
        part("fire", count, |case| case.fire());
        part("set", OPS, |case| case.set());
        part("cancel oldest", OPS, |case| case.cancel(Which::Oldest));
        part("cancel any", OPS, |case| case.cancel(Which::Any));
        part("move oldest", OPS, |case| case.change(Which::Oldest));
        part("move any", OPS, |case| case.change(Which::Any));
    }
}

/// Memory as large as that of so many timers, to be looked at in no order.
struct Looks {
    /// Each begins with the place of the next.
    places: Vec<[usize; TIMER_WORDS]>,
    at: usize,
}

impl Looks {
    /// All places, in the order in which they stand here.
    fn new(order: &[usize]) -> Self {
        let mut places = vec![[0; TIMER_WORDS]; order.len()];
        for (at, &place) in order.iter().enumerate() {
            places[place][0] = order[(at + 1) % order.len()];
        }
        Self { places, at: 0 }
    }

    fn take(&mut self, looks: usize) -> Duration {
        timed(|| {
            for _ in 0..looks {
                self.at = self.places[self.at][0];
            }
            self.at
        })
    }
}

/// A store of timers, and how long it takes for what.
trait Store {
    /// What it names a timer by.
    type Key: Copy;

    /// Appends the keys of what it sets.
    fn set(&mut self, times: &[Instant], keys: &mut Vec<Self::Key>) -> Duration;
    fn cancel(&mut self, keys: &mut Vec<Self::Key>) -> Duration;
    /// Gives timers that are outstanding another time, and maybe another key.
    fn change(&mut self, keys: &mut Vec<Self::Key>, times: &[Instant]) -> Duration;
    /// Runs what is due, and answers how many have fired, too.
    fn fire(&mut self) -> (Duration, usize);
}

#[derive(Clone, Copy)]
enum Which {
    Oldest,
    Any,
}

/// A store with that many timers outstanding, and who of them is next.
struct Case<S: Store> {
    store: S,
    count: usize,
    /// Those that are outstanding, by place; what is set anew keeps its place.
    keys: Vec<S::Key>,
    /// All places, shuffled.
    shuffled: Vec<usize>,
    at: usize,
    random: Random,
}

impl<S: Store> Case<S> {
    fn new(store: S, count: usize) -> Self {
        let mut random = Random::new();
        let mut shuffled: Vec<usize> = (0..count).collect();
        for at in 1..count {
            shuffled.swap(at, random.below(at + 1));
        }
        Self {
            store,
            count,
            keys: Vec::new(),
            shuffled,
            at: 0,
            random,
        }
    }

    /// Times in any order, the first of them `from` now.
    fn times(&mut self, count: usize, from: Duration, within: Duration) -> Vec<Instant> {
        let from = Instant::now() + from;
        let within = within.as_nanos() as usize;
        let mut time = || from + Duration::from_nanos(self.random.below(within) as u64);
        (0..count).map(|_| time()).collect()
    }

    fn later(&mut self, count: usize) -> Vec<Instant> {
        self.times(count, LATER, HOUR)
    }

    /// When everything fires nothing is outstanding; the others begin with this.
    fn fill(&mut self) {
        if self.keys.is_empty() {
            let times = self.later(self.count);
            self.store.set(&times, &mut self.keys);
        }
    }

    /// The places of the next batch, and their keys.
    fn next(&mut self, which: Which) -> (Vec<usize>, Vec<S::Key>) {
        let batch = self.at..self.at + OPS;
        self.at = batch.end % self.count;
        let places: Vec<usize> = match which {
            Which::Oldest => batch.collect(),
            Which::Any => self.shuffled[batch].to_vec(),
        };
        let keys = places.iter().map(|&place| self.keys[place]).collect();
        (places, keys)
    }

    fn put(&mut self, places: &[usize], keys: &[S::Key]) {
        for (&place, &key) in places.iter().zip(keys) {
            self.keys[place] = key;
        }
    }
}

/// The batches.
trait Measure {
    fn set(&mut self) -> Duration;
    fn cancel(&mut self, which: Which) -> Duration;
    fn change(&mut self, which: Which) -> Duration;
    fn fire(&mut self) -> Duration;
}

impl<S: Store> Measure for Case<S> {
    fn set(&mut self) -> Duration {
        self.fill();
        let (times, mut keys) = (self.later(OPS), Vec::with_capacity(OPS));
        let took = self.store.set(&times, &mut keys);
        self.store.cancel(&mut keys);
        took
    }

    fn cancel(&mut self, which: Which) -> Duration {
        self.fill();
        let (places, mut keys) = self.next(which);
        let took = self.store.cancel(&mut keys);
        keys.clear();
        let times = self.later(OPS);
        self.store.set(&times, &mut keys);
        self.put(&places, &keys);
        took
    }

    fn change(&mut self, which: Which) -> Duration {
        self.fill();
        let (places, mut keys) = self.next(which);
        let times = self.later(OPS);
        let took = self.store.change(&mut keys, &times);
        self.put(&places, &keys);
        took
    }

    fn fire(&mut self) -> Duration {
        let count = self.count as u32;
        let times = self.times(self.count, TICK + TO_SET * count, APART * count);
        self.store.set(&times, &mut Vec::with_capacity(self.count));
        let (mut took, mut fired) = (Duration::ZERO, 0);
        while fired < self.count {
            std::thread::sleep(TICK);
            let (more, now) = self.store.fire();
            took += more;
            fired += now;
        }
        took
    }
}

/// The timers of a loop.
struct Loop {
    reactor: Reactor<Inside>,
}

/// What a callback works with.
#[derive(Default)]
struct Inside {
    ids: Vec<TimerId>,
    times: Vec<Instant>,
    fired: usize,
    took: Duration,
}

impl Handler for Inside {
    type Session = ();

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerId) {
        self.fired += 1;
    }
}

impl Loop {
    fn new() -> Self {
        let reactor = Reactor::new(Inside::default()).expect("a loop");
        Self { reactor }
    }

    /// Does it in a callback, and answers how long it took there.
    fn inside(
        &mut self,
        ids: &mut Vec<TimerId>,
        times: &[Instant],
        task: fn(&mut Inside, &mut Context<'_>),
    ) -> Duration {
        let inside = self.reactor.handler_mut();
        std::mem::swap(&mut inside.ids, ids);
        inside.times = times.to_vec();
        let posted = self.reactor.handle().post(move |inside, cx| {
            inside.took = timed(|| task(inside, cx));
        });
        posted.expect("a post");
        turn(&mut self.reactor);
        let inside = self.reactor.handler_mut();
        std::mem::swap(&mut inside.ids, ids);
        inside.took
    }
}

impl Store for Loop {
    type Key = TimerId;

    fn set(&mut self, times: &[Instant], ids: &mut Vec<TimerId>) -> Duration {
        ids.reserve(times.len());
        self.inside(ids, times, |inside, cx| {
            let set = inside.times.iter().map(|&at| cx.set_timer(at));
            inside.ids.extend(set);
        })
    }

    fn cancel(&mut self, ids: &mut Vec<TimerId>) -> Duration {
        self.inside(ids, &[], |inside, cx| {
            for &id in &inside.ids {
                cx.cancel_timer(id);
            }
        })
    }

    fn change(&mut self, ids: &mut Vec<TimerId>, times: &[Instant]) -> Duration {
        self.inside(ids, times, |inside, cx| {
            for (id, &at) in inside.ids.iter_mut().zip(&inside.times) {
                cx.cancel_timer(*id);
                *id = cx.set_timer(at);
            }
        })
    }

    fn fire(&mut self) -> (Duration, usize) {
        self.reactor.handler_mut().fired = 0;
        let took = timed(|| turn(&mut self.reactor));
        (took, self.reactor.handler().fired)
    }
}

/// The timers of `tokio-util`.
struct Queue<'a> {
    runtime: &'a Runtime,
    queue: DelayQueue<()>,
}

impl<'a> Queue<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        let queue = DelayQueue::new();
        Self { runtime, queue }
    }
}

impl Store for Queue<'_> {
    type Key = Key;

    fn set(&mut self, times: &[Instant], keys: &mut Vec<Key>) -> Duration {
        let _entered = self.runtime.enter();
        keys.reserve(times.len());
        timed(|| {
            let set = times.iter().map(|&at| self.queue.insert_at((), at.into()));
            keys.extend(set);
        })
    }

    fn cancel(&mut self, keys: &mut Vec<Key>) -> Duration {
        let _entered = self.runtime.enter();
        timed(|| {
            for key in keys {
                self.queue.remove(key);
            }
        })
    }

    fn change(&mut self, keys: &mut Vec<Key>, times: &[Instant]) -> Duration {
        let _entered = self.runtime.enter();
        timed(|| {
            for (key, &at) in keys.iter().zip(times) {
                self.queue.reset_at(key, at.into());
            }
        })
    }

    fn fire(&mut self) -> (Duration, usize) {
        let mut fired = 0;
        let took = timed(|| {
            // Not held to a budget of polls, which it would exceed.
            self.runtime.block_on(unconstrained(async {
                // The runtime's clock moves when a task yields.
                yield_now().await;
                let count = |cx: &mut std::task::Context<'_>| {
                    while let Poll::Ready(Some(_)) = self.queue.poll_expired(cx) {
                        fired += 1;
                    }
                    Poll::Ready(())
                };
                poll_fn(count).await;
            }));
        });
        (took, fired)
    }
}

/// A heap of times. A generation for each slot tells entries that are void.
#[derive(Default)]
struct Heap {
    heap: BinaryHeap<Reverse<(Instant, Slot)>>,
    generations: Vec<u32>,
    free: Vec<usize>,
    void: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    index: usize,
    generation: u32,
}

impl Heap {
    fn insert(&mut self, at: Instant) -> Slot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() - 1
        });
        let generation = self.generations[index];
        let slot = Slot { index, generation };
        self.heap.push(Reverse((at, slot)));
        slot
    }

    /// Void entries leave when they surface, or when every other one is void.
    fn remove(&mut self, slot: Slot) {
        self.vacate(slot);
        self.void += 1;
        if self.void > self.heap.len() / 2 {
            let generations = &self.generations;
            let lives = |slot: &Slot| generations[slot.index] == slot.generation;
            self.heap.retain(|Reverse((_, slot))| lives(slot));
            self.void = 0;
        }
    }

    fn vacate(&mut self, slot: Slot) {
        self.generations[slot.index] += 1;
        self.free.push(slot.index);
    }
}

impl Store for Heap {
    type Key = Slot;

    fn set(&mut self, times: &[Instant], keys: &mut Vec<Slot>) -> Duration {
        keys.reserve(times.len());
        timed(|| keys.extend(times.iter().map(|&at| self.insert(at))))
    }

    fn cancel(&mut self, keys: &mut Vec<Slot>) -> Duration {
        timed(|| keys.iter().for_each(|&slot| self.remove(slot)))
    }

    fn change(&mut self, keys: &mut Vec<Slot>, times: &[Instant]) -> Duration {
        timed(|| {
            for (slot, &at) in keys.iter_mut().zip(times) {
                self.remove(*slot);
                *slot = self.insert(at);
            }
        })
    }

    fn fire(&mut self) -> (Duration, usize) {
        let mut fired = 0;
        let took = timed(|| {
            let now = Instant::now();
            while let Some(&Reverse((at, slot))) = self.heap.peek()
                && at <= now
            {
                self.heap.pop();
                if self.generations[slot.index] == slot.generation {
                    self.vacate(slot);
                    fired += 1;
                } else {
                    self.void -= 1;
                }
            }
        });
        (took, fired)
    }
}
