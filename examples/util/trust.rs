//! Whom an example believes under TLS, as its command line says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::util::Args;
use windlass::tls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use windlass::tls::rustls::crypto::ring::default_provider;
use windlass::tls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use windlass::tls::rustls::pki_types::pem::PemObject;
use windlass::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use windlass::tls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Trusts what `--ca FILE` says (PEM), anybody with `--insecure`, and else whom the system does.
pub(crate) fn client(args: &mut Args) -> io::Result<Arc<ClientConfig>> {
    let ca: String = args.option("--ca", String::new())?;
    let builder = ClientConfig::builder();
    if args.flag("--insecure") {
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let mut roots = RootCertStore::empty();
    let trusted = match ca.is_empty() {
        true => rustls_native_certs::load_native_certs().certs,
        false => certificates(&ca)?,
    };
    roots.add_parsable_certificates(trusted);
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn certificates(file: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect);
    all.map_err(|error| io::Error::other(format!("{file}: {error}")))
}

/// Believes everybody, but that whoever shows a certificate has its key.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = default_provider().signature_verification_algorithms;
        known.supported_schemes()
    }
}
