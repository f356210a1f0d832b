//! TLS between wire and handler, on rustls: the layer, and the ways to put it there.
//!
//! Everything that can be configured is rustls's own configuration; what was agreed on can be
//! asked of [`Tls`]. See the guide, `docs/tls.md`.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use rustls;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, IoState, ProtocolVersion,
    ServerConfig, ServerConnection, SupportedCipherSuite,
};

use crate::context::{Conn, Listener};
use crate::dialer::Dial;
use crate::error::{Cause, Error};
use crate::layer::{Layer, Progress};
use crate::listener::Listen;

/// TLS on one connection: what was agreed on, and the [`Layer`] itself.
///
/// It buffers, beside what [`Limits`](crate::Limits) bounds, at most one flight of the
/// handshake (64 KiB) or one record on its way in (16 KiB), and what its peer has already been
/// read of it; see `docs/tls.md` for what an idle connection holds.
pub struct Tls {
    conn: Connection,
    /// What the client has sent before the handshake was over (0-RTT), if the configuration
    /// allows that. It is offered once the handshake is over, so that nobody can replay it.
    early: Vec<u8>,
    may_be_early: bool,
    /// Decrypted bytes that nobody has read, those among them; [`UNKNOWN`] after a failure.
    waiting: usize,
    peer_has_closed: bool,
    has_closed: bool,
    has_failed: bool,
}

/// Read until there is nothing more.
const UNKNOWN: usize = usize::MAX;

impl Tls {
    /// The end that was connected to.
    ///
    /// # Errors
    ///
    /// The configuration makes no connections: no version or no cipher suite is left.
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let may_be_early = config.max_early_data_size > 0;
        let conn = ServerConnection::new(config).map_err(failed)?;
        Ok(Self {
            may_be_early,
            ..Self::on(conn.into())
        })
    }

    /// The end that connects, and whom it expects there.
    ///
    /// # Errors
    ///
    /// As [`server`](Self::server).
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let conn = ClientConnection::new(config, name).map_err(failed)?;
        Ok(Self::on(conn.into()))
    }

    fn on(mut conn: Connection) -> Self {
        // The queue in front of the layer is the bound; what is written here is sent at once.
        conn.set_buffer_limit(None);
        Self {
            conn,
            early: Vec::new(),
            may_be_early: false,
            waiting: 0,
            peer_has_closed: false,
            has_closed: false,
            has_failed: false,
        }
    }

    /// The version that was agreed on; `None` before that.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.conn.protocol_version()
    }

    /// The cipher suite that was agreed on; `None` before that.
    pub fn suite(&self) -> Option<SupportedCipherSuite> {
        self.conn.negotiated_cipher_suite()
    }

    /// The protocol that both ends chose (ALPN, RFC 7301); `None` if there was no such choice.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.conn.alpn_protocol()
    }

    /// The name that the client asked for (SNI, RFC 6066); `None` if it named nobody, and at
    /// the client's end.
    pub fn server_name(&self) -> Option<&str> {
        match &self.conn {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// The peer's certificates, its own first; `None` if it showed none.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.conn.peer_certificates()
    }

    /// Whether an earlier session was resumed; `false` before the handshake is over.
    pub fn is_resumed(&self) -> bool {
        self.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// At most `ServerConfig::max_early_data_size`, once.
    fn take_early(&mut self) {
        self.may_be_early = false;
        if let Connection::Server(server) = &mut self.conn
            && let Some(mut early) = server.early_data()
        {
            // Reading from memory does not fail.
            let _ = early.read_to_end(&mut self.early);
        }
    }

    /// An alert is no answer any more once we have said that nothing follows. rustls 0.23
    /// takes that for a mistake of its user's and panics in a debug build, where all it takes
    /// is a record that is wrong; otherwise it answers as ever.
    fn process(&mut self) -> Result<IoState, rustls::Error> {
        if !self.has_closed {
            return self.conn.process_new_packets();
        }
        let conn = &mut self.conn;
        catch_unwind(AssertUnwindSafe(|| conn.process_new_packets())).unwrap_or_else(|_| {
            let why = "what came behind our close_notify is wrong";
            Err(rustls::Error::General(why.to_owned()))
        })
    }

    /// Everything else that rustls knows about this connection.
    pub fn connection(&self) -> &Connection {
        &self.conn
    }
}

impl Layer for Tls {
    fn receive(&mut self, mut wire: &[u8]) -> io::Result<usize> {
        if self.waiting > 0 {
            return Ok(0);
        }
        let taken = self.conn.read_tls(&mut wire).map_err(|error| {
            let what = rustls::Error::General(error.to_string());
            failed(what)
        })?;
        let outcome = self.process();
        if self.may_be_early && !self.conn.is_handshaking() {
            self.take_early();
        }
        match outcome {
            Ok(state) => {
                self.waiting = state.plaintext_bytes_to_read() + self.early.len();
                self.peer_has_closed |= state.peer_has_closed();
                Ok(taken)
            }
            Err(error) => {
                // Whatever came before is good.
                self.waiting = UNKNOWN;
                self.has_failed = true;
                Err(failed(error))
            }
        }
    }

    fn read(&mut self, plain: &mut [u8]) -> usize {
        if self.waiting == 0 || plain.is_empty() {
            return 0;
        }
        if !self.early.is_empty() {
            let n = plain.len().min(self.early.len());
            plain[..n].copy_from_slice(&self.early[..n]);
            self.early.drain(..n);
            self.waiting -= n;
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return n;
        }
        // Its errors say that there is nothing to be read.
        let n = self.conn.reader().read(plain).unwrap_or(0);
        self.waiting = if n == 0 { 0 } else { self.waiting - n };
        n
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        // An alert has been the last word.
        if self.conn.is_handshaking() || self.has_failed {
            return 0;
        }
        self.conn.writer().write(plain).unwrap_or(0)
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        while self.conn.wants_write() {
            // Writing to memory does not fail.
            if !matches!(self.conn.write_tls(wire), Ok(1..)) {
                return;
            }
        }
    }

    fn progress(&self) -> Progress {
        if self.conn.is_handshaking() {
            Progress::Handshake
        } else if self.peer_has_closed && self.waiting == 0 {
            Progress::Ended
        } else {
            Progress::Open
        }
    }

    fn close(&mut self) {
        self.has_closed = true;
        self.conn.send_close_notify();
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("version", &self.version())
            .field("suite", &self.suite().map(|suite| suite.suite()))
            .field("alpn", &self.alpn())
            .field("server_name", &self.server_name())
            .finish_non_exhaustive()
    }
}

/// What rustls had to say when it could not go on: the error inside the `io::Error` of a
/// [`CloseReason::Layer`](crate::CloseReason::Layer). Prints as `tls: …`.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure(rustls::Error);

impl Failure {
    /// The error in rustls's terms.
    pub fn error(&self) -> &rustls::Error {
        &self.0
    }

    /// The failure behind a reason to close, if it was one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                f.write_str("tls: the peer does not speak TLS")
            }
            error => write!(f, "tls: {error}"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Failure(error))
}

impl Listen {
    /// TLS for each accepted connection. The handler does not know: see `docs/tls.md`.
    pub fn tls(self, config: Arc<ServerConfig>) -> Self {
        self.layer(server_layers(config))
    }
}

impl Listener<'_> {
    /// TLS for clients accepted from here on, with this configuration: how certificates are
    /// renewed. Connections that are open keep theirs.
    pub fn set_tls(&mut self, config: Arc<ServerConfig>) {
        self.set_layer(server_layers(config));
    }
}

fn server_layers(
    config: Arc<ServerConfig>,
) -> impl Fn() -> io::Result<Box<dyn Layer>> + Send + Sync + 'static {
    move || Ok(Box::new(Tls::server(Arc::clone(&config))?))
}

impl Dial {
    /// TLS with the host of this dial's address: its name, or its IP address, is what the
    /// server's certificate must be for.
    ///
    /// # Errors
    ///
    /// The address has no host that could be in a certificate: it is a Unix path, has no host,
    /// or its name is none of the DNS's. [`tls_as`](Self::tls_as) says whom to expect.
    pub fn tls(self, config: Arc<ClientConfig>) -> Result<Self, Error> {
        let Some(name) = self.server_name() else {
            let why = "no host that a certificate could be for".to_owned();
            return Err(self.unfit(Cause::Invalid(why)));
        };
        Ok(self.tls_as(name, config))
    }

    /// TLS with whoever has a certificate for `name`, whatever was dialed.
    pub fn tls_as(self, name: ServerName<'static>, config: Arc<ClientConfig>) -> Self {
        self.layer(move || Ok(Box::new(Tls::client(Arc::clone(&config), name.clone())?)))
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        match self.name() {
            Some(name) => Some(ServerName::try_from(name).ok()?.to_owned()),
            None => Some(ServerName::IpAddress(self.literal()?.into())),
        }
    }
}

impl Conn<'_> {
    /// What TLS has agreed on; `None` without TLS. Complete from
    /// [`on_handshake`](crate::Handler::on_handshake) on.
    pub fn tls(&self) -> Option<&Tls> {
        self.layer()
    }
}
