//! Carries out what was planned: marks on pods, orders to nodes, pods made and deleted.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_crds::names;
use sluice_crds::pool::PoolKind;
use sluice_crds::{GROUP, MediaCluster, VERSION};
use sluice_objects::{Cluster, Pool};

use super::plan::{Drain, Plan, Step, Why};
use super::status::View;
use crate::apply::Kind;
use crate::context::{Context, Error};
use crate::events::Note;
use crate::nodes::NodeError;
use crate::owned::PoolRef;

/// A pool goes when its cluster goes: Kubernetes sees to it by the owner reference.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn adopt<K: PoolKind + Kind>(context: &Context, pool: &K, cluster: &Cluster) -> Result<(), Error> {
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
    let live = live.map_err(|source| Error::Read { what: "the MediaCluster that a pool belongs to", source })?;
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
        Err(source) => Err(Error::Read { what: "the pool while its owner is written", source }),
    }
}

/// Carries the steps out, in their order.
///
/// # Errors
/// The API server refuses, or does not answer; what was done before stays done. A node that does not take an order is asked again in the
/// next round.
pub async fn carry_out(
    context: &Context,
    key: &PoolRef,
    pool: &Pool,
    generation: i64,
    views: &[View<'_>],
    plan: &Plan,
    now: Timestamp,
) -> Result<(), Error> {
    let find = |name: &str| views.iter().find(|view| view.seen.name == name).map(|view| view.pod);
    for step in &plan.steps {
        match step {
            Step::Drain { pod, drain } => {
                if let Some(live) = find(pod) {
                    mark_draining(context, live, drain).await?;
                    let until = drain.deadline.round(jiff::Unit::Second).unwrap_or(drain.deadline);
                    say(
                        context,
                        live,
                        Note::normal(
                            "Draining",
                            format!(
                                "{pod} is drained ({}), until {until} at the latest",
                                drain.reason.as_str()
                            ),
                        ),
                    );
                }
            }
            Step::Undrain { pod } => {
                if let Some(live) = find(pod) {
                    let gone = [names::DRAINING_SINCE, names::DRAIN_DEADLINE, names::DRAIN_REASON]
                        .map(|key| (key, None));
                    mark(context, live, &[(names::STATE, Some("active".into()))], &gone).await?;
                    say(context, live, Note::normal("Undrained", format!("{pod} takes sessions again")));
                }
            }
            Step::Label { pod, accepting, busy } => {
                if let Some(live) = find(pod) {
                    let accepting = (names::ACCEPTING, Some(accepting.to_string()));
                    mark(context, live, &[accepting, (names::BUSY, busy.then(|| "true".to_owned()))], &[])
                        .await?;
                }
            }
            Step::TellDrain { pod, left, reason } => {
                if let Some(live) = find(pod) {
                    let order = sluice_control::Drain {
                        reason: format!("the operator drains it ({})", reason.as_str()),
                        deadline_s: Some(left.as_secs()),
                        accept_for_s: 0,
                    };
                    let uid = live.uid().unwrap_or_default();
                    refused(key, pod, "drain", context.nodes.drain(&uid, &order).await);
                }
            }
            Step::TellUndrain { pod } => {
                if let Some(live) = find(pod) {
                    let uid = live.uid().unwrap_or_default();
                    refused(key, pod, "undrain", context.nodes.undrain(&uid).await);
                }
            }
            Step::Delete { pod, why } => {
                if let Some(live) = find(pod) {
                    delete(context, live, *why, now).await?;
                }
            }
            Step::Create { slot } => create(context, pool, *slot, generation).await?,
        }
    }
    Ok(())
}

async fn mark_draining(context: &Context, live: &Pod, drain: &Drain) -> Result<(), Error> {
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
) -> Result<(), Error> {
    if let Some(pod) = context.applier.mark(names::MANAGER_POOL, live, labels, annotations).await? {
        context.overlay.wrote(pod);
    }
    Ok(())
}

async fn create(context: &Context, pool: &Pool, slot: u32, generation: i64) -> Result<(), Error> {
    if let Some(claim) = sluice_objects::claim(pool, slot) {
        context.applier.apply(names::MANAGER_POOL, &claim, &context.stores.claims).await?;
    }
    let pod = sluice_objects::pod(pool, slot, generation);
    // A name that is taken is that of a pod which the cache does not have yet: the next round sees it.
    if let Some(made) = context.applier.create(names::MANAGER_POOL, &pod).await? {
        say(context, &made, Note::normal("Created", format!("{} is made for slot {slot}", pod.name_any())));
        context.overlay.wrote(made);
    }
    Ok(())
}

async fn delete(context: &Context, live: &Pod, why: Why, now: Timestamp) -> Result<(), Error> {
    let name = live.name_any();
    let note = match why {
        Why::Failed => Note::warning("Failed", format!("{name} has ended and is replaced")),
        Why::NeverStarted => Note::normal("Removed", format!("{name} never ran and is not wanted")),
        Why::Empty => Note::normal("Drained", format!("{name} is empty and is removed")),
        Why::Deadline { publishers, viewers } => {
            let count = |count: Option<u32>| {
                count.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string())
            };
            context
                .metrics
                .sessions_cut
                .inc_by(u64::from(publishers.unwrap_or(0)) + u64::from(viewers.unwrap_or(0)));
            Note::warning(
                "DrainDeadline",
                format!(
                    "{name} is removed at its deadline with {} publishers and {} viewers left",
                    count(publishers),
                    count(viewers)
                ),
            )
        }
    };
    // What has waited for its deadline waits no second time; what is empty ends by itself at once.
    let grace = matches!(why, Why::Deadline { .. }).then_some(30);
    context.applier.delete(live, grace).await?;
    say(context, live, note);
    let mut gone = live.clone();
    gone.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
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

/// Pushes settings that take effect without a restart to the nodes that do not have them yet.
pub async fn settings(context: &Context, pool: &Pool, views: &[View<'_>]) {
    for view in views {
        let grace = view.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = grace.and_then(|grace| u64::try_from(grace).ok()).map(Duration::from_secs);
        let wanted = sluice_objects::live_settings(pool, sluice_objects::generation(view.pod), grace);
        let behind = view.seen.heard.is_some()
            && !view.seen.terminating
            && view.report.is_some_and(|report| report.settings_hash.as_deref() != Some(&wanted.hash));
        if !behind {
            continue;
        }
        let uid = view.pod.uid().unwrap_or_default();
        match context.nodes.apply_settings(&uid, &wanted).await {
            Ok(result) if result.refused.is_empty() => {
                tracing::info!(pod = %view.seen.name, changed = ?result.changed, "settings are applied live");
            }
            Ok(result) => {
                let why: Vec<String> = result
                    .refused
                    .iter()
                    .map(|refused| format!("{}: {}", refused.key, refused.reason))
                    .collect();
                say(
                    context,
                    view.pod,
                    Note::warning(
                        "SettingsRefused",
                        format!("{} does not take spec.config: {}", view.seen.name, why.join("; ")),
                    ),
                );
            }
            Err(error) => {
                tracing::warn!(pod = %view.seen.name, %error, "settings could not be applied: they are pushed again")
            }
        }
    }
}
