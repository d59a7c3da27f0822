//! A service of which it is known at each moment whether it can be reached: a page that a node's uWSGI itself serves from
//! a file, without a language or an app, and a client that asks for it five times a second wherever the failover IP
//! leads.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::wait_until;

/// Each node has an address of its own, so all may have the same port.
const PORT: u16 = 8000;
/// How often the client asks.
pub const TICK: Duration = Duration::from_millis(200);
/// A visitor waits so long. An app that loads is waited for: its connections stand in the queue of the socket, which
/// uWSGI keeps during a reload.
const PATIENCE: Duration = Duration::from_secs(15);
/// An answer that takes longer is a late one.
const LATE: Duration = Duration::from_secs(1);

/// A page at a node's own address.
pub struct Page {
    pub address: SocketAddr,
    folder: PathBuf,
}

impl Page {
    /// Served at `address` from what is in `folder`, which is the node's; its app loads at once.
    pub fn new(address: IpAddr, folder: &Path) -> Page {
        // uWSGI serves no file that a link leads out of the folder to.
        let folder = folder.canonicalize().expect("the node's folder is there");
        fs::create_dir_all(folder.join("pages")).expect("a writable folder");
        let page = Page { address: (address, PORT).into(), folder };
        page.serve();
        page.load_for(Duration::ZERO);
        page
    }

    /// The lines of the node's ini. All of it is in uWSGI's core, on Debian's and on PyPI's.
    pub fn ini(&self) -> String {
        let (address, folder) = (self.address, self.folder.display());
        format!(
            "http-socket = {address}\ncheck-static = {folder}/pages\n\
             route-if-not = exists:{folder}/pages/page break:404 Not Found\n"
        )
    }

    /// The line for the app, which serves nothing; it only has to be loaded.
    pub fn app(&self) -> String {
        format!("exec-pre-app = sh {}/load\n", self.folder.display())
    }

    pub fn url(&self) -> String {
        format!("http://{}/page", self.address)
    }

    /// From now on it is answered with 200.
    pub fn serve(&self) {
        fs::write(self.folder.join("pages/page"), "here\n").expect("a writable folder");
    }

    /// From now on it is answered with 404.
    pub fn remove(&self) {
        // That it was not there is as well.
        let _ = fs::remove_file(self.folder.join("pages/page"));
    }

    /// How long the node's app takes to load, from its next start or reload on.
    pub fn load_for(&self, time: Duration) {
        let script = format!("exec sleep {}\n", time.as_secs_f64());
        fs::write(self.folder.join("load"), script).expect("a writable folder");
    }
}

/// What became of a visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visit {
    Served,
    /// Served, but only after a second or more.
    Late,
    /// The IP leads nowhere, as while it is switched.
    Nowhere,
    /// The IP leads to a node that does not serve.
    Unserved,
}

/// Visits, with when each began; `None` until it is known how it ended.
type Visits = Arc<Mutex<Vec<(Instant, Option<Visit>)>>>;

/// Asks for a page until it is dropped.
pub struct Client {
    stop: Arc<AtomicBool>,
    visits: Visits,
    thread: Option<JoinHandle<()>>,
}

/// How long visits ended in what way, in seconds.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Seconds {
    pub late: f64,
    pub nowhere: f64,
    pub unserved: f64,
}

impl Client {
    /// Of the page at the address that the IP leads to just then.
    pub fn start(leads_to: impl Fn() -> Option<SocketAddr> + Send + Sync + 'static) -> Client {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Visits::default());
        let thread = thread::spawn({
            let (stop, visits, leads_to) = (Arc::clone(&stop), Arc::clone(&visits), Arc::new(leads_to));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // None waits for another: a visitor who stands in the queue keeps nobody from coming.
                    let (visits, leads_to, began) =
                        (Arc::clone(&visits), Arc::clone(&leads_to), Instant::now());
                    let number = locked(&visits).len();
                    locked(&visits).push((began, None));
                    thread::spawn(move || {
                        let visit = visit(&*leads_to, began);
                        locked(&visits)[number].1 = Some(visit);
                    });
                    thread::sleep(TICK.saturating_sub(began.elapsed()));
                }
            }
        });
        Client { stop, visits, thread: Some(thread) }
    }

    /// What the visits of this time came to, when it is known of each.
    pub fn between(&self, from: Instant, until: Instant) -> Seconds {
        let in_it = |(began, _): &(Instant, Option<Visit>)| *began >= from && *began < until;
        let known = || locked(&self.visits).iter().filter(|visit| in_it(visit)).all(|(_, how)| how.is_some());
        // On a busy machine some may take longer than their patience.
        wait_until(PATIENCE * 4, known);
        seconds(&locked(&self.visits), from, until)
    }

    /// The times up to now in which visits were in vain, from the first to the last of each.
    pub fn dark(&self) -> Vec<(Instant, Instant)> {
        dark(&locked(&self.visits))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each visit stands for the time until the next one.
fn seconds(visits: &[(Instant, Option<Visit>)], from: Instant, until: Instant) -> Seconds {
    let mut seconds = Seconds::default();
    for (number, (began, how)) in visits.iter().enumerate() {
        if !(from..until).contains(began) {
            continue;
        }
        let next = visits.get(number + 1).map_or(*began + TICK, |(next, _)| *next).min(until);
        let time = (next - *began).as_secs_f64();
        match how {
            Some(Visit::Served) => {}
            Some(Visit::Late) => seconds.late += time,
            Some(Visit::Nowhere) => seconds.nowhere += time,
            Some(Visit::Unserved) | None => seconds.unserved += time,
        }
    }
    seconds
}

fn dark(visits: &[(Instant, Option<Visit>)]) -> Vec<(Instant, Instant)> {
    let mut times: Vec<(Instant, Instant)> = Vec::new();
    for (number, (began, how)) in visits.iter().enumerate() {
        if !matches!(how, Some(Visit::Nowhere | Visit::Unserved)) {
            continue;
        }
        let next = visits.get(number + 1).map_or(*began + TICK, |(next, _)| *next);
        match times.last_mut() {
            Some(last) if last.1 == *began => last.1 = next,
            _ => times.push((*began, next)),
        }
    }
    times
}

fn visit(leads_to: &(dyn Fn() -> Option<SocketAddr> + Send + Sync), began: Instant) -> Visit {
    let Some(address) = leads_to() else { return Visit::Nowhere };
    let is_served = ask(address, began).unwrap_or(false);
    // Its packets would no longer come to the node that answers.
    match leads_to() {
        Some(now) if now == address && is_served && began.elapsed() > LATE => Visit::Late,
        Some(now) if now == address && is_served => Visit::Served,
        Some(now) if now == address => Visit::Unserved,
        _ => Visit::Nowhere,
    }
}

/// Whether the page comes.
fn ask(address: SocketAddr, began: Instant) -> io::Result<bool> {
    let left = || PATIENCE.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(format!("GET /page HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut part)? {
            0 => break,
            length => answer.extend(&part[..length]),
        }
    }
    Ok(answer.starts_with(b"HTTP/1.") && answer[8..].starts_with(b" 200 ") && answer.ends_with(b"here\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, free_address};
    use crate::uwsgi::Uwsgi;
    use crate::{LIMIT, wait_until};

    #[test]
    fn a_visit_stands_for_the_time_until_the_next_one() {
        let began = Instant::now();
        let at = |tenths: u64| began + Duration::from_millis(100 * tenths);
        let visits = [
            (at(0), Some(Visit::Unserved)),
            (at(2), Some(Visit::Served)),
            (at(4), Some(Visit::Late)),
            (at(9), Some(Visit::Nowhere)),
            (at(11), None),
        ];
        let of = |from, until| {
            let Seconds { late, nowhere, unserved } = seconds(&visits, at(from), at(until));
            [late, nowhere, unserved].map(|time| (time * 10.0).round() as u32)
        };
        assert_eq!(of(0, 20), [5, 2, 4]);
        assert_eq!(of(2, 10), [5, 1, 0]);
        assert_eq!(of(3, 4), [0, 0, 0]);
        assert_eq!(dark(&visits), [(at(0), at(2)), (at(9), at(11))]);
    }

    #[test]
    fn the_page_is_there_and_is_not_and_the_ip_leads_away() {
        for uwsgi in Uwsgi::ALL {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let page = Page::new(free_address().ip(), folder.path());
            let node = Node::start(uwsgi, folder.path(), &(page.ini() + &page.app()), &[]);
            let (address, switching) = (page.address, Arc::new(AtomicBool::new(false)));
            let client = Client::start({
                let switching = Arc::clone(&switching);
                move || Some(address).filter(|_| !switching.load(Ordering::Relaxed))
            });
            let sees = |what: Visit| {
                let from = Instant::now();
                let seen = || locked(&client.visits).iter().any(|it| it.0 > from && it.1 == Some(what));
                assert!(wait_until(LIMIT, seen), "{uwsgi}: not {what:?}:\n{}", node.log());
            };
            sees(Visit::Served);
            page.remove();
            sees(Visit::Unserved);
            page.serve();
            sees(Visit::Served);
            switching.store(true, Ordering::Relaxed);
            sees(Visit::Nowhere);
            switching.store(false, Ordering::Relaxed);
            // Who comes while the app loads is served when it has.
            page.load_for(Duration::from_secs(2));
            node.signal(crate::process::SIGHUP);
            sees(Visit::Late);
            sees(Visit::Served);
        }
    }
}
