//! The server: one thread, one current-thread runtime, connections accepted by hand.
//!
//! By hand, because the faults are about connections: the listener goes away and comes back on the same
//! port, sockets are reset, answers never come. A request is worked off in a task of its own, so that a
//! switch once begun is completed when the client has long gone, as Hetzner does it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::fault::{Fault, Faults, Rule};
use super::journal::{Event, Journal, Watcher};
use super::wire::{Control, Payload, Wire};
use super::{Api, Called, Dialect, ServerOf, Step};

/// More than any test opens; a client gone wild gets no further.
const MOST_CONNECTIONS: usize = 512;
/// Longer than the longest switch and the longest wait of a client.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// For the handshake, and for each head and body.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// What names one server takes less than a hundred bytes.
const LARGEST_BODY: usize = 64 << 10;
/// A refusal without an end; nobody waits for a year.
const UNTIL_CLEARED: Duration = Duration::from_secs(365 * 24 * 3600);

/// All that can change, under one lock that is never held across an await.
pub(super) struct World<A: Api> {
    pub account: A,
    pub journal: Journal<ServerOf<A>>,
    pub faults: Faults<A::Dialect>,
    refused_until: Option<Instant>,
    /// Counts the changes of `refused_until`.
    refusals: u64,
}

/// Whether there is a listener, as of a number of `World::refusals`.
#[derive(Clone, Copy)]
struct Gate {
    open: bool,
    refusals: u64,
}

/// What the handle and the server thread share.
pub(super) struct Shared<A: Api> {
    world: Mutex<World<A>>,
    /// Something in the world, or the gate, is different.
    changed: Condvar,
    gate: watch::Sender<Gate>,
    /// For the accept loop: look at `refused_until` again.
    knock: Notify,
    stop: Notify,
    watcher: Watcher<ServerOf<A>>,
}

impl<A: Api> Shared<A> {
    pub fn new(account: A, watcher: Watcher<ServerOf<A>>) -> Shared<A> {
        Shared {
            world: Mutex::new(World {
                account,
                journal: Journal::new(watcher.clone()),
                faults: Faults::default(),
                refused_until: None,
                refusals: 0,
            }),
            changed: Condvar::new(),
            gate: watch::Sender::new(Gate { open: true, refusals: 0 }),
            knock: Notify::new(),
            stop: Notify::new(),
            watcher,
        }
    }

    /// A look at the world, or a change of it that nobody can be waiting for.
    pub fn world(&self) -> MutexGuard<'_, World<A>> {
        // A panic under the lock is an assertion of a test; it shall not take the stand-in along.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change that those in `wait` hear of.
    pub fn change<T>(&self, change: impl FnOnce(&mut World<A>) -> T) -> T {
        let result = change(&mut self.world());
        self.changed.notify_all();
        result
    }

    pub fn wait(&self, time: Duration, mut what: impl FnMut(&World<A>) -> bool) -> bool {
        let waiting = self.changed.wait_timeout_while(self.world(), time, |world| !what(world));
        !waiting.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Connections are refused from now on. Answers a number for the two functions that follow.
    fn refuse(&self, time: Option<Duration>) -> u64 {
        self.set_refusal(Some(Instant::now() + time.unwrap_or(UNTIL_CLEARED)))
    }

    fn set_refusal(&self, until: Option<Instant>) -> u64 {
        let mut world = self.world();
        world.refused_until = until;
        world.refusals += 1;
        self.knock.notify_one();
        world.refusals
    }

    fn wait_for_gate(&self, number: u64) {
        let applied = self.wait(Duration::from_secs(10), |_| self.gate.borrow().refusals >= number);
        assert!(applied, "the listener could not be closed or opened again");
    }

    /// Adds a rule. One that takes effect without a request has done so on return.
    pub fn add_fault(&self, rule: Rule<A::Dialect>) {
        match rule.refuses_at_once() {
            Some(time) => self.wait_for_gate(self.refuse(time)),
            None => self.world().faults.add(rule),
        }
    }

    /// On return there are no rules, and connections are accepted.
    pub fn clear_faults(&self) {
        self.change(|world| {
            world.faults.clear();
            world.account.calm();
        });
        self.wait_for_gate(self.set_refusal(None));
    }

    pub fn stop(&self) {
        self.stop.notify_one();
    }

    fn set_gate(&self, gate: Gate) {
        self.gate.send_replace(gate);
        self.change(|_| ());
    }
}

/// Runs the server until it is told to stop. The address, or why there is none, goes to `bound`.
pub(super) fn run<A: Api>(
    shared: &Arc<Shared<A>>,
    listen: SocketAddr,
    tls: Option<TlsAcceptor>,
    bound: &SyncSender<io::Result<SocketAddr>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(bound.send(Err(error))),
    };
    runtime.block_on(async {
        match Port::reserve(listen).and_then(|port| Ok((port.listen()?, port))) {
            Ok((listener, port)) => {
                let _ = bound.send(Ok(port.addr));
                tokio::select! {
                    () = shared.stop.notified() => {}
                    () = accept(shared, listener, &port, tls) => {}
                }
            }
            Err(error) => drop(bound.send(Err(error))),
        }
    });
    // Dropping the runtime drops all tasks, and with them all sockets; none of them ever blocks.
}

/// A port that stays ours while nothing listens on it: a socket that is bound, and never listens.
/// Without it the kernel may give the port to anybody's outgoing connection while we refuse ours.
struct Port {
    addr: SocketAddr,
    _reservation: TcpSocket,
}

impl Port {
    fn reserve(addr: SocketAddr) -> io::Result<Port> {
        let reservation = bind(addr)?;
        Ok(Port { addr: reservation.local_addr()?, _reservation: reservation })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        bind(self.addr)?.listen(1024)
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn accept<A: Api>(
    shared: &Arc<Shared<A>>,
    listener: TcpListener,
    port: &Port,
    tls: Option<TlsAcceptor>,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut listener = Some(listener);
    loop {
        let (refused_until, refusals) = {
            let world = shared.world();
            (world.refused_until.filter(|until| Instant::now() < *until), world.refusals)
        };
        if let Some(until) = refused_until {
            listener = None;
            shared.set_gate(Gate { open: false, refusals });
            tokio::select! {
                () = sleep_until(until.into()) => {}
                () = shared.knock.notified() => {}
            }
            continue;
        }
        let Some(listening) = listener.take().or_else(|| port.listen().ok()) else {
            // Somebody else has taken the port with SO_REUSEADDR, or there are no file descriptors left.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        shared.set_gate(Gate { open: true, refusals });
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("never closed");
            (listening.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = next => match accepted {
                Ok((stream, peer)) => {
                    let connection = connection(Arc::clone(shared), stream, peer.ip(), tls.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                // Of the connection, or for want of file descriptors: then it would come at once again.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            () = shared.knock.notified() => {}
        }
        listener = Some(listening);
    }
}

async fn connection<A: Api>(
    shared: Arc<Shared<A>>,
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<TlsAcceptor>,
) {
    // Otherwise a small answer in two writes waits for the peer's delayed ACK.
    let _ = stream.set_nodelay(true);
    let control = Control::default();
    let wire = Wire::new(stream, control.clone());
    let Some(tls) = tls else {
        return serve(shared, wire, peer, control).await;
    };
    match timeout(READ_TIMEOUT, tls.accept(wire)).await {
        Ok(Ok(wire)) => serve(shared, wire, peer, control).await,
        Ok(Err(error)) => shared.watcher.tell(Event::Handshake(error.to_string())),
        Err(_) => shared.watcher.tell(Event::Handshake("timed out".to_owned())),
    }
}

async fn serve<A: Api, T>(shared: Arc<Shared<A>>, wire: T, peer: IpAddr, control: Control)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| respond(&shared, &control, peer, request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .serve_connection(TokioIo::new(wire), service)
    );
    let mut gate = shared.gate.subscribe();
    let mut lifetime = pin!(sleep(CONNECTION_LIFETIME));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = lifetime.as_mut() => return,
        // A client that kept its connection would not notice that it is refused.
        () = async { drop(gate.wait_for(|gate| !gate.open).await) } => {
            // Closes it if it is idle; otherwise what is left is the answer under way.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = lifetime.as_mut() => return,
            }
        }
    };
    let Err(error) = result else { return };
    let (request, broken_by_us) = {
        let control = control.lock();
        (control.request, control.broken_by_us)
    };
    if let Some(number) = request.filter(|_| !broken_by_us) {
        shared.change(|world| world.journal.peer_closed(number, peer_broke_writing(&error)));
    }
}

/// Not every error is about an answer: a TLS client that is done may leave without close_notify.
fn peer_broke_writing(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let broken = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    error.is_incomplete_message() || cause.is_some_and(|cause| broken.contains(&cause.kind()))
}

/// How a request ends.
enum Outcome {
    Answer(Answer, Manner),
    Close,
    Reset,
    Hang,
}

/// How an answer is sent.
enum Manner {
    Whole,
    Trickle(Duration),
    CutHalf,
    Padded(u64),
}

/// Makes hyper drop the connection.
type NoAnswer = io::Error;

async fn respond<A: Api>(
    shared: &Arc<Shared<A>>,
    control: &Control,
    peer: IpAddr,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Payload>, NoAnswer> {
    let (head, body) = request.into_parts();
    let body = timeout(READ_TIMEOUT, Limited::new(body, LARGEST_BODY).collect()).await;
    // A body that is too large, too slow or broken off is judged as if it were empty.
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();

    let now = Instant::now();
    let (call, number, fault) = shared.change(|world| {
        let call = world.account.read(&head, &body, peer);
        let fault = world.faults.meet(&call, now);
        let authorised = world.account.authorises(&call);
        let number = world.journal.add(&call, authorised, fault.as_ref().map(Fault::to_string), now);
        (call, number, fault)
    });
    control.lock().request = Some(number);

    let task = tokio::spawn(carry_out(Arc::clone(shared), call, fault));
    let outcome = task.await.map_err(io::Error::other)?;
    if let Outcome::Hang = outcome {
        shared.change(|world| world.journal.left_hanging(number));
        return std::future::pending().await;
    }
    let answer = match &outcome {
        Outcome::Answer(answer, _) => Some((answer.status, answer.code.clone())),
        _ => None,
    };
    {
        let mut control = control.lock();
        match &outcome {
            Outcome::Answer(_, Manner::Whole | Manner::Padded(_)) => {}
            Outcome::Answer(_, Manner::Trickle(interval)) => control.trickle = Some(*interval),
            Outcome::Answer(_, Manner::CutHalf) | Outcome::Close | Outcome::Hang => {
                control.broken_by_us = true
            }
            Outcome::Reset => (control.reset, control.broken_by_us) = (true, true),
        }
    }
    // Before the answer is sent: who has read it finds it in the journal.
    shared.change(|world| world.journal.complete(number, answer));
    match outcome {
        Outcome::Answer(answer, manner) => response(answer, &manner).map_err(io::Error::other),
        Outcome::Close | Outcome::Reset | Outcome::Hang => Err(io::Error::other("no answer, on purpose")),
    }
}

fn response(answer: Answer, manner: &Manner) -> hyper::http::Result<hyper::Response<Payload>> {
    let mut response =
        hyper::Response::builder().status(answer.status).header(CONTENT_TYPE, answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(match manner {
        Manner::Whole | Manner::Trickle(_) => Payload::whole(answer.body),
        Manner::CutHalf => Payload::cut_half(answer.body),
        Manner::Padded(size) => Payload::padded(answer.body, *size),
    })
}

async fn carry_out<A: Api>(
    shared: Arc<Shared<A>>,
    call: Called<A>,
    mut fault: Option<Fault<A::Dialect>>,
) -> Outcome {
    let mut right = None;
    while let Some(Fault::AfterSwitch(then)) = fault {
        if let Fault::Own(own) = &*then {
            return Outcome::Answer(judge(&shared, &call, Some((own, true))).await, Manner::Whole);
        }
        let answer = match right {
            Some(answer) => answer,
            None => judge(&shared, &call, None).await,
        };
        if !answer.is_success() {
            return Outcome::Answer(answer, Manner::Whole);
        }
        right = Some(answer);
        fault = Some(*then);
    }
    let right = async {
        match right {
            Some(answer) => answer,
            None => judge(&shared, &call, None).await,
        }
    };
    let Some(fault) = fault else {
        return Outcome::Answer(right.await, Manner::Whole);
    };
    match fault {
        Fault::Answer(answer) => Outcome::Answer(answer, Manner::Whole),
        Fault::Pretend(pretence) => {
            Outcome::Answer(shared.world().account.pretend(&call, pretence), Manner::Whole)
        }
        Fault::Locked(_) => {
            let locked = <A::Dialect>::error(<A::Dialect>::LOCKED).expect("each API has one");
            Outcome::Answer(locked, Manner::Whole)
        }
        Fault::Refuse(time) => {
            let number = shared.refuse(time);
            // Whoever sees this connection close is refused on the next one.
            let _ = shared.gate.subscribe().wait_for(|gate| gate.refusals >= number).await;
            Outcome::Close
        }
        Fault::Reset => Outcome::Reset,
        Fault::Close => Outcome::Close,
        Fault::Hang => Outcome::Hang,
        Fault::Trickle(interval) => Outcome::Answer(right.await, Manner::Trickle(interval)),
        Fault::CutHalf => Outcome::Answer(right.await, Manner::CutHalf),
        Fault::Huge(size) => Outcome::Answer(right.await, Manner::Padded(size)),
        Fault::Delay(time) => {
            sleep(time).await;
            Outcome::Answer(right.await, Manner::Whole)
        }
        Fault::Own(own) => Outcome::Answer(judge(&shared, &call, Some((&own, false))).await, Manner::Whole),
        Fault::AfterSwitch(_) => unreachable!("taken off above"),
    }
}

/// The API's own answer, after the time that it takes.
async fn judge<A: Api>(
    shared: &Arc<Shared<A>>,
    call: &Called<A>,
    fault: Option<(&A::Dialect, bool)>,
) -> Answer {
    let step = shared.change(|world| world.account.handle(call, fault, Instant::now()));
    match step {
        Step::Answer(answer) => answer,
        Step::Blocks(time, ticket) => {
            sleep(time).await;
            shared.change(|world| world.account.finish(ticket))
        }
        Step::Runs(answer, time, ticket) => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                sleep(time).await;
                shared.change(|world| world.account.finish(ticket));
            });
            answer
        }
    }
}
