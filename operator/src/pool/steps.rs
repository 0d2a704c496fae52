//! Carries out what was planned: marks on pods, orders to nodes, pods made and deleted.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_control::Report;
use sluice_crds::pool::PoolKind;
use sluice_crds::{GROUP, MediaCluster, VERSION, names};
use sluice_objects::{Cluster, Pool};

use super::observe;
use super::reconcile::Outcome;
use super::status::{Problem, View};
use crate::apply::{ApplyError, Kind};
use crate::context::Context;
use crate::events::Note;
use crate::machines;
use crate::nodes::{NodeError, Nodes};
use crate::owned::{Machine, PoolRef};
use sluice_plan::{Drain, Step, Why};

/// How long the last order to a node that is not heard may take.
const LAST_ORDER: Duration = Duration::from_secs(1);

/// A pool goes when its cluster goes: Kubernetes sees to it by the owner reference.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn adopt<K: PoolKind + Kind>(
    context: &Context,
    pool: &K,
    cluster: &Cluster,
) -> Result<(), ApplyError> {
    let owner = cluster.owner();
    if pool.owner_references().iter().any(|reference| reference.uid == owner.uid) {
        return Ok(());
    }
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let client = context.applier.client();
    // Deleted and made anew under the same name, the cluster that is known here may be the one before: with an owner that is gone
    // Kubernetes would delete the pool. The new one comes as a change.
    let clusters: kube::Api<MediaCluster> = kube::Api::namespaced(client.clone(), &namespace);
    let live = clusters.get_metadata_opt(&owner.name).await;
    let failed = |source| ApplyError::Api {
        what: format!("write the owner of {} {namespace}/{name}", K::KIND),
        source: Box::new(source),
    };
    let live = live.map_err(failed)?;
    if live.is_none_or(|live| live.metadata.uid.as_ref() != Some(&owner.uid)) {
        return Ok(());
    }
    let api: kube::Api<K> = kube::Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": K::KIND,
        "metadata": { "name": name, "namespace": namespace, "uid": pool.uid(), "ownerReferences": [{
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid
        }] }
    });
    let params = PatchParams::apply(names::MANAGER_POOL).force();
    match api.patch(&name, &params, &Patch::Apply(&patch)).await {
        Ok(_) => Ok(()),
        // Deleted meanwhile, or made anew: its next round comes.
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// Carries the steps out, in their order. One that fails stops no other: it comes again in the next round.
pub async fn carry_out(
    context: &Context,
    key: &PoolRef,
    pool: &Pool,
    generation: i64,
    views: &[View<'_>],
    steps: &[Step],
    done: &mut Outcome,
) {
    last_orders(&context.nodes, views, steps).await;
    for step in steps {
        let pod = match step {
            Step::Create { slot } => {
                create(context, key, pool, *slot, generation, done).await;
                continue;
            }
            Step::Drain { pod, .. }
            | Step::Undrain { pod }
            | Step::Label { pod, .. }
            | Step::TellDrain { pod, .. }
            | Step::TellUndrain { pod }
            | Step::Delete { pod, .. } => pod,
        };
        let Some(view) = views.iter().find(|view| view.seen.name == *pod) else { continue };
        done.take(one(context, key, pool, view, step).await);
    }
}

/// Marks that no plan is about: a pod that somebody deletes is taken out of its Service at once, and so is one that is not heard any more
/// while others are; annotations follow the label by which a pod is protected (older pods have none).
pub fn marks(pool: &Pool, views: &[View<'_>], planned: &[Step]) -> Vec<Step> {
    let labelled =
        |name: &str| planned.iter().any(|step| matches!(step, Step::Label { pod, .. } if pod == name));
    let kept = |view: &View<'_>| {
        let annotations = view.pod.annotations();
        sluice_objects::protection(pool, view.seen.busy)
            .into_iter()
            .all(|(key, value)| annotations.get(key).map(String::as_str) == value)
    };
    // Kubernetes takes most of a minute to notice that a machine is dead, and sends new sessions there meanwhile.
    let takes = |view: &View<'_>| {
        let seen = &view.seen;
        let accepts = seen.heard.as_ref().is_some_and(|heard| heard.accepting);
        accepts && seen.ready && seen.accepting && !seen.terminating && seen.drain.is_none()
    };
    let others = views.iter().any(takes);
    let silent = |view: &View<'_>| {
        others && view.report.is_some() && view.seen.heard.is_none() && view.failure.is_some()
    };
    let mut steps = Vec::new();
    for view in views.iter().filter(|view| !labelled(&view.seen.name)) {
        let accepting = view.seen.accepting && !view.seen.terminating && !silent(view);
        if accepting != view.seen.accepting || !kept(view) {
            steps.push(Step::Label { pod: view.seen.name.clone(), accepting, busy: view.seen.busy });
        }
    }
    steps
}

/// One step with a pod that is there.
async fn one(
    context: &Context,
    key: &PoolRef,
    pool: &Pool,
    view: &View<'_>,
    step: &Step,
) -> Result<(), ApplyError> {
    let live = view.pod;
    let uid = live.uid().unwrap_or_default();
    match step {
        Step::Create { .. } => {}
        Step::Drain { pod, drain } => {
            mark_draining(context, live, drain).await?;
            let until = drain.deadline.round(jiff::Unit::Second).unwrap_or(drain.deadline);
            let note = format!("{pod} is drained ({}), until {until} at the latest", drain.reason.as_str());
            say(context, live, Note::normal("Draining", note));
            let asked = live.annotations().get(names::DRAIN).filter(|text| !text.trim().is_empty());
            if let Some(text) = asked.filter(|_| observe::requested(live) == Some(None)) {
                let how = format!(
                    "{pod}: {} {text:?} is no time from 1s to 48h, such as 30m: the pool's own counts",
                    names::DRAIN
                );
                say(context, live, Note::warning("DrainTime", how));
            }
        }
        Step::Undrain { pod } => {
            let gone =
                [names::DRAINING_SINCE, names::DRAIN_DEADLINE, names::DRAIN_REASON].map(|key| (key, None));
            mark(context, live, &[(names::STATE, Some("active".into()))], &gone).await?;
            say(context, live, Note::normal("Undrained", format!("{pod} takes sessions again")));
        }
        Step::Label { accepting, busy, .. } => {
            let protection: Vec<_> = sluice_objects::protection(pool, *busy)
                .into_iter()
                .map(|(key, value)| (key, value.map(str::to_owned)))
                .collect();
            let accepting = (names::ACCEPTING, Some(accepting.to_string()));
            mark(context, live, &[accepting, (names::BUSY, busy.then(|| "true".to_owned()))], &protection)
                .await?;
        }
        Step::TellDrain { pod, left, words, anew } => {
            if *anew {
                refused(key, pod, "undrain", context.nodes.undrain(&uid).await);
            }
            let order = sluice_control::Drain {
                reason: words.clone(),
                deadline_s: Some(left.as_secs().max(1)),
                accept_for_s: 0,
            };
            refused(key, pod, "drain", context.nodes.drain(&uid, &order).await);
        }
        Step::TellUndrain { pod } => refused(key, pod, "undrain", context.nodes.undrain(&uid).await),
        Step::Delete { why, .. } => delete(context, live, *why, left(*why, view.report)).await?,
    }
    Ok(())
}

async fn mark_draining(context: &Context, live: &Pod, drain: &Drain) -> Result<(), ApplyError> {
    mark(
        context,
        live,
        &[(names::ACCEPTING, Some("false".into())), (names::STATE, Some("draining".into()))],
        &[
            (names::DRAINING_SINCE, Some(drain.since.to_string())),
            (names::DRAIN_DEADLINE, Some(drain.deadline.to_string())),
            (names::DRAIN_REASON, Some(drain.reason.as_str().into())),
        ],
    )
    .await
}

async fn mark(
    context: &Context,
    live: &Pod,
    labels: &[(&str, Option<String>)],
    annotations: &[(&str, Option<String>)],
) -> Result<(), ApplyError> {
    if let Some(pod) = context.applier.mark(names::MANAGER_POOL, live, labels, annotations).await? {
        context.overlay.wrote(pod);
    }
    Ok(())
}

async fn create(
    context: &Context,
    key: &PoolRef,
    pool: &Pool,
    slot: u32,
    generation: i64,
    done: &mut Outcome,
) {
    let mut pod = sluice_objects::pod(pool, slot, generation);
    machines::keep_away(&mut pod, &context.stores.machines, &context.settings.drain_taints);
    let name = pod.name_any();
    match done.take(context.applier.create(names::MANAGER_POOL, &pod).await) {
        Some(Some(made)) => {
            context.taken.remove(key);
            say(context, &made, Note::normal("Created", format!("{name} is made for slot {slot}")));
            context.overlay.wrote(made);
        }
        // That of a pod which the cache does not have yet, or somebody else's: the next round looks again, past it.
        Some(None) => {
            tracing::info!(pool = %key, pod = %name, "there is a pod of this name already");
            let mut slots = context.taken.get(key).unwrap_or_default();
            slots.insert(slot);
            context.taken.put(key.clone(), slots);
        }
        None => {}
    }
}

/// Tells the nodes that are removed at their deadline without having been heard to end: the order may never have reached them, and one that
/// has it ends its sessions cleanly. All at once, and nobody waits for the answer of one that is silent.
async fn last_orders(nodes: &Nodes, views: &[View<'_>], steps: &[Step]) {
    let tell = |(pod, order): (&Pod, sluice_control::Drain)| {
        let (uid, name) = (pod.uid().unwrap_or_default(), pod.name_any());
        async move {
            let told = tokio::time::timeout(LAST_ORDER, nodes.drain(&uid, &order)).await;
            tracing::info!(pod = %name, heard = matches!(told, Ok(Ok(()))), "told to end at its deadline");
        }
    };
    futures_util::future::join_all(unheard_at_their_end(views, steps).into_iter().map(tell)).await;
}

/// Whom to tell, and what. There is no way to a machine that is silent.
fn unheard_at_their_end<'a>(views: &[View<'a>], steps: &[Step]) -> Vec<(&'a Pod, sluice_control::Drain)> {
    let ends = |name: &str| {
        steps.iter().any(|step| {
            matches!(step, Step::Delete { pod, why: Why::Deadline { publishers: None, .. } } if pod == name)
        })
    };
    let unheard = views.iter().filter(|view| view.seen.lost.is_none() && ends(&view.seen.name));
    unheard
        .filter_map(|view| {
            let reason = sluice_plan::words(view.seen.drain.as_ref()?);
            Some((view.pod, sluice_control::Drain { reason, deadline_s: Some(1), accept_for_s: 0 }))
        })
        .collect()
}

/// The publishers and viewers that are cut when a pod goes: by the plan, or by what its node said last.
fn left(why: Why, report: Option<&Report>) -> Option<(u32, u32)> {
    let last = report.map(|report| (report.publishers.max(report.owned), report.viewers));
    match why {
        Why::Deadline { publishers, viewers } => publishers.zip(viewers).or(last),
        Why::Lost => last,
        Why::Failed | Why::NeverStarted | Why::Empty => None,
    }
}

async fn delete(context: &Context, live: &Pod, why: Why, left: Option<(u32, u32)>) -> Result<(), ApplyError> {
    let name = live.name_any();
    let note = match why {
        Why::Failed => Note::warning("Failed", format!("{name} has ended and is replaced")),
        Why::Lost => Note::warning("Lost", format!("{name} is gone with its machine and is replaced")),
        Why::NeverStarted => Note::normal("Removed", format!("{name} never ran and is not wanted")),
        Why::Empty => Note::normal("Drained", format!("{name} is empty and is removed")),
        Why::Deadline { publishers, .. } => {
            let left = match left {
                Some((publishers, viewers)) => format!("{publishers} publishers and {viewers} viewers left"),
                None => "an unknown number of publishers and viewers left".to_owned(),
            };
            let unheard = if publishers.is_none() { ", when its node was heard last" } else { "" };
            let left = left + unheard;
            Note::warning("DrainDeadline", format!("{name} is removed at its deadline with {left}"))
        }
    };
    let grace = match why {
        // What has waited for its deadline waits no second time.
        Why::Deadline { .. } => Some(30),
        // There is nobody to end it: Kubernetes would wait for its machine's word for ever.
        Why::Lost => Some(0),
        // What is empty ends by itself at once.
        Why::Failed | Why::NeverStarted | Why::Empty => None,
    };
    context.applier.delete(live, grace).await?;
    if let Some((publishers, viewers)) = left {
        context.metrics.sessions_cut.inc_by(u64::from(publishers) + u64::from(viewers));
    }
    match why {
        Why::Failed => {
            if let Some(owner) = live.owner_references().iter().find(|owner| owner.controller == Some(true)) {
                let revision = live.labels().get(names::REVISION).map_or("", String::as_str);
                context.failures.add(&owner.uid, revision);
            }
        }
        Why::Deadline { .. } | Why::Lost | Why::NeverStarted | Why::Empty => {}
    }
    say(context, live, note);
    let mut gone = live.clone();
    gone.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    // Newer than anything the cache has of it, until that has forgotten it.
    gone.metadata.resource_version = Some(u64::MAX.to_string());
    context.overlay.wrote(gone);
    Ok(())
}

/// About the pod's pool: that is where people look.
fn say(context: &Context, pod: &Pod, note: Note) {
    use sluice_crds::{EdgePool, OriginPool};
    let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else {
        return;
    };
    let meta = kube::api::ObjectMeta {
        name: Some(owner.name.clone()),
        namespace: pod.namespace(),
        uid: Some(owner.uid.clone()),
        ..Default::default()
    };
    match owner.kind.as_str() {
        OriginPool::KIND => context.events.about_meta::<OriginPool>(&meta, note),
        _ => context.events.about_meta::<EdgePool>(&meta, note),
    }
}

fn refused(key: &PoolRef, pod: &str, order: &str, answer: Result<(), NodeError>) {
    if let Err(error) = answer {
        tracing::warn!(pool = %key, pod, order, %error, "the node does not take an order: it is given again");
    }
}

/// Pushes settings that take effect without a restart to the nodes that do not have them yet. What a node refuses is a problem, and is
/// pushed again when it is another, or the node is.
pub async fn settings(context: &Context, pool: &Pool, views: &[View<'_>], done: &mut Outcome) {
    for view in views.iter().filter(|view| view.seen.heard.is_some() && !view.seen.terminating) {
        let Some(report) = view.report else { continue };
        let grace = view.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = grace.and_then(|grace| u64::try_from(grace).ok()).map(Duration::from_secs);
        // In a rollout there are pods of several generations; a node takes only what its own knows.
        let candidates = candidates(context, pool, view.pod);
        let wanted =
            sluice_objects::live_settings(pool, sluice_objects::generation(view.pod), grace, &candidates);
        if report.settings_hash.as_deref() == Some(&wanted.hash) {
            continue;
        }
        let (uid, name) = (view.pod.uid().unwrap_or_default(), &view.seen.name);
        let problem = |why: &str| Problem {
            reason: "InvalidSpec",
            message: format!("spec.config: {name} does not take {why}"),
            stuck: true,
        };
        if let Some((hash, boot, why)) = context.refused.get(&uid)
            && hash == wanted.hash
            && boot == report.boot
        {
            done.problems.push(problem(&why));
            continue;
        }
        match context.nodes.apply_settings(&uid, &wanted).await {
            Ok(result) if result.refused.is_empty() => {
                tracing::info!(pod = %name, changed = ?result.changed, "settings are applied live");
            }
            Ok(result) => {
                let why: Vec<String> = result
                    .refused
                    .iter()
                    .map(|refused| format!("{}: {}", refused.key, refused.reason))
                    .collect();
                done.problems.push(problem(&why.join("; ")));
                context.refused.put(uid, (wanted.hash.clone(), report.boot, why.join("; ")));
            }
            Err(error) => {
                tracing::warn!(pod = %name, %error, "settings could not be applied: they are pushed again")
            }
        }
    }
}

/// Where WebRTC clients reach the pod, as far as is known by now.
fn candidates(context: &Context, pool: &Pool, pod: &Pod) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let service = context.stores.services.get(&namespace, &format!("{}-webrtc", pod.name_any()));
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let machine = machine.map(|name| context.stores.machines.get(name));
    let node = match &machine {
        Some(Machine::There(node)) => Some(&**node),
        _ => None,
    };
    sluice_objects::candidates(pool, pod, service.as_deref(), node)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sluice_crds::EdgePool;
    use sluice_objects::Pinned;

    use super::super::observe::observe;
    use super::*;
    use crate::machines::Standing;

    fn pool() -> Pool {
        let meta = |name: &str| json!({ "name": name, "namespace": "media", "uid": name });
        let cluster = serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster", "metadata": meta("demo"),
            "spec": { "database": { "external": { "secret": { "name": "database" } } } }
        }));
        let pinned = Pinned { version: "0.1.0".into(), name_prefix: "p-".into() };
        let cluster = Cluster::new(&cluster.expect("a cluster"), &pinned).expect("right");
        let edges: EdgePool = serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "EdgePool", "metadata": meta("edge"),
            "spec": { "clusterRef": { "name": "demo" }, "replicas": 1 }
        }))
        .expect("a pool");
        Pool::new(&edges, &cluster).expect("right")
    }

    /// The marks of a pod as it is made, with these changes of its metadata.
    fn marked(change: Value, planned: &[Step]) -> Vec<Step> {
        let pool = pool();
        let mut pod = serde_json::to_value(sluice_objects::pod(&pool, 0, 1)).expect("JSON");
        for (part, values) in change.as_object().into_iter().flatten() {
            match values {
                Value::Object(values) => {
                    for (key, value) in values {
                        pod["metadata"][part][key] = value.clone();
                    }
                }
                value => pod["metadata"][part] = value.clone(),
            }
        }
        // As the API server keeps it: without what is null.
        for part in ["labels", "annotations"] {
            if let Some(all) = pod["metadata"][part].as_object_mut() {
                all.retain(|_, value| !value.is_null());
            }
        }
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let seen = observe("edge", &pod, None, Standing::default(), Timestamp::UNIX_EPOCH);
        let view = View {
            pod: &pod,
            seen: seen.expect("one of the pool"),
            report: None,
            failure: None,
            again: None,
        };
        marks(&pool, &[view], planned)
    }

    fn label(accepting: bool, busy: bool) -> Step {
        Step::Label { pod: "edge-0".into(), accepting, busy }
    }

    #[test]
    fn who_is_not_heard_at_its_deadline_is_told_once_more() {
        let pool = pool();
        let pods: Vec<Pod> = (0..4)
            .map(|slot| {
                let mut pod = sluice_objects::pod(&pool, slot, 1);
                let since = (names::DRAINING_SINCE.to_owned(), Timestamp::UNIX_EPOCH.to_string());
                pod.metadata.annotations.get_or_insert_default().extend([since]);
                pod
            })
            .collect();
        let mut views: Vec<View<'_>> = pods
            .iter()
            .filter_map(|pod| {
                let seen = observe("edge", pod, None, Standing::default(), Timestamp::UNIX_EPOCH)?;
                Some(View { pod, seen, report: None, failure: None, again: None })
            })
            .collect();
        views[2].seen.lost = Some(sluice_plan::Lost::Silent);
        let ends = |slot: usize, known| Step::Delete {
            pod: format!("edge-{slot}"),
            why: Why::Deadline { publishers: known, viewers: known },
        };
        let empty = Step::Delete { pod: "edge-3".into(), why: Why::Empty };
        let told = unheard_at_their_end(&views, &[ends(0, None), ends(1, Some(1)), ends(2, None), empty]);
        assert_eq!(told.iter().map(|(pod, _)| pod.name_any()).collect::<Vec<_>>(), ["edge-0"]);
        assert!(told[0].1.deadline_s == Some(1) && told[0].1.reason.contains("ScaleIn"), "{told:?}");
    }

    #[test]
    fn what_is_cut_is_what_was_heard_last() {
        let said = Report { publishers: 1, owned: 2, viewers: 7, ..Report::default() };
        let deadline = |publishers, viewers| Why::Deadline { publishers, viewers };
        assert_eq!(left(deadline(Some(3), Some(4)), Some(&said)), Some((3, 4)));
        assert_eq!(left(deadline(None, None), Some(&said)), Some((2, 7)));
        assert_eq!(left(deadline(None, None), None), None);
        assert_eq!(left(Why::Lost, Some(&said)), Some((2, 7)));
        assert_eq!(left(Why::Empty, Some(&said)), None);
    }

    #[test]
    fn a_pod_as_it_is_made_has_all_its_marks() {
        assert_eq!(marked(json!({}), &[]), []);
        assert_eq!(marked(json!({ "labels": { (names::ACCEPTING): "true" } }), &[]), []);
    }

    #[test]
    fn a_pod_that_somebody_deletes_leaves_its_service() {
        let deleted =
            json!({ "deletionTimestamp": "2026-01-01T00:00:00Z", "labels": { (names::ACCEPTING): "true" } });
        assert_eq!(marked(deleted, &[]), [label(false, true)]);
    }

    #[test]
    fn a_pod_that_is_heard_no_more_leaves_its_service_while_others_are_heard() {
        let pool = pool();
        let report = sluice_control::Report { accepting: true, ..Default::default() };
        let pods: Vec<Pod> = (0..2)
            .map(|slot| {
                let mut pod = sluice_objects::pod(&pool, slot, 1);
                pod.metadata.labels.get_or_insert_default().insert(names::ACCEPTING.into(), "true".into());
                let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
                pod.status = serde_json::from_value(ready).expect("a status");
                pod
            })
            .collect();
        let view = |slot: usize, heard: bool| {
            let pod = &pods[slot];
            let fresh = heard.then_some(&report);
            let seen = observe("edge", pod, fresh, Standing::default(), Timestamp::UNIX_EPOCH);
            let failure = (!heard).then(|| "it does not answer".to_owned());
            View { pod, seen: seen.expect("one of the pool"), report: Some(&report), failure, again: None }
        };
        assert_eq!(marks(&pool, &[view(0, false), view(1, true)], &[]), [label(false, true)]);
        assert_eq!(
            marks(&pool, &[view(0, false), view(1, false)], &[]),
            [],
            "perhaps it is the operator who is cut off"
        );
        assert_eq!(marks(&pool, &[view(0, true), view(1, true)], &[]), []);
        let mut starting = view(0, false);
        starting.report = None;
        assert_eq!(
            marks(&pool, &[starting, view(1, true)], &[]),
            [],
            "it was never heard: its label is no word of it"
        );
    }

    #[test]
    fn annotations_follow_the_label() {
        let older = json!({ "annotations": { (names::SAFE_TO_EVICT): null, (names::DO_NOT_DISRUPT): null } });
        assert_eq!(marked(older.clone(), &[]), [label(false, true)], "a pod of an older operator");
        assert_eq!(marked(older, &[label(true, true)]), [], "they are written with the label anyway");
        let idle = json!({ "labels": { (names::BUSY): null } });
        assert_eq!(marked(idle, &[]), [label(false, false)]);
    }
}
