//! The clients: rustls over blocking sockets, all on one thread.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use windlass::tls::rustls::client::Resumption;
use windlass::tls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use windlass::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
};

/// Both ends of a conversation that trust each other.
pub(crate) struct Configs {
    pub(crate) server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Configs {
    /// An ECDSA certificate, and nothing that is resumed.
    pub(crate) fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(io::Error::other)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(io::Error::other)?;
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .map_err(io::Error::other)?;
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// Connections to one server that are all through with their handshakes.
pub(crate) struct Clients(Vec<StreamOwned<ClientConnection, TcpStream>>);

impl Clients {
    pub(crate) fn connect(configs: &Configs, addr: SocketAddr, n: usize) -> io::Result<Self> {
        let mut clients = Self(
            (0..n)
                .map(|_| open(configs, addr))
                .collect::<Result<_, _>>()?,
        );
        clients.exchange(1)?;
        Ok(clients)
    }

    /// One message of `len` bytes there and back on each, all under way at the same time.
    pub(crate) fn exchange(&mut self, len: usize) -> io::Result<()> {
        let message = vec![7; len];
        let mut reply = vec![0; len];
        for stream in &mut self.0 {
            stream.write_all(&message)?;
            stream.flush()?;
        }
        for stream in &mut self.0 {
            stream.read_exact(&mut reply)?;
        }
        Ok(())
    }
}

fn open(
    configs: &Configs,
    addr: SocketAddr,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::clone(&configs.client), name).map_err(io::Error::other)?;
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(StreamOwned::new(tls, stream))
}
