//! TLS of the sender: which authorities it trusts, and as whom it comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::endpoint::EndpointError;

/// Where distributions keep the authorities that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The flags about TLS.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsOptions {
    /// PEM file of the authorities that may sign the receiver's certificate; default: those of the system.
    #[arg(long, value_name = "FILE", help_heading = "Receiver")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate (mTLS); needs --key-file.
    #[arg(long, value_name = "FILE", requires = "key_file", help_heading = "Receiver")]
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client's private key.
    #[arg(long, value_name = "FILE", requires = "cert_file", help_heading = "Receiver")]
    pub key_file: Option<PathBuf>,
    /// Name that the receiver's certificate must bear, if not that of the URL.
    #[arg(long, value_name = "NAME", help_heading = "Receiver")]
    pub server_name: Option<String>,
    /// Accept any certificate.
    #[arg(long, help_heading = "Receiver")]
    pub insecure_skip_verify: bool,
}

/// Makes the configuration of all TLS connections.
pub fn client_config(options: &TlsOptions, is_http2: bool) -> Result<Arc<ClientConfig>, EndpointError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError(format!("TLS: {error}")))?;
    let builder = if options.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(authorities(options.ca_file.as_deref())?)
    };
    let mut config = match (&options.cert_file, &options.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| EndpointError(format!("--key-file {}: {error}", key_file.display())))?;
            let chain = certificates("--cert-file", cert_file)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| EndpointError(format!("--cert-file {}: {error}", cert_file.display())))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, EndpointError> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        let bundle = SYSTEM_BUNDLES.map(Path::new).into_iter().find(|path| path.exists());
        let bundle = bundle.ok_or_else(|| {
            EndpointError(
                "this system has no bundle of trusted authorities: give one with --ca-file".to_owned(),
            )
        })?;
        // A system's bundle may hold authorities of kinds that are no longer in use.
        store.add_parsable_certificates(certificates("the system's authorities", bundle)?);
        return Ok(store);
    };
    for certificate in certificates("--ca-file", file)? {
        store
            .add(certificate)
            .map_err(|error| EndpointError(format!("--ca-file {}: {error}", file.display())))?;
    }
    Ok(store)
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let failed =
        |error: rustls::pki_types::pem::Error| EndpointError(format!("{what} {}: {error}", file.display()));
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(EndpointError(format!("{what} {}: holds no certificate", file.display())));
    }
    Ok(found)
}

/// Accepts every certificate, as `--insecure-skip-verify` asks; signatures of the handshake are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
