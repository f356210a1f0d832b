//! A room: what one says, all the others hear.
//!
//!     cargo run --release --example chat -- 127.0.0.1:50000
//!     cargo run --release --example client -- 127.0.0.1:50000
//!
//! Shows: one message queued for many without a copy for each (`write_shared`), and who
//! pays for a slow reader: itself. Nobody waits for it; its queue grows, and at the limit
//! it is cut off, alone.
//!
//! Shortcuts: everybody may call themselves what they like; a client that floods the room
//! is not slowed down, so many of them at once push the others over the limit, too; nobody
//! is told who comes and goes; printing blocks the loop.

#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::{process::ExitCode, sync::Arc, time::Duration};

use windlass::codec::{Decoder, Lines};
use windlass::{Addr, CloseReason, Closed, Config, Conn, Context, Handler, Input, Listen};
use windlass::{ListenerId, Reactor};

const HELP: &str = "\
Greets each client, and tells all the others what it says. A line is `NAME says: TEXT`;
whoever gives no name is called by address. Prints each message and its length.

usage: chat [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:50000; port 0 is any free one.
Ctrl-C or SIGTERM lets guests hear the last words for up to 5 s; the second one does not.
";
/// In bytes. A longer line closes its connection.
const LONGEST_LINE: usize = 4096;
/// What a client may be behind, in bytes: here, and in the kernel.
const QUEUE: usize = 1 << 20;
const KERNEL_QUEUE: usize = 64 << 10;
/// What one client may say in a turn: much less than the queues of the others hold.
const SAID_AT_ONCE: usize = 16 << 10;
/// People listen for longer than `Config` would let them.
const SILENCE: Duration = Duration::from_secs(60 * 60);

struct Chat;

struct Guest {
    addr: Addr,
    lines: Lines,
}

impl Handler for Chat {
    type Session = Guest;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Guest> {
        let (addr, lines) = (conn.peer_addr(), Lines::new(LONGEST_LINE));
        writeln!(io::stdout(), "Connection from:  {addr}")?;
        writeln!(conn, "Welcome, {addr}!");
        conn.set_idle_timeout(Some(SILENCE));
        Ok(Guest { addr, lines })
    }

    fn on_read(&mut self, conn: &mut Conn, guest: &mut Guest, input: &mut Input) -> io::Result<()> {
        while let Some(line) = guest.lines.decode(input)? {
            // What would move the cursor of a terminal does not get there.
            let mut said = String::from_utf8_lossy(line).replace(char::is_control, "?");
            if !said.contains(" says: ") {
                said = format!("{} says: {said}", guest.addr);
            }
            writeln!(io::stdout(), "<{}:{said}>", said.len())?;
            let (id, said) = (conn.id(), Arc::<[u8]>::from((said + "\n").into_bytes()));
            conn.cx().for_each(|other| {
                if other.id() != id {
                    other.write_shared(Arc::clone(&said));
                }
            });
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, guest: Guest, closed: &Closed) {
        if !matches!(closed.reason, CloseReason::Eof) {
            let _ = writeln!(io::stdout(), "Cut off:  {} ({})", guest.addr, closed.reason);
        }
    }
}

fn main() -> ExitCode {
    util::main(HELP, |args| {
        let [address] = args.rest(["127.0.0.1:50000"])?;
        let mut config = Config::default();
        (config.limits.limit, config.read_budget) = (QUEUE, SAID_AT_ONCE);
        let listen = Listen::new(&*address)?.send_buffer(KERNEL_QUEUE);
        util::serve(Reactor::with_config(Chat, config)?, listen)
    })
}
