//! Whom TLS trusts. The trust store is read once, ahead of the night that needs it, so that a failover needs no disk;
//! again each day, since it changes with the system's updates; and where a certificate is from an issuer that it does
//! not know, before the next connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_native_certs::CertificateResult;

use super::NoTrust;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// The CAs that the system trusts, as they were read last.
pub struct TrustStore {
    read: Mutex<Read>,
    /// When they are to be read ahead; never, where that is `None`. Apart from the above, which waits for the disk.
    next: Mutex<Option<Instant>>,
}

struct Read {
    settings: Option<Arc<ClientConfig>>,
    /// Whether a CA may have been added since.
    is_stale: bool,
}

impl TrustStore {
    pub const fn new() -> TrustStore {
        let read = Read { settings: None, is_stale: false };
        TrustStore { read: Mutex::new(read), next: Mutex::new(None) }
    }

    /// Reads the trust store anew. Where that fails, what was read before goes on being trusted.
    pub fn read(&self) -> Result<(), NoTrust> {
        // Not under the lock: a takeover does not wait for a disk when it could do without.
        let read = read()?;
        self.known().take(read);
        Ok(())
    }

    /// From now on it is due to be read, and again each day.
    pub fn read_each_day(&self) {
        *self.next() = Some(Instant::now());
    }

    /// Whether it is due now; who asks is who reads it.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut next = self.next();
        let is_due = next.is_some_and(|next| next <= now);
        if is_due {
            *next = Some(now + A_DAY);
        }
        is_due
    }

    /// Settings for one connection or many. Reads the trust store where nothing has done so yet, or where a CA may have
    /// been added.
    pub(super) fn settings(&self, ssl_no_verify: bool) -> Result<Arc<ClientConfig>, NoTrust> {
        if ssl_no_verify {
            let verifier = Arc::new(NoVerifier(default_provider()));
            let dangerous = builder().dangerous().with_custom_certificate_verifier(verifier);
            return Ok(Arc::new(dangerous.with_no_client_auth()));
        }
        self.known().settings(read)
    }

    /// Has the trust store read anew before the next connection: an issuer that was not known may have been added since.
    pub(super) fn doubt(&self) {
        self.known().is_stale = true;
    }

    fn known(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    fn settings(
        &mut self,
        read: impl FnOnce() -> Result<Arc<ClientConfig>, NoTrust>,
    ) -> Result<Arc<ClientConfig>, NoTrust> {
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
        *self = Read { settings: Some(Arc::clone(&read)), is_stale: false };
        read
    }
}

/// The system's trusted CAs; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them.
fn read() -> Result<Arc<ClientConfig>, NoTrust> {
    let CertificateResult { certs, errors, .. } = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old CAs that break today's rules are passed over, as by every other client.
    roots.add_parsable_certificates(certs);
    if roots.is_empty() {
        return Err(NoTrust(errors.first().map(ToString::to_string)));
    }
    Ok(Arc::new(builder().with_root_certificates(roots).with_no_client_auth()))
}

/// ring instead of what rustls takes by itself.
fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    builder.with_safe_default_protocol_versions().expect("ring can do TLS 1.2 and 1.3")
}

/// For `ssl_no_verify`: takes everything, with any signature.
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_store_that_cannot_be_read_again_replaces_no_good_one() {
        let new =
            || Ok(Arc::new(builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()));
        let unreadable = || Err(NoTrust(None));
        let store = TrustStore::new();
        let settings = |read: &dyn Fn() -> Result<Arc<ClientConfig>, NoTrust>| store.known().settings(read);
        assert!(settings(&unreadable).is_err());
        let first = settings(&new).expect("it was read");
        let is_first =
            |found: Result<Arc<ClientConfig>, NoTrust>| Arc::ptr_eq(&found.expect("one is known"), &first);
        assert!(is_first(settings(&new)), "read once");
        store.doubt();
        assert!(is_first(settings(&unreadable)));
        // The next try reads again, and finds what was added.
        assert!(!is_first(settings(&new)));
    }

    #[test]
    fn it_is_read_ahead_each_day_where_it_is_needed() {
        let (store, now) = (TrustStore::new(), Instant::now());
        assert!(!store.is_due(now + A_DAY));
        store.read_each_day();
        let now = now + Duration::from_secs(60);
        assert!(store.is_due(now) && !store.is_due(now + A_DAY - Duration::from_secs(1)));
        assert!(store.is_due(now + A_DAY) && !store.is_due(now + A_DAY));
    }
}
