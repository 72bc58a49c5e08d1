//! What a connection runs over: TCP, or TLS over it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::sources::Sources;

/// Where to connect, and how.
#[derive(Clone)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    sources: Sources,
    /// For https.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An open connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// Closed, or not open yet: it reads as at its end.
    Closed,
    /// Plain TCP.
    Tcp(TcpStream),
    /// Boxed, so that 10,000 connections without TLS stay small.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// A plain TCP endpoint.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { address, sources: Sources::default(), tls: None }
    }

    /// A TLS endpoint that accepts any certificate, as wrk does: people load their own servers, and most of those have
    /// self-signed certificates.
    ///
    /// # Errors
    /// `host` is not a valid name for TLS.
    pub(crate) fn tls(address: SocketAddr, host: &str) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(AcceptAnyCertificate(provider.clone()));
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let name =
            ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is not a valid name for TLS"))?;
        let tls = Some((TlsConnector::from(Arc::new(config)), name));
        Ok(Self { address, sources: Sources::default(), tls })
    }

    /// The same, connected to from these addresses.
    ///
    /// # Errors
    /// It has an address of IPv6, and they do not.
    pub fn from_sources(self, sources: Sources) -> Result<Self> {
        let is_reachable = self.address.is_ipv4() || sources.addresses().is_empty();
        ensure!(
            is_reachable,
            "--bind has IPv4 addresses, and the server is at {}: name it by one of IPv4",
            self.address
        );
        Ok(Self { sources, ..self })
    }

    /// Where connections to it come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The host's name that TLS asks for; `None` without TLS.
    pub(crate) fn tls_host(&self) -> Option<String> {
        self.tls.as_ref().map(|(_, name)| name.to_str().into_owned())
    }

    /// Connects.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let stream = match self.sources.next() {
            Some(source) => connect_from(source, self.address).await?,
            None => TcpStream::connect(self.address).await?,
        };
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::Tcp(stream)),
            Some((connector, name)) => {
                let handshake = connector.connect(name.clone(), stream);
                Ok(Stream::Tls(Box::new(Box::pin(handshake).await.map_err(explained)?)))
            }
        }
    }
}

/// Connects from `source`. The kernel chooses the port as it connects, and not as the address is bound: a port is then used
/// once for each server, and not once for all.
async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind((source, 0).into())?;
    socket.connect(address).await
}

/// A failed handshake, with what rustls cannot do if that may be the reason.
fn explained(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let limit = match tls {
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => "TLS 1.2 and 1.3 only",
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure) | Error::PeerIncompatible(_)) => {
            "TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("TLS: {error}; this client speaks {limit}"))
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.address, if self.tls.is_some() { "TLS" } else { "TCP" })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Closed => Poll::Ready(Ok(())),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => match Pin::new(stream).poll_read(cx, buffer) {
                // Many servers close TCP without closing TLS first.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                outcome => outcome,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Closed => Poll::Ready(Ok(())),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Closed => Poll::Ready(Ok(())),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Accepts every certificate but not every signature: the server must hold the key that it presents. rustls reads
/// certificates of version 3 only, so the key of an older one is found here.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl AcceptAnyCertificate {
    /// Verifies with the bare key of a certificate that rustls does not read.
    fn verify_with_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad_encoding = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(bad_encoding)?;
        let key = &certificate.public_key().subject_public_key.data;
        let schemes = self.0.signature_verification_algorithms.mapping.iter();
        // A key of another kind than the scheme's verifies nothing.
        schemes
            .filter(|(scheme, _)| *scheme == signature.scheme)
            .flat_map(|(_, verifiers)| *verifiers)
            .find(|verifier| verifier.verify_signature(key, message, signature.signature()).is_ok())
            .map(|_| HandshakeSignatureValid::assertion())
            .ok_or(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

/// Whether rustls could not read the certificate at all.
fn is_unread(outcome: &Result<HandshakeSignatureValid, Error>) -> bool {
    use CertificateError::{BadEncoding, Other};
    matches!(outcome, Err(Error::InvalidCertificate(BadEncoding | Other(_))))
}

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        let outcome = verify_tls12_signature(message, certificate, signature, known);
        if is_unread(&outcome) { self.verify_with_key(message, certificate, signature) } else { outcome }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        let outcome = verify_tls13_signature(message, certificate, signature, known);
        if is_unread(&outcome) { self.verify_with_key(message, certificate, signature) } else { outcome }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
