//! For those who read the tracks of a stream by themselves.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::Stream;

/// Counts as a [`Reader`](crate::Reader) of a stream for as long as it lives.
#[derive(Debug)]
pub struct Interest {
    stream: Arc<Stream>,
}

impl Interest {
    /// In this stream.
    pub fn new(stream: Arc<Stream>) -> Self {
        stream.count_reader(1);
        Interest { stream }
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.stream.count_reader(-1);
    }
}

impl Stream {
    /// Told whenever something was written to it; take the future before looking, then await it.
    pub fn changed(&self) -> &Notify {
        self.notify()
    }
}
