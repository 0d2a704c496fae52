//! `kubectl sluice streams`: what the nodes say they carry, put together.

mod ask;
mod merge;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

pub(crate) use ask::ask;
pub(crate) use merge::merge;

use crate::args::{Output, Target};
use crate::duration::short;
use crate::failure::Failure;
use crate::print;
use crate::session::Session;
use crate::snapshot::{self, label};
use crate::table::{self, Column};

/// A stream as `sluice-node streams --json` tells it, and as this plugin does for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Stream {
    /// Where its cluster is. Not from the node.
    #[serde(skip_deserializing)]
    pub(crate) namespace: String,
    /// Its cluster. Not from the node.
    #[serde(skip_deserializing)]
    pub(crate) cluster: String,
    pub(crate) app: String,
    #[serde(rename = "streamId")]
    pub(crate) stream: String,
    /// `live`, `relayed` (of one node) or `waiting`.
    pub(crate) state: String,
    /// How it is published; empty when that is not known.
    pub(crate) protocol: String,
    /// The node that it is published to; none while that is lost.
    pub(crate) origin: Option<String>,
    /// On the node that tells, or on all of `pods`.
    pub(crate) viewers: u64,
    /// Bits per second from the publisher.
    pub(crate) bitrate: u64,
    /// When it went live, ms since the epoch; 0 when that is not known.
    pub(crate) start_time: i64,
    /// The pods that carry it.
    #[serde(skip_deserializing)]
    pub(crate) pods: Vec<String>,
}

impl Stream {
    /// How it is published, how much, and where from.
    pub(crate) fn in_words(&self) -> String {
        let mut words = Vec::new();
        if !self.protocol.is_empty() {
            words.push(self.protocol.clone());
        }
        if self.bitrate > 0 {
            words.push(rate(self.bitrate));
        }
        match &self.origin {
            Some(origin) if self.state == "relayed" => words.push(format!("from {origin}")),
            None => words.push("its origin is lost".into()),
            Some(_) => {}
        }
        words.join(", ")
    }
}

/// What `streams -o json` writes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    streams: &'a [Stream],
    /// Pods that did not answer, and why.
    failed: Vec<Failed<'a>>,
}

#[derive(Debug, Serialize)]
struct Failed<'a> {
    pod: &'a str,
    reason: String,
}

/// Asks the pods, and prints.
pub(crate) async fn run(session: &Session, target: &Target, output: Output) -> Result<(), Failure> {
    let pods = snapshot::pods(session, target).await?;
    let asked: Vec<_> = pods.iter().filter(|pod| snapshot::is_ready(pod)).cloned().collect();
    if asked.is_empty() {
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).take(10).collect();
        return Err(Failure::NotFound(format!("no pod is ready to be asked: {}", names.join(", "))));
    }
    let told = ask(session, &asked).await?;
    let streams = merge(&told);
    let failed: Vec<Failed<'_>> = told
        .iter()
        .filter_map(|one| {
            let reason = one.streams.as_ref().err()?;
            Some(Failed { pod: &one.pod, reason: reason.clone() })
        })
        .collect();
    let count = failed.len();
    if output == Output::Json {
        print::json(&Answer { streams: &streams, failed })?;
    } else {
        if streams.is_empty() && count < asked.len() {
            print::line("no live streams")?;
        } else if !streams.is_empty() {
            let several = pods.iter().any(|pod| {
                pod.namespace() != pods[0].namespace()
                    || label(pod, sluice_crds::names::CLUSTER) != label(&pods[0], sluice_crds::names::CLUSTER)
            });
            print::lines(&lines(&streams, several, output == Output::Wide, Timestamp::now()))?;
        }
        for one in &failed {
            print::warn(&format!("{}: {}", one.pod, one.reason));
        }
    }
    if count > 0 {
        return Err(Failure::Partly(format!("{count} of {} pods did not tell their streams", asked.len())));
    }
    Ok(())
}

fn lines(streams: &[Stream], with_cluster: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let mut columns = vec![
        Column::Always("APP"),
        Column::Always("STREAM"),
        Column::Always("STATE"),
        Column::Always("PROTOCOL"),
        Column::Always("ORIGIN"),
        Column::Always("VIEWERS"),
        Column::Always("BITRATE"),
        Column::Always("AGE"),
    ];
    if with_cluster {
        columns.insert(0, Column::Always("CLUSTER"));
    }
    if wide {
        columns.push(Column::Always("PODS"));
    }
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let rows: Vec<Vec<String>> = streams
        .iter()
        .map(|stream| {
            let mut row = vec![
                stream.app.clone(),
                stream.stream.clone(),
                stream.state.clone(),
                dash(&stream.protocol),
                dash(stream.origin.as_deref().unwrap_or_default()),
                stream.viewers.to_string(),
                if stream.bitrate == 0 { "-".into() } else { rate(stream.bitrate) },
                age(stream.start_time, now),
            ];
            if with_cluster {
                row.insert(0, format!("{}/{}", stream.namespace, stream.cluster));
            }
            if wide {
                row.push(stream.pods.join(","));
            }
            row
        })
        .collect();
    table::lines(&columns, &rows)
}

fn rate(bits: u64) -> String {
    match bits {
        1_000_000.. => format!("{:.1} Mbit/s", bits as f64 / 1e6),
        _ => format!("{} kbit/s", bits.div_ceil(1000)),
    }
}

fn age(start: i64, now: Timestamp) -> String {
    if start <= 0 {
        return "-".into();
    }
    short(now.as_millisecond().saturating_sub(start) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_for_people() {
        let stream = Stream {
            namespace: "media".into(),
            cluster: "demo".into(),
            app: "live".into(),
            stream: "cam\u{1b}[2J".into(),
            state: "live".into(),
            protocol: "rtmp".into(),
            origin: Some("demo-origin-0".into()),
            viewers: 7,
            bitrate: 2_400_000,
            start_time: 1_000,
            pods: vec!["demo-origin-0".into(), "demo-edge-1".into()],
        };
        let lost = Stream {
            app: "live".into(),
            stream: "gone".into(),
            state: "waiting".into(),
            ..Stream::default()
        };
        let now = Timestamp::from_millisecond(301_000).unwrap();
        assert_eq!(
            lines(&[stream.clone(), lost], false, false, now),
            [
                "APP    STREAM         STATE     PROTOCOL   ORIGIN          VIEWERS   BITRATE      AGE",
                "live   cam\\u{1b}[2J   live      rtmp       demo-origin-0   7         2.4 Mbit/s   5m",
                "live   gone           waiting   -          -               0         -            -",
            ]
        );
        let wide = lines(&[stream], true, true, now);
        assert!(wide[0].starts_with("CLUSTER      APP") && wide[0].ends_with("PODS"), "{wide:?}");
        assert!(wide[1].starts_with("media/demo   live"), "{wide:?}");
        assert!(wide[1].ends_with("demo-origin-0,demo-edge-1"), "{wide:?}");
    }

    #[test]
    fn what_a_node_tells_is_read() {
        let told = r#"[{"app":"live","streamId":"b","state":"live","protocol":"rtmp","origin":"o-0","viewers":1,
            "bitrate":2400000,"startTime":1000,"relayedBy":["e-0"],"namespace":"elsewhere","new":{}}, {"app":"x","origin":null}]"#;
        let streams: Vec<Stream> = serde_json::from_str(told).unwrap();
        assert_eq!(streams[0].stream, "b");
        assert_eq!(streams[0].start_time, 1000);
        assert_eq!(streams[0].namespace, "", "a node does not say which cluster it is of");
        assert_eq!(streams[1].origin, None);
    }
}
