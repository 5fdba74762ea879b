//! S3 behind TLS: private authorities, client certificates, names that differ.

use std::path::Path;
use std::sync::Arc;

use annulus::bucket::BucketError;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::s3_server::S3Server;
use super::{SECRET_KEY, objstore_yml, open_file};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }

    fn acceptor(&self, name: &str, wants_client_cert: bool) -> TlsAcceptor {
        let (cert, key) = self.issue(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client_cert {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn write_ca(&self, path: &Path) {
        std::fs::write(path, self.0.pem()).unwrap();
    }
}

/// Writes and reads one object with these settings of `tls_config`.
async fn try_with(server: &S3Server, tls_config: &str) -> Result<(), BucketError> {
    let lines = format!("  max_retries: 1\n  http_config: {{tls_config: {{{tls_config}}}}}\n");
    let bucket = open_file(&objstore_yml(server.address, SECRET_KEY, &lines));
    bucket.put("x", Bytes::from_static(b"1")).await?;
    assert_eq!(bucket.get("x").await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let authority = Authority::new();
    let server = S3Server::start_with(Some(authority.acceptor("localhost", false))).await;
    let home = tempfile::tempdir().unwrap();
    let (ca, other) = (home.path().join("ca.pem"), home.path().join("other.pem"));
    authority.write_ca(&ca);
    Authority::new().write_ca(&other);
    try_with(&server, &format!("ca_file: '{}'", ca.display())).await.unwrap();
    let error = try_with(&server, &format!("ca_file: '{}'", other.display())).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    try_with(&server, "insecure_skip_verify: true").await.unwrap();
}

#[tokio::test]
async fn the_certificate_may_be_for_another_name_when_it_is_given() {
    let authority = Authority::new();
    let server = S3Server::start_with(Some(authority.acceptor("s3.lan", false))).await;
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.pem");
    authority.write_ca(&ca);
    try_with(&server, &format!("ca_file: '{}', server_name: s3.lan", ca.display())).await.unwrap();
    assert!(try_with(&server, &format!("ca_file: '{}'", ca.display())).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_opens_a_server_that_wants_one() {
    let authority = Authority::new();
    let server = S3Server::start_with(Some(authority.acceptor("localhost", true))).await;
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    authority.write_ca(&path("ca.pem"));
    let (cert, key) = authority.issue("client");
    std::fs::write(path("cert.pem"), cert.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let trust = format!("ca_file: '{}'", path("ca.pem").display());
    let own =
        format!("cert_file: '{}', key_file: '{}'", path("cert.pem").display(), path("key.pem").display());
    try_with(&server, &format!("{trust}, {own}")).await.unwrap();
    assert!(try_with(&server, &trust).await.is_err());
}
