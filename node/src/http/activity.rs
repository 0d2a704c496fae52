//! What a connection is doing, and how long it may go on doing that.
//!
//! hyper has timers of its own, set anew for each request. Here a connection only notes the time when something
//! happens, and one timer looks at the notes now and then: a request costs no timer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

/// How long a connection may wait, in each of its states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the first byte of a request's header to its last.
    pub(super) header: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// While the client takes nothing.
    pub(super) write: Duration,
}

/// The notes of one connection. Times are milliseconds since it was accepted, plus one: zero is "not".
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    http2: AtomicBool,
    /// Since when a header has been arriving. From the start on: the first one is expected at once.
    header_since: AtomicU64,
    /// Since when the socket takes nothing of what is to be written.
    blocked_since: AtomicU64,
    /// When anything was read or written last.
    moved: AtomicU64,
    /// When a body under way last gave something (HTTP/2, where a client can stop one request's flow).
    body_moved: AtomicU64,
    requests: AtomicU32,
    bodies: AtomicU32,
    closing: AtomicBool,
    upgraded: AtomicBool,
    read: AtomicU64,
    written: AtomicU64,
    waker: AtomicWaker,
}

/// What to do with a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Close it, for this reason.
    Close(&'static str),
    /// Look again after this time.
    Wait(Duration),
}

impl Activity {
    pub(super) fn new(accepted: Instant) -> Self {
        Self {
            accepted,
            http2: AtomicBool::new(false),
            header_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            moved: AtomicU64::new(1),
            body_moved: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            bodies: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        }
    }

    fn note(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.accepted).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    pub(super) fn is_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    pub(super) fn on_read(&self, bytes: usize, now: Instant) {
        let note = self.note(now);
        self.moved.store(note, Ordering::Relaxed);
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        let between_requests =
            self.requests.load(Ordering::Relaxed) == 0 && !self.http2.load(Ordering::Relaxed);
        if between_requests && self.header_since.load(Ordering::Relaxed) == 0 {
            self.header_since.store(note, Ordering::Relaxed);
        }
    }

    pub(super) fn on_written(&self, bytes: usize, now: Instant) {
        self.moved.store(self.note(now), Ordering::Relaxed);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.blocked_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn on_blocked(&self, now: Instant) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.note(now), Ordering::Relaxed);
        }
    }

    pub(super) fn request_started(&self) {
        self.header_since.store(0, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ended(&self, now: Instant) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.moved.store(self.note(now), Ordering::Relaxed);
    }

    pub(super) fn body_started(&self, now: Instant) {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        self.body_progress(now);
    }

    pub(super) fn body_progress(&self, now: Instant) {
        self.body_moved.store(self.note(now), Ordering::Relaxed);
    }

    pub(super) fn body_ended(&self) {
        self.bodies.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes read from and written to the socket so far.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// True when the client never sent anything.
    pub(super) fn is_fresh(&self) -> bool {
        self.read.load(Ordering::Relaxed) == 0
    }

    /// Asks the connection's task to finish.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// It speaks another protocol from now on (101), and belongs to whoever does that; false when it did before.
    pub(super) fn upgrade(&self) -> bool {
        !self.upgraded.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether one of its times is over.
    pub(super) fn verdict(&self, now: Instant, timeouts: &Timeouts) -> Verdict {
        let now = self.note(now);
        // A header may begin right after this look, so look again well within its time.
        let mut wait = timeouts.header.min(timeouts.write).min(timeouts.idle) / 2;
        let mut over = |since: u64, limit: Duration| {
            let elapsed = Duration::from_millis(now.saturating_sub(since));
            wait = wait.min(limit.saturating_sub(elapsed));
            elapsed >= limit
        };
        let load = |note: &AtomicU64| note.load(Ordering::Relaxed);
        let blocked = load(&self.blocked_since);
        if blocked != 0 && over(blocked, timeouts.write) {
            return Verdict::Close("the client takes nothing");
        }
        let bodies = self.bodies.load(Ordering::Relaxed);
        if bodies > 0 && over(load(&self.body_moved), timeouts.write) {
            return Verdict::Close("the client takes nothing of a response");
        }
        if self.requests.load(Ordering::Relaxed) == 0 && bodies == 0 {
            let header = load(&self.header_since);
            if header != 0 {
                if over(header, timeouts.header) {
                    return Verdict::Close("no request header in time");
                }
            } else if over(load(&self.moved), timeouts.idle) {
                return Verdict::Close("idle");
            }
        }
        Verdict::Wait(wait.max(Duration::from_millis(50)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(30),
    };

    struct Story(Instant, Activity);

    impl Story {
        fn new() -> Self {
            let start = Instant::now();
            Self(start, Activity::new(start))
        }

        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        fn closed_at(&self, seconds: u64) -> bool {
            matches!(self.1.verdict(self.at(seconds), &TIMEOUTS), Verdict::Close(_))
        }
    }

    #[test]
    fn the_first_header_is_expected_at_once() {
        let story = Story::new();
        assert!(!story.closed_at(9));
        assert!(story.closed_at(10));
    }

    #[test]
    fn a_header_that_drips_in_is_not_waited_for() {
        let story = Story::new();
        story.1.on_read(10, story.at(1));
        story.1.request_started();
        story.1.on_written(100, story.at(2));
        story.1.request_ended(story.at(2));
        for second in 20..29 {
            story.1.on_read(1, story.at(second));
            assert!(!story.closed_at(second));
        }
        assert!(story.closed_at(30));
    }

    #[test]
    fn idle_is_counted_from_the_last_byte() {
        let story = Story::new();
        story.1.on_read(10, story.at(1));
        story.1.request_started();
        story.1.request_ended(story.at(2));
        story.1.on_written(1 << 20, story.at(50));
        assert!(!story.closed_at(109));
        assert!(story.closed_at(110));
    }

    #[test]
    fn a_held_request_is_not_idle() {
        let story = Story::new();
        story.1.request_started();
        assert!(!story.closed_at(1000));
    }

    #[test]
    fn a_client_that_takes_nothing_is_closed() {
        let story = Story::new();
        story.1.request_started();
        story.1.on_blocked(story.at(5));
        story.1.on_blocked(story.at(20));
        assert!(!story.closed_at(34));
        assert!(story.closed_at(35));
        story.1.on_written(1, story.at(36));
        assert!(!story.closed_at(64));
    }

    #[test]
    fn a_stopped_http2_flow_is_closed() {
        let story = Story::new();
        story.1.is_http2();
        story.1.request_started();
        story.1.body_started(story.at(1));
        story.1.request_ended(story.at(1));
        story.1.on_read(17, story.at(25));
        assert!(!story.closed_at(30));
        assert!(story.closed_at(31));
    }

    #[test]
    fn it_looks_again_before_anything_can_be_overdue_for_long() {
        let story = Story::new();
        let Verdict::Wait(wait) = story.1.verdict(story.at(0), &TIMEOUTS) else { panic!("closed") };
        assert!(wait <= TIMEOUTS.header / 2);
    }
}
