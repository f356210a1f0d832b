//! The real kernel, hurt on purpose: servers whose system calls fail, who have few
//! descriptors, who are stopped, interrupted and killed; and clients that compare each byte.
//!
//! ```text
//! cargo test --test hurt                      a few rows of the matrix, and all judges broken once
//! cargo test --test hurt -- --all             the whole matrix and all scenes
//! cargo test --test hurt -- --only TEXT       rows whose name contains the text
//! cargo test --test hurt -- --every N         each N-th row of the matrix, and all scenes
//! ```
//!
//! Ends with a failure if a row or a scene does. Needs strace for the matrix, says aloud what
//! it skips without, and is for Linux only. `docs/testing.md` has the table.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
mod counted;
#[cfg(target_os = "linux")]
mod http;
#[cfg(target_os = "linux")]
mod matrix;
#[cfg(target_os = "linux")]
mod restart;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod scenes;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod system;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod victim;

#[cfg(target_os = "linux")]
#[path = "../util/mod.rs"]
mod util;

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "its command line is for users")]
#[path = "../../examples/proxy.rs"]
mod proxy;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    table::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: strace and its like are for Linux");
}
