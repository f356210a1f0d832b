//! windlass
#![forbid(unsafe_op_in_unsafe_fn)]

mod address;
mod config;
mod connection;
mod context;
mod core;
mod engine;
mod error;
mod fd;
mod handle;
mod handler;
mod input;
mod kernel;
#[cfg(test)]
mod layer;
mod listener;
mod outbound;
mod reactor;
mod sources;
mod stats;
mod timer;
mod token;

pub use address::{Addr, AddressError, Endpoint, Network};
pub use config::{Config, Limits, Overload, PanicPolicy};
pub use context::{Conn, Context, Flow, Listener};
pub use error::{CloseReason, Error, Op, Recovery};
pub use handle::{Handle, PostError};
pub use handler::{Closed, Deadline, Handler};
pub use input::Input;
pub use kernel::Keepalive;
pub use listener::Listen;
pub use reactor::{Reactor, Summary, Turn};
pub use stats::Stats;
pub use token::{ConnId, ListenerId, TimerId};
