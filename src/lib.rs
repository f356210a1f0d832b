//! A single-threaded event loop for people who write their own servers.
//!
//! You write a [`Handler`]: a type with a callback for each thing that can happen on a
//! connection. A [`Reactor`] owns the handler, its sockets and one *session* per
//! connection, and runs one turn after the other on one thread, over epoll or kqueue. There
//! is no runtime, no future, no lock, no `Rc` and no `RefCell`: a callback gets
//! `&mut self`, `&mut Conn`, `&mut Session` and `&mut Input` at once.
//!
//! What the loop promises is what is tedious to get right by hand: connections always time
//! out, memory is always bounded, bytes always arrive, and the loop neither spins nor
//! stalls when descriptors run out. The promises are numbered in the
//! [README](https://docs.rs/crate/windlass/latest/source/README.md), and each has a test
//! file of its own.
//!
//! # A whole program
//!
//! A server that numbers the lines it is sent, a client to try it, and an orderly end.
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::net::{Shutdown, TcpStream};
//! use std::time::Duration;
//! use windlass::{Conn, Handler, Input, ListenerId, Reactor};
//!
//! struct Lines;
//!
//! impl Handler for Lines {
//!     type Session = u64; // how many lines this connection has sent
//!
//!     fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<u64> {
//!         conn.set_idle_timeout(Some(Duration::from_secs(30)));
//!         Ok(0)
//!     }
//!
//!     fn on_read(
//!         &mut self,
//!         conn: &mut Conn<'_>,
//!         count: &mut u64,
//!         input: &mut Input<'_>,
//!     ) -> io::Result<()> {
//!         // A line whose end has not come yet stays in `input` until it has.
//!         while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
//!             let line = &input.rest()[..=end];
//!             input.consume(line.len());
//!             *count += 1;
//!             write!(conn, "{count} ");
//!             conn.write(line);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut reactor = Reactor::new(Lines)?;
//!     let listener = reactor.listen("127.0.0.1:0")?;
//!     let addr = reactor.listener(listener).ok_or("no listener")?.local_addr();
//!     let addr = addr.as_socket_addr().ok_or("not an IP address")?;
//!
//!     let handle = reactor.handle();
//!     let client = std::thread::spawn(move || -> io::Result<String> {
//!         let mut stream = TcpStream::connect(addr)?;
//!         stream.write_all(b"hoist\nheave\n")?;
//!         stream.shutdown(Shutdown::Write)?;
//!         let mut answer = String::new();
//!         stream.read_to_string(&mut answer)?;
//!         handle.shutdown(Duration::from_secs(1))?;
//!         Ok(answer)
//!     });
//!
//!     let summary = reactor.run()?; // until somebody asks for a shutdown
//!     assert_eq!(client.join().unwrap()?, "1 hoist\n2 heave\n");
//!     assert_eq!(summary.stats.accepted, 1);
//!     Ok(())
//! }
//! ```
//!
//! # A turn
//!
//! [`Reactor::turn`] reads in this order, on one screen. `docs/event-model.md` says what
//! each step promises.
//!
//! ```text
//!    ┌───────────────────────────────────────────────────────────────────────┐
//!    │ 1 choose the wait     none while work is left over, else the deadline │
//!    │ 2 poll                the one place where the loop waits              │
//!    │ 3 read the clock      `now()` is this value until the next poll       │
//!    │ 4 serve               the ready list · new events · new clients       │ ─▶ callbacks
//!    │ 5 run posts           closures from other threads                     │ ─▶ callbacks
//!    │ 6 fire                deadlines and timers · dials and sockets tell   │ ─▶ callbacks
//!    │ 7 flush               what was written to somebody else's connection  │
//!    │ 8 deliver closes      then free slots and descriptors                 │ ─▶ on_close
//!    └───────────────────────────────────┬───────────────────────────────────┘
//!                                        └──▶ the next turn
//! ```
//!
//! A callback never runs inside a callback. What one asks for (a write, a close, a wake-up
//! of another connection) is queued or noted, and performed when it has returned.
//!
//! # Where things are
//!
//! | To | see |
//! |---|---|
//! | write the application | [`Handler`], and what it is lent: [`Conn`], [`Context`], [`Input`] |
//! | open a listener | [`Reactor::listen`], [`Listen`], [`Listener`], [`Endpoint`] |
//! | take sockets over, and give them away | [`inherited`], [`Listen::adopt`], [`Listener::try_clone_fd`], [`Context::adopt`], [`Conn::detach`] |
//! | connect to somebody | [`Reactor::dial`], [`Context::dial`], [`Dial`], [`Backoff`] |
//! | send and receive datagrams | [`Reactor::bind`], [`Context::bind`], [`Bind`], [`Socket`], [`Datagram`] |
//! | watch a descriptor of your own | [`Context::watch`], [`Interest`], [`Ready`] |
//! | read and write addresses | [`Endpoint`], [`Addr`], [`UnixAddr`], [`Network`], [`resolve()`], [`parse_ip`], [`split_host_port`], [`join_host_port`] |
//! | find messages in a stream | [`codec`] |
//! | set limits | [`Config`], [`Limits`], [`Overload`], [`PanicPolicy`] |
//! | serve several protocols on one loop | [`Mux`], [`PartId`] |
//! | reach the loop from another thread | [`Handle`] |
//! | know what went wrong | [`Error`], [`Recovery`], [`CloseReason`], [`Closed`] |
//! | know how the loop is doing | [`Stats`], [`Stats::metrics`], [`Summary`] |
//! | test a handler without sockets and clocks | [`sim`] |
//!
//! # Not there
//!
//! TLS is not there yet; async/await, Windows and thread pools never will be.
#![forbid(unsafe_op_in_unsafe_fn)]

mod address;
mod backoff;
pub mod codec;
mod cold;
mod config;
mod connection;
mod context;
mod core;
mod datagram;
mod dialer;
mod endings;
mod endpoint;
mod engine;
mod error;
#[cfg(not(windlass_faults))]
mod faults;
/// No part of the interface: `tests/faults.rs` chooses a mistake here.
#[cfg(windlass_faults)]
#[doc(hidden)]
pub mod faults;
mod fd;
mod flags;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod handler;
mod inherit;
mod input;
mod kernel;
mod layer;
mod listener;
mod merged;
mod messages;
mod mux;
mod options;
mod outbound;
mod packet_open;
mod packet_queue;
mod packet_socket;
mod peer;
mod reactor;
mod resolve;
pub mod sim;
mod sources;
mod stats;
mod timer;
#[cfg(feature = "tls")]
pub mod tls;
mod token;
mod unix_path;
mod watch;
mod young;

pub use address::{Addr, AddressError, Network, UnixAddr, parse_ip};
pub use backoff::Backoff;
pub use config::{Config, Limits, Overload, PanicPolicy};
pub use context::{Conn, Context, Flow, Listener};
pub use datagram::{Bind, Datagram, Delivery, DropPolicy, Socket, SocketStats};
pub use dialer::Dial;
pub use endpoint::{Endpoint, join_host_port, split_host_port};
pub use error::{CloseReason, Error, Op, Recovery};
pub use handle::{Handle, PostError};
pub use handler::{Closed, Deadline, Handler};
pub use inherit::{Inherited, inherited};
pub use input::Input;
pub use kernel::{Interest, Keepalive, PeerCred};
pub use layer::{Layer, Progress};
pub use listener::Listen;
pub use mux::{Mux, PartId};
pub use reactor::{Reactor, Summary, Turn};
pub use resolve::resolve;
pub use stats::{Metric, Stats};
pub use token::{ConnId, DialId, ListenerId, SocketId, TimerId, WatchId};
pub use watch::Ready;

/// The pages of the documentation, so that `cargo test` compiles every code block in them.
#[cfg(doctest)]
mod docs {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/architecture.md")]
    mod architecture {}
    #[doc = include_str!("../docs/event-model.md")]
    mod event_model {}
    #[doc = include_str!("../docs/accept-backlog.md")]
    mod accept_backlog {}
    #[doc = include_str!("../docs/backpressure.md")]
    mod backpressure {}
    #[doc = include_str!("../docs/deadlines.md")]
    mod deadlines {}
    #[doc = include_str!("../docs/datagrams.md")]
    mod datagrams {}
    #[doc = include_str!("../docs/errors.md")]
    mod errors {}
    #[doc = include_str!("../docs/from-go.md")]
    mod from_go {}
    #[cfg(feature = "tls")]
    #[doc = include_str!("../docs/tls.md")]
    mod tls {}
    #[doc = include_str!("../docs/testing.md")]
    mod testing {}
    #[doc = include_str!("../docs/coverage.md")]
    mod coverage {}
    #[doc = include_str!("../docs/platforms.md")]
    mod platforms {}
    #[doc = include_str!("../docs/performance.md")]
    mod performance {}
    #[doc = include_str!("../docs/design.md")]
    mod design {}
}
