//! The last stretch: the socket under hyper (and under TLS), and the body of an answer.
//!
//! hyper writes right answers only. What is to go wrong below HTTP is done here, where every byte passes:
//! bytes that trickle, a connection that ends in RST, a body that stops half way or is larger than memory.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// What the handler of a connection's requests and the socket under it tell each other.
#[derive(Clone, Default)]
pub(super) struct Control(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// End with RST instead of FIN.
    pub reset: bool,
    /// The time between two bytes.
    pub trickle: Option<Duration>,
    /// Whatever breaks from now on, it was not the client.
    pub broken_by_us: bool,
    /// The journal's number of the last request.
    pub request: Option<usize>,
}

impl Control {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that does what `Control` says.
pub(super) struct Wire {
    stream: TcpStream,
    control: Control,
    /// Until the next byte may go.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub fn new(stream: TcpStream, control: Control) -> Wire {
        Wire { stream, control, pause: None }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.lock().reset {
            // If this fails the peer sees FIN instead of RST, which is no worse than any other close.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let trickle = self.control.lock().trickle;
        let Some(interval) = trickle.filter(|_| !buf.is_empty()) else {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        };
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..1]));
        self.pause = Some(Box::pin(sleep(interval)));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body: text, spaces after it (which JSON allows), and perhaps an end before the end.
pub(super) struct Payload {
    text: Option<Bytes>,
    padding: u64,
    /// What Content-Length promises.
    length: u64,
    end: End,
}

enum End {
    Whole,
    CutOnceFlushed,
    Cut,
}

impl Payload {
    pub fn whole(text: String) -> Payload {
        Payload { length: text.len() as u64, text: Some(text.into()), padding: 0, end: End::Whole }
    }

    /// Padded to a size, unless it is as large as that already.
    pub fn padded(text: String, size: u64) -> Payload {
        let length = size.max(text.len() as u64);
        Payload { padding: length - text.len() as u64, length, ..Payload::whole(text) }
    }

    pub fn cut_half(text: String) -> Payload {
        let whole = Payload::whole(text);
        let half = whole.text.map(|text| text.slice(..text.len() / 2));
        Payload { text: half, end: End::CutOnceFlushed, ..whole }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        static SPACES: [u8; 64 << 10] = [b' '; 64 << 10];

        if let Some(text) = self.text.take().filter(|text| !text.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        if self.padding > 0 {
            let size = SPACES.len().min(usize::try_from(self.padding).unwrap_or(usize::MAX));
            self.padding -= size as u64;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&SPACES[..size])))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            // hyper flushes when a body has nothing to give at the moment; an error throws away what is not
            // flushed.
            End::CutOnceFlushed => {
                self.end = End::Cut;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut => Poll::Ready(Some(Err(io::Error::other("cut in half on purpose")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.end, End::Whole) && self.padding == 0 && self.text.as_ref().is_none_or(Bytes::is_empty)
    }

    /// Asked for before the first frame only.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
