//! Whole worlds from bytes: the first eight are the kernel's seed, the others are the dice of
//! the script and of the handler. Every promise is judged after every turn, as in
//! `tests/worlds.rs`.

#![no_main]

use std::process;

use libfuzzer_sys::fuzz_target;

#[path = "../../worlds.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the tests of that file are not here"
)]
mod worlds;

/// Lines of the trace that are shown.
const SHOWN: usize = 100;

fuzz_target!(
    // Some handlers panic on purpose. Whoever panics without one is told by `play`.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        let (seed, dice) = bytes.split_first_chunk().unwrap_or((&[0; 8], bytes));
        let seed = u64::from_le_bytes(*seed);
        worlds::load(dice);
        if worlds::of_seed(seed, false).0.is_err() {
            worlds::load(dice);
            tell(seed);
            process::abort();
        }
    }
);

/// Plays it once more, with a trace.
fn tell(seed: u64) {
    let (played, trace) = worlds::of_seed(seed, true);
    for line in &trace[trace.len().saturating_sub(SHOWN)..] {
        eprintln!("  {line}");
    }
    match played {
        Ok(_) => eprintln!("a rule was broken, and not when the same bytes were played again"),
        Err(failure) => eprintln!("{}", failure.why),
    }
}
