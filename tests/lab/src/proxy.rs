//! A CONNECT proxy on loopback that leads every tunnel to one place, whatever host is asked for.
//!
//! With it the seed's configuration runs as it stands: the plugin asks for Hetzner's own host, verifies a
//! certificate for that name, and speaks to the stand-in.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy; its threads end with the process, or when their tunnel is closed.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy whose tunnels all lead to `to`.
    pub fn start(to: SocketAddr) -> Proxy {
        assert!(to.ip().is_loopback());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = seen.clone();
                thread::spawn(move || tunnel(client, to, &seen));
            }
        });
        Proxy { address, asked }
    }

    /// For `https_proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The targets of the tunnels so far, `HOST:PORT` each.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

fn tunnel(client: TcpStream, to: SocketAddr, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.strip_prefix("CONNECT ")?.split(' ').next()?;
    asked.lock().expect("nobody panics with it").push(target.to_string());
    // The head ends with an empty line. The client waits for the answer, so nothing is read beyond it.
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    join(client, TcpStream::connect(to).ok()?)
}

/// Passes on what each says to the other, until both have said all.
pub fn join(mut client: TcpStream, mut server: TcpStream) -> Option<()> {
    let (mut from_server, mut to_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let back = thread::spawn(move || {
        let _ = copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let _ = copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    back.join().ok()
}
