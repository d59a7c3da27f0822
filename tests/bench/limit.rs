//! The least that a takeover could cost: the same handshake and the same request by the same TLS library, with one
//! root and nothing else. In a process of its own, so that its CPU time can be told.

use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _, stdin};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{PASSWORD, USERNAME, process};

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
    let login = BASE64.encode(format!("{USERNAME}:{PASSWORD}"));
    let form = "active_server_ip=1.1.1.1";
    let request = format!(
        "POST /failover/4.4.4.4 HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut answer = Vec::new();
    for _ in 0..requests.parse()? {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&config), name)?, socket);
        stream.write_all(request.as_bytes())?;
        answer.clear();
        stream.read_to_end(&mut answer)?;
    }
    println!("done");
    let _ = stdin().read(&mut [0]);
    Ok(())
}
