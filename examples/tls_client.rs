//! Connects by TLS, shows what was agreed on, sends what it reads and prints what comes back.
//!
//!     cargo run --release --features tls --example tls_client -- example.org:443
//!     printf 'HEAD / HTTP/1.0\r\n\r\n' | cargo run … --example tls_client -- example.org:443
//!
//! Shows: TLS on a dial, the name that the certificate must be for, and what can be asked of a
//! connection whose handshake is over. Much of what `openssl s_client` is used for.
//! Shortcuts: those of the `client` example, from which standard input is taken.

#[path = "util/trust.rs"]
mod trust;
#[path = "util/mod.rs"]
mod util;

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::{process::ExitCode, time::Duration};

use windlass::tls::rustls::pki_types::ServerName;
use windlass::{CloseReason, Closed, Conn, ConnId, Context, Dial, DialId, Error, Flow};
use windlass::{Handler, Input, Interest, Reactor, Ready, WatchId};

const HELP: &str = "\
Speaks TLS with a server: shows the session, sends the input, prints what comes back.

usage: tls_client [--ca FILE | --insecure] [--name NAME] HOST:PORT

The certificate must be for HOST, or for NAME, and be signed by somebody in FILE (PEM), or by
somebody whom the system trusts; with --insecure it need not. The end of the input ends our
side of the stream, and the program ends with the server's side.
";

#[derive(Default)]
struct Client {
    conn: Option<ConnId>,
    failure: Option<io::Error>,
}

impl Handler for Client {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.conn = Some(conn.id());
        Ok(()) // but nobody has shown who they are
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        let Some(tls) = conn.tls() else { return Ok(()) };
        let suite = tls.suite().map(|suite| suite.suite());
        let alpn = tls.alpn().map(String::from_utf8_lossy);
        eprintln!("version      {:?}\nsuite        {suite:?}", tls.version());
        eprintln!("protocol     {alpn:?}");
        eprintln!(
            "certificates {}",
            tls.peer_certificates().map_or(0, <[_]>::len)
        );
        self.on_write(conn, &mut ())
    }

    fn on_dial_error(&mut self, cx: &mut Context<'_>, _: DialId, why: &Error, _: Option<Duration>) {
        self.failure = Some(io::Error::other(why.to_string()));
        cx.shutdown(Duration::ZERO);
    }

    /// There is room (again) for what standard input has to say.
    fn on_write(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        if conn.cx().watch(stdin, Interest::Read).is_err() {
            // A file: it is always ready, so it cannot be watched (EPERM).
            io::copy(&mut io::stdin(), conn)?;
            conn.shutdown_write();
        }
        Ok(())
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, _: Ready) {
        let mut stdin = io::stdin().lock();
        if let Some(mut conn) = self.conn.and_then(|id| cx.conn(id)) {
            let bytes = stdin.fill_buf().unwrap_or_default();
            let n = bytes.len();
            if n == 0 {
                conn.shutdown_write();
            }
            if conn.write(bytes) != Flow::Open {
                conn.cx().unwatch(watch);
            }
            stdin.consume(n);
        }
    }

    fn on_read(&mut self, _: &mut Conn<'_>, (): &mut (), input: &mut Input<'_>) -> io::Result<()> {
        io::stdout().write_all(input.take_all())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, (): (), closed: &Closed) {
        let failed = !matches!(closed.reason, CloseReason::Eof | CloseReason::Local);
        self.failure = failed.then(|| io::Error::other(closed.reason.to_string()));
        cx.shutdown(Duration::ZERO);
    }
}

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let config = trust::client(&mut args)?;
        let name: String = args.option("--name", String::new())?;
        let [address] = args.rest([""])?;
        let mut dial = Dial::new(&*address)?;
        dial = match name.is_empty() {
            true => dial.tls(config)?,
            false => dial.tls_as(
                ServerName::try_from(name).map_err(io::Error::other)?,
                config,
            ),
        };
        let mut reactor = Reactor::new(Client::default())?;
        reactor.dial(dial)?;
        util::ask(reactor, |client| client.failure.map_or(Ok(()), Err))
    })
}
