//! What a request costs, counted: system calls, instructions, allocations and memory. No clock
//! is asked, so one run decides, on a busy machine as on an idle one.
//!
//! ```text
//! cargo bench --bench counters                        every figure, and whether it is in bounds
//! cargo bench --bench counters -- --only TEXT         those whose name contains the text
//! cargo bench --bench counters -- profile WORKLOAD    where windlass spends its instructions
//! cargo bench --bench counters -- profile WORKLOAD SERVER
//! cargo bench --bench counters -- serve SERVER WORKLOAD
//! cargo bench --bench counters -- load ADDR WORKLOAD REQUESTS
//! ```
//!
//! Ends with a failure if a figure is above its bound; the bounds are at the top of
//! `counters/figures.rs`. Needs strace and valgrind.
//!
//! A figure per request is the difference of two runs with different numbers of requests, so
//! what starting and stopping cost cancels. The load sends on all its connections before it
//! looks at the answers, on the same processor as the server, which steps back for it: so the
//! server finds all of them ready in one turn, and the figures are the same in each run.

#[cfg(target_os = "linux")]
#[path = "counters/figures.rs"]
mod figures;
#[cfg(target_os = "linux")]
#[path = "support/raw.rs"]
mod raw;

fn main() {
    #[cfg(target_os = "linux")]
    figures::main();
    #[cfg(not(target_os = "linux"))]
    println!("strace, and proc(5): these figures are counted on Linux only");
}
