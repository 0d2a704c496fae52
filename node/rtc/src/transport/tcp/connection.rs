//! A connection of a session: a task that reads frames and one that writes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::frames::Frames;
use crate::transport::SessionId;

/// Media that waits to be written at most, in bytes: half a second of 8 Mbit/s.
const MEDIA: usize = 512 << 10;
/// And with all else.
const ALL: usize = MEDIA + (64 << 10);
/// Chunks that wait at most.
const CHUNKS: usize = 1024;
/// A connection that takes nothing for that long is broken.
const STUCK: Duration = Duration::from_secs(10);
/// What waits at the end has so long to be written.
const LAST: Duration = Duration::from_secs(2);

/// What a connection brought.
pub(in crate::transport) struct Arrived {
    pub(in crate::transport) remote: SocketAddr,
    /// Which connection of that address, over time.
    pub(in crate::transport) serial: u64,
    /// A datagram; `None`: it is closed.
    pub(in crate::transport) datagram: Option<BytesMut>,
}

/// A connection. Dropping it closes it, after what waits has been written, or 2 s later.
pub(in crate::transport) struct Connection {
    pub(in crate::transport) session: SessionId,
    pub(in crate::transport) local: SocketAddr,
    pub(in crate::transport) serial: u64,
    chunks: mpsc::Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    reader: AbortHandle,
    // Tells the task that writes, by being dropped.
    _over: oneshot::Sender<()>,
}

impl Connection {
    /// Starts reading and writing, inside the loop's runtime. `frames` holds what came with the first frame.
    pub(in crate::transport) fn start(
        stream: TcpStream,
        frames: Frames,
        (session, serial): (SessionId, u64),
        (local, remote): (SocketAddr, SocketAddr),
        arrived: mpsc::Sender<Arrived>,
    ) -> Self {
        let (reading, writing) = stream.into_split();
        let (chunks, queue) = mpsc::channel(CHUNKS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let reader = tokio::spawn(read(reading, frames, remote, serial, arrived)).abort_handle();
        let (_over, over) = oneshot::channel();
        let write = write(writing, queue, waiting.clone(), reader.clone());
        tokio::spawn(async {
            tokio::select! {
                () = write => {}
                () = late(over) => {}
            }
        });
        Connection { session, local, serial, chunks, waiting, reader, _over }
    }

    /// Queues whole frames; false when too much waits already.
    pub(in crate::transport) fn send(&self, chunk: Vec<u8>, media: bool) -> bool {
        let length = chunk.len();
        let limit = if media { MEDIA } else { ALL };
        if self.waiting.load(Relaxed) + length > limit || self.chunks.try_send(chunk).is_err() {
            return false;
        }
        self.waiting.fetch_add(length, Relaxed);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut stream: OwnedReadHalf,
    mut frames: Frames,
    remote: SocketAddr,
    serial: u64,
    arrived: mpsc::Sender<Arrived>,
) {
    loop {
        while let Some(datagram) = frames.next() {
            if arrived.send(Arrived { remote, serial, datagram: Some(datagram) }).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(frames.space()).await, Ok(1..)) {
            // Nobody to tell is no error: the loop has ended.
            let _ = arrived.send(Arrived { remote, serial, datagram: None }).await;
            return;
        }
    }
}

/// Returns some time after the connection was dropped.
async fn late(over: oneshot::Receiver<()>) {
    // Nothing is ever sent.
    let _ = over.await;
    tokio::time::sleep(LAST).await;
}

async fn write(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    reader: AbortHandle,
) {
    while let Some(chunk) = queue.recv().await {
        waiting.fetch_sub(chunk.len().min(waiting.load(Relaxed)), Relaxed);
        if !matches!(timeout(STUCK, stream.write_all(&chunk)).await, Ok(Ok(()))) {
            // From now on nothing is read either: the session finds another way, or ends for want of consent.
            reader.abort();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_does_not_hold_a_connection_after_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = listener.local_addr().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let stream = socket.connect(remote).await.unwrap();
        let (_silent, local) = listener.accept().await.unwrap();
        let (arrived, _arrivals) = mpsc::channel(1);
        let ids = (SessionId(1), 1);
        let connection = Connection::start(stream, Frames::default(), ids, (local, remote), arrived);
        // Until nothing more fits into the network.
        let mut full = 0;
        while full < 20 {
            full = if connection.send(vec![0; 64 << 10], true) { 0 } else { full + 1 };
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let writes = connection.waiting.clone();
        tokio::time::pause();
        drop(connection);
        tokio::time::sleep(Duration::from_millis(1900)).await;
        assert_eq!(Arc::strong_count(&writes), 2, "it has a moment to say goodbye");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(Arc::strong_count(&writes), 1);
    }
}
