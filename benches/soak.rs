//! Hundreds of clients of all tempers against all the examples at once, for ten minutes.
//!
//! ```text
//! cargo bench --bench soak                              ten minutes
//! cargo bench --bench soak -- --minutes 60
//! cargo bench --bench soak -- --seconds 20 --clients 100
//! cargo bench --bench soak -- --seed 0x2a
//! cargo bench --bench soak -- --wrong leak              a server does wrong: found out?
//! ```
//!
//! Wrongs are `corrupt`, `leak` (descriptors), `grow`, `memory` (one allocation) and `status`.
//!
//! The examples run as programs, some with few descriptors; one more process has several
//! handlers on one loop, and an allocator that counts. What clients hear is compared with what
//! it must be. Ends with a table, and with a failure if a byte was wrong, a client that behaves
//! was not served, memory grew, a descriptor was left, an allocation was left, or a server did
//! not end well.

#![cfg_attr(
    target_os = "linux",
    allow(clippy::unwrap_used, reason = "a panic is a verdict, too")
)]
#![cfg_attr(
    target_os = "linux",
    allow(
        clippy::duplicate_mod,
        reason = "two examples share their command line"
    )
)]

#[cfg(target_os = "linux")]
#[path = "soak/run.rs"]
mod run;
#[cfg(target_os = "linux")]
#[path = "../tests/util/mod.rs"]
mod util;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("proc(5): memory and descriptors are watched on Linux only");
}
