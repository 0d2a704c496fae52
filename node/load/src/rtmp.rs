//! A client's RTMP connection: the protocol is that of `sluice-rtmp`, here is the socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use sluice_rtmp::session::{self, ClientEvent, Purpose, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::error::Error;
use crate::target::resolve;

/// Time for connecting, for the handshake up to the start, and for a write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room that is made for a read: a few frames.
const READ: usize = 32 << 10;

/// Where and what to publish or play.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    url: Url,
    address: SocketAddr,
    /// The address of this machine to connect from; the system's choice without one.
    from: Option<Ipv4Addr>,
    /// Whether the server is told that it may ask us to reconnect.
    moves: bool,
}

impl Target {
    pub(crate) fn parse(text: &str, allow_remote: bool) -> Result<Self, Error> {
        let url =
            Url::parse(text).ok_or(Error::Url(text.to_owned(), "expected rtmp://host[:port]/app/stream"))?;
        if url.tls {
            return Err(Error::Url(text.to_owned(), "load over TLS would measure TLS: use rtmp://"));
        }
        let address = resolve(&url.host, url.port, allow_remote)?;
        Ok(Target { url, address, from: None, moves: false })
    }

    /// The same, connected to from place number `place`: an address of the loopback network.
    pub(crate) fn at_place(self, place: u8) -> Result<Self, Error> {
        if !self.address.ip().is_loopback() || !self.address.is_ipv4() {
            return Err(Error::Places(self.address.ip()));
        }
        Ok(Target { from: Some(Ipv4Addr::new(127, 0, 1, place.saturating_add(1))), ..self })
    }

    /// The same, by a client that understands a server's request to reconnect.
    pub(crate) fn moving(self) -> Self {
        Target { moves: true, ..self }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Some(from) = self.from else { return TcpStream::connect(self.address).await };
        let socket = TcpSocket::new_v4()?;
        socket.bind((IpAddr::from(from), 0).into())?;
        socket.connect(self.address).await
    }
}

/// A connection over which the server lets us publish or play.
pub(crate) struct Connection {
    socket: TcpStream,
    client: session::Client,
    input: BytesMut,
    received: u64,
}

impl Connection {
    /// Connects, and waits until the server says that it starts.
    pub(crate) async fn open(target: &Target, purpose: Purpose, seed: u64) -> Result<Self, Error> {
        let connect = timeout(PATIENCE, target.connect()).await;
        let failed = |e| Error::Connect(target.address.to_string(), e);
        let socket = connect.map_err(|_| Error::Timeout("take the connection", PATIENCE))?.map_err(failed)?;
        socket.set_nodelay(true)?;
        let client = session::Client::new(target.url.clone(), purpose, seed);
        let client = if target.moves { client.can_reconnect() } else { client };
        let mut connection = Connection { socket, client, input: BytesMut::new(), received: 0 };
        let begin = async {
            while !connection.client.is_started() {
                if let ClientEvent::Ended { code, .. } = connection.event().await? {
                    return Err(Error::Ended(code));
                }
            }
            Ok(())
        };
        timeout(PATIENCE, begin).await.map_err(|_| Error::Timeout("start the stream", PATIENCE))??;
        Ok(connection)
    }

    /// The protocol, to send with; [`flush`](Self::flush) then.
    pub(crate) fn client(&mut self) -> &mut session::Client {
        &mut self.client
    }

    /// Sends what there is to be sent: how many bytes that were.
    pub(crate) async fn flush(&mut self) -> Result<usize, Error> {
        let length = self.client.output().len();
        if length > 0 {
            let write = timeout(PATIENCE, self.socket.write_all_buf(self.client.output())).await;
            write.map_err(|_| Error::Timeout("take what we send", PATIENCE))??;
        }
        Ok(length)
    }

    /// The next event. Nothing is lost when it is dropped halfway.
    pub(crate) async fn event(&mut self) -> Result<ClientEvent, Error> {
        loop {
            let event = self.client.input(&mut self.input)?;
            if !self.client.output().is_empty() {
                self.flush().await?;
            }
            if let Some(event) = event {
                return Ok(event);
            }
            self.input.reserve(READ);
            match self.socket.read_buf(&mut self.input).await? {
                0 => return Err(Error::Closed),
                n => self.received += n as u64,
            }
        }
    }

    /// Bytes received since the last call.
    pub(crate) fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }
}
