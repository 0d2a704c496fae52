//! Takes connections, and finds out by the first frame whose they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::frames::Frames;
use crate::crowd::{Crowd, Exempt};
use crate::peer::ufrag_of;
use crate::transport::socket::canonical;

/// The first frame has to be there after this.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// A binding request is no longer than this.
const LARGEST_FIRST: usize = 1500;
/// Connections that have not shown yet whose they are.
const STRANGERS: usize = 512;
/// Of these from one client.
const STRANGERS_PER_CLIENT: usize = 64;
/// After an error of accept, such as too many open files, that long nothing is accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// To count connections that have not shown yet whose they are.
pub(in crate::transport) fn strangers() -> Arc<Crowd> {
    Crowd::new(STRANGERS, STRANGERS_PER_CLIENT, Exempt::default())
}

/// A connection that has shown whose it is.
pub(in crate::transport) struct Accepted {
    pub(in crate::transport) stream: std::net::TcpStream,
    /// Its first frame, a binding request.
    pub(in crate::transport) first: BytesMut,
    /// What came after it.
    pub(in crate::transport) frames: Frames,
    pub(in crate::transport) local: SocketAddr,
    pub(in crate::transport) remote: SocketAddr,
}

/// Opens a listener. `alone`: for IPv6 only.
///
/// # Errors
/// The address is in use, or not one of this machine's.
pub(in crate::transport) fn bind(address: SocketAddr, alone: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(alone)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Accepts for ever; `take` gets those that have shown whose they are (and says whether it is anybody's), `refused` is told
/// of each other.
pub(in crate::transport) async fn serve(
    listener: TcpListener,
    strangers: Arc<Crowd>,
    take: impl Fn(&str, Accepted) -> bool + Clone + Send + Sync + 'static,
    refused: impl Fn() + Clone + Send + Sync + 'static,
) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection for ICE over TCP could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let remote = canonical(remote);
        let Some(stranger) = strangers.admit(remote.ip()) else {
            refused();
            continue;
        };
        let (take, refused) = (take.clone(), refused.clone());
        tokio::spawn(async move {
            let known = match timeout(FIRST_FRAME, identify(stream, remote)).await {
                Ok(Some((ufrag, accepted))) => take(&ufrag, accepted),
                _ => false,
            };
            drop(stranger);
            if !known {
                refused();
            }
        });
    }
}

/// Reads the first frame; `None` when it is no binding request.
async fn identify(mut stream: TcpStream, remote: SocketAddr) -> Option<(String, Accepted)> {
    let local = canonical(stream.local_addr().ok()?);
    // Datagrams are not to wait for each other.
    stream.set_nodelay(true).ok()?;
    let mut frames = Frames::default();
    let first = loop {
        if let Some(first) = frames.next() {
            break first;
        }
        if frames.expected().is_some_and(|length| length > LARGEST_FIRST) {
            return None;
        }
        if stream.read_buf(frames.space()).await.ok()? == 0 {
            return None;
        }
    };
    let ufrag = ufrag_of(&first)?.to_owned();
    Some((ufrag, Accepted { stream: stream.into_std().ok()?, first, frames, local, remote }))
}
