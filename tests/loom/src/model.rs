//! The mailbox under every order in which its threads can run, and under a memory that is
//! as lax as the language allows.
//!
//! What loom cannot follow is left out: the loop is a thread that sleeps on a bell, a task
//! is known by its owner's number, and running it is dropping it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::handle::{Handle, Inbox, Post, PostError};
use crate::handler::Handler;
use crate::kernel::Wake;
use crate::token::Owner;

/// Switches of threads that are not forced, in one run; LOOM_MAX_PREEMPTIONS says otherwise.
const PREEMPTIONS: usize = 3;
const PLENTY: usize = 100;
const GRACE: Duration = Duration::from_secs(1);

struct App;

impl Handler for App {
    type Session = ();
}

/// What the loop sleeps on. It counts how often it was rung: each time is a system call.
struct Bell {
    ringing: Mutex<bool>,
    rang: Condvar,
    rings: AtomicUsize,
}

impl Bell {
    fn wait(&self) {
        let mut ringing = self.ringing.lock().unwrap();
        while !*ringing {
            ringing = self.rang.wait(ringing).unwrap();
        }
        *ringing = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        *self.ringing.lock().unwrap() = true;
        self.rang.notify_one();
    }
}

/// The loop, as far as the mailbox is concerned: `Reactor::pass` and `run_posts`.
struct Loop {
    inbox: Inbox<App>,
    bell: Arc<Bell>,
    budget: usize,
    tasks: VecDeque<Post<App>>,
    ran: Vec<u16>,
    grace: Option<Duration>,
    collected: usize,
}

impl Loop {
    fn new(limit: usize, budget: usize) -> Self {
        let bell = Arc::new(Bell {
            ringing: Mutex::new(false),
            rang: Condvar::new(),
            rings: AtomicUsize::new(0),
        });
        Self {
            inbox: Inbox::new(limit, bell.clone()),
            bell,
            budget,
            tasks: VecDeque::new(),
            ran: Vec::new(),
            grace: None,
            collected: 0,
        }
    }

    /// Sleeps unless there is work. A wake-up that was lost is a deadlock, which loom reports.
    fn turn(&mut self) {
        if !self.inbox.is_rung() {
            self.bell.wait();
        }
        self.run_posts();
    }

    fn run_posts(&mut self) {
        if !self.inbox.is_rung() {
            return;
        }
        let grace = self.inbox.collect(&mut self.tasks, self.budget);
        self.grace = grace.or(self.grace);
        self.collected += 1;
        assert!(self.tasks.len() <= self.budget);
        while let Some(post) = self.tasks.pop_front() {
            self.ran.push(number(&post));
        }
    }

    /// Of all posts before the loop looks, one rings.
    fn assert_few_rings(&self) {
        assert!(!self.inbox.is_rung(), "a ring has not been looked after");
        let rings = self.bell.rings.load(Ordering::SeqCst);
        let looks = self.collected;
        assert!(rings <= looks, "{rings} rings for {looks} looks");
    }
}

fn number(post: &Post<App>) -> u16 {
    match post {
        Post::Loop { owner, .. } => owner.0,
        Post::Conn { .. } => unreachable!("none is posted here"),
    }
}

/// Closures that are made, and what has become of them.
#[derive(Clone)]
struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn post(&self, handle: &Handle<App>, number: u16) -> Result<(), PostError> {
        let dropped = OnDrop(Some(self.count()));
        push(handle, number, dropped)
    }

    fn count(&self) -> impl FnOnce() + Send + 'static {
        let dropped = Arc::clone(&self.0);
        move || {
            dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn dropped(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

fn push(handle: &Handle<App>, number: u16, kept: impl Send + 'static) -> Result<(), PostError> {
    handle.push(Post::Loop {
        owner: Owner(number),
        task: Box::new(move |_, _| drop(kept)),
    })
}

fn explore(world: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(world);
}

/// A thread that posts these numbers, and answers those that were taken.
fn poster(at: &Loop, ledger: &Ledger, numbers: &'static [u16]) -> JoinHandle<Vec<u16>> {
    let (handle, ledger) = (at.inbox.handle(), ledger.clone());
    thread::spawn(move || {
        let taken = |number: &u16| ledger.post(&handle, *number).is_ok();
        numbers.iter().copied().filter(taken).collect()
    })
}

#[test]
fn every_post_wakes_the_loop_and_runs_once() {
    explore(|| {
        let mut it = Loop::new(PLENTY, PLENTY);
        let ledger = Ledger::new();
        let threads = [poster(&it, &ledger, &[10, 11]), poster(&it, &ledger, &[20])];
        while it.ran.len() < 3 {
            it.turn();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(it.ran.iter().filter(|at| **at < 20).eq(&[10, 11]));
        it.run_posts();
        assert_eq!((it.ran.len(), ledger.dropped()), (3, 3));
        it.assert_few_rings();
    });
}

#[test]
fn what_is_over_budget_is_collected_without_another_ring() {
    explore(|| {
        let mut it = Loop::new(PLENTY, 1);
        let ledger = Ledger::new();
        let thread = poster(&it, &ledger, &[1, 2, 3]);
        while it.ran.len() < 3 {
            it.turn();
        }
        thread.join().unwrap();
        it.run_posts(); // a bell that was rung for what is done already
        assert_eq!(it.ran, [1, 2, 3]);
        it.assert_few_rings();
    });
}

#[test]
fn a_full_mailbox_refuses_and_forgets_nothing_it_took() {
    explore(|| {
        let mut it = Loop::new(1, PLENTY);
        let ledger = Ledger::new();
        let threads = [poster(&it, &ledger, &[10, 11]), poster(&it, &ledger, &[20])];
        it.turn(); // the first post of all is always taken
        assert!(it.ran.len() <= 1);
        let mut taken: Vec<u16> = Vec::new();
        for thread in threads {
            taken.extend(thread.join().unwrap());
        }
        it.run_posts();
        it.ran.sort_unstable();
        taken.sort_unstable();
        assert_eq!(it.ran, taken);
        assert_eq!(ledger.dropped(), 3, "what was refused is dropped, too");
    });
}

#[test]
fn a_stop_drops_what_waits_and_refuses_what_follows() {
    explore(|| {
        let mut it = Loop::new(PLENTY, PLENTY);
        let ledger = Ledger::new();
        let thread = poster(&it, &ledger, &[1, 2]);
        it.run_posts();
        it.inbox.stop();
        assert_eq!(it.inbox.handle().shutdown(GRACE), Err(PostError::Stopped));
        let taken = thread.join().unwrap();
        assert!(taken.starts_with(&it.ran), "{:?} of {taken:?}", it.ran);
        // All are gone while handles live on.
        assert_eq!(ledger.dropped(), 2);
        assert_eq!(ledger.post(&it.inbox.handle(), 3), Err(PostError::Stopped));
        it.run_posts();
        assert_eq!((it.ran.len() <= taken.len(), ledger.dropped()), (true, 3));
    });
}

#[test]
fn a_post_whose_drop_posts_does_not_lock_the_mailbox_against_itself() {
    explore(|| {
        let it = Loop::new(1, PLENTY);
        let (first, second) = (it.inbox.handle(), it.inbox.handle());
        let ledger = Ledger::new();
        let tell = {
            let ledger = ledger.clone();
            OnDrop(Some(move || {
                let _ = ledger.post(&second, 2);
            }))
        };
        let thread = thread::spawn(move || push(&first, 1, tell));
        drop(it.inbox);
        let _ = thread.join().unwrap();
        assert_eq!(ledger.dropped(), 1);
    });
}

#[test]
fn a_stop_is_heard_through_a_full_mailbox_and_the_shortest_grace_counts() {
    explore(|| {
        let mut it = Loop::new(0, PLENTY);
        let ask = |grace: Duration| {
            let handle = it.inbox.handle();
            thread::spawn(move || handle.shutdown(grace))
        };
        let threads = [ask(GRACE), ask(2 * GRACE)];
        let full = Ledger::new().post(&it.inbox.handle(), 1);
        assert_eq!(full, Err(PostError::Full));
        let mut heard = Vec::new();
        while heard.is_empty() {
            it.turn();
            heard.extend(it.grace.take());
        }
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        it.run_posts();
        heard.extend(it.grace.take());
        assert!(heard.contains(&GRACE), "{heard:?}");
    });
}
