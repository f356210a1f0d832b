//! The `echo` example under TLS: one line more, and a handler that does not know.
//!
//!     cargo run --release --features tls --example tls_echo -- 127.0.0.1:3443
//!     cargo run --release --features tls --example tls_client -- --insecure localhost:3443
//!
//! Shows: TLS on a listener; what the two ends have agreed on; why a handshake failed; a
//! certificate that is renewed while clients are served (SIGHUP).
//! Shortcuts: without `--cert` it makes a certificate that nobody has a reason to trust.

#[path = "util/identity.rs"]
mod identity;
#[path = "util/mod.rs"]
mod util;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use signal_hook::{consts::SIGHUP, iterator::Signals};
use windlass::{Closed, Conn, Context, Handle, Handler, Input, Listen, ListenerId, Reactor};

const HELP: &str = "\
Sends back whatever it receives, under TLS.

usage: tls_echo [--cert FILE --key FILE] [ADDRESS]

ADDRESS is by default 127.0.0.1:3443; port 0 is any free one. FILEs are PEM, the certificate
with its chain; they are read again at SIGHUP, for those who connect from then on.
Ctrl-C or SIGTERM lets the open connections finish for up to 5 s.
";

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    /// Optional: whoever does not care leaves it out.
    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        let Some(tls) = conn.tls() else { return Ok(()) };
        let version = tls.version().and_then(|it| it.as_str().map(str::to_owned));
        let how = if tls.is_resumed() { "resumed" } else { "full" };
        let asked = tls.server_name().unwrap_or("nobody");
        let peer = conn.peer_addr();
        let version = version.unwrap_or_default();
        writeln!(io::stdout(), "{peer}: {version}, {how}, asked for {asked}")
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        // Such as `tls: the peer does not speak TLS`.
        _ = writeln!(io::stdout(), "{}: {}", closed.id, closed.reason);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let again = args.clone();
        let config = identity::server(&mut args, &[])?;
        let [address] = args.rest(["127.0.0.1:3443"])?;
        let mut reactor = Reactor::new(Echo)?;
        let listener = reactor.listen(Listen::new(&*address)?.tls(config))?;
        let address = reactor
            .listener(listener)
            .map(|it| it.local_addr().to_string());
        renew_on_hangup(reactor.handle(), listener, again)?;
        util::stop_on_signal(&reactor)?;
        writeln!(io::stdout(), "listening on {}", address.unwrap_or_default())?;
        reactor.run().map(drop)
    })
}

/// Reads the files on a thread of its own, so that the loop does not wait for the disk.
fn renew_on_hangup(handle: Handle<Echo>, id: ListenerId, args: util::Args) -> io::Result<()> {
    let mut hangups = Signals::new([SIGHUP])?;
    thread::Builder::new().spawn(move || {
        for _ in &mut hangups {
            match identity::server(&mut args.clone(), &[]) {
                Ok(config) => {
                    _ = handle.post(move |_, cx| {
                        if let Some(mut listener) = cx.listener(id) {
                            listener.set_tls(config);
                        }
                    });
                }
                Err(error) => eprintln!("the old certificate stays: {error}"),
            }
        }
    })?;
    Ok(())
}
