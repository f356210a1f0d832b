//! Whole servers beside their baselines, in the same run, round by round.
//!
//! ```text
//! cargo bench --bench servers                        every workload: a table, and a plot
//! cargo bench --bench servers -- --quick             the same in minutes, for no figure's sake
//! cargo bench --bench servers -- --list              the workloads and who serves them
//! cargo bench --bench servers -- --only echo-64x50 --servers windlass,tokio --pin same
//! cargo bench --bench servers -- --rounds 15 --seconds 0.5
//! cargo bench --bench servers -- serve SERVER WORKLOAD [ADDR]     one alone, to be traced
//! cargo bench --bench servers -- load WORKLOAD ADDR REQUESTS      so many requests to it
//! ```
//!
//! Each server is a process of its own on processor 0; the load is on processor 1 ("split")
//! or on the same one ("same"). In each round every server has the load for as long as the
//! others, each round begins with another one, and connections are opened once and kept.
//!
//! What is compared is the processor time of the server's process per request, read from
//! outside: "CPU ratio" is that of `raw` over the server's in the same round, so above 1 is
//! better than a loop written by hand. `control` is `raw` entered twice: its distance from 1
//! is the noise. Requests per second ("rate ratio") say something about a server only where
//! it is busy all the time, so they are told only there. Absolute figures are of one machine.
//! `fairness` tells a latency beside that, and `udp` how many system calls were made.

#[cfg(target_os = "linux")]
#[path = "servers/bench.rs"]
mod bench;

fn main() {
    #[cfg(target_os = "linux")]
    bench::main();
    #[cfg(not(target_os = "linux"))]
    println!("the baseline of this benchmark is epoll; it runs on Linux only");
}
