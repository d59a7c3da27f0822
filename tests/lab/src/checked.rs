//! What a node's checks ask: a service in the test's own process, as well or as ill as it is told to be.
//!
//! Each has an address of its own (all of 127.0.0.0/8 is this machine's), so that nobody else listens there while it refuses
//! connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::node::free_address;

/// Between two bytes of a [`Answers::Trickle`].
const DRIP: Duration = Duration::from_millis(500);
/// No connection is kept for longer; every check has given up by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// Over HTTP, with this status; a 3xx leads to another path of the same service.
    Status(u16),
    /// The same with these in turn, and again from the first.
    InTurn(&'static [u16]),
    /// Connections are accepted, and nothing is ever said.
    Nothing,
    /// 200, but so slowly that the status line takes six seconds.
    Trickle,
    /// Nobody listens.
    Refused,
    /// Accepted, and closed at once.
    Closed,
}

/// A service that runs. Dropped, it is gone.
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// While connections are accepted.
    listening: Mutex<Option<Listening>>,
}

struct Shared {
    answers: Mutex<Answers>,
    /// How many were answered since.
    turn: AtomicUsize,
    connections: AtomicUsize,
    /// The first line of each.
    requests: Mutex<Vec<String>>,
}

struct Listening {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub fn start(answers: Answers) -> Service {
        let (turn, connections) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let requests = Mutex::default();
        let shared = Arc::new(Shared { answers: Mutex::new(answers), turn, connections, requests });
        let address = SocketAddr::new(free_address().ip(), 8000);
        let service = Service { address, shared, listening: Mutex::default() };
        service.set(answers);
        service
    }

    /// One that is well.
    pub fn well() -> Service {
        Service::start(Answers::Status(200))
    }

    /// How it answers from now on; what has begun to be answered goes on.
    pub fn set(&self, answers: Answers) {
        *lock(&self.shared.answers) = answers;
        self.shared.turn.store(0, Ordering::Relaxed);
        let mut listening = lock(&self.listening);
        if answers == Answers::Refused {
            self.close(&mut listening);
        } else if listening.is_none() {
            *listening = Some(self.listen());
        }
    }

    /// For a check: `http://…`.
    pub fn http(&self) -> String {
        format!("http://{}/health", self.address)
    }

    /// For a check: `tcp://…`.
    pub fn tcp(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The first line of each request so far.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    fn listen(&self) -> Listening {
        let listener = TcpListener::bind(self.address).expect("nobody else has this address");
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, is_over) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&shared);
                // A client that breaks off is none of this service's matter.
                thread::spawn(move || shared.serve(connection).ok());
            }
        });
        Listening { stop, thread }
    }

    fn close(&self, listening: &mut Option<Listening>) {
        let Some(Listening { stop, thread }) = listening.take() else { return };
        stop.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect(self.address);
        let _ = thread.join();
    }
}

impl Shared {
    fn serve(&self, mut connection: TcpStream) -> std::io::Result<()> {
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let answers = *lock(&self.answers);
        if matches!(answers, Answers::Closed | Answers::Refused) {
            return Ok(());
        }
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            if connection.read(&mut byte)? == 0 {
                return Ok(());
            }
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).map_err(|_| ErrorKind::InvalidData)?;
        lock(&self.requests).push(request.lines().next().unwrap_or_default().to_string());
        match answers {
            Answers::Status(status) => connection.write_all(answer(status).as_bytes())?,
            Answers::InTurn(all) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                connection.write_all(answer(all[turn % all.len()]).as_bytes())?;
            }
            Answers::Trickle => {
                for byte in answer(200).bytes() {
                    connection.write_all(&[byte])?;
                    thread::sleep(DRIP);
                }
            }
            Answers::Nothing | Answers::Closed | Answers::Refused => {}
        }
        if answers != Answers::Nothing {
            connection.shutdown(std::net::Shutdown::Write)?;
        }
        // Until the client goes.
        while connection.read(&mut [0; 4096])? > 0 {}
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.close(&mut lock(&self.listening));
    }
}

fn answer(status: u16) -> String {
    let location = if status / 100 == 3 { "Location: /elsewhere\r\n" } else { "" };
    let (length, body) =
        if status == 204 { (String::new(), "") } else { ("Content-Length: 5\r\n".into(), "hello") };
    format!("HTTP/1.1 {status} Status\r\n{location}{length}Connection: close\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// What is read within `limit` of a request, if the connection is made.
    fn ask(service: &Service, limit: Duration) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(service.address)?;
        let _ = connection.write_all(b"GET /health HTTP/1.1\r\n\r\n");
        let (end, mut text) = (Instant::now() + limit, Vec::new());
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            connection.set_read_timeout(Some(left))?;
            let mut chunk = [0; 64];
            match connection.read(&mut chunk) {
                Ok(length) if length > 0 => text.extend(&chunk[..length]),
                _ => return Ok(String::from_utf8(text).expect("ASCII")),
            }
        }
    }

    #[test]
    fn it_is_as_well_as_it_is_told() {
        let service = Service::well();
        for status in [200, 204, 301, 404, 500] {
            service.set(Answers::Status(status));
            let answer = ask(&service, crate::LIMIT).expect("it listens");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(answer.contains("\r\nLocation: "), status == 301);
        }
        service.set(Answers::InTurn(&[404, 200]));
        for status in ["404", "200", "404"] {
            assert!(ask(&service, crate::LIMIT).expect("it listens").contains(&format!(" {status} ")));
        }
        assert_eq!(service.requests(), ["GET /health HTTP/1.1"; 8]);
        let a_moment = Duration::from_millis(300);
        service.set(Answers::Nothing);
        assert_eq!(ask(&service, a_moment).expect("it listens"), "");
        service.set(Answers::Trickle);
        let answer = ask(&service, DRIP * 2).expect("it listens");
        assert!("HTTP/1.1 ".starts_with(&answer) && !answer.is_empty(), "{answer}");
        service.set(Answers::Closed);
        assert_eq!(ask(&service, crate::LIMIT).expect("it listens"), "");
        assert_eq!(service.requests().len(), 10);
        for _ in 0..3 {
            service.set(Answers::Refused);
            assert_eq!(
                ask(&service, a_moment).map_err(|error| error.kind()),
                Err(ErrorKind::ConnectionRefused)
            );
            service.set(Answers::Status(200));
            assert!(ask(&service, crate::LIMIT).expect("it listens again").ends_with("hello"));
        }
        assert_eq!(service.connections(), 14, "of those that were accepted");
    }
}
