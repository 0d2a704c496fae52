//! How a node is.

use serde::{Deserialize, Serialize};

use crate::drain::Draining;

/// A report names at most as many problems.
pub const MAX_PROBLEMS: usize = 8;

/// A problem has at most as many characters.
pub const PROBLEM_CHARS: usize = 300;

/// A node, as it tells the operator of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its id: the pod's name.
    pub node: String,
    /// This run of its process: random, never zero. Another one means that the process was restarted.
    pub boot: u32,
    /// The release that it runs.
    pub version: String,
    /// What it does.
    pub role: Role,
    /// The group of nodes that it belongs to; none when it is alone in that respect.
    pub group: Option<String>,
    /// Seconds since its process started.
    pub uptime_s: u64,
    /// Changes when counts, `ready`, `accepting`, `draining` (but for time passing), hashes or problems change; not for
    /// load. Never the same in two runs of the process.
    pub revision: u64,
    /// It serves what it has.
    pub ready: bool,
    /// It wants new sessions: not draining, not stopping. A node at its limits still says so, and names that in
    /// `problems`.
    pub accepting: bool,
    /// It is being taken out of service.
    pub draining: Option<Draining>,
    /// Publishers that are connected to it.
    pub publishers: u32,
    /// Live streams that it has: its own and those that it fetches from other nodes.
    pub streams: u32,
    /// Those of them that it owns: published to it, or waiting for their publisher to return.
    pub owned: u32,
    /// Viewers by any protocol.
    pub viewers: u32,
    /// How much it takes.
    pub capacity: Capacity,
    /// What it is busy with.
    pub load: Load,
    /// Whether the store that the cluster shares answers it.
    pub store: StoreState,
    /// Members of its cluster that it knows to be alive, itself included.
    pub members: u32,
    /// The [`Apps`](crate::Apps) that were applied through this run of the node and have not been changed by others
    /// since.
    pub apps_hash: Option<String>,
    /// The [`LiveSettings`](crate::LiveSettings) that this run of the node took, all of them.
    pub settings_hash: Option<String>,
    /// What is wrong, in sentences for people: at most [`MAX_PROBLEMS`], each at most [`PROBLEM_CHARS`] long.
    pub problems: Vec<String>,
}

/// Characters of any other text in a report.
const TEXT_CHARS: usize = 256;

impl Report {
    /// Streams published to it. One whose publisher's connection broke waits for it, and is not over.
    pub fn published(&self) -> u32 {
        self.publishers.max(self.owned)
    }

    /// From its JSON. What a node says ends up in the status of pools and in front of people: texts are cut to their
    /// bounds, without control characters, and numbers are numbers.
    ///
    /// # Errors
    /// It is no report.
    pub fn parse(json: &[u8]) -> Result<Report, serde_json::Error> {
        let mut report: Report = serde_json::from_slice(json)?;
        let texts = [Some(&mut report.node), Some(&mut report.version)].into_iter();
        let maybe = [&mut report.group, &mut report.apps_hash, &mut report.settings_hash];
        for text in texts.chain(maybe.into_iter().map(Option::as_mut)).flatten() {
            cut(text, TEXT_CHARS);
        }
        if let Some(draining) = &mut report.draining {
            cut(&mut draining.reason, PROBLEM_CHARS);
        }
        report.problems.truncate(MAX_PROBLEMS);
        report.problems.iter_mut().for_each(|problem| cut(problem, PROBLEM_CHARS));
        let cpu = &mut report.load.cpu_percent;
        *cpu = if cpu.is_finite() { cpu.clamp(0.0, 100.0) } else { 0.0 };
        let encoder = &mut report.load.encoder_percent;
        *encoder = encoder.filter(|percent| percent.is_finite()).map(|percent| percent.clamp(0.0, 100.0));
        Ok(report)
    }
}

fn cut(text: &mut String, chars: usize) {
    if text.chars().count() > chars || text.contains(char::is_control) {
        *text = text.chars().filter(|c| !c.is_control()).take(chars).collect();
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes publishers and serves viewers.
    #[default]
    Both,
    /// Takes publishers.
    Origin,
    /// Serves viewers, refuses publishers.
    Edge,
}

/// How much a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// Streams that may be published to it at once (`max_streams`); none on an edge.
    pub streams: Option<u32>,
    /// Viewers that it lets in (`max_viewers`); none when it does not count them.
    pub viewers: Option<u32>,
}

/// What a node is busy with, averaged over some seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// CPU of the machine in use, percent of all its cores, whoever uses them. What the pod itself uses is in
    /// `metrics.k8s.io`.
    pub cpu_percent: f32,
    /// Memory of the process, bytes.
    pub memory_bytes: u64,
    /// What the process may use at most, bytes: the limit of its control group, else the memory of the machine; 0 when
    /// that cannot be told.
    pub memory_limit_bytes: u64,
    /// Bits per second received by all ports.
    pub ingress_bits_s: u64,
    /// Bits per second sent by all ports.
    pub egress_bits_s: u64,
    /// How busy its encoders are, percent of what they can do; none on a node that does not transcode.
    pub encoder_percent: Option<f32>,
}

/// Whether the store that the cluster shares answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StoreState {
    /// No store is shared: members keep what is stored among themselves.
    #[default]
    None,
    /// It answers.
    Reachable,
    /// It does not; what is live goes on.
    Away {
        /// For how long, seconds.
        since_s: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_as_if_there_were_nothing() {
        let report =
            Report::parse(br#"{"node":"n","role":"edge","later":[1],"store":{"state":"away","since_s":3}}"#);
        let expected = Report {
            node: "n".into(),
            role: Role::Edge,
            store: StoreState::Away { since_s: 3 },
            ..Report::default()
        };
        assert_eq!(report.unwrap(), expected);
        assert!(Report::parse(b"7").is_err());
    }

    #[test]
    fn it_comes_out_as_it_went_in() {
        let report = Report {
            node: "demo-origin-0".into(),
            revision: u64::MAX,
            draining: Some(Draining { reason: "why".into(), deadline_s: Some(4), ..Draining::default() }),
            capacity: Capacity { streams: Some(5), viewers: None },
            load: Load { cpu_percent: 12.5, ..Load::default() },
            problems: vec!["one".into()],
            ..Report::default()
        };
        assert_eq!(Report::parse(&serde_json::to_vec(&report).unwrap()).unwrap(), report);
    }

    #[test]
    fn a_node_that_says_too_much_is_cut_short() {
        let long = "x\n".repeat(10_000);
        let report = Report {
            version: long.clone(),
            group: Some(long.clone()),
            draining: Some(Draining { reason: long.clone(), ..Draining::default() }),
            problems: vec![long; 1000],
            load: Load { cpu_percent: 1e9, ..Load::default() },
            ..Report::default()
        };
        let report = Report::parse(&serde_json::to_vec(&report).unwrap()).unwrap();
        assert_eq!((report.version.len(), report.problems.len()), (TEXT_CHARS, MAX_PROBLEMS));
        assert_eq!(report.problems[0], "x".repeat(PROBLEM_CHARS));
        assert_eq!((report.draining.unwrap().reason.len(), report.load.cpu_percent), (PROBLEM_CHARS, 100.0));
    }
}
