//! `kubectl sluice drain` and `undrain`: an annotation on the pod, which the operator obeys.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sluice_crds::pool::PodStatus;
use sluice_crds::{EdgePool, OriginPool, names};

use crate::args::Wait;
use crate::duration::Deadline;
use crate::failure::{Asked, Failure};
use crate::print;
use crate::session::Session;
use crate::snapshot::{self, Operator, annotation, label};

/// How often a wait looks.
const LOOK: Duration = Duration::from_secs(2);

/// Asks the operator to empty a pod.
pub(crate) async fn drain(
    session: &Session,
    name: &str,
    deadline: Option<&Deadline>,
    wait: &Wait,
) -> Result<(), Failure> {
    let pod = ours(session, name).await?;
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(Failure::Refused(format!("pod {name} is being removed already")));
    }
    let value = deadline.map(|deadline| deadline.0.as_str()).unwrap_or_default();
    if annotation(&pod, names::DRAIN) == Some(value) {
        print::line(&format!("pod {name} is to be drained already"))?;
    } else {
        annotate(session, &pod, Some(value)).await?;
        let within = deadline.map_or_else(|| "its pool's deadline".into(), |deadline| deadline.0.clone());
        print::line(&format!("pod {name} is to be drained, within {within}"))?;
    }
    follow(session, &pod, wait, "begins", |now, told| drained(&pod, now, told)).await
}

/// Takes that back.
pub(crate) async fn undrain(session: &Session, name: &str, wait: &Wait) -> Result<(), Failure> {
    let pod = ours(session, name).await?;
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(Failure::Refused(format!(
            "pod {name} is being removed: it is too late to take its drain back"
        )));
    }
    if annotation(&pod, names::DRAIN).is_some() {
        annotate(session, &pod, None).await?;
        print::line(&format!("pod {name} is no longer to be drained"))?;
    } else if label(&pod, names::STATE) == Some("draining") {
        let reason = annotation(&pod, names::DRAIN_REASON).unwrap_or("another reason");
        if reason != "Requested" {
            return Err(Failure::Refused(format!(
                "pod {name} drains because of {reason}, not because somebody asked: change its pool or cluster instead"
            )));
        }
        print::line(&format!("pod {name} is no longer to be drained already"))?;
    } else {
        print::line(&format!("pod {name} is not being drained"))?;
        return Ok(());
    }
    follow(session, &pod, wait, "takes it back", |now, _| undrained(&pod, now)).await
}

async fn ours(session: &Session, name: &str) -> Result<Pod, Failure> {
    let namespace = &session.own_namespace;
    let pods: Api<Pod> = session.api(Some(namespace));
    let pod = session.ask(Asked::one("get", "pods", namespace, name), pods.get(name)).await?;
    if snapshot::is_ours(&pod) { Ok(pod) } else { Err(snapshot::not_ours(namespace, name)) }
}

async fn annotate(session: &Session, pod: &Pod, value: Option<&str>) -> Result<(), Failure> {
    let (namespace, name) = (&session.own_namespace, pod.name_any());
    let pods: Api<Pod> = session.api(Some(namespace));
    let asked = Asked::one("patch", "pods", namespace, &name);
    session.ask(asked, pods.patch(&name, &PatchParams::default(), &Patch::Merge(&patch(pod, value)))).await?;
    Ok(())
}

/// The uid makes the API server refuse it when another pod has the name by now.
fn patch(pod: &Pod, value: Option<&str>) -> serde_json::Value {
    json!({ "metadata": { "uid": pod.metadata.uid, "annotations": { names::DRAIN: value } } })
}

/// How a wait goes.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// It is done, in words.
    Done(String),
    /// It will not be done, in words.
    Never(String),
    /// What it waits for, in words.
    Waits(String),
}

/// How far a drain is: `now` is the pod of that name, if there is one; `told` what its pool says of it.
fn drained(first: &Pod, now: Option<&Pod>, told: Option<&PodStatus>) -> Progress {
    let name = first.name_any();
    let Some(now) = now.filter(|now| now.metadata.uid == first.metadata.uid) else {
        return Progress::Done(format!("pod {name} is drained and gone"));
    };
    if now.metadata.deletion_timestamp.is_some() {
        return Progress::Waits(format!("pod {name} is drained and ends"));
    }
    if annotation(now, names::DRAIN).is_none() {
        return Progress::Never(format!("somebody took the drain of pod {name} back"));
    }
    if label(now, names::STATE) != Some("draining") {
        return Progress::Waits("the operator has not begun".into());
    }
    let mut words = match told {
        Some(told) => format!("{} streams and {} viewers are left", told.streams, told.viewers),
        None => "it drains".into(),
    };
    if let Some(deadline) = annotation(now, names::DRAIN_DEADLINE) {
        words.push_str(&format!("; it ends at {} whatever is left", whole_seconds(deadline)));
    }
    Progress::Waits(words)
}

/// A point of time without its fractions; the text itself where it is none.
fn whole_seconds(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| text.to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// How far the end of a drain is.
fn undrained(first: &Pod, now: Option<&Pod>) -> Progress {
    let name = first.name_any();
    let Some(now) =
        now.filter(|now| now.metadata.uid == first.metadata.uid && now.metadata.deletion_timestamp.is_none())
    else {
        return Progress::Never(format!("it was too late: pod {name} is gone"));
    };
    if annotation(now, names::DRAIN).is_some() {
        return Progress::Never(format!("somebody asked for the drain of pod {name} again"));
    }
    if label(now, names::STATE) == Some("active") && label(now, names::ACCEPTING) == Some("true") {
        return Progress::Done(format!("pod {name} takes new sessions"));
    }
    Progress::Waits("it does not take new sessions yet".into())
}

async fn follow(
    session: &Session,
    pod: &Pod,
    wait: &Wait,
    does: &str,
    progress: impl Fn(Option<&Pod>, Option<&PodStatus>) -> Progress,
) -> Result<(), Failure> {
    if let Operator::Down { .. } = Operator::read(session, Timestamp::now()).await? {
        print::warn(&format!("The operator is not running: it {does} when it is back."));
    }
    if !wait.wait {
        return Ok(());
    }
    let began = Instant::now();
    let mut last = String::new();
    loop {
        match look(session, pod).await {
            Ok((now, told)) => match progress(now.as_ref(), told.as_ref()) {
                Progress::Done(words) => return print::line(&words),
                Progress::Never(words) => return Err(Failure::Refused(words)),
                Progress::Waits(words) => {
                    if words != last {
                        print::line(&words)?;
                        last = words;
                    }
                }
            },
            // The API server may be restarted meanwhile.
            Err(failure @ (Failure::Connection { .. } | Failure::Late { .. })) => {
                let words = failure.to_string();
                if words != last {
                    print::warn(&words);
                    last = words;
                }
            }
            Err(failure) => return Err(failure),
        }
        if began.elapsed() + LOOK > wait.timeout {
            return Err(Failure::Late {
                what: format!("the wait for pod {}", pod.name_any()),
                limit: format!("{:?}", wait.timeout),
                hint: "what was asked for stands, and kubectl sluice status tells how it goes",
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The pod of that name, and what its pool says of it.
async fn look(session: &Session, pod: &Pod) -> Result<(Option<Pod>, Option<PodStatus>), Failure> {
    let (namespace, name) = (&session.own_namespace, pod.name_any());
    let pods: Api<Pod> = session.api(Some(namespace));
    let now = session.ask(Asked::one("get", "pods", namespace, &name), pods.get_opt(&name)).await?;
    let pool = label(pod, names::POOL).unwrap_or_default();
    // Pools of the two kinds may have the same name.
    let status = if label(pod, names::ROLE) == Some("origin") {
        let pools: Api<OriginPool> = session.api(Some(namespace));
        let asked = Asked::one("get", "originpools.sluice.dev", namespace, pool);
        session.ask(asked, pools.get_opt(pool)).await.map(|pool| pool.and_then(|pool| pool.status))
    } else {
        let pools: Api<EdgePool> = session.api(Some(namespace));
        let asked = Asked::one("get", "edgepools.sluice.dev", namespace, pool);
        session.ask(asked, pools.get_opt(pool)).await.map(|pool| pool.and_then(|pool| pool.status))
    };
    let status = match status {
        Ok(status) => status,
        // The pod alone tells enough.
        Err(Failure::Forbidden { .. }) => None,
        Err(failure) => return Err(failure),
    };
    let told = status.and_then(|status| status.pods.into_iter().find(|one| one.name == name));
    Ok((now, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, annotations: serde_json::Value, labels: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "e-0", "uid": uid, "annotations": annotations, "labels": labels }
        }))
        .unwrap()
    }

    #[test]
    fn the_patch_is_for_this_pod_only() {
        let one = pod("u1", json!({}), json!({}));
        assert_eq!(
            patch(&one, Some("30m")),
            json!({ "metadata": { "uid": "u1", "annotations": { "sluice.dev/drain": "30m" } } })
        );
        // A merge patch takes away what is null.
        assert_eq!(patch(&one, None)["metadata"]["annotations"]["sluice.dev/drain"], serde_json::Value::Null);
    }

    #[test]
    fn a_drain_is_followed_to_its_end() {
        let first = pod("u1", json!({}), json!({}));
        let asked = pod("u1", json!({ "sluice.dev/drain": "" }), json!({ "sluice.dev/state": "active" }));
        assert_eq!(drained(&first, Some(&asked), None), Progress::Waits("the operator has not begun".into()));
        let begun = pod(
            "u1",
            json!({ "sluice.dev/drain": "", "sluice.dev/drain-deadline": "2026-01-01T01:00:00.123456789Z" }),
            json!({ "sluice.dev/state": "draining" }),
        );
        let told = PodStatus { name: "e-0".into(), streams: 2, viewers: 30, ..PodStatus::default() };
        assert_eq!(
            drained(&first, Some(&begun), Some(&told)),
            Progress::Waits(
                "2 streams and 30 viewers are left; it ends at 2026-01-01T01:00:00Z whatever is left".into()
            )
        );
        let mut ending = begun.clone();
        ending.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            "2026-01-01T00:00:00Z".parse().unwrap(),
        ));
        assert!(matches!(drained(&first, Some(&ending), None), Progress::Waits(_)));
        let taken_back = pod("u1", json!({}), json!({ "sluice.dev/state": "draining" }));
        assert!(matches!(drained(&first, Some(&taken_back), None), Progress::Never(_)));
        // Its successor may have its name.
        let next = pod("u2", json!({}), json!({ "sluice.dev/state": "active" }));
        for now in [None, Some(&next)] {
            assert_eq!(drained(&first, now, None), Progress::Done("pod e-0 is drained and gone".into()));
        }
    }

    #[test]
    fn the_end_of_a_drain_is_followed() {
        let first = pod("u1", json!({ "sluice.dev/drain": "" }), json!({ "sluice.dev/state": "draining" }));
        let slow = pod("u1", json!({}), json!({ "sluice.dev/state": "draining" }));
        assert!(matches!(undrained(&first, Some(&slow)), Progress::Waits(_)));
        let back =
            pod("u1", json!({}), json!({ "sluice.dev/state": "active", "sluice.dev/accepting": "true" }));
        assert!(matches!(undrained(&first, Some(&back)), Progress::Done(_)));
        assert!(matches!(undrained(&first, Some(&first)), Progress::Never(_)));
        assert!(matches!(undrained(&first, None), Progress::Never(_)));
    }
}
