//! Whose certificate is believed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::postgres::trust::Trust;

/// Where a system keeps whom it trusts: Debian and Alpine, Fedora, openSUSE.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Checks certificates as `sslmode` says.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Who may have signed it; `None` believes anybody.
    signers: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
}

impl Verifier {
    /// With the certificates in the file `roots`, or with the system's.
    pub(super) fn new(trust: Trust, roots: Option<&str>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let file = match (trust, roots) {
            (Trust::Anybody, None) => None,
            (Trust::Signed | Trust::Named, None) => {
                return Err(
                    "sslmode=verify-full and verify-ca need sslrootcert=FILE, with who signs its certificate; \
                            verify-full may have sslrootcert=system"
                        .to_owned(),
                );
            }
            (Trust::Named, Some("system")) => {
                let file = SYSTEM_ROOTS.into_iter().find(|file| Path::new(file).exists());
                Some(file.ok_or("this system has no list of whom it trusts: write sslrootcert=FILE")?)
            }
            // Anybody can have a certificate that somebody in the world has signed.
            (_, Some("system")) => return Err("sslrootcert=system needs sslmode=verify-full".to_owned()),
            (_, Some(file)) => Some(file),
        };
        let signers = file.map(|file| signers(file, provider.clone())).transpose()?;
        Ok(Self { provider, signers, checks_name: trust == Trust::Named })
    }
}

fn signers(file: &str, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let unusable = |why: String| format!("sslrootcert={file} cannot be used: {why}");
    let certificates = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
    let mut roots = RootCertStore::empty();
    // Of a system's many, some may be of a kind that is not known here.
    roots.add_parsable_certificates(certificates.map_err(|error| unusable(error.to_string()))?);
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| unusable(error.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(signers) = &self.signers else { return Ok(ServerCertVerified::assertion()) };
        match signers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // It is the last that is checked: all else is right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
