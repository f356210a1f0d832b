//! Worlds from a seed: mixed traffic, a handler that does as it likes, and faults, with every
//! promise judged after every turn.
//!
//! A seed is a world: its limits, its handler's temperament, its peers and what goes wrong.
//! Whoever breaks a promise is shown with its seed and what happened before, turn by turn:
//!
//! ```text
//! WINDLASS_SEED=0x2a cargo test --test worlds -- --nocapture --exact replay
//! WINDLASS_SEEDS=100000 cargo test --release --test worlds -- --nocapture keep_every_promise
//! ```
//!
//! Everything goes through the public interface, so it says nothing about how a promise is
//! kept.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(
    unreachable_pub,
    reason = "public towards the rooms of this one test file"
)]

use std::env;
use std::fmt::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use self::play::{Failure, Outcome, play};

#[path = "worlds/annex.rs"]
pub(crate) mod annex;
#[path = "worlds/app.rs"]
mod app;
#[path = "worlds/aside.rs"]
pub(crate) mod aside;
#[path = "worlds/book.rs"]
mod book;
// Fuzzed, a world follows from bytes instead of a seed.
#[cfg_attr(not(fuzzing), path = "worlds/dice.rs")]
#[cfg_attr(fuzzing, path = "fuzz/dice.rs")]
mod dice;
#[path = "worlds/errands.rs"]
mod errands;
#[path = "worlds/faults.rs"]
mod faults;
#[path = "worlds/guest.rs"]
mod guest;
#[path = "worlds/inside.rs"]
mod inside;
#[path = "worlds/judge.rs"]
mod judge;
#[path = "util/layer.rs"]
mod layer;
#[path = "worlds/layers.rs"]
mod layers;
#[path = "worlds/manner.rs"]
mod manner;
#[path = "worlds/mischief.rs"]
mod mischief;
#[path = "worlds/peers.rs"]
mod peers;
#[path = "worlds/plan.rs"]
mod plan;
#[path = "worlds/play.rs"]
pub(crate) mod play;
#[path = "worlds/rest.rs"]
mod rest;
#[path = "worlds/turns.rs"]
mod turns;

/// For tests/fuzz/targets/world.rs.
#[cfg(fuzzing)]
pub use self::{dice::load, play::play as of_seed};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2000;
/// What these must come to, or the worlds have become too tame.
#[rustfmt::skip]
const CORNERS: [&str; 49] = [
    "on_start", "on_stop", "on_accept", "on_connect", "on_read", "on_write", "on_eof",
    "on_timeout", "on_wake", "on_shutdown", "on_close", "on_dial_error", "on_accept_error",
    "on_timer", "on_datagram", "on_socket_error", "on_socket_writable", "post", "post_to",
    "post from outside", "Eof", "Local", "Handler", "Timeout(Linger)", "Timeout", "Reset",
    "Overflow", "InputTooLong", "Shutdown", "Panic", "Io", "read deadline", "write deadline",
    "idle timeout", "write stall", "timer of a connection", "refused", "shed", "lost",
    "backoffs", "stale events", "discarded", "posted to gone", "datagrams dropped", "panics",
    "on_handshake", "Layer", "Truncated", "Timeout(Handshake)",
];
/// The same of the worlds of the second kind.
#[rustfmt::skip]
const ANNEX_CORNERS: [&str; 20] = [
    "on_accept", "on_connect", "on_read", "on_write", "on_eof", "on_timeout", "on_shutdown",
    "on_close", "on_dial_error", "on_accept_error", "on_timer", "on_datagram", "on_ready",
    "on_stop", "a descriptor comes", "detach", "adopt", "a listener's deadline",
    "a callback panics", "a panic goes through",
];
/// The same of those of the third.
const ASIDE_CORNERS: [&str; 3] = ["on_handshake", "a merged datagram", "Truncated"];
const ONCE_BROKEN: [(Play, &str, u64); 5] = [
    // A close that the end of a layer began ran out of linger.
    (play, "replay", 0x2ca07),
    // The process stood still for longer than the linger time.
    (play, "replay", 0x380f4),
    (play, "replay", 0x18_8e70),
    // A second stop, with less grace, was asked for and not heard of while it stood still.
    (play, "replay", 0x61_0139),
    // The high mark was lowered below what was queued, and `on_write` said that there was room.
    (annex::play, "replay_annex", 0x29_c551),
];
/// Lines of the trace that are shown.
const SHOWN: usize = 150;

#[test]
fn worlds_keep_every_promise() {
    run_many(play, "replay", &CORNERS);
}

/// Unix sockets, records, descriptors, watches and groups, under a `Mux`.
#[test]
fn annexes_keep_every_promise() {
    run_many(annex::play, "replay_annex", &ANNEX_CORNERS);
}

/// Layers, and datagrams that the kernel merges.
#[test]
fn asides_keep_every_promise() {
    run_many(aside::play, "replay_aside", &ASIDE_CORNERS);
}

/// Plays the world of a seed, with a trace or without.
pub(crate) type Play = fn(u64, bool) -> (Result<Outcome, Failure>, Vec<String>);

fn run_many(play: Play, replay: &str, corners: &[&str]) {
    let first = number("WINDLASS_FIRST").unwrap_or(0);
    let seeds = number("WINDLASS_SEEDS").unwrap_or(SEEDS);
    let all = play_all(play, first..first + seeds);
    let all = all.unwrap_or_else(|seed| show(play, replay, seed));
    let (turns, callbacks) = (all.turns, all.callbacks);
    let connections = all.connections;
    println!("{seeds} worlds: {turns} turns, {callbacks} callbacks, {connections} connections");
    for corner in corners {
        // Too few worlds need not get everywhere.
        let reached = seeds < SEEDS || all.corners.contains(corner);
        assert!(reached, "no world of {seeds} came to {corner:?}");
    }
}

/// Some only said that a judge was too strict. What a seed plays changes with the worlds: a
/// defect of the loop has a test of its own as well, which says what it was.
#[test]
fn seeds_that_broke_a_rule_once_keep_all() {
    for (play, replay, seed) in ONCE_BROKEN {
        if play(seed, false).0.is_err() {
            show(play, replay, seed);
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for play in [play as Play, annex::play, aside::play] {
        for seed in 0..20 {
            let (one, other) = (play(seed, true), play(seed, true));
            assert_eq!(one.1, other.1, "seed {seed:#x}");
        }
    }
}

/// The world of `WINDLASS_SEED`, with its trace.
#[test]
fn replay() {
    replay_with(play, "replay");
}

#[test]
fn replay_annex() {
    replay_with(annex::play, "replay_annex");
}

#[test]
fn replay_aside() {
    replay_with(aside::play, "replay_aside");
}

fn replay_with(play: Play, replay: &str) {
    if let Some(seed) = number("WINDLASS_SEED") {
        let (played, trace) = play(seed, true);
        for line in trace {
            println!("{line}");
        }
        if played.is_err() {
            show(play, replay, seed);
        }
    }
}

/// Plays these worlds on as many threads as there are processors. Or answers the first seed
/// that breaks a rule.
fn play_all(play: Play, seeds: Range<u64>) -> Result<Outcome, u64> {
    let next = AtomicU64::new(seeds.start);
    let broken = AtomicU64::new(seeds.end);
    let work = || {
        let mut all = Outcome::default();
        loop {
            // Whoever breaks a rule keeps the others from going further than it got.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= broken.load(Ordering::Relaxed) {
                return all;
            }
            match play(seed, false).0 {
                Ok(outcome) => all.add(outcome),
                Err(_) => drop(broken.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let mut all = Outcome::default();
    thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            all.add(thread.join().unwrap());
        }
    });
    let broken = broken.into_inner();
    if broken < seeds.end {
        Err(broken)
    } else {
        Ok(all)
    }
}

/// Plays it once more, with a trace.
fn show(play: Play, replay: &str, seed: u64) -> ! {
    let (played, _) = play(seed, true);
    let Err(Failure { why, trace }) = played else {
        panic!("the world of seed {seed:#x} broke a rule, and not when it was played again");
    };
    let shown = &trace[trace.len().saturating_sub(SHOWN)..];
    let mut text = format!("in the world of seed {seed:#x}:\n  {why}\n");
    for line in shown {
        let _ = writeln!(text, "  {line}");
    }
    let again =
        format!("WINDLASS_SEED={seed:#x} cargo test --test worlds -- --nocapture --exact {replay}");
    panic!("{text}{why}\nto see all of it: {again}");
}

/// A number of the environment, decimal or hexadecimal.
fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
