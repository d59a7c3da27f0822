//! A look at a service, as a health check takes it, or a service of this host's own link: no login, no proxy, no redirect, no TLS, and a connection of its own.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout};
use ureq::{Agent, Timeout};

use super::connect::{Connect, Note, Way, in_time, share};
use super::{Cause, Error, LONGEST_BODY, LONGEST_HEADER};

/// Looks at one service again and again.
pub struct Probe {
    way: Arc<Way>,
    names: Names,
}

impl Probe {
    /// `address` is `HOST:PORT`, an IPv6 address in brackets.
    pub fn of(address: &str) -> Probe {
        let way = Arc::<Way>::default();
        let names = Names { way: Arc::clone(&way), address: address.into(), looks: Arc::default() };
        Probe { way, names }
    }

    /// Of the host and port of an `http` URL.
    pub fn of_url(url: &Uri) -> Probe {
        let named = url.scheme().zip(url.authority());
        let address = named.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        Probe::of(&address.unwrap_or_default())
    }

    /// Connects, and closes the connection again.
    pub fn connect(&self, limit: Duration) -> Result<(), String> {
        self.way.begin(limit);
        self.try_each(limit).map_err(|error| self.in_words(&error))
    }

    fn try_each(&self, limit: Duration) -> Result<(), ureq::Error> {
        let addresses = self.names.find(limit)?;
        let mut failed = ureq::Error::HostNotFound;
        for (position, address) in addresses.iter().enumerate() {
            let left = limit.saturating_sub(self.way.elapsed());
            let limit =
                share(left, addresses.len() - position).ok_or(ureq::Error::Timeout(Timeout::Connect))?;
            match TcpStream::connect_timeout(address, limit) {
                // On this host, where nobody listens, a connection can be given the same port, and so lead to itself.
                Ok(stream) if stream.local_addr().ok() == Some(*address) => {
                    failed = io::Error::from(io::ErrorKind::ConnectionRefused).into();
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    failed = ureq::Error::Timeout(Timeout::Connect);
                }
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }

    /// Asks for a URL. Returns the status of a complete answer; of the error, whether there was an answer at all.
    pub fn get(&self, url: &Uri, limit: Duration) -> Result<u16, (String, bool)> {
        self.way.begin(limit);
        self.ask(url, limit, &mut io::sink()).map_err(|error| {
            let is_answer = matches!(error, ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..));
            (self.in_words(&error), is_answer)
        })
    }

    /// The body of a 200, or why there is none.
    pub fn read(&self, url: &Uri, limit: Duration) -> Result<Vec<u8>, String> {
        self.way.begin(limit);
        let mut body = Vec::new();
        match self.ask(url, limit, &mut body).map_err(|error| self.in_words(&error))? {
            200 => Ok(body),
            status => Err(format!("HTTP {status}")),
        }
    }

    fn ask(&self, url: &Uri, limit: Duration, into: &mut impl io::Write) -> Result<u16, ureq::Error> {
        let config = Agent::config_builder()
            .proxy(None)
            .user_agent("uwsgi-hetzner")
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(LONGEST_HEADER)
            .timeout_global(Some(limit))
            .max_idle_age(Duration::ZERO)
            .build();
        let connector =
            Connect(Arc::clone(&self.way)).chain(Note { way: Arc::clone(&self.way), url: url.clone() });
        let agent = Agent::with_parts(config, connector, self.names.clone());
        let mut response = agent.get(url).header("Connection", "close").call()?;
        let status = response.status().as_u16();
        // A service that hangs after the first line of its answer does not serve. What is longer is not read to its end.
        io::copy(&mut response.body_mut().as_reader().take(LONGEST_BODY), into)?;
        Ok(status)
    }

    fn in_words(&self, error: &ureq::Error) -> String {
        match Error::of(error, &self.way, "").cause {
            Cause::Other(words) | Cause::Setup(words) | Cause::Tls(words) => words,
            Cause::Certificate(_) => "TLS failed".into(),
        }
    }
}

/// Finds the addresses of one host, with no more than one lookup at a time: one that hangs may do so for minutes.
#[derive(Clone, Debug)]
struct Names {
    way: Arc<Way>,
    address: String,
    /// Whether a lookup is under way.
    looks: Arc<AtomicBool>,
}

/// Says that no lookup is under way any more, however it has ended.
struct Looks(Arc<AtomicBool>);

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Names {
    fn find(&self, limit: Duration) -> Result<Vec<SocketAddr>, ureq::Error> {
        // No thread for an address, which is what most checks have.
        if let Ok(address) = self.address.parse::<SocketAddr>() {
            return Ok(vec![address]);
        }
        if self.looks.swap(true, Ordering::Acquire) {
            return Err(ureq::Error::Timeout(Timeout::Resolve));
        }
        let (address, looks) = (self.address.clone(), Looks(Arc::clone(&self.looks)));
        let found = in_time(limit, move || {
            let _looks = looks;
            address.to_socket_addrs()
        })?;
        Ok(self.way.sort(found))
    }
}

impl Resolver for Names {
    fn resolve(&self, _: &Uri, _: &Config, limit: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut result = self.empty();
        // It has room for 16.
        self.find(*limit.after)?.into_iter().take(16).for_each(|address| result.push(address));
        if result.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(result) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Serves one connection with `answer`, and returns what it was sent. `None` closes it only at the end of the test.
    fn server(answer: Option<&'static str>) -> (SocketAddr, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((tell, told), (end, ended)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            request.truncate(length);
            let _ = stream
                .write_all(answer.unwrap_or("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").as_bytes());
            tell.send(String::from_utf8(request).unwrap()).unwrap();
            if answer.is_none() {
                let _ = ended.recv();
            }
        });
        (address, told, end)
    }

    fn get(url: &str, limit: Duration) -> Result<u16, (String, bool)> {
        let url = url.parse().unwrap();
        Probe::of_url(&url).get(&url, limit)
    }

    #[test]
    fn an_answer_is_its_status_and_a_redirect_is_not_followed() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(200)),
            ("HTTP/1.0 204 No Content\r\n\r\n", Ok(204)),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ok(302)),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Ok(404)),
            ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Ok(503)),
            ("SSH-2.0-OpenSSH_9.2\r\n", Err(true)),
            ("", Err(false)),
        ] {
            let (address, told, _end) = server(Some(answer));
            let got = get(&format!("http://{address}/health?a=b"), LIMIT);
            assert_eq!(
                got.as_ref().map_err(|(_, is_answer)| *is_answer),
                expected.as_ref().map_err(|is| *is),
                "{answer}: {got:?}"
            );
            let request = told.recv().unwrap().to_lowercase();
            assert!(request.starts_with("get /health?a=b http/1.1\r\n"), "{request}");
            for line in ["user-agent: uwsgi-hetzner", "connection: close", &format!("host: {address}")] {
                assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
            }
            assert!(!request.contains("authorization"), "{request}");
        }
    }

    #[test]
    fn the_body_of_a_200_can_be_read() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42", Ok("42")),
            ("HTTP/1.0 200 OK\r\n\r\n42", Ok("42")),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n42", Err("HTTP 404")),
        ] {
            let (address, told, _end) = server(Some(answer));
            let url = format!("http://{address}/").parse().unwrap();
            let body = Probe::of_url(&url).read(&url, LIMIT).map(|body| String::from_utf8(body).unwrap());
            assert_eq!(body, expected.map(String::from).map_err(String::from), "{answer}");
            told.recv().unwrap();
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_none() {
        let (address, told, _end) = server(None);
        let got = get(&format!("http://{address}/"), Duration::from_millis(300));
        assert_eq!(got, Err(("no complete answer within 0.3 s".into(), false)));
        told.recv().unwrap();
    }

    #[test]
    fn who_refuses_gives_no_answer() {
        // An address that no other test listens on, once it is free again.
        let listener = TcpListener::bind("127.83.7.9:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(Probe::of(&address.to_string()).connect(LIMIT), Ok(()));
        drop(listener);
        let refused = "connection refused".to_string();
        assert_eq!(Probe::of(&address.to_string()).connect(LIMIT), Err(refused.clone()));
        assert_eq!(get(&format!("http://{address}/"), LIMIT), Err((refused, false)));
    }

    #[test]
    fn a_lookup_that_hangs_is_the_only_one() {
        let probe = Probe::of("localhost:1");
        probe.names.looks.store(true, Ordering::Relaxed);
        let why = probe.connect(LIMIT).unwrap_err();
        assert!(why.starts_with("no answer from name resolution (DNS) within"), "{why}");
        probe.names.looks.store(false, Ordering::Relaxed);
        for _ in 0..3 {
            // Whatever the name leads to: the lookup was made, and is over.
            let _ = probe.connect(LIMIT);
            assert!(!probe.names.looks.load(Ordering::Relaxed));
        }
    }
}
