//! A replica that waits for the lease hears the nodes, too, so that it can answer for them. It makes nothing and orders nothing: what it
//! needs to be let in (the operator's CA, the clusters' keys) it only reads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use sluice_crds::MediaCluster;
use sluice_crds::generate::hash;
use sluice_crds::pool::PoolKind;
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
        let wanted = SecretRef::cluster_key(cluster);
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

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::client::Body;
    use serde_json::{Value, json};
    use sluice_crds::{EdgePool, OriginPool};

    use super::*;
    use crate::metrics::Metrics;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// An API server that has the operator's CA, once that was made.
    fn server(made: bool) -> Client {
        let authority = OperatorAuthority::generate().expect("randomness");
        let secret = serde_json::to_vec(&authority::secret("sluice-system", &authority)).expect("json");
        let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound" });
        let missing = serde_json::to_vec(&missing).expect("json");
        let service = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.method(), http::Method::GET, "who stands by only reads");
            let there = made && request.uri().path().ends_with(authority::SECRET);
            let mut response =
                Response::new(Body::from(if there { secret.clone() } else { missing.clone() }));
            *response.status_mut() =
                http::StatusCode::from_u16(if there { 200 } else { 404 }).expect("a status");
            std::future::ready(Ok::<_, std::io::Error>(response))
        });
        Client::new(service, "sluice-system")
    }

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    /// A cluster whose status names the key of this hash, with a pool of two pods, one of which has no address yet.
    fn stores(key_hash: &str) -> Stores {
        let pod = |name: &str, status: Value| -> Pod {
            object(json!({
                "metadata": {
                    "name": name, "namespace": "media", "uid": name,
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "EdgePool", "name": "e", "uid": "pool", "controller": true }],
                },
                "status": status,
            }))
        };
        Stores {
            clusters: Cache::of([object::<MediaCluster>(json!({
                "apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster",
                "metadata": { "name": "c", "namespace": "media" },
                "spec": { "database": { "external": { "secret": { "name": "d" } } } },
                "status": { "clusterKeyHash": key_hash },
            }))]),
            origins: Cache::of(Vec::<OriginPool>::new()),
            edges: Cache::of([object::<EdgePool>(json!({
                "apiVersion": "sluice.dev/v1alpha1", "kind": "EdgePool",
                "metadata": { "name": "e", "namespace": "media", "uid": "pool" },
                "spec": { "clusterRef": { "name": "c" } },
            }))]),
            pods: Cache::of([pod("e-0", json!({ "podIP": "127.0.0.1" })), pod("e-1", json!({}))]),
            secrets: Cache::of([object::<Secret>(json!({
                "metadata": { "name": "c-cluster-key", "namespace": "media" },
                "data": { "key": k8s_openapi::ByteString(KEY.into()) },
            }))]),
            ..Stores::default()
        }
    }

    fn standby(made: bool, key_hash: &str) -> (Standby, watch::Sender<bool>) {
        let (told, leads) = watch::channel(false);
        let standby = Standby {
            client: server(made),
            namespace: "sluice-system".into(),
            stores: stores(key_hash),
            nodes: Nodes::new(Duration::from_secs(2), &Metrics::new(), |_, _| {}),
            leads,
            authority: None,
            keys: HashMap::new(),
            pools: HashSet::new(),
        };
        (standby, told)
    }

    #[tokio::test]
    async fn nodes_are_followed_until_their_pool_is_gone() {
        let beat = Beat::new("standby");
        let (mut standby, _told) = standby(true, &hash(KEY.as_bytes()));
        standby.pass(&beat).await;
        assert!(standby.nodes.get("e-0").is_some() && standby.nodes.len() == 1);
        standby.stores.edges = Cache::of([]);
        standby.pass(&beat).await;
        assert!(standby.nodes.is_empty());
    }

    #[tokio::test]
    async fn without_what_lets_it_in_nobody_is_followed() {
        let beat = Beat::new("standby");
        for (made, key_hash) in [(false, hash(KEY.as_bytes())), (true, hash(b"another key"))] {
            let (mut standby, _told) = standby(made, &key_hash);
            standby.pass(&beat).await;
            assert!(standby.nodes.is_empty(), "{made}");
        }
    }

    #[tokio::test]
    async fn who_leads_by_then_is_not_disturbed() {
        let (mut standby, told) = standby(true, &hash(KEY.as_bytes()));
        told.send_replace(true);
        standby.pass(&Beat::new("standby")).await;
        assert!(standby.nodes.is_empty());
    }
}
