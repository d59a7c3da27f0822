//! A GET without TLS, proxy, name resolution or thread: for what answers on this host's own link, also before uWSGI has
//! forked.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ureq::http::Uri;

use super::authority;
use crate::config::host_of;

/// Longer than any answer that is expected here, with its headers.
const LONGEST: usize = 4096;

/// The body of a 200 to a GET of `url`, whose host is an address; or why there is none, within `limit`.
pub fn get(url: &Uri, limit: Duration) -> Result<Vec<u8>, String> {
    let address = host_of(url).parse::<IpAddr>().map_err(|_| "its host is not an address")?;
    let address = SocketAddr::new(address, url.port_u16().unwrap_or(80));
    let answer = exchange(url, address, Instant::now() + limit).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s", limit.as_secs())
        }
        _ => error.to_string(),
    })?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
    match status {
        b"200" => Ok(answer[end + 4..].to_vec()),
        _ => Err(format!("HTTP {}", String::from_utf8_lossy(status).escape_default())),
    }
}

fn exchange(url: &Uri, address: SocketAddr, end: Instant) -> io::Result<Vec<u8>> {
    let left = || Some(end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut stream = TcpStream::connect_timeout(&address, left().unwrap_or_default())?;
    stream.set_write_timeout(left())?;
    // HTTP/1.0, so that the end of the answer is the end of the connection.
    let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", url.path(), authority(url));
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    while answer.len() < LONGEST {
        if Instant::now() >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left())?;
        match stream.read(&mut part)? {
            0 => break,
            length => answer.extend(&part[..length]),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is read when this is answered, and the request.
    fn answered(answer: &'static [u8]) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a/path", listener.local_addr().unwrap()).parse().unwrap();
        let host = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut part) = (Vec::new(), [0; 200]);
            while !request.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut part).unwrap();
                request.extend(&part[..length]);
            }
            stream.write_all(answer).unwrap();
            String::from_utf8(request).unwrap()
        });
        let body = get(&url, Duration::from_secs(60));
        (body.map(|body| String::from_utf8(body).unwrap()), host.join().unwrap())
    }

    #[test]
    fn a_200_is_its_body() {
        let (body, request) = answered(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n42");
        assert_eq!(body.as_deref(), Ok("42"));
        assert!(request.starts_with("GET /a/path HTTP/1.0\r\nHost: 127.0.0.1:"), "{request}");
        assert_eq!(answered(b"HTTP/1.0 404 Not Found\r\n\r\n42").0, Err("HTTP 404".into()));
        assert_eq!(answered(b"42").0, Err("the answer is not HTTP".into()));
        assert_eq!(answered(b"").0, Err("the answer is not HTTP".into()));
    }

    #[test]
    fn what_does_not_answer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        assert_eq!(get(&url, Duration::from_millis(1)), Err("no answer within 0 s".into()));
        assert!(get(&Uri::from_static("http://localhost/"), Duration::from_secs(1)).is_err());
    }
}
