//! Certificates, and a peer that speaks TLS to a simulated world.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use windlass::Handler;
use windlass::sim::{Client, World};
use windlass::tls::rustls;
use windlass::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use windlass::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

/// One self-signed certificate for `localhost` and 127.0.0.1, made once.
pub struct Identity {
    pub cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            cert: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        roots
    }
}

pub static LOCALHOST: LazyLock<Identity> =
    LazyLock::new(|| Identity::new(&["localhost", "127.0.0.1"]));

/// A server with [`LOCALHOST`]'s certificate that asks for none.
pub fn server_config() -> Arc<ServerConfig> {
    Arc::new(
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![LOCALHOST.cert.clone()], LOCALHOST.key())
            .unwrap(),
    )
}

/// A client that trusts [`LOCALHOST`] alone.
pub fn client_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    Arc::new(
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(LOCALHOST.roots())
            .with_no_client_auth(),
    )
}

/// A client of a simulated world that speaks TLS.
pub struct Peer {
    client: Client,
    tls: ClientConnection,
    plain: Vec<u8>,
    closed: bool,
    /// Why it could not go on.
    pub error: Option<rustls::Error>,
}

impl Peer {
    /// Connects, and shakes hands as far as that goes.
    pub fn connect<H: Handler>(
        world: &mut World<H>,
        addr: SocketAddr,
        config: Arc<ClientConfig>,
    ) -> Self {
        let client = world.connect(addr);
        let mut peer = Self::over(client, config);
        peer.pump(world);
        peer
    }

    /// Begins TLS on a connection that there is.
    pub fn over(client: Client, config: Arc<ClientConfig>) -> Self {
        Self {
            client,
            tls: ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap(),
            plain: Vec::new(),
            closed: false,
            error: None,
        }
    }

    pub fn client(&self) -> Client {
        self.client
    }

    pub fn tls(&mut self) -> &mut ClientConnection {
        &mut self.tls
    }

    /// What would be sent now.
    pub fn wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut wire).unwrap();
        }
        wire
    }

    /// Takes what came from the server.
    pub fn take(&mut self, mut wire: &[u8]) {
        while !wire.is_empty() && self.error.is_none() {
            self.tls.read_tls(&mut wire).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => self.closed |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            // Its error says that there is nothing more.
            let _ = self.tls.reader().read_to_end(&mut self.plain);
        }
    }

    /// Sends and receives until nothing more happens.
    pub fn pump<H: Handler>(&mut self, world: &mut World<H>) {
        loop {
            let wire = self.wire();
            world.send(self.client, &wire);
            world.run();
            let came = world.received(self.client);
            if wire.is_empty() && came.is_empty() {
                return;
            }
            self.take(&came);
        }
    }

    pub fn write<H: Handler>(&mut self, world: &mut World<H>, mut plain: &[u8]) {
        while !plain.is_empty() {
            let n = self.tls.writer().write(plain).unwrap();
            plain = &plain[n..];
            self.pump(world);
        }
    }

    /// Plain bytes since the last time.
    pub fn plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// Says that nothing follows, and ends the stream.
    pub fn close<H: Handler>(&mut self, world: &mut World<H>) {
        self.tls.send_close_notify();
        self.pump(world);
        world.finish(self.client);
        self.pump(world);
    }

    pub fn saw_close_notify(&self) -> bool {
        self.closed
    }
}
