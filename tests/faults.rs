//! That the checks can fail: for each mistake of `src/faults.rs` the worlds of `tests/worlds`
//! are played, seed after seed, until a rule is broken. A mistake that nobody notices is a
//! hole in the checks, and fails.
//!
//! ```text
//! RUSTFLAGS='--cfg windlass_faults' cargo test --release --test faults -- --nocapture
//! WINDLASS_FAULT=ResumeForgotten RUSTFLAGS=… cargo test --release --test faults -- --nocapture
//! ```
//!
//! The first prints the table of `docs/testing.md`; the second shows one mistake with the
//! world that found it.

#![cfg(windlass_faults)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::env;
use std::fs;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use windlass::faults::{Fault, make};

use self::worlds::{annex, aside, play};

#[path = "worlds.rs"]
mod worlds;

/// Seeds after which a mistake counts as unnoticed. Worlds that need more are too tame.
const MOST_SEEDS: u64 = 4000;
/// Lines of the trace that are shown of one mistake.
const SHOWN: usize = 150;

/// The world of a seed, of each kind.
const PLAYS: [worlds::Play; 3] = [play::play, annex::play, aside::play];

/// How one mistake was found.
struct Found {
    fault: Fault,
    /// The number of worlds that it took, and what the last of them said.
    by: Option<(u64, String)>,
}

#[test]
fn every_deliberate_fault_is_noticed() {
    let only = env::var("WINDLASS_FAULT").ok();
    if let Some(name) = only {
        return show(named(&name));
    }
    panic::set_hook(Box::new(|_| {}));
    let found = find_all();
    drop(panic::take_hook());
    print(&found);
    let unnoticed: Vec<_> = found.iter().filter(|it| it.by.is_none()).collect();
    let names: Vec<_> = unnoticed.iter().map(|it| it.fault).collect();
    assert!(names.is_empty(), "nobody notices {names:?}");
}

#[test]
fn every_deliberate_fault_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/testing.md");
    let page = fs::read_to_string(page).unwrap();
    for fault in Fault::ALL {
        let row = row_head(*fault);
        assert!(page.contains(&row), "docs/testing.md has no row {row:?}");
    }
    let counted = format!("{} mistakes", Fault::ALL.len());
    assert!(page.contains(&counted), "there are {counted}");
}

fn named(name: &str) -> Fault {
    let is_it = |fault: &&Fault| format!("{fault:?}") == name;
    let fault = Fault::ALL.iter().find(is_it);
    *fault.unwrap_or_else(|| panic!("there is no mistake {name}"))
}

/// On as many threads as there are processors; each has its own mistake.
fn find_all() -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(&fault) = Fault::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let by = find(fault);
            found.push(Found { fault, by });
        }
        found
    };
    let mut all: Vec<Found> = thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let found = threads.into_iter().map(|thread| thread.join().unwrap());
        found.flatten().collect()
    });
    let place = |fault: Fault| Fault::ALL.iter().position(|&it| it == fault);
    all.sort_by_key(|found| place(found.fault));
    all
}

fn find(fault: Fault) -> Option<(u64, String)> {
    make(Some(fault));
    let broken = |seed| {
        let mut plays = PLAYS.iter();
        let why = plays.find_map(|play| Some(play(seed, false).0.err()?.why));
        Some((seed + 1, why?))
    };
    let found = (0..MOST_SEEDS).find_map(broken);
    make(None);
    found.map(|(seeds, why)| (seeds, said(&why)))
}

/// What the judge said, in one line and without names.
fn said(why: &str) -> String {
    let mut lines = why.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    // The world's own check begins with its seed, and may have panicked.
    let line = if first.contains("in the world of seed") {
        lines.next().unwrap_or_default()
    } else {
        first
    };
    nameless(line)
}

/// Takes the numbers off ids, and lists of bytes out.
fn nameless(line: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for letter in line.chars() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '|' => {}
            _ if depth == 0 => text.push(letter),
            _ => {}
        }
    }
    text
}

fn row_head(fault: Fault) -> String {
    let (promise, what) = (fault.promise(), fault.what());
    format!("| {promise} | `{fault:?}` | {what} |")
}

/// The table, as it stands in `docs/testing.md`.
fn print(found: &[Found]) {
    println!("| Promise | Mistake | What is done wrong | What is said | Worlds |");
    println!("|---|---|---|---|---|");
    for Found { fault, by } in found {
        let head = row_head(*fault);
        match by {
            Some((seeds, why)) => println!("{head} {why} | {seeds} |"),
            None => println!("{head} nothing | over {MOST_SEEDS} |"),
        }
    }
}

fn show(fault: Fault) {
    let (seeds, why) = find(fault).unwrap_or_else(|| panic!("nobody notices {fault:?}"));
    make(Some(fault));
    let mut plays = PLAYS.iter().map(|play| play(seeds - 1, true));
    let (_, trace) = plays.find(|(played, _)| played.is_err()).unwrap();
    make(None);
    for line in &trace[trace.len().saturating_sub(SHOWN)..] {
        println!("{line}");
    }
    println!(
        "{} ({}): {why}, after {seeds} worlds",
        fault.what(),
        fault.promise()
    );
}
