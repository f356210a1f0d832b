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
use windlass::tls::rustls::server::WebPkiClientVerifier;
use windlass::tls::rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion, version,
};

/// Both versions that there are.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// One self-signed certificate for `localhost` and 127.0.0.1, made once.
pub struct Identity {
    pub cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub fn new(names: &[&str]) -> Self {
        let subject = names.first().copied().unwrap_or_default();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        // By its subject, whoever signed a certificate is found.
        let mut whose = rcgen::DistinguishedName::new();
        whose.push(rcgen::DnType::CommonName, subject);
        params.distinguished_name = whose;
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self {
            cert: made.der().clone(),
            key: key.serialize_der(),
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

/// A server that demands a certificate of whoever connects, signed by `trusted`.
pub fn demanding_config(trusted: &Identity) -> Arc<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder(Arc::new(trusted.roots()));
    Arc::new(
        ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![LOCALHOST.cert.clone()], LOCALHOST.key())
            .unwrap(),
    )
}

/// A client that shows a certificate when it is asked for one.
pub fn identified_config(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    Arc::new(
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(LOCALHOST.roots())
            .with_client_auth_cert(vec![identity.cert.clone()], identity.key())
            .unwrap(),
    )
}

/// A server that shows another identity.
pub fn server_config_of(identity: &Identity) -> Arc<ServerConfig> {
    Arc::new(
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.clone()], identity.key())
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

/// A far end of a simulated world that speaks TLS: a client of the loop's, or whom it dials.
pub struct Peer {
    client: Client,
    tls: Connection,
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
        let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        Self::speaking(client, tls.into())
    }

    /// The server's end of a connection that the loop has dialed.
    pub fn serve(client: Client, config: Arc<ServerConfig>) -> Self {
        Self::speaking(client, ServerConnection::new(config).unwrap().into())
    }

    pub fn speaking(client: Client, mut tls: Connection) -> Self {
        tls.set_buffer_limit(None);
        Self {
            client,
            tls,
            plain: Vec::new(),
            closed: false,
            error: None,
        }
    }

    pub fn client(&self) -> Client {
        self.client
    }

    pub fn tls(&mut self) -> &mut Connection {
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
        self.pump_through(world, |world, client, wire| world.send(client, wire));
    }

    /// The same, by way of something that may do harm to what is sent.
    pub fn pump_through<H: Handler>(
        &mut self,
        world: &mut World<H>,
        mut send: impl FnMut(&mut World<H>, Client, &[u8]),
    ) {
        loop {
            let wire = self.wire();
            send(world, self.client, &wire);
            world.run();
            let came = world.received(self.client);
            if wire.is_empty() && came.is_empty() {
                return;
            }
            self.take(&came);
        }
    }

    /// Takes plain bytes to be sent with the next pump.
    pub fn say(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).unwrap();
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
