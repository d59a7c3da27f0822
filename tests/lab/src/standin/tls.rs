//! The stand-in's own CA, made anew at every start, and a certificate that is right or wrong in one way.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::NoServerSessionStorage;

/// What is wrong with the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing: valid for localhost, 127.0.0.1, ::1, and the names of the real APIs.
    Right,
    Expired,
    NotYetValid,
    /// Made out to a host that is not this one.
    OtherHost,
    /// Signed by a CA that is not the one in the CA file.
    UnknownIssuer,
}

impl FromStr for Certificate {
    type Err = String;

    fn from_str(name: &str) -> Result<Certificate, String> {
        Ok(match name {
            "right" => Certificate::Right,
            "expired" => Certificate::Expired,
            "not-yet-valid" => Certificate::NotYetValid,
            "other-host" => Certificate::OtherHost,
            "unknown-issuer" => Certificate::UnknownIssuer,
            _ => {
                return Err(format!(
                    "expected right, expired, not-yet-valid, other-host or unknown-issuer, not {name:?}"
                ));
            }
        })
    }
}

/// The PEM of the CA that a client is to trust; it goes with this value, unless a path was given.
pub(super) struct CaFile {
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl CaFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(path: Option<&Path>, pem: &str) -> io::Result<CaFile> {
        let (path, directory) = match path {
            Some(path) => (path.to_owned(), None),
            None => {
                // Open to all: a uWSGI under test may have given up its user before it reads this.
                let everybody = fs::Permissions::from_mode(0o755);
                let directory =
                    tempfile::Builder::new().prefix("stand-in-").permissions(everybody).tempdir()?;
                (directory.path().join("ca.pem"), Some(directory))
            }
        };
        fs::write(&path, pem)?;
        Ok(CaFile { path, _directory: directory })
    }
}

/// Makes CA and certificate, and writes the CA's to `path` or to a directory of its own.
pub(super) fn acceptor(
    certificate: Certificate,
    resume_sessions: bool,
    path: Option<&Path>,
) -> io::Result<(TlsAcceptor, CaFile)> {
    let (mut server, pem) = server(certificate).map_err(io::Error::other)?;
    if !resume_sessions {
        server.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok((TlsAcceptor::from(Arc::new(server)), CaFile::write(path, &pem)?))
}

fn server(certificate: Certificate) -> Result<(ServerConfig, String), Box<dyn Error + Send + Sync>> {
    let (ca, ca_key) = authority()?;
    let host = if certificate == Certificate::OtherHost {
        vec!["other.example".to_owned()]
    } else {
        ["localhost", "127.0.0.1", "::1", "robot-ws.your-server.de", "api.hetzner.cloud"]
            .map(str::to_owned)
            .to_vec()
    };
    let mut leaf = CertificateParams::new(host)?;
    (leaf.not_before, leaf.not_after) = match certificate {
        Certificate::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        Certificate::NotYetValid => (date_time_ymd(2400, 1, 1), date_time_ymd(2401, 1, 1)),
        _ => (date_time_ymd(2000, 1, 1), date_time_ymd(2400, 1, 1)),
    };
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&leaf_key, &ca, &ca_key)?;
    let trusted = if certificate == Certificate::UnknownIssuer { authority()?.0.pem() } else { ca.pem() };

    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.into()], PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into())?;
    Ok((server, trusted))
}

fn authority() -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::default();
    // Each has a name of its own: a client that trusts several looks its issuer up by name.
    let name = format!("CA {:016x} of a stand-in", fastrand::u64(..));
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?, key))
}
