//! The least that a takeover could cost: the same handshake and the same request by the same libraries, with one root
//! and nothing else. In a process of its own, so that its CPU time can be told.

use std::error::Error;
use std::fs;
use std::io::{Read as _, stdin};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use crate::support::{PASSWORD, USERNAME, process};
use crate::tls::TlsConnector;

/// The argument that makes this program the limit's: then address, CA file, number of requests.
pub const ARGUMENT: &str = "--limit";

/// Starts it. It says one line when it is done, and ends with its standard input.
pub fn start(address: SocketAddr, ca: &Path, requests: usize) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ARGUMENT, &address.to_string()]).arg(ca).arg(requests.to_string());
    process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// Makes the requests, one after the other.
pub fn run(arguments: &[String]) -> ExitCode {
    match requests(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn requests(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, ca, requests] = arguments else { return Err("expected three arguments".into()) };
    let address: SocketAddr = address.parse()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(ca)?)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config =
        config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let login = format!("Basic {}", BASE64.encode(format!("{USERNAME}:{PASSWORD}")));
    for _ in 0..requests.parse()? {
        let connector = TcpConnector::default().chain(TlsConnector(Some(Arc::clone(&config))));
        let agent = Agent::with_parts(
            Agent::config_builder().http_status_as_error(false).build(),
            connector,
            DefaultResolver::default(),
        );
        let post = agent.post(format!("https://{address}/failover/4.4.4.4")).header("Authorization", &login);
        post.send_form([("active_server_ip", "1.1.1.1")])?.body_mut().read_to_vec()?;
    }
    println!("done");
    let _ = stdin().read(&mut [0]);
    Ok(())
}
