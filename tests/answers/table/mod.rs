//! The table: what comes back, and what must come of it. The rows stand by theme in the modules.

mod bodies;
pub mod cloud;
mod connections;
mod heads;
mod sequences;
mod statuses;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::time::Duration;

use lab::raw::{Certificate, Play, Shake, Step};

pub use sequences::sequences;

/// One answer to a POST and to a GET alike, and what each is to make of it.
pub struct Row {
    /// Also the name of the row's Legion.
    pub name: &'static str,
    pub over: Over,
    pub play: Play,
    /// The failover IP is an IPv6 net.
    pub ipv6: bool,
    /// How the takeover's last line goes on, as Lord or not. HOST is the server's, TIME the time limit in seconds.
    pub post: Result<&'static str, &'static str>,
    pub get: Get,
    is_late: bool,
}

/// Where a GET finds the IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Get {
    Here,
    Elsewhere,
    Nowhere,
    /// With the start of the sentence.
    Unknown(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    Both,
    Http,
    Https,
}

/// Where redirects lead, and nothing may arrive.
pub static TRAP: LazyLock<(TcpListener, SocketAddr)> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
});

/// An answer that says that the IP is here.
fn right(name: &'static str, play: impl Into<Play>) -> Row {
    Row {
        name,
        over: Over::Both,
        play: play.into(),
        ipv6: false,
        post: Ok("HTTP 200, after "),
        get: Get::Here,
        is_late: false,
    }
}

/// One that says nothing clear; with the start of the sentence.
fn bad(name: &'static str, play: impl Into<Play>, line: &'static str) -> Row {
    Row { post: Err(line), get: Get::Unknown(line), ..right(name, play) }
}

fn certificate(name: &'static str, certificate: Certificate, line: &'static str) -> Row {
    bad(name, here(), line).https().shake(Shake::Tls(certificate))
}

impl Row {
    /// Whether the time limit ends it.
    pub fn is_late(&self) -> bool {
        self.is_late || self.post == Err(LATE) || matches!(self.play.steps[..], [Step::Hang])
    }

    fn late(self) -> Row {
        Row { is_late: true, ..self }
    }

    /// Only over http.
    fn http(self) -> Row {
        Row { over: Over::Http, ..self }
    }

    /// Only over https.
    fn https(self) -> Row {
        Row { over: Over::Https, ..self }
    }

    fn ipv6(self) -> Row {
        Row { ipv6: true, ..self }
    }

    fn shake(mut self, shake: Shake) -> Row {
        self.play.shake = shake;
        self
    }
}

/// Answers one after the other, the last one again and again; a takeover asks as many as it needs.
pub struct Sequence {
    /// Its first answer, and how it ends.
    pub row: Row,
    pub then: Vec<Play>,
    /// The first letters of all requests.
    pub asked: &'static str,
}

/// A whole answer, with the right Content-Length.
fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    [format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// A 200 with these bytes as JSON.
fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// As documented, with `active_server_ip` as given.
fn object(active_server_ip: &str) -> String {
    format!(
        r#"{{"failover":{{"ip":"4.4.4.4","netmask":"255.255.255.255","server_ip":"2.2.2.2","server_ipv6_net":"2a01:4f8:111:4221::","server_number":321,"active_server_ip":{active_server_ip}}}}}"#
    )
}

/// The same of the IPv6 net.
pub fn active6(value: &str) -> Vec<u8> {
    ok(object(value).replace("4.4.4.4", "2a01:4f8:fff1::"))
}

/// What is right, in every respect.
fn here() -> Vec<u8> {
    active(r#""1.1.1.1""#)
}

/// The right JSON, for what is wrong around it.
fn body() -> String {
    object(r#""1.1.1.1""#)
}

/// The right JSON with spaces after it, so long in all.
fn padded(length: usize) -> String {
    body() + &" ".repeat(length - body().len())
}

/// A right answer that names this as `active_server_ip`.
pub fn active(value: &str) -> Vec<u8> {
    ok(object(value))
}

/// The API's error, as documented.
fn error(status: u16, code: &str, more: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":{{"status":{status},"code":"{code}","message":"a message"{more}}}}}"#);
    answer(&format!("{status} X"), "Content-Type: application/json\r\n", body)
}

/// What ends every takeover for good, whether it is asked to move the IP or where it is.
pub fn the_end() -> Play {
    error(404, "NOT_FOUND", "").into()
}

fn html(status: &str) -> Vec<u8> {
    answer(status, "Content-Type: text/html\r\n", "<html><h1>Sorry</h1></html>")
}

/// A head as given, and the right JSON.
fn head(head: &str) -> Vec<u8> {
    format!("{}\r\n\r\n{}", head.replace("LENGTH", &body().len().to_string()), body()).into()
}

/// The right JSON in these chunks, each as long as it says, and whatever ends them.
fn chunked(sizes: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let text = body();
    let (first, second) = text.split_at(100);
    let chunks = [first, second].map(|chunk| format!("{}\r\n{chunk}\r\n", sizes(chunk.len())));
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{end}", chunks.concat()).into()
}

fn redirect(status: &str, to: &str) -> Vec<u8> {
    let location = format!("Location: {}\r\n", to.replace("TRAP", &TRAP.1.to_string()));
    answer(status, &location, "")
}

/// A TLS record of this type.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short one").to_be_bytes();
    [&[kind, 3, 3][..], &length, payload].concat()
}

/// A fatal TLS alert.
fn alert(description: u8) -> Vec<u8> {
    record(21, &[2, description])
}

/// A ServerHello of `version` with a cipher of its time.
fn server_hello(version: u8) -> Vec<u8> {
    let hello = [&[2, 0, 0, 38, 3, version][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let mut record = record(22, &hello);
    record[2] = version;
    record
}

const NO_OBJECT: &str = "HTTP 200 with other JSON (";
const BROKEN_JSON: &str = "HTTP 200 with truncated or broken JSON (";
const NO_JSON: &str = "HTTP 200 with text that is not JSON (";
const NO_HTTP: &str = "HOST: the answer is not HTTP";
const BROKEN: &str = "HOST: connection broken before the answer was complete";
const NOTHING_SENT: &str = "HOST: connection broken before anything was sent";
const STALLED: &str = "HOST: body data reading stalled";
const LATE: &str = "HOST: no complete answer within TIME s";
const LONG: &str = "HOST: the answer is longer than 65536 bytes";
const ENDLESS_HEADER: &str = "HOST: the answer's headers exceed 8 KiB";
const OLD_TLS: &str = "TLS with HOST failed: peer is incompatible: ";
const NO_TLS: &str = "TLS with HOST failed: the server does not speak TLS on this port: check url";

pub fn rows() -> Vec<Row> {
    let themes = [
        statuses::errors(),
        statuses::statuses(),
        bodies::objects(),
        bodies::bodies(),
        heads::framings(),
        heads::heads(),
        connections::sockets(),
        connections::handshakes(),
    ];
    themes.into_iter().flatten().collect()
}
