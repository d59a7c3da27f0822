//! How a connection of ureq's gets its TLS.
//!
//! ureq could do it itself. But it makes its TLS settings anew for each request that has a time limit of its own, as
//! all of ours have, and keeps every CA certificate whole. And here what fails in the handshake is told from what fails
//! later.

use std::error::Error as StdError;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::connect::time_left;

/// ureq's step from a connection to one with TLS, for https; without settings it refuses to take it.
#[derive(Debug)]
pub struct TlsConnector(pub Option<Arc<ClientConfig>>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        connected: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = connected else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let settings = self.0.as_ref().ok_or(Error::TlsRequired)?;
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let name =
            ServerName::try_from(host).map_err(|_| Error::Tls("no certificate can have such a name"))?;
        let connection = ClientConnection::new(Arc::clone(settings), name).map_err(in_handshake)?;
        let adapter =
            TransportAdapter::new(Box::new(transport) as Box<dyn Transport>, details.current_time.clone());
        let mut stream = StreamOwned::new(connection, adapter);
        let mut timeout = details.timeout;
        timeout.after = time_left(details).into();
        stream.sock.set_timeout(timeout);
        stream.conn.complete_io(&mut stream.sock).map_err(|error| {
            match error.downcast::<rustls::Error>() {
                Ok(error) => in_handshake(error),
                Err(error) => error.into(),
            }
        })?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { stream, buffers: LazyBuffers::new(input, output) })))
    }
}

/// A connection with TLS.
pub struct TlsTransport {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for TlsTransport {
    /// Without its buffers, which hold the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// A TLS error before anything was sent.
#[derive(Debug)]
pub struct HandshakeError(pub rustls::Error);

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for HandshakeError {}

fn in_handshake(error: rustls::Error) -> Error {
    Error::Other(Box::new(HandshakeError(error)))
}
