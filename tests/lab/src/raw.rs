//! A server that sends what it is told, byte for byte, over TCP or TLS: what no HTTP library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use tokio::net::TcpSocket;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// No connection is waited for longer; every client here has given up by then.
const PATIENCE: Duration = Duration::from_secs(300);

/// One thing that the server does with a connection.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// What is made of the request's head.
    Echo(fn(&str) -> Vec<u8>),
    /// So long between two bytes.
    Trickle(Vec<u8>, Duration),
    /// Again and again, until the client has had enough.
    Flood(Vec<u8>),
    /// Beneath TLS, where there is TLS.
    Raw(Vec<u8>),
    /// Until the client goes.
    Hang,
    Reset,
    /// FIN without the farewell that TLS has for it.
    Cut,
    /// The next request may come on this connection.
    KeepOpen,
}

/// How the connection begins, where it is to be TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shake {
    /// As it should, with this certificate.
    Tls(Certificate),
    /// Not at all: the steps follow upon what comes first. No request is looked for.
    Blind,
    /// The same, and nothing is waited for.
    AtOnce,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certificate {
    Right,
    Expired,
    NotYetValid,
    OtherHost,
    SelfSigned,
    UnknownIssuer,
    /// Not for a server, but for a client.
    OtherPurpose,
}

/// What the server does with one connection, or with one request of it. After the last step it closes.
#[derive(Clone)]
pub struct Play {
    pub shake: Shake,
    pub steps: Vec<Step>,
}

impl<const N: usize> From<[Step; N]> for Play {
    fn from(steps: [Step; N]) -> Play {
        Play { shake: Shake::Tls(Certificate::Right), steps: steps.into() }
    }
}

impl From<Vec<u8>> for Play {
    fn from(bytes: Vec<u8>) -> Play {
        [Step::Send(bytes)].into()
    }
}

/// What has arrived.
#[derive(Default, Clone, Debug)]
pub struct Seen {
    pub connections: usize,
    /// The method of each request whose head and body were there.
    pub requests: Vec<String>,
    /// The path of each.
    pub paths: Vec<String>,
}

impl Seen {
    pub fn count(&self, method: &str) -> usize {
        self.requests.iter().filter(|found| *found == method).count()
    }
}

/// Plays its plays one after the other, the last one again and again. Dropped, it is gone.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    tls: bool,
    plays: Vec<Play>,
    turn: Mutex<usize>,
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub fn start(tls: bool, plays: Vec<Play>) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Shared {
            tls,
            plays,
            turn: Mutex::default(),
            seen: Mutex::default(),
            stop: AtomicBool::default(),
        };
        let shared = Arc::new(shared);
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if own.stop.load(Ordering::Relaxed) {
                    break;
                }
                lock(&own.seen).connections += 1;
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(stream));
            }
        });
        Server { address, shared, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // It wakes up for this connection, and ends.
        if TcpStream::connect(self.address).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// A connection, over TLS or not.
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Connection {
    fn io(&mut self) -> &mut dyn ReadWrite {
        match self {
            Connection::Plain(stream) => stream,
            Connection::Tls(stream) => stream,
        }
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Connection::Plain(stream) => stream,
            Connection::Tls(stream) => &mut stream.sock,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io().write_all(bytes)?;
        self.io().flush()
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Shared {
    /// The next play; each is given once, but for the last.
    fn next(&self) -> Play {
        let mut turn = lock(&self.turn);
        let play = self.plays[(*turn).min(self.plays.len() - 1)].clone();
        *turn += 1;
        play
    }

    fn serve(&self, stream: TcpStream) {
        // A client that breaks off is none of this server's matter.
        let _ = self.try_serve(stream);
    }

    fn try_serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut play = self.next();
        let mut connection = match play.shake {
            Shake::Tls(certificate) if self.tls => {
                let connection = ServerConnection::new(config(certificate)).expect("a right configuration");
                Connection::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
            _ => Connection::Plain(stream),
        };
        loop {
            let head = match play.shake {
                Shake::Tls(_) => {
                    let Some(head) = read_request(connection.io())? else { return Ok(()) };
                    let mut words = head.split(' ').map(str::to_string);
                    let mut seen = lock(&self.seen);
                    seen.requests.push(words.next().unwrap_or_default());
                    seen.paths.push(words.next().unwrap_or_default());
                    drop(seen);
                    head
                }
                Shake::Blind => connection.io().read(&mut [0; 4096]).map(|_| String::new())?,
                Shake::AtOnce => String::new(),
            };
            if !act(&mut connection, &play.steps, &head)? {
                break;
            }
            play = self.next();
        }
        Ok(())
    }
}

/// Returns whether the connection is kept for another request.
fn act(connection: &mut Connection, steps: &[Step], head: &str) -> std::io::Result<bool> {
    for step in steps {
        match step {
            Step::Send(bytes) => connection.send(bytes)?,
            Step::Echo(make) => connection.send(&make(head))?,
            Step::Trickle(bytes, pause) => {
                for byte in bytes {
                    connection.send(&[*byte])?;
                    thread::sleep(*pause);
                }
            }
            Step::Flood(bytes) => {
                // More than any client here can take in, but not for ever.
                for _ in 0..(64 << 20) / bytes.len() {
                    connection.send(bytes)?;
                }
            }
            Step::Raw(bytes) => connection.tcp().write_all(bytes)?,
            Step::Hang => break,
            Step::KeepOpen => return Ok(true),
            Step::Reset => {
                // The option is the socket's, not the descriptor's.
                TcpSocket::from_std_stream(connection.tcp().try_clone()?).set_zero_linger()?;
                return Ok(false);
            }
            Step::Cut => {
                connection.tcp().shutdown(Shutdown::Write)?;
                break;
            }
        }
    }
    if !matches!(steps.last(), Some(Step::Hang | Step::Cut)) {
        if let Connection::Tls(stream) = connection {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        connection.tcp().shutdown(Shutdown::Write)?;
    }
    // Closed with unread bytes in it, a socket sends a reset, which takes back what was sent.
    let mut rest = [0; 4096];
    while connection.tcp().read(&mut rest)? > 0 {}
    Ok(false)
}

/// The head of a request whose body is there too; `None` when the client has nothing more to say.
fn read_request(stream: &mut dyn ReadWrite) -> std::io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        request.push(byte[0]);
    }
    let head =
        String::from_utf8(request).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length])?;
    Ok(Some(head))
}

/// The CA that the nodes trust.
struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::new("the CA of the table of bad answers"));

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("ring makes one");
        Authority { certificate: params.self_signed(&key).expect("it is right"), key }
    }
}

/// Its PEM, for `SSL_CERT_FILE`.
pub fn ca_pem() -> String {
    AUTHORITY.certificate.pem()
}

fn config(certificate: Certificate) -> Arc<ServerConfig> {
    // A handshake should take no longer than it must: each certificate is made once.
    static MADE: Mutex<Vec<(Certificate, Arc<ServerConfig>)>> = Mutex::new(Vec::new());
    let mut made = lock(&MADE);
    if let Some((_, config)) = made.iter().find(|(known, _)| *known == certificate) {
        return Arc::clone(config);
    }
    let config = Arc::new(make(certificate));
    made.push((certificate, Arc::clone(&config)));
    config
}

fn make(certificate: Certificate) -> ServerConfig {
    let host = if certificate == Certificate::OtherHost { "robot.example" } else { "127.0.0.1" };
    let mut params = CertificateParams::new([host.to_string()]).expect("a name");
    (params.not_before, params.not_after) = match certificate {
        Certificate::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        Certificate::NotYetValid => (date_time_ymd(2400, 1, 1), date_time_ymd(2401, 1, 1)),
        _ => (date_time_ymd(2000, 1, 1), date_time_ymd(2400, 1, 1)),
    };
    if certificate == Certificate::OtherPurpose {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    }
    let key = KeyPair::generate().expect("ring makes one");
    let signed = match certificate {
        Certificate::SelfSigned => params.self_signed(&key),
        Certificate::UnknownIssuer => {
            let other = Authority::new("another CA");
            params.signed_by(&key, &other.certificate, &other.key)
        }
        _ => params.signed_by(&key, &AUTHORITY.certificate, &AUTHORITY.key),
    };
    let chain: Vec<CertificateDer<'static>> = vec![signed.expect("it is right").into()];
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("the key is the certificate's")
}
