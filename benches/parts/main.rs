//! The parts of the loop, each alone and beside what else one could take for it.
//!
//! ```text
//! cargo bench --bench parts                  everything, less than 4 minutes
//! cargo bench --bench parts -- timers        those whose names contain the word
//! cargo bench --bench parts -- --quick       sooner and less certain
//! ```
//!
//! Criterion measures every subject by itself and compares it with its own last run. A table
//! of pairs follows, measured once more: the subjects of a part take turns, and each ratio is
//! of one round, since absolute times of a shared machine mean little.
//!
//! Everything goes through the public interface. Where the loop's own turn would drown the
//! part, one turn does many operations.

mod accepts;
mod addresses;
#[cfg(target_os = "linux")]
#[path = "../support/clock.rs"]
#[allow(
    dead_code,
    reason = "no processor is reserved here, and the table is another"
)]
mod clock;
mod codecs;
mod lookups;
mod measure;
mod posts;
mod reads;
mod sockets;
mod timers;

use measure::Bench;

fn main() {
    let mut bench = Bench::new();
    timers::run(&mut bench);
    reads::run(&mut bench);
    posts::run(&mut bench);
    accepts::run(&mut bench);
    codecs::run(&mut bench);
    addresses::run(&mut bench);
    lookups::run(&mut bench);
    bench.finish();
}
