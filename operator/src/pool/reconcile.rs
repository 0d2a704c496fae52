//! One round of a pool: read, validate, plan, build, apply, report.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use sluice_crds::pool::{PoolKind, PoolStatus, Role};
use sluice_crds::{EdgePool, OriginPool, names};
use sluice_objects::{Pool, PoolObjects, TEMPLATE};

use super::autoscale::{self, Scaling, load};
use super::explain::crashing_until;
use super::observe::{has_spoken, is_unheard, observe};
use super::status::{Facts, Problem, View, status, without_counts};
use super::{exposed, listed, steps};
use crate::apply::{ApplyError, Kind};
use crate::context::{Context, Error, Prepared, Ready};
use crate::machines::standing;
use crate::metrics::More;
use crate::nodes::Seen as Heard;
use crate::owned::{ClusterRef, PoolRef};
use crate::queue::Next;
use sluice_plan::{Floor, Seen, Step, Wish, plan};

/// What a node said is believed for so long.
const FRESH: Duration = Duration::from_secs(10);

/// What is about to be known is looked at again after this time.
const SOON: Duration = Duration::from_secs(1);

/// Brings a pool to its spec.
///
/// # Errors
/// The API server could not be asked or refused; what is wrong with the spec is in the status instead.
pub async fn reconcile(context: Arc<Context>, key: PoolRef) -> Result<Next, Error> {
    match key.role {
        Role::Origin => {
            let pool = context.stores.origins.get(&key.namespace, &key.name);
            Box::pin(run(&context, &key, pool)).await
        }
        Role::Edge => {
            let pool = context.stores.edges.get(&key.namespace, &key.name);
            Box::pin(run(&context, &key, pool)).await
        }
    }
}

/// A pool's spec made into what can be planned and built from.
struct Valid {
    ready: Arc<Ready>,
    pool: Pool,
    wish: Wish,
    generation: i64,
    spec: String,
}

async fn run<K: PoolKind + Kind>(
    context: &Context,
    key: &PoolRef,
    resource: Option<Arc<K>>,
) -> Result<Next, Error> {
    let Some(resource) = resource else {
        context.nodes.retain(key, &HashSet::default());
        context.metrics.pools.gone(key);
        context.forget_gone();
        return Ok(Next::Change);
    };
    if resource.meta().deletion_timestamp.is_some() {
        return Ok(Next::Change);
    }
    let uid = resource.uid().unwrap_or_default();
    let cached = context.stores.pods.controlled_by(&key.namespace, &uid);
    let (pods, ahead) = context.overlay.over(&uid, cached);

    // Validate.
    let cluster = ClusterRef::new(&key.namespace, &resource.pool().cluster_ref.name);
    let paused =
        context.stores.clusters.get(&key.namespace, &cluster.name).is_some_and(|cluster| cluster.spec.paused);
    let mut problems = Vec::new();
    let mut valid = match validate(context, &*resource, &cluster, &uid) {
        Ok(valid) => Some(valid),
        // The cluster's own round comes first, and makes it this one's turn.
        Err(Invalid::Early) => return Ok(Next::Change),
        Err(Invalid::Problems(found)) => {
            problems = found;
            None
        }
    };
    if let Some(valid) = &valid {
        context.nodes.follow(key, &valid.ready.credentials, &pods);
    }

    // Plan.
    let now = Timestamp::now();
    let heard: Vec<Option<Heard>> =
        pods.iter().map(|pod| pod.uid().and_then(|uid| context.nodes.get(&uid))).collect();
    let mut views: Vec<View<'_>> = pods
        .iter()
        .zip(&heard)
        .filter_map(|(pod, heard)| view(context, &key.name, pod, heard.as_ref(), now))
        .collect();
    views.sort_by_key(|view| view.seen.slot);
    listed::note(context, &key.namespace, &uid, &mut views, now);
    let unheard = pods.iter().zip(&heard).any(|(pod, heard)| is_unheard(pod, heard.as_ref()));
    let mut next: Option<Duration> = ahead.then_some(SOON);
    let mut sooner = |after: Duration| next = Some(next.map_or(after, |next| next.min(after)));
    views.iter().filter_map(|view| view.again).for_each(&mut sooner);
    let mut done = Outcome { problems, failed: None };
    let seen: Vec<_> = views.iter().map(|view| view.seen.clone()).collect();
    let mut floor = None;
    if let Some(valid) = &mut valid {
        valid.wish.unheard = unheard;
        floor = floored(context, key, valid, &uid, &seen, resource.status(), now);
        valid.wish.floor = floor.map_or(0, |floor| floor.pods);
        floor.and_then(|floor| floor.again).into_iter().for_each(&mut sooner);
    }
    let mut halted = false;
    if let Some(valid) = &mut valid
        && !paused
    {
        let mut plan = plan(&valid.wish, &seen, now);
        plan.steps.extend(steps::marks(&valid.pool, &views, &plan.steps));
        if let Some(hold) = &valid.ready.hold {
            let before = plan.steps.len();
            plan.steps.retain(|step| !matches!(step, Step::Create { .. }));
            if plan.steps.len() != before {
                done.problems.push(hold.clone());
            }
        }
        if !plan.steps.iter().any(|step| matches!(step, Step::Create { .. })) {
            // Nothing is to be made: what names are taken is found out anew when something is.
            context.taken.remove(key);
        }
        halted = plan.halted;
        // Build and apply.
        apply(context, key, &*resource, valid, &views, plan.steps, &mut done).await;
        plan.again.into_iter().for_each(&mut sooner);
        if context.taken.get(key).is_some() {
            sooner(SOON);
        }
    }
    // A report that goes stale is news.
    if heard.iter().flatten().any(|heard| heard.at.elapsed() < FRESH && heard.failure.is_some()) {
        sooner(FRESH);
    }

    // Report.
    let services = context.stores.services.controlled_by(&key.namespace, &uid);
    let exposure =
        valid.as_ref().and_then(|valid| exposed::exposed(resource.pool(), &valid.pool, &services, &pods));
    if context.reached.changed(&uid, exposed::reached(&services, &pods)) {
        context.triggers.clusters.trigger(cluster);
    }
    let drained = views.iter().filter(|view| view.seen.drain.is_some() && !view.seen.terminating).count();
    context.draining.put(uid.clone(), i64::try_from(drained).unwrap_or(i64::MAX));
    context.count_drains();
    let autoscaler = context.stores.autoscalers.get(&key.namespace, &key.name);
    let scaling = valid.as_ref().and_then(|valid| valid.pool.scaling()).zip(floor).map(|(spec, floor)| {
        Scaling { spec, autoscaler: autoscaler.as_deref(), floor, api: context.metrics_api.borrow().clone() }
    });
    let facts = Facts {
        generation: resource.meta().generation,
        wish: valid.as_ref().map(|valid| &valid.wish),
        version: valid.as_ref().map(|valid| valid.pool.version()),
        selector: selector::<K>(resource.pool().cluster_ref.name.as_str(), &key.name),
        pods: views,
        problems: done.problems,
        exposure,
        scaling,
        halted,
        paused,
        template: valid.as_ref().map(|valid| (valid.generation, valid.spec.clone())),
    };
    if unheard && resource.status().is_some() {
        // Right after the start of the operator: what was told before is truer than what is known so far.
        sooner(SOON);
    } else {
        report(context, key, &*resource, &uid, &facts, now).await?.into_iter().for_each(&mut sooner);
    }
    match done.failed {
        Some(error) => Err(error.into()),
        None => Ok(next.map_or(Next::Change, Next::After)),
    }
}

/// What went wrong in a round: what a person has to know, and what is tried again. One thing that fails stops no other.
pub struct Outcome {
    /// What is in the way.
    pub problems: Vec<Problem>,
    /// The first error: the round is tried again, with growing waits.
    pub failed: Option<ApplyError>,
}

impl Outcome {
    /// What came of a step, when anything did.
    pub fn take<T>(&mut self, result: Result<T, ApplyError>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                // In a namespace that ends there is nothing to do.
                if !error.is_namespace_ending() {
                    self.problems.extend(explained(&error));
                    self.failed.get_or_insert(error);
                }
                None
            }
        }
    }
}

/// Why there is nothing to plan from.
enum Invalid {
    /// The cluster's controller has not looked at it yet.
    Early,
    /// These are in the way.
    Problems(Vec<Problem>),
}

fn validate<K: PoolKind>(
    context: &Context,
    resource: &K,
    key: &ClusterRef,
    uid: &str,
) -> Result<Valid, Invalid> {
    let clusters = &context.stores.clusters;
    let Some(cluster) = clusters.get(&key.namespace, &key.name) else {
        let message = match clusters.malformed(&key.namespace, &key.name) {
            Some(why) => format!("spec.clusterRef.name: the MediaCluster {} cannot be read: {why}", key.name),
            None => {
                format!(
                    "spec.clusterRef.name: there is no MediaCluster {} in namespace {}: make it",
                    key.name, key.namespace
                )
            }
        };
        return Err(Invalid::Problems(vec![Problem { reason: "ClusterMissing", message, stuck: false }]));
    };
    if let Some(problem) = namesake(context, resource) {
        return Err(Invalid::Problems(vec![problem]));
    }
    let ready = match context.prepared.get(key) {
        Some(Prepared::Ready(ready)) => ready,
        Some(Prepared::Not(problem)) => {
            let message = format!("MediaCluster {}: {}", key.name, problem.message);
            return Err(Invalid::Problems(vec![Problem {
                reason: "ClusterNotReady",
                message,
                stuck: problem.stuck,
            }]));
        }
        None => return Err(Invalid::Early),
    };
    let pool = Pool::new(resource, &ready.cluster).map_err(|invalid| {
        let message = invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Invalid::Problems(vec![Problem { reason: "InvalidSpec", message, stuck: true }])
    })?;
    let (generation, spec) = template(&pool, resource.status());
    let scaling = pool.scaling();
    let revision = sluice_objects::revision(&pool, generation);
    let (failed_lately, failed_updated) = context.failures.lately(uid, &revision);
    let plain = Wish::default();
    let wish = Wish {
        replicas: pool.replicas(),
        min: scaling.map_or(plain.min, sluice_objects::Scaling::min),
        max: scaling.map_or(plain.max, sluice_objects::Scaling::max),
        floor: 0,
        scale_in_paused: scaling.is_some_and(sluice_objects::Scaling::scale_in_paused),
        progress_deadline: pool.progress_deadline(),
        revision,
        max_surge: u32::try_from(pool.rollout().max_surge).unwrap_or_default(),
        max_unavailable: u32::try_from(pool.rollout().max_unavailable).unwrap_or_default(),
        rollout_paused: pool.rollout().paused,
        deadline: pool.drain_deadline(),
        policy: pool.drain_policy(),
        stopped: cluster.spec.stopped,
        taken: taken(context, resource, uid),
        failed_lately,
        failed_updated,
        unheard: false,
    };
    Ok(Valid { ready, pool, wish, generation, spec })
}

/// What spare slots and schedules ask for, and what is kept while the load is not known; `None` without autoscaling.
fn floored(
    context: &Context,
    key: &PoolRef,
    valid: &Valid,
    uid: &str,
    seen: &[Seen],
    status: Option<&PoolStatus>,
    now: Timestamp,
) -> Option<Floor> {
    let uid = uid.to_owned();
    let Some(spec) = valid.pool.scaling() else {
        context.floors.remove(&uid);
        return None;
    };
    let desired = status.map(|status| status.desired_replicas);
    let load = load(valid.pool.role(), seen, desired, valid.wish.unheard);
    let mut history = context.floors.get(&uid).unwrap_or_default();
    let floor = spec.floors().at(now, load, &mut history);
    context.floors.put(uid, history);
    let autoscaler = context.stores.autoscalers.get(&key.namespace, &key.name);
    let api = context.metrics_api.borrow().clone();
    let scaling = Scaling { spec, autoscaler: autoscaler.as_deref(), floor, api };
    Some(scaling.held(desired))
}

/// A pool of the other kind with the same name: their Services would be the same. The older one counts.
fn namesake<K: PoolKind>(context: &Context, resource: &K) -> Option<Problem> {
    let meta = resource.meta();
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    let (kind, other) = match K::ROLE {
        Role::Origin => (EdgePool::KIND, context.stores.edges.get(namespace, name)?.metadata.clone()),
        Role::Edge => (OriginPool::KIND, context.stores.origins.get(namespace, name)?.metadata.clone()),
    };
    let age = |meta: &ObjectMeta| (meta.creation_timestamp.clone().map(|time| time.0), meta.uid.clone());
    (age(&other) < age(meta)).then(|| Problem {
        reason: "NameTaken",
        message: format!("metadata.name: the {kind} {name} is older and has the Services of this name: make this pool anew under another name"),
        stuck: true,
    })
}

/// Slots whose pods are there and are not this pool's: those of a pool of the same name before it, while they drain, and strangers that
/// were met when a pod was to be made.
fn taken<K: PoolKind>(context: &Context, resource: &K, uid: &str) -> BTreeSet<u32> {
    let meta = resource.meta();
    let (namespace, name) =
        (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let others = context
        .stores
        .pods
        .filter(namespace, |pod| pod.owner_references().iter().all(|owner| owner.uid != uid));
    let mut slots: BTreeSet<u32> =
        others.iter().filter_map(|pod| names::slot(name, &pod.name_any())).collect();
    slots.extend(context.taken.get(&PoolRef::new(K::ROLE, namespace, name)).unwrap_or_default());
    slots
}

/// The generation of the pod template: the pinned one as long as the spec is what it was pinned for. So an operator that builds pods
/// in a newer way replaces none by itself; the next change of the spec, which replaces them anyway, takes the newer way.
fn template(pool: &Pool, status: Option<&PoolStatus>) -> (i64, String) {
    let spec = sluice_objects::revision(pool, 0);
    let pinned = status
        .filter(|status| status.template_spec.as_deref() == Some(&spec))
        .and_then(|status| status.template_generation);
    (pinned.filter(|pinned| (1..=TEMPLATE).contains(pinned)).unwrap_or(TEMPLATE), spec)
}

fn view<'a>(
    context: &Context,
    pool: &str,
    pod: &'a Arc<Pod>,
    heard: Option<&'a Heard>,
    now: Timestamp,
) -> Option<View<'a>> {
    let standing = standing(&context.stores.machines, pod, heard, &context.settings.drain_taints, now);
    // When it has run long enough it is no pod that crashes.
    let calm = crashing_until(pod).filter(|until| *until < Timestamp::MAX);
    let calm = calm.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
    let report = heard.and_then(|heard| heard.report.as_deref());
    let fresh = report.filter(|_| heard.is_some_and(|heard| heard.at.elapsed() < FRESH));
    let mut seen = observe(pool, pod, fresh, standing, now)?;
    let said = heard.filter(|_| report.is_some()).and_then(|heard| now.checked_sub(heard.at.elapsed()).ok());
    seen.started |= said.is_some_and(|said| has_spoken(pod, said));
    Some(View {
        pod,
        seen,
        report,
        failure: heard.and_then(|heard| heard.failure.as_ref()).map(|failure| failure.sentence.clone()),
        again: standing.again.into_iter().chain(calm).min(),
    })
}

/// What pods need first, then the pods; then what leads to them from outside, and what is no longer wanted goes.
async fn apply<K: PoolKind + Kind>(
    context: &Context,
    key: &PoolRef,
    resource: &K,
    valid: &Valid,
    views: &[View<'_>],
    mut plan: Vec<Step>,
    done: &mut Outcome,
) {
    let (applier, stores, manager) = (&context.applier, &context.stores, names::MANAGER_POOL);
    let uid = resource.uid().unwrap_or_default();
    done.take(steps::adopt(context, resource, &valid.ready.cluster).await);

    let mut pods: Vec<String> = views.iter().map(|view| view.seen.name.clone()).collect();
    pods.extend(plan.iter().filter_map(|step| match step {
        Step::Create { slot } => Some(names::pod(&key.name, *slot)),
        _ => None,
    }));
    let tolerance = context.served.borrow().tolerance;
    let PoolObjects { new_sessions, headless, media, exposures, config, budget, autoscaler } =
        sluice_objects::pool_objects(&valid.pool, &pods, tolerance);
    let configured = done.take(applier.apply(manager, &config, &stores.config_maps).await).is_some();
    let protected = done.take(applier.apply(manager, &budget, &stores.budgets).await).is_some();
    let mut services = HashSet::new();
    for service in [new_sessions, headless, media] {
        services.insert(service.name_any());
        done.take(applier.apply(manager, &service, &stores.services).await);
    }
    // A volume follows its spec as long as its pod is there: whose it is, and how large.
    let mut claims = HashSet::new();
    for claim in
        pods.iter().filter_map(|pod| sluice_objects::claim(&valid.pool, names::slot(&key.name, pod)?))
    {
        claims.insert(claim.name_any());
        done.take(applier.apply(manager, &claim, &stores.claims).await);
    }
    if !configured || !protected {
        plan.retain(|step| !matches!(step, Step::Create { .. }));
    }
    steps::carry_out(context, key, &valid.pool, valid.generation, views, &plan, done).await;
    steps::settings(context, &valid.pool, views, done).await;

    for service in exposures {
        services.insert(service.name_any());
        done.take(applier.apply(manager, &service, &stores.services).await);
    }
    if let Some(autoscaler) = &autoscaler {
        done.take(applier.apply(manager, autoscaler, &stores.autoscalers).await);
    }
    let namespace = &key.namespace;
    done.take(applier.delete_orphans(&stores.services, namespace, &uid, &services, |_| true).await);
    let keep = HashSet::from([config.name_any()]);
    done.take(applier.delete_orphans(&stores.config_maps, namespace, &uid, &keep, |_| true).await);
    let keep = HashSet::from([budget.name_any()]);
    done.take(applier.delete_orphans(&stores.budgets, namespace, &uid, &keep, |_| true).await);
    let keep = autoscaler.iter().map(ResourceExt::name_any).collect();
    done.take(applier.delete_orphans(&stores.autoscalers, namespace, &uid, &keep, |_| true).await);
    // Volumes that go with their pods: those whose pod is neither there nor wanted.
    done.take(applier.delete_orphans(&stores.claims, namespace, &uid, &claims, |_| true).await);
}

/// A refusal that a person has to do something about, as a problem; `None` for what goes away by itself.
fn explained(error: &ApplyError) -> Option<Problem> {
    match error {
        ApplyError::NotOurs { .. } => {
            Some(Problem { reason: "NameTaken", message: error.to_string(), stuck: true })
        }
        ApplyError::Api { .. } => {
            let forbidden = error.reason() == "forbidden";
            let reason = if forbidden { "Forbidden" } else { "Refused" };
            (forbidden || error.refusal().is_some()).then(|| Problem {
                reason,
                message: error.to_string(),
                stuck: true,
            })
        }
        ApplyError::Timeout { .. } | ApplyError::Write { .. } => None,
    }
}

/// Selects the pods of the pool that are not draining; no other pool's selector is the same.
fn selector<K: PoolKind>(cluster: &str, pool: &str) -> String {
    format!(
        "{}={cluster},{}={pool},{}={},{}=active",
        names::CLUSTER,
        names::POOL,
        names::ROLE,
        K::ROLE.as_str(),
        names::STATE
    )
}

/// What is counted beside the status.
fn counted(facts: &Facts<'_>) -> More {
    let drains = facts.pods.iter().filter(|view| !view.seen.terminating).filter_map(|view| view.seen.drain);
    More {
        oldest_drain: drains.map(|drain| drain.since.as_second()).min(),
        halted: facts.halted,
        streams_per_pod: facts.scaling.as_ref().and_then(|scaling| scaling.spec.streams_per_pod()),
        viewers_per_pod: facts.scaling.as_ref().and_then(|scaling| scaling.spec.viewers_per_pod()),
    }
}

/// Writes the status when it is another. Gives when to look again, when counts wait.
async fn report<K: PoolKind + Kind>(
    context: &Context,
    key: &PoolRef,
    resource: &K,
    uid: &str,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Result<Option<Duration>, Error> {
    let before = resource.status();
    let after = status(facts, before, now);
    if let Some(wish) = facts.wish {
        let told = context.targets.get(&uid.to_owned()).or_else(|| autoscale::told(before?));
        let note = told.and_then(|told| autoscale::decision(told, &after, wish, facts.scaling.as_ref()));
        context.targets.put(uid.to_owned(), after.desired_replicas);
        if let (Some(note), Some(told)) = (note, told) {
            context.metrics.pools.decided(key, after.desired_replicas > told);
            context.events.about(resource, note);
        }
    }
    context.metrics.pools.tell(key, &after, counted(facts));
    if before == Some(&after) {
        return Ok(None);
    }
    let only_counts = before.is_some_and(|before| without_counts(before) == without_counts(&after));
    if let Some(wait) = context.hold_counts(uid, only_counts) {
        return Ok(Some(wait));
    }
    for note in super::news::news(before, &after) {
        context.events.about(resource, note);
    }
    if context.applier.apply_status(resource, before, &after).await?.wrote() {
        context.counted.put(uid.to_owned(), std::time::Instant::now());
    }
    Ok(None)
}
