//! Who an example is under TLS, as its command line says: a certificate and its key.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::util::{Args, refusal};
use windlass::tls::rustls::ServerConfig;
use windlass::tls::rustls::pki_types::pem::PemObject;
use windlass::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What `--cert FILE --key FILE` say (PEM), or a certificate for `localhost` that is made now
/// and that nobody trusts.
pub(crate) fn server(args: &mut Args, alpn: &[&str]) -> io::Result<Arc<ServerConfig>> {
    let cert: String = args.option("--cert", String::new())?;
    let key: String = args.option("--key", String::new())?;
    let (chain, key) = match (cert.is_empty(), key.is_empty()) {
        (true, true) => made_up()?,
        (false, false) => (chain(&cert)?, private_key(&key)?),
        _ => return Err(refusal("--cert and --key go together")),
    };
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).map_err(other)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn chain(file: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect);
    all.map_err(|error| io::Error::other(format!("{file}: {error}")))
}

fn private_key(file: &str) -> io::Result<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_file(Path::new(file));
    key.map_err(|error| io::Error::other(format!("{file}: {error}")))
}

fn made_up() -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(other)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
