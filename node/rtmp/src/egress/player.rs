//! One player: its place in a feed, and the bytes on their way to its socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use sluice_media::ring::{self, Cursor, Peek};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::futures::Notified;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::feed::{Batch, Feed, Head};
use crate::limits;

/// What makes a player's pump stop and hand control back.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The client sent something, to be found in the buffer.
    Received,
    /// The client closed the connection.
    Closed,
    /// A moment has passed; whether any byte was taken in it, or there was none to be taken.
    Tick {
        /// False when bytes wait and none was taken.
        alive: bool,
    },
    /// The stream is over and all of it was sent.
    End,
    /// The feed has something new: look around, then pump on.
    News,
}

/// A player of a feed.
pub(crate) struct Player {
    feed: Arc<Feed>,
    cursor: Cursor<Head, Batch>,
    /// The next group must be one that can be decoded by itself, with its prologue.
    fresh: bool,
    paused: bool,
    /// No further group that can be decoded by itself is begun.
    last: bool,
    audio: bool,
    video: bool,
    queue: Queue,
    tick: Interval,
    progress: bool,
    /// Bytes sent so far.
    pub(crate) sent: u64,
}

impl Player {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        let cursor = Cursor::newest(&feed.ring, limits::PLAYER_LAG);
        let mut tick = interval(limits::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        Player {
            feed,
            cursor,
            fresh: true,
            paused: false,
            last: false,
            audio: true,
            video: true,
            queue: Queue::default(),
            tick,
            progress: false,
            sent: 0,
        }
    }

    /// Puts an answer to the client behind the messages that are on their way.
    pub(crate) fn answer(&mut self, bytes: Bytes) {
        self.queue.push(bytes);
    }

    /// Sends what is queued, and nothing more of the stream.
    pub(crate) async fn drain<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        while !self.queue.is_empty() {
            self.sent += poll_fn(|cx| self.queue.poll_write(cx, stream)).await? as u64;
        }
        poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
    }

    /// Bytes on their way.
    pub(crate) fn queued(&self) -> usize {
        self.queue.bytes
    }

    /// Stops sending, or goes on at the newest group.
    pub(crate) fn pause(&mut self, paused: bool) {
        if self.paused && !paused {
            self.restart();
        }
        self.paused = paused;
    }

    /// Ends, as if the stream did, with the group that is being sent.
    pub(crate) fn end_with_group(&mut self) {
        self.last = true;
    }

    pub(crate) fn receive_audio(&mut self, wanted: bool) {
        self.audio = wanted;
    }

    pub(crate) fn receive_video(&mut self, wanted: bool) {
        if wanted && !self.video {
            self.restart();
        }
        self.video = wanted;
    }

    fn restart(&mut self) {
        self.cursor.jump_to_newest(&self.feed.ring);
        self.fresh = true;
    }

    /// Moves messages to the client until something else is to be done. All that is queued goes out in one
    /// write; nothing is allocated or copied per message.
    pub(crate) async fn pump<S>(&mut self, stream: &mut S, received: &mut BytesMut) -> io::Result<Wake>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let feed = self.feed.clone();
        // Made before the ring is looked at, so that nothing is missed in between.
        let mut changed = pin!(feed.ring.changed().notified());
        poll_fn(|cx| self.poll(cx, stream, received, changed.as_mut())).await
    }

    fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        received: &mut BytesMut,
        mut changed: Pin<&mut Notified<'_>>,
    ) -> Poll<io::Result<Wake>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // With bytes waiting, the socket is what to wait for.
        let waits = self.queue.is_empty();
        if waits && changed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Wake::News));
        }
        loop {
            let over = self.fill();
            if over {
                return Poll::Ready(Ok(Wake::End));
            }
            if self.queue.is_empty() {
                break;
            }
            match self.queue.poll_write(cx, stream)? {
                Poll::Ready(n) => {
                    self.sent += n as u64;
                    self.progress = true;
                }
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(n) = poll_read(cx, stream, received)? {
            return Poll::Ready(Ok(if n == 0 { Wake::Closed } else { Wake::Received }));
        }
        if self.tick.poll_tick(cx).is_ready() {
            let alive = self.progress || self.queue.is_empty();
            self.progress = false;
            return Poll::Ready(Ok(Wake::Tick { alive }));
        }
        if self.queue.is_empty() {
            // TLS may hold on to the last bytes.
            if let Poll::Ready(Err(error)) = Pin::new(stream).poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            if !waits && changed.poll(cx).is_ready() {
                return Poll::Ready(Ok(Wake::News));
            }
        }
        Poll::Pending
    }

    /// Takes messages from the feed into the queue; true when the stream is over.
    fn fill(&mut self) -> bool {
        let ring = &self.feed.ring;
        if self.paused && (self.last || ring.is_ended()) {
            return self.queue.is_empty();
        }
        while !self.paused && self.queue.has_room() {
            match self.cursor.peek(ring) {
                Peek::Group(group) => {
                    let independent = ring::Head::independent(&group.head);
                    if independent && self.last {
                        return self.queue.is_empty();
                    }
                    if group.head.changed || (self.fresh && independent) {
                        self.queue.push(group.head.prologue.clone());
                    }
                    self.fresh &= !independent;
                    self.cursor.advance();
                }
                Peek::Item(batch) => {
                    if self.fresh {
                        // Not before a group that can be decoded by itself.
                    } else if self.audio && self.video {
                        self.queue.push(batch.bytes.clone());
                    } else {
                        batch.only(self.audio, self.video).for_each(|bytes| self.queue.push(bytes));
                    }
                    self.cursor.advance();
                }
                Peek::Behind => {
                    let skipped = self.cursor.jump_to_newest(ring);
                    self.feed.stream.stats().groups_skipped.fetch_add(skipped, Relaxed);
                    self.fresh = true;
                }
                Peek::Nothing => return false,
                Peek::End => return self.queue.is_empty(),
            }
        }
        false
    }
}

fn poll_read<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
    received: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    // Players send next to nothing, so they keep no read buffer.
    let mut space = [0; 512];
    let mut buf = ReadBuf::new(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    received.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

/// Messages on their way to the socket. They share their bytes with the feed.
#[derive(Default)]
struct Queue {
    items: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.items.push_back(bytes);
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn has_room(&self) -> bool {
        self.items.len() < limits::WRITE_BATCH
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut stream = Pin::new(stream);
        let written = match self.items.front() {
            // The usual case; a plain send is cheaper than a writev of one.
            Some(only) if self.items.len() == 1 => ready!(stream.as_mut().poll_write(cx, only))?,
            _ => {
                let mut slices = [IoSlice::new(&[]); limits::WRITE_BATCH];
                let mut count = 0;
                for (slice, bytes) in slices.iter_mut().zip(&self.items) {
                    *slice = IoSlice::new(bytes);
                    count += 1;
                }
                ready!(stream.as_mut().poll_write_vectored(cx, &slices[..count]))?
            }
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.bytes -= written;
        let mut rest = written;
        while let Some(front) = self.items.front_mut() {
            if rest < front.len() {
                front.advance(rest);
                break;
            }
            rest -= front.len();
            self.items.pop_front();
        }
        Poll::Ready(Ok(written))
    }
}
