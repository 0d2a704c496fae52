//! One round of a cluster: read, validate, build, apply, report.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use sluice_control::Report;
use sluice_crds::cluster::{AppStatus, MediaClusterStatus};
use sluice_crds::generate::hash;
use sluice_crds::pool::{PoolKind, PoolStatus, Role};
use sluice_crds::{MediaCluster, names};
use sluice_objects::{Cluster, ClusterObjects, Pinned, SecretRef, Seen};

use super::apps::{self, Candidate};
use super::secrets::{self, Found};
use super::status::{Facts, PoolFacts, status, without_counts};
use crate::apply::ApplyError;
use crate::context::{Context, Error, Prepared, Ready};
use crate::events::Note;
use crate::nodes::{Credentials, Seen as Heard};
use crate::owned::{ClusterRef, PoolRef};
use crate::pool::observe;
use crate::pool::reconcile::Outcome;
use crate::pool::status::Problem;
use crate::queue::Next;

/// Apps that a node did not take are told again after this time, and Secrets that are missing are looked for.
const AGAIN: Duration = Duration::from_secs(10);

/// What is about to be known is looked at again after this time.
const SOON: Duration = Duration::from_secs(1);

/// What was read of a user's Secret is believed for so long.
const READ: Duration = Duration::from_secs(30);

/// What a node said is believed for so long.
const FRESH: Duration = Duration::from_secs(10);

/// A pool with what Kubernetes and its nodes say.
struct PoolSeen {
    key: PoolRef,
    uid: String,
    replicas: i32,
    status: Option<PoolStatus>,
    pods: Vec<Arc<Pod>>,
    heard: Vec<(String, Heard)>,
}

/// Brings a cluster to its spec.
///
/// # Errors
/// The API server could not be asked or refused; what is wrong with the spec is in the status instead.
pub async fn reconcile(context: Arc<Context>, key: ClusterRef) -> Result<Next, Error> {
    let Some(resource) = context.stores.clusters.get(&key.namespace, &key.name) else {
        context.prepared.remove(&key);
        context.forget_gone();
        return Ok(Next::Change);
    };
    if resource.meta().deletion_timestamp.is_some() {
        return Ok(Next::Change);
    }
    let (spec, before) = (&resource.spec, resource.status.as_ref());
    let pools = pools(&context, &key);

    // Read and validate.
    let pinned = pin(&context, &resource);
    let mut problems = Vec::new();
    let mut cluster = None;
    match Cluster::new(&resource, &pinned) {
        Ok(valid) => cluster = Some(valid),
        Err(invalid) => {
            let message = invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            problems.push(Problem { reason: "InvalidSpec", message, stuck: true });
        }
    }
    let mut trust =
        Trust { key_hash: before.and_then(|before| before.cluster_key_hash.clone()), ..Trust::default() };
    if let Some(cluster) = &cluster {
        let running = pools.iter().any(|pool| !pool.pods.is_empty());
        read_secrets(&context, &resource, cluster, running, &mut trust).await?;
        problems.extend(trust.problems.iter().cloned());
    }

    // Build and apply.
    let mut exposure = None;
    let mut endpoints = before.map(|before| before.endpoints.clone()).unwrap_or_default();
    let mut done = Outcome { problems, failed: None };
    if let Some(cluster) = &cluster {
        let has_edges = has_edges(&context, cluster, &pools);
        let mut applied = Applied::default();
        if !spec.paused {
            applied = apply(&context, &resource, cluster, has_edges, &mut done).await;
        }
        (exposure, endpoints) = exposed(&context, &resource, cluster, &pools, has_edges, &applied.missing);
        // Pools may go on when all that their pods mount is there.
        prepare(&context, &key, cluster, &mut trust, applied.hold, &mut done.problems);
    } else if let (Some(problem), None | Some(Prepared::Not(_))) =
        (done.problems.first().cloned(), context.prepared.get(&key))
    {
        // What runs with what was valid last is kept, and heard.
        shelve(&context, &key, Prepared::Not(problem));
    }
    let (apps, apps_wait) = match &cluster {
        Some(cluster) if !spec.paused => tell_apps(&context, cluster, before, &pools).await,
        _ => (before.map(|before| before.apps.clone()).unwrap_or_default(), None),
    };

    // Report.
    let reports: Vec<Vec<&Report>> = pools
        .iter()
        .map(|pool| pool.heard.iter().filter_map(|(_, heard)| heard.report.as_deref()).collect())
        .collect();
    let facts = Facts {
        generation: resource.meta().generation,
        version: Some(pinned.version.clone()),
        name_prefix: Some(pinned.name_prefix.clone()),
        cluster_key_hash: trust.key_hash.clone(),
        pools: pools
            .iter()
            .zip(reports)
            .map(|(pool, reports)| PoolFacts {
                name: &pool.key.name,
                role: pool.key.role,
                replicas: pool.replicas,
                status: pool.status.as_ref(),
                reports,
            })
            .collect(),
        problems: done.problems,
        database: trust.database.clone(),
        exposure,
        endpoints,
        apps,
        paused: spec.paused,
        stopped: spec.stopped,
    };
    let waits = !trust.problems.is_empty() || trust.database.is_some();
    // Right after the start of the operator, what was told before is truer than what is known so far. Without the cluster's key no
    // node will ever be heard: then that is what there is to tell.
    let asked = matches!(context.prepared.get(&key), Some(Prepared::Ready(_)));
    let early = before.is_some() && asked && pools.iter().any(PoolSeen::is_early);
    let told = if early { Some(SOON) } else { report(&context, &resource, facts).await? };
    if let Some(error) = done.failed {
        return Err(error.into());
    }
    let next = [told, apps_wait, waits.then_some(AGAIN)].into_iter().flatten().min();
    Ok(next.map_or(Next::Change, Next::After))
}

impl PoolSeen {
    /// Whether nodes of it run that have neither answered nor failed to.
    fn is_early(&self) -> bool {
        self.pods.iter().any(|pod| {
            let heard = self.heard.iter().find(|(uid, _)| Some(uid) == pod.metadata.uid.as_ref());
            observe::is_unheard(pod, heard.map(|(_, heard)| heard))
        })
    }
}

fn pools(context: &Context, key: &ClusterRef) -> Vec<PoolSeen> {
    fn of<K: PoolKind>(context: &Context, key: &ClusterRef, all: Vec<Arc<K>>) -> Vec<PoolSeen> {
        all.iter()
            .map(|pool| {
                let (uid, name) = (
                    pool.meta().uid.clone().unwrap_or_default(),
                    pool.meta().name.clone().unwrap_or_default(),
                );
                let pods = context.stores.pods.controlled_by(&key.namespace, &uid);
                let heard = pods
                    .iter()
                    .filter_map(|pod| {
                        let uid = pod.uid()?;
                        Some((uid.clone(), context.nodes.get(&uid)?))
                    })
                    .collect();
                PoolSeen {
                    key: PoolRef::new(K::ROLE, &key.namespace, &name),
                    uid,
                    replicas: pool.pool().replicas,
                    status: pool.status().cloned(),
                    pods,
                    heard,
                }
            })
            .collect()
    }
    let stores = &context.stores;
    let mut all = of(
        context,
        key,
        stores.origins.filter(&key.namespace, |pool| *pool.spec.pool.cluster_ref.name == *key.name),
    );
    all.extend(of(
        context,
        key,
        stores.edges.filter(&key.namespace, |pool| *pool.spec.pool.cluster_ref.name == *key.name),
    ));
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// What the cluster keeps for good: decided once, then from its status.
fn pin(context: &Context, resource: &MediaCluster) -> Pinned {
    let status = resource.status.as_ref();
    let wanted = resource.spec.version.clone();
    let prefix = resource.spec.database.external.as_ref().and_then(|external| external.name_prefix.clone());
    Pinned {
        version: wanted
            .or_else(|| status.and_then(|status| status.version.clone()))
            .unwrap_or_else(|| context.settings.node_version.clone()),
        name_prefix: prefix.or_else(|| status.and_then(|status| status.name_prefix.clone())).unwrap_or_else(
            || names::name_prefix(&resource.namespace().unwrap_or_default(), &resource.name_any()),
        ),
    }
}

/// The cluster's secrets, as far as the operator needs them.
#[derive(Default)]
struct Trust {
    key: Option<Vec<u8>>,
    key_hash: Option<String>,
    database: Option<Problem>,
    problems: Vec<Problem>,
}

async fn read_secrets(
    context: &Context,
    resource: &MediaCluster,
    cluster: &Cluster,
    running: bool,
    trust: &mut Trust,
) -> Result<(), Error> {
    let paused = resource.spec.paused;
    let recorded = trust.key_hash.clone();

    let wanted = cluster.cluster_key();
    match secret(context, resource, wanted, "spec.security.clusterKey", recorded.as_deref(), running, true)
        .await?
    {
        Some(Found::Value { value, restored }) => {
            if restored {
                let note = format!("the Secret {} was deleted: it is as it was again", wanted.name);
                context.events.about(resource, Note::warning("ClusterKeyRestored", note));
            }
            let now = hash(&value);
            match &recorded {
                Some(before) if *before != now && running && !wanted.generated => {
                    trust.problems.push(secrets::changed(wanted));
                    // Those that run have the old one.
                    trust.key = context.secrets.recall_hash(&resource.uid().unwrap_or_default(), before);
                }
                _ => {
                    context.secrets.keep(&resource.uid().unwrap_or_default(), &wanted.name, &value);
                    trust.key_hash = Some(now);
                    trust.key = Some(value);
                }
            }
        }
        Some(Found::Missing(problem)) => trust.problems.push(problem),
        None => {}
    }

    let wanted = cluster.admin_token();
    if let Some(Found::Missing(problem)) =
        secret(context, resource, wanted, "spec.security.adminToken", None, running, false).await?
    {
        trust.problems.push(problem);
    }

    let field = "spec.database.external.secret";
    match given(context, cluster.namespace(), cluster.database(), field).await? {
        Found::Value { value, .. } if !is_uri(&value) => {
            // Mended, it is to be seen at once.
            context.read.remove(&(cluster.namespace().to_owned(), cluster.database().name.clone()));
            let SecretRef { name, key, .. } = cluster.database();
            trust.database = Some(Problem {
                reason: "SecretInvalid",
                message: format!(
                    "{field}: the key {key} of the Secret {name} is no mongodb:// or mongodb+srv:// URI"
                ),
                stuck: true,
            });
        }
        Found::Value { .. } => {}
        Found::Missing(problem) => trust.database = Some(problem),
    }

    // One that cert-manager makes comes when it is made; until then pods wait for it as they do for this.
    if let Some(certificate) = cluster.certificate()
        && !paused
    {
        let field = if certificate.issued.is_some() {
            "spec.security.tls.issuer"
        } else {
            "spec.security.tls.secretName"
        };
        for key in ["tls.crt", "tls.key"] {
            let wanted = SecretRef { name: certificate.secret.clone(), key: key.into(), generated: false };
            if let Found::Missing(mut problem) = given(context, cluster.namespace(), &wanted, field).await? {
                problem.message = format!(
                    "{field}: the Secret {} with tls.crt and tls.key is not there (kubectl create secret tls makes one)",
                    certificate.secret
                );
                problem.stuck = certificate.issued.is_none();
                trust.problems.push(problem);
                break;
            }
        }
    }
    Ok(())
}

/// A Secret that the operator makes, or one that the spec names. `None` for one that is not there and may not be made now.
async fn secret(
    context: &Context,
    resource: &MediaCluster,
    wanted: &SecretRef,
    field: &'static str,
    recorded: Option<&str>,
    running: bool,
    immutable: bool,
) -> Result<Option<Found>, Error> {
    let namespace = resource.namespace().unwrap_or_default();
    if !wanted.generated {
        return given(context, &namespace, wanted, field).await.map(Some);
    }
    let cached = context.stores.secrets.get(&namespace, &wanted.name);
    if cached.is_none() && resource.spec.paused {
        return Ok(None);
    }
    let client = context.applier.client();
    let found = secrets::generated(
        client,
        &context.secrets,
        resource,
        wanted,
        recorded,
        running,
        immutable,
        cached.as_deref(),
    );
    found.await.map(Some).map_err(|source| Error::Read { what: "a Secret that the operator makes", source })
}

/// A value of a Secret that the spec names, as it was at most [`READ`] ago; what is missing is looked for each time.
async fn given(
    context: &Context,
    namespace: &str,
    wanted: &SecretRef,
    field: &'static str,
) -> Result<Found, Error> {
    let key = (namespace.to_owned(), wanted.name.clone());
    let known = context.read.get(&key).filter(|(at, secret)| secret.is_some() && at.elapsed() < READ);
    let secret = match known {
        Some((_, secret)) => secret,
        None => {
            let secrets: Api<Secret> = Api::namespaced(context.applier.client().clone(), namespace);
            let read = secrets.get_opt(&wanted.name).await;
            let read = read.map_err(|source| Error::Read { what: field, source })?;
            context.read.put(key, (Instant::now(), read.clone()));
            read
        }
    };
    let found = secrets::given(secret.as_ref(), namespace, wanted, field);
    if let Found::Missing(_) = found {
        context.read.remove(&(namespace.to_owned(), wanted.name.clone()));
    }
    Ok(found)
}

fn is_uri(value: &[u8]) -> bool {
    value.starts_with(b"mongodb://") || value.starts_with(b"mongodb+srv://")
}

/// Tells the pools how the cluster is. `hold`: pods may not be made yet, and why.
fn prepare(
    context: &Context,
    key: &ClusterRef,
    cluster: &Cluster,
    trust: &mut Trust,
    hold: Option<Problem>,
    problems: &mut Vec<Problem>,
) {
    let hold = trust.problems.first().or(trust.database.as_ref()).cloned().or(hold);
    let made = trust.key.as_ref().map(|value| Credentials::of_cluster(&context.authority, value));
    let prepared = match (made, hold) {
        (Some(Ok(credentials)), hold) => Prepared::Ready(Arc::new(Ready {
            cluster: cluster.clone(),
            trust: credentials.hash().to_owned(),
            credentials,
            hold,
        })),
        (Some(Err(error)), _) => {
            let SecretRef { name, key, .. } = cluster.cluster_key();
            let message =
                format!("spec.security.clusterKey: the key {key} of the Secret {name} is of no use: {error}");
            let problem = Problem { reason: "ClusterKeyInvalid", message, stuck: true };
            problems.push(problem.clone());
            Prepared::Not(problem)
        }
        (None, Some(problem)) => match context.prepared.get(key) {
            // The key is gone, and the nodes still have it: they are heard as before, and no new ones are made.
            Some(Prepared::Ready(ready)) => Prepared::Ready(Arc::new(Ready {
                cluster: cluster.clone(),
                credentials: ready.credentials.clone(),
                trust: ready.trust.clone(),
                hold: Some(problem),
            })),
            _ => Prepared::Not(problem),
        },
        (None, None) => return,
    };
    shelve(context, key, prepared);
}

/// Puts it where pools find it, and makes it their turn when it says something else than before.
fn shelve(context: &Context, key: &ClusterRef, prepared: Prepared) {
    let words = |prepared: &Prepared| match prepared {
        Prepared::Ready(ready) => format!("{:?} {} {:?}", ready.cluster, ready.trust, ready.hold),
        Prepared::Not(problem) => format!("{problem:?}"),
    };
    let news = context.prepared.get(key).is_none_or(|before| words(&before) != words(&prepared));
    context.prepared.put(key.clone(), prepared);
    if news {
        for pool in pools(context, key) {
            context.triggers.pools.trigger(pool.key);
        }
    }
}

/// What came of applying.
#[derive(Default)]
struct Applied {
    /// Kinds that are wanted and not served.
    missing: Vec<String>,
    /// What pods need is not there.
    hold: Option<Problem>,
}

/// Everything the cluster owns: what pods need first. One thing that is refused stops no other.
async fn apply(
    context: &Context,
    resource: &MediaCluster,
    cluster: &Cluster,
    has_edges: bool,
    done: &mut Outcome,
) -> Applied {
    let (applier, stores, manager) = (&context.applier, &context.stores, names::MANAGER_CLUSTER);
    let (namespace, uid) = (cluster.namespace(), resource.uid().unwrap_or_default());
    let found = context.served.borrow().clone();
    let version = |kind: &Option<ApiResource>| kind.as_ref().map(|kind| kind.version.clone());
    let served = sluice_objects::Served {
        http_route: version(&found.http_route),
        tcp_route: version(&found.tcp_route),
        udp_route: version(&found.udp_route),
        tls_route: version(&found.tls_route),
        service_monitor: found.service_monitor.is_some(),
        prometheus_rule: found.prometheus_rule.is_some(),
        certificate: found.certificate.is_some(),
    };
    let ClusterObjects {
        watch,
        publish,
        publish_media,
        service_account,
        trust,
        policies,
        ingress,
        routes,
        certificate,
        service_monitor,
        prometheus_rule,
        missing,
    } = sluice_objects::cluster_objects(cluster, &context.site(), &served, has_edges);

    let before = done.problems.len();
    let mut needed = done.take(applier.apply(manager, &service_account, &stores.accounts).await).is_some();
    needed &= done.take(applier.apply(manager, &trust, &stores.config_maps).await).is_some();
    for policy in &policies {
        needed &= done.take(applier.apply(manager, policy, &stores.policies).await).is_some();
    }
    let hold = (!needed).then(|| {
        done.problems.get(before).cloned().unwrap_or_else(|| Problem {
            reason: "ClusterNotReady",
            message: format!("what the pods of {} need could not be applied yet", cluster.name()),
            stuck: false,
        })
    });
    let services: Vec<Service> = [Some(watch), Some(publish), publish_media].into_iter().flatten().collect();
    for service in &services {
        done.take(applier.apply(manager, service, &stores.services).await);
    }
    if let Some(ingress) = &ingress {
        done.take(applier.apply(manager, ingress, &stores.ingresses).await);
    }
    let dynamic: Vec<DynamicObject> =
        routes.into_iter().chain(certificate).chain(service_monitor).chain(prometheus_rule).collect();
    for object in &dynamic {
        let of = |kind: &&ApiResource| object.types.as_ref().is_some_and(|types| types.kind == kind.kind);
        if let Some(kind) = found.owned_kinds().find(of) {
            done.take(applier.apply_dynamic(manager, kind, object, stores.dynamic.of(kind).as_ref()).await);
        }
    }

    let names_of = |all: Vec<String>| all.into_iter().collect::<HashSet<String>>();
    let keep = HashSet::from([service_account.name_any()]);
    done.take(applier.delete_orphans(&stores.accounts, namespace, &uid, &keep, |_| true).await);
    let keep = HashSet::from([trust.name_any()]);
    done.take(applier.delete_orphans(&stores.config_maps, namespace, &uid, &keep, |_| true).await);
    let keep = names_of(policies.iter().map(ResourceExt::name_any).collect());
    done.take(applier.delete_orphans(&stores.policies, namespace, &uid, &keep, |_| true).await);
    let keep = names_of(services.iter().map(ResourceExt::name_any).collect());
    done.take(applier.delete_orphans(&stores.services, namespace, &uid, &keep, |_| true).await);
    let keep = names_of(ingress.iter().map(ResourceExt::name_any).collect());
    done.take(applier.delete_orphans(&stores.ingresses, namespace, &uid, &keep, |_| true).await);
    for kind in found.owned_kinds() {
        let Some(cache) = stores.dynamic.of(kind) else { continue };
        let of_kind =
            |object: &&DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == kind.kind);
        let keep = names_of(dynamic.iter().filter(of_kind).map(|object| object.name_any()).collect());
        done.take(applier.delete_orphans_dynamic(kind, &cache, namespace, &uid, &keep).await);
    }
    Applied { missing, hold }
}

/// Whether viewers are led to edges: once one is there that takes them, and then for as long as edges are wanted, so that a moment
/// without one leads nobody back and forth.
fn has_edges(context: &Context, cluster: &Cluster, pools: &[PoolSeen]) -> bool {
    let edges = || pools.iter().filter(|pool| pool.key.role == Role::Edge);
    let ready = edges().any(|pool| pool.status.as_ref().is_some_and(|status| status.ready_replicas > 0));
    let watch = context.stores.services.get(cluster.namespace(), &names::watch_service(cluster.name()));
    let led = watch.is_some_and(|watch| {
        let selector = watch.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector
            .and_then(|selector| selector.get(names::ROLE))
            .is_some_and(|role| role == Role::Edge.as_str())
    });
    ready || (led && edges().any(|pool| pool.replicas > 0))
}

/// What the exposure waits for (`None` when none is asked for), and where the cluster is reached.
fn exposed(
    context: &Context,
    resource: &MediaCluster,
    cluster: &Cluster,
    pools: &[PoolSeen],
    has_edges: bool,
    missing: &[String],
) -> (Option<Vec<String>>, sluice_crds::cluster::Endpoints) {
    let (stores, namespace, uid) = (&context.stores, cluster.namespace(), resource.uid().unwrap_or_default());
    let found = context.served.borrow().clone();
    let services: Vec<Service> = pools
        .iter()
        .flat_map(|pool| stores.services.controlled_by(namespace, &pool.uid))
        .map(|service| (*service).clone())
        .collect();
    let pods: Vec<Pod> = pools.iter().flat_map(|pool| &pool.pods).map(|pod| (**pod).clone()).collect();
    let ingress = stores.ingresses.controlled_by(namespace, &uid).into_iter().next();
    let of = |kind: &Option<ApiResource>| -> Vec<DynamicObject> {
        let cache = kind.as_ref().and_then(|kind| stores.dynamic.of(kind));
        cache
            .map(|cache| cache.controlled_by(namespace, &uid))
            .unwrap_or_default()
            .iter()
            .map(|object| (**object).clone())
            .collect()
    };
    let routes: Vec<DynamicObject> =
        [&found.http_route, &found.tcp_route, &found.udp_route, &found.tls_route]
            .into_iter()
            .flat_map(of)
            .collect();
    let certificate = of(&found.certificate).into_iter().next();
    let seen = Seen {
        has_edges,
        services: &services,
        pods: &pods,
        ingress: ingress.as_deref(),
        routes: &routes,
        certificate: certificate.as_ref(),
    };
    let spec = &resource.spec;
    let asked = spec.exposure.ingress.is_some()
        || spec.exposure.gateway.is_some()
        || spec.security.tls.as_ref().is_some_and(|tls| tls.issuer.is_some());
    // Load balancers are told of by the pools that have them.
    let own = Seen { services: &[], ..seen };
    let waits = asked.then(|| sluice_objects::waiting(missing, &own));
    (waits, sluice_objects::endpoints(cluster, &context.site(), &seen))
}

/// Tells a node of the apps when none has applied them yet. Gives their status, and when to try again.
async fn tell_apps(
    context: &Context,
    cluster: &Cluster,
    before: Option<&MediaClusterStatus>,
    pools: &[PoolSeen],
) -> (Vec<AppStatus>, Option<Duration>) {
    let known = before.map(|before| before.apps.as_slice()).unwrap_or_default();
    let deleting = apps::to_delete(cluster.apps(), known);
    let wanted = sluice_objects::apps(cluster, &deleting);
    let candidates: Vec<Candidate<'_>> = pools
        .iter()
        .flat_map(|pool| pool.heard.iter().map(move |heard| (pool.key.role, heard)))
        .filter(|(_, (_, heard))| heard.at.elapsed() < FRESH)
        .filter_map(|(role, (uid, heard))| {
            Some(Candidate { uid: uid.clone(), role, report: heard.report.as_deref()? })
        })
        .collect();
    let applied =
        candidates.iter().any(|candidate| candidate.report.apps_hash.as_deref() == Some(&wanted.hash));
    let Some(candidate) = apps::whom(&wanted, &candidates) else {
        return (apps::statuses(cluster.apps(), &deleting, known, applied, None, None), None);
    };
    match context.nodes.apply_apps(&candidate.uid, &wanted).await {
        Ok(result) => {
            let again = (!result.is_complete()).then_some(AGAIN);
            (
                apps::statuses(cluster.apps(), &deleting, known, result.is_complete(), Some(&result), None),
                again,
            )
        }
        Err(error) => {
            let why = format!("{}: {error}", candidate.report.node);
            tracing::warn!(cluster = cluster.name(), error = %why, "the apps could not be applied");
            (apps::statuses(cluster.apps(), &deleting, known, false, None, Some(&why)), Some(AGAIN))
        }
    }
}

/// Writes the status when it is another. Gives when to look again, when counts wait.
async fn report(
    context: &Context,
    resource: &MediaCluster,
    facts: Facts<'_>,
) -> Result<Option<Duration>, Error> {
    let (before, uid) = (resource.status.as_ref(), resource.uid().unwrap_or_default());
    let after = status(facts, before, Timestamp::now());
    if before == Some(&after) {
        return Ok(None);
    }
    let only_counts = before.is_some_and(|before| without_counts(before) == without_counts(&after));
    if let Some(wait) = context.hold_counts(&uid, only_counts) {
        return Ok(Some(wait));
    }
    let old = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
    for note in crate::pool::news::of_conditions(old, &after.conditions) {
        context.events.about(resource, note);
    }
    match context.applier.apply_status(resource, before, &after).await {
        Ok(done) if done.wrote() => context.counted.put(uid, Instant::now()),
        Ok(_) => {}
        Err(error @ ApplyError::Api { .. }) if error.is_namespace_ending() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(None)
}
