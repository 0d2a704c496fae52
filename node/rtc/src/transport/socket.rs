//! One UDP socket of one loop: batched receives (GRO), and sends of whole runs (GSO).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::counters::{Tally, count};

/// What is asked of the kernel for each socket's buffers, in bytes. It grants `net.core.rmem_max` and `wmem_max` at most.
const BUFFER: usize = 4 << 20;
/// Buffers that one receive call fills.
pub(super) const BATCH: usize = 16;
/// The largest datagram, and the most that GRO puts into one buffer.
const DATAGRAM: usize = 1 << 16;
/// What waits at most while the socket takes no more, in bytes.
const WAITING: usize = 1 << 20;
/// The largest payload of one send call: the largest IP packet without its headers.
pub(super) const LARGEST_RUN: usize = 65_535 - 40 - 8;

/// Binds a socket that shares its port with those of the other loops. `alone`: for IPv6 only, because another socket
/// takes IPv4.
///
/// # Errors
/// The address is in use, not one of this machine's, or its family is not supported.
pub(super) fn bind(address: SocketAddr, alone: bool) -> io::Result<std::net::UdpSocket> {
    let socket = open(address, alone)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Best effort: the kernel has limits, and a smaller buffer works.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    tracing::debug!(
        %address,
        receive = socket.recv_buffer_size().unwrap_or(0),
        send = socket.send_buffer_size().unwrap_or(0),
        "UDP socket opened (buffers in bytes)"
    );
    Ok(socket.into())
}

/// Whether an address is free: sharing a port would let another process in unseen, and each would get a part of the packets.
///
/// # Errors
/// As [`bind`].
pub(super) fn probe(address: SocketAddr, alone: bool) -> io::Result<()> {
    open(address, alone)?.bind(&address.into())
}

fn open(address: SocketAddr, alone: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(alone)?;
    }
    Ok(socket)
}

/// Where received datagrams are put: one for each loop.
pub(super) struct Receiver {
    storage: Vec<u8>,
    meta: [RecvMeta; BATCH],
}

/// What one buffer holds: datagrams of one sender, each `stride` bytes long but the last.
pub(super) struct Received<'a> {
    pub(super) from: SocketAddr,
    /// The address of ours that it was sent to, where the kernel told.
    pub(super) to: Option<IpAddr>,
    pub(super) stride: usize,
    pub(super) bytes: &'a [u8],
}

impl Receiver {
    pub(super) fn new() -> Self {
        Receiver { storage: vec![0; BATCH * DATAGRAM], meta: [RecvMeta::default(); BATCH] }
    }

    /// What the last receive call brought: its first `n` buffers.
    pub(super) fn received(&self, n: usize) -> impl Iterator<Item = Received<'_>> {
        self.storage.chunks_exact(DATAGRAM).zip(&self.meta).take(n).map(|(buffer, meta)| Received {
            from: canonical(meta.addr),
            to: meta.dst_ip.map(|ip| ip.to_canonical()),
            stride: meta.stride.max(1),
            bytes: &buffer[..meta.len.min(DATAGRAM)],
        })
    }
}

/// The address as it is spoken of everywhere: IPv4 as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

/// Where a run goes: addresses in the family of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) remote: SocketAddr,
    pub(super) source: Option<IpAddr>,
}

struct Queued {
    target: Target,
    segment: usize,
    bytes: Vec<u8>,
    media: bool,
}

/// A socket, and what waits for it.
pub(super) struct Outlet {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    tally: Arc<Tally>,
    queue: VecDeque<Queued>,
    queued: usize,
    told: AtomicBool,
    #[cfg(test)]
    pub(super) segments: Option<usize>,
    #[cfg(test)]
    pub(super) blocked: bool,
}

impl Outlet {
    /// Must be called inside the loop's runtime.
    ///
    /// # Errors
    /// The socket lacks an option that is needed.
    pub(super) fn new(socket: std::net::UdpSocket, tally: Arc<Tally>) -> io::Result<Self> {
        let io = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        Ok(Outlet {
            local: io.local_addr()?,
            io,
            state,
            tally,
            queue: VecDeque::new(),
            queued: 0,
            told: AtomicBool::new(false),
            #[cfg(test)]
            segments: None,
            #[cfg(test)]
            blocked: false,
        })
    }

    /// What it is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Fills the receiver's buffers; how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to receive.
    pub(super) fn receive(&self, receiver: &mut Receiver) -> io::Result<usize> {
        let Receiver { storage, meta } = receiver;
        let mut buffers = storage.chunks_exact_mut(DATAGRAM);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let mut received = 0;
        let read = self.io.try_io(Interest::READABLE, || {
            received = self.state.recv(UdpSockRef::from(&self.io), &mut slices, &mut meta[..])?;
            // Less than there was room for: the kernel has no more, and will say when it has. Asking once more just to hear that
            // costs a call each time.
            if received < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match read {
            Err(error) if received == 0 => Err(error),
            _ => Ok(received),
        }
    }

    /// Whether it can be read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.io.poll_recv_ready(cx).map(drop)
    }

    /// Whether what waits can go on. Never when nothing waits.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queue.is_empty() {
            return Poll::Pending;
        }
        self.io.poll_send_ready(cx).map(drop)
    }

    /// The most segments of a run; 1 where there is no GSO.
    pub(super) fn most_segments(&self) -> usize {
        #[cfg(test)]
        if let Some(segments) = self.segments {
            return segments;
        }
        self.state.max_gso_segments()
    }

    /// An address in the family of the socket, as the kernel wants it.
    pub(super) fn target(&self, local: IpAddr, remote: SocketAddr) -> Target {
        let source = (!local.is_unspecified()).then_some(local);
        if self.local.is_ipv4() {
            return Target { remote, source };
        }
        let map = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
            v6 => v6,
        };
        let remote = if remote.is_ipv4() { SocketAddr::new(map(remote.ip()), remote.port()) } else { remote };
        Target { remote, source: source.map(map) }
    }

    /// Sends a run: datagrams of `segment` bytes each, the last one at most. While the socket takes no more it waits here, and
    /// the oldest media makes room.
    pub(super) fn send(&mut self, target: Target, segment: usize, bytes: &[u8], media: bool) {
        if bytes.is_empty() || segment == 0 {
            return;
        }
        if !self.queue.is_empty() || !self.transmit(target, segment, bytes) {
            self.wait(Queued { target, segment, bytes: bytes.to_vec(), media });
        }
    }

    /// Sends what waits, as far as it goes.
    pub(super) fn flush(&mut self) {
        while let Some(run) = self.queue.pop_front() {
            if !self.transmit(run.target, run.segment, &run.bytes) {
                self.queue.push_front(run);
                return;
            }
            self.queued -= run.bytes.len();
        }
    }

    fn wait(&mut self, run: Queued) {
        self.queued += run.bytes.len();
        self.queue.push_back(run);
        while self.queued > WAITING {
            let oldest = self.queue.iter().position(|run| run.media).unwrap_or(0);
            let Some(run) = self.queue.remove(oldest) else { return };
            self.queued -= run.bytes.len();
            count(&self.tally.dropped, run.bytes.len().div_ceil(run.segment));
        }
    }

    /// Sends a run in one call, or in several where there is no GSO; false when the socket takes no more. A run of which a
    /// part has gone when that happens counts as gone: its rest is dropped.
    fn transmit(&self, target: Target, segment: usize, bytes: &[u8]) -> bool {
        let segments = bytes.len().div_ceil(segment);
        if segments > 1 && self.most_segments() > 1 {
            match self.call(target, Some(segment), bytes) {
                Ok(()) => {
                    count(&self.tally.gso_sends, 1);
                    self.sent(segments, bytes.len());
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if self.state.max_gso_segments() > 1 => {
                    self.failed(&error, segments);
                    return true;
                }
                // The kernel or the device has refused to segment: from now on one by one.
                Err(error) => {
                    count(&self.tally.gso_refused, 1);
                    if !self.told.swap(true, Relaxed) {
                        tracing::warn!(%error, "UDP segmentation offload is refused here: sending costs several times more");
                    }
                }
            }
        }
        for (n, datagram) in bytes.chunks(segment).enumerate() {
            match self.call(target, None, datagram) {
                Ok(()) => {
                    count(&self.tally.single_sends, 1);
                    self.sent(1, datagram.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && n == 0 => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    count(&self.tally.dropped, segments - n);
                    return true;
                }
                Err(error) => self.failed(&error, 1),
            }
        }
        true
    }

    fn call(&self, target: Target, segment: Option<usize>, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.blocked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let transmit = Transmit {
            destination: target.remote,
            ecn: None,
            contents: bytes,
            segment_size: segment,
            src_ip: target.source,
        };
        let send = || self.state.try_send(UdpSockRef::from(&self.io), &transmit);
        match send() {
            // Once more under the runtime's eyes, so that it waits for the socket to become writable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.io.try_io(Interest::WRITABLE, send)
            }
            result => result,
        }
    }

    fn sent(&self, packets: usize, bytes: usize) {
        count(&self.tally.packets_out, packets);
        count(&self.tally.bytes_out, bytes);
    }

    fn failed(&self, error: &io::Error, packets: usize) {
        count(&self.tally.send_errors, packets);
        tracing::trace!(%error, "a datagram could not be sent");
    }
}

#[cfg(test)]
mod tests;
