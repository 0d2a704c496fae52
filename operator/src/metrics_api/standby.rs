//! A replica that waits for the lease hears the nodes, too, so that it can answer for them. It makes nothing and orders nothing: what it
//! needs to be let in (the operator's CA, the clusters' keys) it only reads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use sluice_crds::generate::hash;
use sluice_crds::pool::PoolKind;
use sluice_crds::{MediaCluster, names};
use sluice_identity::OperatorAuthority;
use sluice_objects::SecretRef;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::authority;
use crate::client::REQUEST;
use crate::cluster::secrets::{Found, given};
use crate::health::Beat;
use crate::nodes::{Credentials, Nodes};
use crate::owned::{Cache, ClusterRef, PoolRef, Stores};

/// How often the pods are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was read of the API server is believed for so long.
const READ: Duration = Duration::from_secs(10);

/// Follows the nodes of all pools while this replica does not lead. Runs for ever.
pub(super) async fn follow(
    client: Client,
    namespace: String,
    stores: Stores,
    nodes: Nodes,
    leads: watch::Receiver<bool>,
    beat: Beat,
) {
    let filled = stores.clone();
    let filled = filled.ready();
    tokio::pin!(filled);
    while timeout(INTERVAL, &mut filled).await.is_err() {
        beat.touch();
    }
    let mut standby = Standby {
        client,
        namespace,
        stores,
        nodes,
        leads,
        authority: None,
        keys: HashMap::new(),
        pools: HashSet::new(),
    };
    loop {
        beat.touch();
        if !*standby.leads.borrow() {
            standby.pass(&beat).await;
        }
        sleep(INTERVAL).await;
    }
}

struct Standby {
    client: Client,
    namespace: String,
    stores: Stores,
    nodes: Nodes,
    leads: watch::Receiver<bool>,
    authority: Option<(Instant, OperatorAuthority)>,
    keys: HashMap<ClusterRef, Key>,
    pools: HashSet<PoolRef>,
}

/// By what the nodes of a cluster are heard.
struct Key {
    read: Instant,
    credentials: Option<Credentials>,
}

impl Standby {
    async fn pass(&mut self, beat: &Beat) {
        let Some(authority) = self.authority().await else { return };
        let clusters = self.stores.clusters.all();
        for cluster in &clusters {
            beat.touch();
            self.learn(cluster, &authority).await;
        }
        let there: HashSet<ClusterRef> = clusters.iter().map(|cluster| key(cluster)).collect();
        self.keys.retain(|cluster, _| there.contains(cluster));
        // Who leads by now follows them itself, with what it knows.
        if *self.leads.borrow() {
            return;
        }
        let (origins, edges) = (self.stores.origins.clone(), self.stores.edges.clone());
        let mut pools = self.track(&origins);
        pools.extend(self.track(&edges));
        for gone in self.pools.difference(&pools) {
            self.nodes.retain(gone, &HashSet::new());
        }
        self.pools = pools;
    }

    /// The operator's CA; none as long as nobody who leads has made it.
    async fn authority(&mut self) -> Option<OperatorAuthority> {
        if let Some((at, authority)) = &self.authority
            && at.elapsed() < READ
        {
            return Some(authority.clone());
        }
        match authority::look(&self.client, &self.namespace).await {
            Ok(Some(found)) => {
                // The same one goes on: connections are made with it.
                let known = self.authority.take().map(|(_, known)| known);
                let same = known.filter(|known| known.certificate_pem() == found.certificate_pem());
                let (other, authority) = (same.is_none(), same.unwrap_or(found));
                if other {
                    self.keys.clear();
                }
                self.authority = Some((Instant::now(), authority.clone()));
                Some(authority)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "nodes cannot be heard while this replica stands by");
                self.authority.as_ref().map(|(_, authority)| authority.clone())
            }
        }
    }

    /// Reads the key of a cluster, when that is due.
    async fn learn(&mut self, cluster: &MediaCluster, authority: &OperatorAuthority) {
        let at = key(cluster);
        let before = self.keys.get(&at);
        if before.is_some_and(|before| before.read.elapsed() < READ) {
            return;
        }
        let kept = before.and_then(|before| before.credentials.clone());
        let wanted = wanted(cluster);
        let secret = match self.stores.secrets.get(&at.namespace, &wanted.name) {
            Some(secret) => Some(secret),
            None => self.read(&at.namespace, &wanted.name).await,
        };
        let found = given(secret.as_deref(), &at.namespace, &wanted, "spec.security.clusterKey");
        let recorded = cluster.status.as_ref().and_then(|status| status.cluster_key_hash.as_deref());
        let fresh = match found {
            // Another one than the pods have is of no use for hearing them.
            Found::Value { value, .. } if recorded.is_none_or(|recorded| recorded == hash(&value)) => {
                Credentials::of_cluster(authority, &value).ok()
            }
            Found::Value { .. } | Found::Missing(_) => None,
        };
        self.keys.insert(at, Key { read: Instant::now(), credentials: fresh.or(kept) });
    }

    async fn read(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        timeout(REQUEST, api.get_opt(name)).await.ok()?.ok()?.map(Arc::new)
    }

    fn track<K: PoolKind>(&self, all: &Cache<K>) -> HashSet<PoolRef> {
        all.all()
            .iter()
            .filter_map(|pool| {
                let meta = pool.meta();
                let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
                let at = PoolRef::new(K::ROLE, namespace, name);
                let cluster = ClusterRef::new(namespace, &pool.pool().cluster_ref.name);
                if let Some(credentials) = self.keys.get(&cluster).and_then(|key| key.credentials.as_ref()) {
                    let pods =
                        self.stores.pods.controlled_by(namespace, meta.uid.as_deref().unwrap_or_default());
                    self.nodes.follow(&at, credentials, &pods);
                }
                Some(at)
            })
            .collect()
    }
}

fn key(cluster: &MediaCluster) -> ClusterRef {
    ClusterRef::new(&cluster.namespace().unwrap_or_default(), &cluster.name_any())
}

/// Where a cluster's key is.
fn wanted(cluster: &MediaCluster) -> SecretRef {
    match &cluster.spec.security.cluster_key {
        Some(theirs) => SecretRef {
            name: theirs.name.clone(),
            key: theirs.key.clone().unwrap_or_else(|| "key".into()),
            generated: false,
        },
        None => SecretRef {
            name: names::cluster_key_secret(&cluster.name_any()),
            key: "key".into(),
            generated: true,
        },
    }
}
