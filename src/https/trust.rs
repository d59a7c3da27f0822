//! Which CAs TLS trusts. The trust store is read ahead of time, so that a failover needs no disk; again each day, because
//! the system's updates change it; and before the next connection if a certificate is from an unknown issuer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_native_certs::CertificateResult;

use crate::sys::lock;

/// What a connection needs to know of the CAs; or why there are none.
type Trusted = Result<Arc<ClientConfig>, String>;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// The CAs that the system trusts, as last read.
pub struct TrustStore {
    read: Mutex<Read>,
    /// When to read them ahead of time; `None` is never. A lock of its own, because the other one may wait for the disk.
    next: Mutex<Option<Instant>>,
}

struct Read {
    settings: Option<Arc<ClientConfig>>,
    /// Whether a CA may have been added since then.
    is_stale: bool,
}

impl TrustStore {
    pub const fn new() -> TrustStore {
        let read = Read { settings: None, is_stale: false };
        TrustStore { read: Mutex::new(read), next: Mutex::new(None) }
    }

    /// Reads the trust store again. If that fails, the CAs that were read before stay trusted.
    pub fn read(&self) -> Result<(), String> {
        // Not under the lock, so that a takeover that has CAs to trust does not wait for the disk.
        let settings = Some(read()?);
        *lock(&self.read) = Read { settings, is_stale: false };
        Ok(())
    }

    /// Makes it due now, and then once a day.
    pub fn read_each_day(&self) {
        *lock(&self.next) = Some(Instant::now());
    }

    /// Whether it is due to be read now. If so, the caller has to read it.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut next = lock(&self.next);
        let is_due = next.is_some_and(|next| next <= now);
        if is_due {
            *next = Some(now + A_DAY);
        }
        is_due
    }

    /// Settings for connections. Reads the trust store if that has not been done yet, or if a CA may have been added.
    pub(super) fn settings(&self, ssl_no_verify: bool) -> Trusted {
        if ssl_no_verify {
            let verifier = Arc::new(NoVerifier(default_provider()));
            let dangerous = builder().dangerous().with_custom_certificate_verifier(verifier);
            return Ok(Arc::new(dangerous.with_no_client_auth()));
        }
        lock(&self.read).settings(read)
    }

    /// Makes the next connection read the trust store again, because an unknown issuer may have been added to it.
    pub(super) fn doubt(&self) {
        lock(&self.read).is_stale = true;
    }
}

impl Read {
    fn settings(&mut self, read: impl FnOnce() -> Trusted) -> Trusted {
        let current = self.settings.clone().filter(|_| !self.is_stale);
        let read = current.map_or_else(read, Ok);
        if let Ok(read) = &read {
            *self = Read { settings: Some(Arc::clone(read)), is_stale: false };
        }
        // If it cannot be read now, the next connection tries again. Until then the old CAs are better than none.
        read.or_else(|why| self.settings.clone().ok_or(why))
    }
}

/// The system's trusted CAs; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
fn read() -> Trusted {
    let CertificateResult { certs, errors, .. } = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old CAs that break today's rules are ignored, as other clients do.
    roots.add_parsable_certificates(certs);
    if roots.is_empty() {
        let why = errors.first().map(|why| format!(" ({why})")).unwrap_or_default();
        return Err(format!(
            "no trusted CA certificates{why}: install ca-certificates, or check SSL_CERT_FILE"
        ));
    }
    Ok(Arc::new(builder().with_root_certificates(roots).with_no_client_auth()))
}

/// With ring instead of rustls's default.
fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    builder.with_safe_default_protocol_versions().expect("ring supports TLS 1.2 and 1.3")
}

type Signed = Result<HandshakeSignatureValid, rustls::Error>;

/// For `ssl_no_verify`: accepts every certificate and signature.
#[derive(Debug)]
struct NoVerifier(CryptoProvider);

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

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer, _: &DigitallySignedStruct) -> Signed {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer, _: &DigitallySignedStruct) -> Signed {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_store_that_cannot_be_read_again_does_not_replace_a_good_one() {
        let new =
            || Ok(Arc::new(builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()));
        let unreadable = || Err("no disk".to_string());
        let store = TrustStore::new();
        let settings = |read: &dyn Fn() -> Trusted| lock(&store.read).settings(read);
        assert!(settings(&unreadable).is_err());
        let first = settings(&new).expect("it was read");
        let is_first = |found: Trusted| Arc::ptr_eq(&found.expect("one is known"), &first);
        assert!(is_first(settings(&new)), "read once");
        store.doubt();
        assert!(is_first(settings(&unreadable)));
        // The next connection reads again, and finds what was added.
        assert!(!is_first(settings(&new)));
    }

    #[test]
    fn it_is_read_each_day_if_it_is_needed() {
        let (store, now) = (TrustStore::new(), Instant::now());
        assert!(!store.is_due(now + A_DAY));
        store.read_each_day();
        let now = now + Duration::from_secs(60);
        assert!(store.is_due(now) && !store.is_due(now + A_DAY - Duration::from_secs(1)));
        assert!(store.is_due(now + A_DAY) && !store.is_due(now + A_DAY));
    }
}
