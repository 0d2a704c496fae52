//! What a run says in the end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::continuity::Continuity;
use crate::stats::Quantiles;

/// The result of a run. All counts and times are those of the measured window unless they say otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) clients: u64,
    /// Clients that got media, and those that ended early, in the whole run.
    pub(crate) live: u64,
    pub(crate) failed: u64,
    /// Connections that were tried again, in the whole run.
    pub(crate) reconnects: u64,
    /// Publishers that went on over another connection because the server asked for it, in the whole run; none of them
    /// was cut.
    pub(crate) asked_to_reconnect: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) window_s: f64,
    pub(crate) mbit_s: f64,
    /// Video frames a second: on average, and of the client that had the fewest.
    pub(crate) frames_s: f64,
    pub(crate) frames_s_least: f64,
    pub(crate) lost_frames: u64,
    /// RTP packets a second of all clients together, and those that were missing.
    pub(crate) packets_s: f64,
    pub(crate) lost_packets: u64,
    pub(crate) requests: u64,
    pub(crate) failed_requests: u64,
    /// From a client's start to its first media, in the whole run, milliseconds.
    pub(crate) start_ms: Option<Quantiles>,
    /// From the stamp in a frame to its arrival, milliseconds.
    pub(crate) delay_ms: Option<Quantiles>,
    /// What clients noticed of their streams going on or not, where that is followed.
    pub(crate) continuity: Option<Continuity>,
    pub(crate) server: Option<Spent>,
    pub(crate) generator: Option<Spent>,
}

/// What processes spent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// CPU time in the window, in seconds.
    pub(crate) cpu_s: f64,
    /// The same in percent of one core.
    pub(crate) cpu_percent: f64,
    /// Resident bytes at the end of the window.
    pub(crate) rss: u64,
    /// Resident bytes added since before the first client, divided by the number of clients.
    pub(crate) rss_per_client: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.clients.max(1) as f64;
        writeln!(
            f,
            "{}: {} clients, {} live, {} failed; window {:.1} s",
            self.command, self.clients, self.live, self.failed, self.window_s
        )?;
        if self.reconnects > 0 {
            writeln!(f, "  {} connections tried again", self.reconnects)?;
        }
        if self.asked_to_reconnect > 0 {
            writeln!(f, "  {} connections changed because the server asked for it", self.asked_to_reconnect)?;
        }
        if let Some(error) = &self.first_error {
            writeln!(f, "  first failure: {error}")?;
        }
        writeln!(
            f,
            "  {:.2} Mbit/s in all; {:.1} frames/s a client, {:.1} for the worst; {} frames lost",
            self.mbit_s, self.frames_s, self.frames_s_least, self.lost_frames
        )?;
        if self.packets_s > 0.0 {
            writeln!(f, "  {:.0} packets/s, {} lost", self.packets_s, self.lost_packets)?;
        }
        if self.requests > 0 {
            let rate = self.requests as f64 / self.window_s;
            writeln!(
                f,
                "  {rate:.1} requests/s, {:.1} a client; {} failed",
                rate / clients,
                self.failed_requests
            )?;
        }
        for (name, quantiles) in
            [("start to first media", &self.start_ms), ("stamp to arrival", &self.delay_ms)]
        {
            if let Some(quantiles) = quantiles {
                writeln!(f, "  {name}: {quantiles}")?;
            }
        }
        if let Some(continuity) = &self.continuity {
            write!(f, "{continuity}")?;
        }
        if let Some(s) = &self.server {
            write!(
                f,
                "  server: {:.2} % of a core, {:.4} % a client",
                s.cpu_percent,
                s.cpu_percent / clients
            )?;
            if self.requests > 0 {
                write!(f, ", {:.3} s per 10,000 requests", s.cpu_s / self.requests as f64 * 1e4)?;
            }
            let (mib, kib) = (s.rss as f64 / f64::from(1 << 20), s.rss_per_client / 1024.0);
            writeln!(f, "; memory {mib:.1} MiB, {kib:.1} KiB added a client")?;
        }
        if let Some(g) = &self.generator {
            let mib = g.rss as f64 / f64::from(1 << 20);
            writeln!(f, "  generator: {:.2} % of a core, memory {mib:.1} MiB", g.cpu_percent)?;
        }
        Ok(())
    }
}
