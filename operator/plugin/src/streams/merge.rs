//! What each pod told, made one list: each stream once, with the viewers of all pods.

use std::collections::BTreeMap;

use super::Stream;

/// What one pod told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) pod: String,
    /// The streams that it carries, or why it did not tell.
    pub(crate) streams: Result<Vec<Stream>, String>,
}

/// Each stream of each cluster once, by name. What its owner tells counts; where the owner did not answer, another pod that
/// carries it speaks for it.
pub(crate) fn merge(told: &[Told]) -> Vec<Stream> {
    let mut merged: BTreeMap<(String, String, String, String), (u8, Stream)> = BTreeMap::new();
    for from in told {
        for stream in from.streams.iter().flatten() {
            let key =
                (from.namespace.clone(), from.cluster.clone(), stream.app.clone(), stream.stream.clone());
            let rank = rank(stream, &from.pod);
            let entry = merged.entry(key).or_insert_with(|| {
                let base = Stream {
                    namespace: from.namespace.clone(),
                    cluster: from.cluster.clone(),
                    app: stream.app.clone(),
                    stream: stream.stream.clone(),
                    ..Stream::default()
                };
                (0, base)
            });
            let best = &mut entry.1;
            best.viewers = best.viewers.saturating_add(stream.viewers);
            best.pods.push(from.pod.clone());
            if rank > entry.0 {
                entry.0 = rank;
                // A pod that relays a stream knows that it is live.
                best.state = if stream.state == "relayed" { "live".into() } else { stream.state.clone() };
                best.protocol.clone_from(&stream.protocol);
                best.origin.clone_from(&stream.origin);
                best.bitrate = stream.bitrate;
                best.start_time = stream.start_time;
            }
        }
    }
    merged
        .into_values()
        .map(|(_, mut stream)| {
            stream.pods.sort();
            stream.pods.dedup();
            stream
        })
        .collect()
}

/// Who is believed: the owner while it is live, then one who relays from an owner, then the owner that lost its publisher, then
/// one who has lost the owner.
fn rank(stream: &Stream, pod: &str) -> u8 {
    let owner = stream.origin.as_deref() == Some(pod);
    match (stream.state.as_str(), owner) {
        ("live", true) => 5,
        ("relayed", _) => 4,
        (_, true) => 3,
        ("live", false) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(app: &str, id: &str, state: &str, origin: Option<&str>, viewers: u64) -> Stream {
        Stream {
            app: app.into(),
            stream: id.into(),
            state: state.into(),
            origin: origin.map(Into::into),
            viewers,
            bitrate: 1000 + viewers,
            ..Stream::default()
        }
    }

    fn told(cluster: &str, pod: &str, streams: Vec<Stream>) -> Told {
        Told { namespace: "media".into(), cluster: cluster.into(), pod: pod.into(), streams: Ok(streams) }
    }

    #[test]
    fn each_stream_is_there_once_as_its_owner_tells_it() {
        let merged = merge(&[
            told("demo", "e-0", vec![stream("live", "a", "relayed", Some("o-0"), 20)]),
            told("demo", "o-0", vec![stream("live", "a", "live", Some("o-0"), 1)]),
            told("demo", "e-1", vec![stream("live", "a", "waiting", Some("o-9"), 4)]),
            told("other", "o-0", vec![stream("live", "a", "live", Some("o-0"), 2)]),
        ]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].viewers, 25);
        assert_eq!(merged[0].bitrate, 1001);
        assert_eq!(merged[0].origin.as_deref(), Some("o-0"));
        assert_eq!(merged[0].state, "live");
        assert_eq!(merged[0].pods, ["e-0", "e-1", "o-0"]);
        assert_eq!((merged[1].cluster.as_str(), merged[1].viewers), ("other", 2));
    }

    #[test]
    fn an_owner_that_does_not_answer_is_spoken_for() {
        let silent = Told {
            namespace: "media".into(),
            cluster: "demo".into(),
            pod: "o-0".into(),
            streams: Err("it did not answer".into()),
        };
        let edge = told("demo", "e-0", vec![stream("live", "a", "relayed", Some("o-0"), 3)]);
        let merged = merge(&[silent, edge]);
        assert_eq!((merged[0].state.as_str(), merged[0].viewers), ("live", 3));
        assert_eq!(merged[0].origin.as_deref(), Some("o-0"));
    }

    #[test]
    fn a_lost_origin_is_waited_for() {
        let merged = merge(&[told("demo", "e-0", vec![stream("live", "a", "waiting", None, 3)])]);
        assert_eq!((merged[0].state.as_str(), merged[0].origin.as_deref()), ("waiting", None));
    }

    proptest! {
        #[test]
        fn viewers_are_neither_lost_nor_counted_twice_and_order_does_not_matter(
            rows in prop::collection::vec((0..3u8, 0..3u8, 0..3usize, 0..1000u64), 0..12),
        ) {
            let states = ["live", "relayed", "waiting"];
            // A pod tells each stream once.
            let mut seen = std::collections::BTreeSet::new();
            let rows: Vec<_> = rows.into_iter().filter(|(pod, id, ..)| seen.insert((*pod, *id))).collect();
            let all: Vec<Told> = rows
                .iter()
                .map(|(pod, id, state, viewers)| {
                    // Only one pod owns a stream.
                    let state = states[if *pod == 0 { *state } else { 1 + *state % 2 }];
                    told("demo", &format!("p-{pod}"), vec![stream("live", &id.to_string(), state, Some("p-0"), *viewers)])
                })
                .collect();
            let merged = merge(&all);
            prop_assert_eq!(merged.iter().map(|one| one.viewers).sum::<u64>(), rows.iter().map(|row| row.3).sum::<u64>());
            let mut turned = all.clone();
            turned.reverse();
            let again = merge(&turned);
            let names = |list: &[Stream]| {
                list.iter().map(|one| (one.stream.clone(), one.viewers, one.pods.clone(), one.state.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(names(&merged), names(&again));
        }
    }
}
