//! A small Redis: strings that may expire, for `redis-cli` and `redis-benchmark`.
//!
//!     cargo run --release --example resp -- 127.0.0.1:6379
//!     redis-cli set ship windlass
//!     redis-cli expire ship 60
//!
//! This file is the program and its handler, `wire.rs` what requests and answers look like,
//! `store.rs` what is kept, and `commands.rs` what each command does with it.
//!
//! Shows: requests that wait in the input while earlier answers find no room; one timer for
//! any number of keys; memory with a limit, on both sides.
//!
//! Shortcuts: nothing is written to disk; a request has at most 512 KiB, no quotes if it is
//! typed inline, and is looked at from its beginning whenever more of it has come.

mod commands;
pub(crate) mod store;
#[path = "../util/mod.rs"]
mod util;
pub(crate) mod wire;

use std::io;
use std::process::ExitCode;

use self::store::Store;
use windlass::{Conn, Context, Flow, Handler, Input, ListenerId, Reactor, TimerId};

const HELP: &str = "\
A small Redis: PING, ECHO, GET, SET, DEL, INCR, EXPIRE, COMMAND, CONFIG GET, INFO.

usage: resp [--memory MIB] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:6379; port 0 is any free one.
What would make keys and values occupy more than MIB, by default 64, is answered -OOM.
Ctrl-C or SIGTERM lets open connections finish for up to 5 s; the second one does not.
";
const MIB: usize = 1024 * 1024;

impl Handler for Store {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn, _: &mut (), input: &mut Input) -> io::Result<()> {
        // A client that does not read its answers is not read from: at `Flow::Full` the loop
        // pauses, what is left in the input waits, and is offered again when there is room.
        while conn.flow() == Flow::Open {
            match wire::request(input) {
                Ok(words) => {
                    if let Err(why) = commands::run(self, conn, &words) {
                        write!(conn, "-{why}\r\n");
                    }
                }
                Err(None) => break,
                Err(Some(why)) => {
                    write!(conn, "-ERR Protocol error: {why}\r\n");
                    conn.close();
                }
            }
        }
        self.bury(conn.cx());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context, _: TimerId) {
        self.bury(cx);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let memory: u16 = args.option("--memory", 64)?;
        let [address] = args.rest(["127.0.0.1:6379"])?;
        let store = Store::new(usize::from(memory) * MIB);
        util::serve(Reactor::new(store)?, &*address)
    })
}
