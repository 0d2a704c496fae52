//! Publishers that come back when their session ends, whatever the protocol.

use std::time::Duration;

use tokio::time::sleep;

use crate::error::Error;
use crate::run::Stop;
use crate::stats::Stats;

/// Pauses between tries to publish again: the first, doubled up to the most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// Publishes by `session` until that ends without an error, or the run does; again and again where it is to `reconnect`.
/// `session` is told how often the client was let in before: a session that ends with [`Error::Session`] was.
///
/// # Errors
/// That of the only session.
pub(crate) async fn publish<S: Future<Output = Result<(), Error>>>(
    reconnect: bool,
    index: usize,
    stats: &Stats,
    stop: &Stop,
    session: impl Fn(u64) -> S,
) -> Result<(), Error> {
    stats.watch(index, |watch, now| watch.begin(now));
    let (mut pause, mut sessions) = (PAUSE_FIRST, 0);
    loop {
        let Err(error) = session(sessions).await else { return Ok(()) };
        match &error {
            Error::Session(ended) => stats.lost(index, ended),
            refused => stats.problem(index, refused, |noticed| noticed.errors += 1),
        }
        if !reconnect {
            return Err(error);
        }
        // One that has published begins with the short pause again.
        if matches!(error, Error::Session(_)) {
            (pause, sessions) = (PAUSE_FIRST, sessions + 1);
        }
        stats.reconnect(&error);
        let mut stop = stop.clone();
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(PAUSE_MOST),
            () = stop.wait() => return Ok(()),
        }
    }
}
