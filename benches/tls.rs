//! TLS beside tokio-rustls: the same rustls, the same certificate, the same clients, in the
//! same run, round by round.
//!
//! ```text
//! cargo bench --features tls --bench tls              the table
//! cargo bench --features tls --bench tls -- --quick   sooner and less certain
//! ```
//!
//! Each server has a thread on a processor of its own, and what is measured is the processor
//! time of that thread; the clients, on another processor, are the same for both. Each figure
//! is a ratio within a round, tokio-rustls over windlass: above 1, windlass does the same work
//! in less time. The control is windlass beside itself; the distance of its ratios from 1 is
//! the noise. Memory is what the server's thread has allocated and not freed, for each idle
//! connection that has been used once.

#[cfg(target_os = "linux")]
#[path = "tls/clients.rs"]
mod clients;
#[cfg(target_os = "linux")]
#[path = "support/clock.rs"]
mod clock;
#[cfg(target_os = "linux")]
#[path = "tls/live.rs"]
mod live;
#[cfg(target_os = "linux")]
#[path = "tls/rounds.rs"]
mod rounds;
#[cfg(target_os = "linux")]
#[path = "tls/servers.rs"]
mod servers;

fn main() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rounds::main() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    #[cfg(not(target_os = "linux"))]
    println!("processor time of one thread is read as Linux tells it");
}
