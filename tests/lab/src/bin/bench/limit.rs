//! The least that a takeover could cost: the same handshake and the same request by the same libraries, with one root
//! and nothing else. In a process of its own, so that its CPU time can be told.

use std::error::Error;
use std::fs;
use std::io::{Read as _, Write as _, stdin};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lab::{PASSWORD, USERNAME, process};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

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
        let agent = Agent::with_parts(
            Agent::config_builder().http_status_as_error(false).build(),
            Tls(Arc::clone(&config)),
            DefaultResolver::default(),
        );
        let post = agent.post(format!("https://{address}/failover/4.4.4.4")).header("Authorization", &login);
        post.send_form([("active_server_ip", "1.1.1.1")])?.body_mut().read_to_vec()?;
    }
    println!("done");
    let _ = stdin().read(&mut [0]);
    Ok(())
}

/// Makes connections that know no time limit. ureq's own would need a feature of it that the plugin does without, and would
/// make its TLS settings anew for each request.
#[derive(Debug)]
struct Tls(Arc<ClientConfig>);

impl Connector for Tls {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, ureq::Error> {
        let address = details.addrs[0];
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        let tls = ClientConnection::new(Arc::clone(&self.0), address.ip().into());
        let tls = tls.map_err(|error| ureq::Error::Other(error.into()))?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Connection { stream: StreamOwned::new(tls, tcp), buffers }))
    }
}

#[derive(Debug)]
struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    // No connection is used twice.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        true
    }
}
