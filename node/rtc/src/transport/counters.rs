//! What the loops count. Each loop has counters of its own, so that no two cores write the same memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the transport has done since its start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received, and frames over TCP.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams sent, and frames over TCP.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Calls that sent several datagrams at once (UDP GSO).
    pub gso_sends: u64,
    /// Calls that sent one datagram.
    pub single_sends: u64,
    /// Runs that the kernel or the device refused to segment; they were sent one by one.
    pub gso_refused: u64,
    /// Datagrams that were dropped because the socket or a connection took no more.
    pub dropped: u64,
    /// Datagrams that could not be sent for another reason, such as no route.
    pub send_errors: u64,
    /// Datagrams that belong to no session.
    pub garbage: u64,
    /// Datagrams that came to the wrong loop and were handed to the right one.
    pub handed_over: u64,
    /// Messages and other events that a session's reader did not take in time.
    pub events_lost: u64,
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that ended before media could flow.
    pub failed: u64,
    /// Sessions that were refused because their client had too many that were not connected yet.
    pub crowded: u64,
    /// Connections over TCP that were taken for a session.
    pub tcp_connections: u64,
    /// Connections over TCP that were turned away: too many, too slow, or for no session.
    pub tcp_refused: u64,
}

/// The counters of one loop.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) packets_in: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) packets_out: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) gso_sends: AtomicU64,
    pub(super) single_sends: AtomicU64,
    pub(super) gso_refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) send_errors: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) handed_over: AtomicU64,
    pub(super) events_lost: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) crowded: AtomicU64,
    pub(super) tcp_connections: AtomicU64,
    pub(super) tcp_refused: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

impl Counters {
    /// Adds what one loop counted.
    pub(super) fn add(&mut self, tally: &Tally) {
        let Counters {
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            gso_sends,
            single_sends,
            gso_refused,
            dropped,
            send_errors,
            garbage,
            handed_over,
            events_lost,
            opened,
            failed,
            crowded,
            tcp_connections,
            tcp_refused,
        } = self;
        for (sum, part) in [
            (packets_in, &tally.packets_in),
            (bytes_in, &tally.bytes_in),
            (packets_out, &tally.packets_out),
            (bytes_out, &tally.bytes_out),
            (gso_sends, &tally.gso_sends),
            (single_sends, &tally.single_sends),
            (gso_refused, &tally.gso_refused),
            (dropped, &tally.dropped),
            (send_errors, &tally.send_errors),
            (garbage, &tally.garbage),
            (handed_over, &tally.handed_over),
            (events_lost, &tally.events_lost),
            (opened, &tally.opened),
            (failed, &tally.failed),
            (crowded, &tally.crowded),
            (tcp_connections, &tally.tcp_connections),
            (tcp_refused, &tally.tcp_refused),
        ] {
            *sum += part.load(Relaxed);
        }
    }
}
