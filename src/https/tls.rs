//! TLS with the API: what is trusted, and how a connection of ureq's gets it.
//!
//! ureq could do it itself. But it makes its TLS settings anew for each request that has a time limit of its own, as
//! all of ours have, and keeps every CA certificate whole. Here the trust store is read once, ahead of the night that
//! needs it, so that a failover needs no disk; of each CA only what verification needs is kept; and what fails in
//! the handshake is told from what fails later.

use std::error::Error as StdError;
use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned, WantsVerifier,
};
use rustls_native_certs::CertificateResult;
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::hosters::{Failure, Kind};

/// Settings that trust the system's CAs, once they have been read.
static TRUSTING: Mutex<Trusting> = Mutex::new(Trusting { settings: None, is_stale: false });

struct Trusting {
    settings: Option<Arc<ClientConfig>>,
    /// Whether a CA may have been added since.
    is_stale: bool,
}

fn trusting() -> MutexGuard<'static, Trusting> {
    TRUSTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Settings for one connection or many. Reads the trust store where nothing has done so yet, or it may have changed.
pub fn settings(ssl_no_verify: bool) -> Result<Arc<ClientConfig>, Failure> {
    if ssl_no_verify {
        let verifier = Arc::new(NoVerifier(provider().signature_verification_algorithms.supported_schemes()));
        let dangerous = builder().dangerous().with_custom_certificate_verifier(verifier);
        return Ok(Arc::new(dangerous.with_no_client_auth()));
    }
    trusting().settings(read)
}

/// Reads the trust store anew. Where that fails, what was read before goes on being trusted.
pub fn read_trust_store() -> Result<(), Failure> {
    // Not under the lock: a takeover does not wait for a disk when it could do without.
    let read = read()?;
    *trusting() = Trusting { settings: Some(read), is_stale: false };
    Ok(())
}

/// Has the trust store read anew before the next connection: a CA that was not known may have been added since.
pub fn doubt_trust_store() {
    trusting().is_stale = true;
}

impl Trusting {
    fn settings(
        &mut self,
        read: impl FnOnce() -> Result<Arc<ClientConfig>, Failure>,
    ) -> Result<Arc<ClientConfig>, Failure> {
        match &self.settings {
            Some(known) if !self.is_stale => Ok(Arc::clone(known)),
            // What cannot be read now is read at the next try; until then the old ones are better than none.
            Some(known) => match read() {
                Ok(read) => Ok(self.take(read)),
                Err(_) => Ok(Arc::clone(known)),
            },
            None => Ok(self.take(read()?)),
        }
    }

    fn take(&mut self, read: Arc<ClientConfig>) -> Arc<ClientConfig> {
        *self = Trusting { settings: Some(Arc::clone(&read)), is_stale: false };
        read
    }
}

/// The system's trusted CAs; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
fn read() -> Result<Arc<ClientConfig>, Failure> {
    let CertificateResult { certs, errors, .. } = rustls_native_certs::load_native_certs();
    // First into one piece, which the system gets back whole: between hundreds of small ones what is kept would lie
    // scattered, and hold three times its size.
    let lengths: Vec<usize> = certs.iter().map(|der| der.len()).collect();
    let whole = certs.iter().map(|der| der.as_ref()).collect::<Vec<&[u8]>>().concat();
    drop(certs);
    let mut rest = whole.as_slice();
    let ders = lengths.into_iter().map(|length| {
        let der;
        (der, rest) = rest.split_at(length);
        CertificateDer::from(der)
    });
    let mut roots = RootCertStore::empty();
    // Old CAs that break today's rules are passed over, as by every other client.
    roots.add_parsable_certificates(ders);
    if roots.is_empty() {
        let reason = errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        return Err(Failure::new(
            Kind::Final,
            format!("no trusted CA certificates{reason}: install ca-certificates, or check SSL_CERT_FILE"),
        ));
    }
    let mut settings = builder().with_root_certificates(roots).with_no_client_auth();
    // One host is asked, some hooks at a time.
    settings.resumption = Resumption::in_memory_sessions(8);
    Ok(Arc::new(settings))
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    builder.with_safe_default_protocol_versions().expect("ring can do TLS 1.2 and 1.3")
}

/// ureq's step from a connection to one with TLS, for https; without settings it refuses to take it.
#[derive(Debug)]
pub struct TlsConnector(pub Option<Arc<ClientConfig>>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connected: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = connected else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let settings = self.0.as_ref().ok_or(Error::TlsRequired)?;
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("no certificate can have such a name"))?;
        let connection = ClientConnection::new(Arc::clone(settings), name).map_err(in_handshake)?;
        let adapter =
            TransportAdapter::new(Box::new(transport) as Box<dyn Transport>, details.current_time.clone());
        let mut stream = StreamOwned::new(connection, adapter);
        let mut timeout = details.timeout;
        timeout.after = time_left(details).map_or(Duration::NotHappening, Duration::Exact);
        stream.sock.set_timeout(timeout);
        stream.conn.complete_io(&mut stream.sock).map_err(|error| {
            match error.downcast::<rustls::Error>() {
                Ok(error) => in_handshake(error),
                Err(error) => error.into(),
            }
        })?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { stream, buffers: LazyBuffers::new(input, output) })))
    }
}

/// What the steps before have left of a connection's time limit.
pub fn time_left(details: &ConnectionDetails) -> Option<std::time::Duration> {
    match (details.timeout.after, details.now) {
        (Duration::Exact(limit), Instant::Exact(began)) => Some(limit.saturating_sub(began.elapsed())),
        _ => None,
    }
}

/// A connection with TLS.
pub struct TlsTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for TlsTransport {
    /// Without its buffers, which hold the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// A TLS error before anything was sent.
#[derive(Debug)]
pub struct HandshakeError(pub rustls::Error);

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for HandshakeError {}

fn in_handshake(error: rustls::Error) -> Error {
    Error::Other(Box::new(HandshakeError(error)))
}

/// For `ssl_no_verify`: takes everything, with any signature.
#[derive(Debug)]
struct NoVerifier(Vec<SignatureScheme>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_store_that_cannot_be_read_again_replaces_no_good_one() {
        let new =
            || Ok(Arc::new(builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()));
        let unreadable = || Err(Failure::new(Kind::Final, "no trusted CA certificates"));
        let mut trusting = Trusting { settings: None, is_stale: false };
        assert!(trusting.settings(unreadable).is_err());
        let first = trusting.settings(new).expect("it was read");
        let is_first =
            |found: Result<Arc<ClientConfig>, Failure>| Arc::ptr_eq(&found.expect("one is known"), &first);
        assert!(is_first(trusting.settings(new)), "read once");
        trusting.is_stale = true;
        assert!(is_first(trusting.settings(unreadable)));
        // The next try reads again, and finds what was added.
        assert!(!is_first(trusting.settings(new)));
    }
}
