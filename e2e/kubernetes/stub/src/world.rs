//! Which pods there are, and with which keys.
//!
//! - `pod NAMESPACE NAME IP CLUSTER ROLE`: a pod at an address; whoever was there before is gone.
//! - `key NAMESPACE CLUSTER KEY`: the cluster key.
//!
//! Lines with fewer words tell of a pod without an address yet, and are skipped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_control::Role;
use sluice_identity::{ClusterTls, IdentityError, NodeId};

use crate::node::Node;

type ClusterName = (String, String);

/// All that is known.
pub(crate) struct World {
    authority: Vec<u8>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<IpAddr, Pod>,
    keys: HashMap<ClusterName, Arc<[u8]>>,
}

struct Pod {
    cluster: ClusterName,
    node: Arc<Node>,
    tls: Option<ClusterTls>,
}

/// A line that says nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("a line begins with `pod` or `key`")]
    Word,
    #[error("that is no address of a pod")]
    Address,
    #[error("a pod's role is origin or edge")]
    Role,
}

/// Who cannot be answered for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("no pod is known at {0}")]
    Pod(IpAddr),
    #[error("the key of cluster {0}/{1} is not known")]
    Key(String, String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl World {
    pub(crate) fn new(authority: Vec<u8>) -> World {
        World { authority, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a line.
    pub(crate) fn learn(&self, line: &str) -> Result<(), Unclear> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["pod", namespace, name, ip, cluster, role] => {
                let ip: IpAddr = ip.parse().map_err(|_| Unclear::Address)?;
                let role = match role {
                    "origin" => Role::Origin,
                    "edge" => Role::Edge,
                    _ => return Err(Unclear::Role),
                };
                let cluster = (namespace.to_owned(), cluster.to_owned());
                let mut known = self.known();
                // It is told of again and again while it changes; its state stays.
                if known.pods.get(&ip).is_none_or(|pod| pod.node.name() != name || pod.cluster != cluster) {
                    let node = Arc::new(Node::new(name, role, rand::random()));
                    known.pods.insert(ip, Pod { cluster, node, tls: None });
                }
                Ok(())
            }
            ["key", namespace, cluster, key] => {
                let cluster = (namespace.to_owned(), cluster.to_owned());
                let key: Arc<[u8]> = key.as_bytes().into();
                let mut known = self.known();
                if known.keys.get(&cluster) != Some(&key) {
                    known
                        .pods
                        .values_mut()
                        .filter(|pod| pod.cluster == cluster)
                        .for_each(|pod| pod.tls = None);
                    known.keys.insert(cluster, key);
                }
                Ok(())
            }
            ["pod" | "key", ..] | [] => Ok(()),
            _ => Err(Unclear::Word),
        }
    }

    /// Who is at an address, and what it shows of itself.
    pub(crate) fn at(&self, ip: IpAddr) -> Result<(Arc<Node>, ClusterTls), Stranger> {
        let mut known = self.known();
        let Known { pods, keys } = &mut *known;
        let pod = pods.get_mut(&ip).ok_or(Stranger::Pod(ip))?;
        let tls = match &pod.tls {
            Some(tls) => tls.clone(),
            None => {
                let (namespace, name) = &pod.cluster;
                let key =
                    keys.get(&pod.cluster).ok_or_else(|| Stranger::Key(namespace.clone(), name.clone()))?;
                let tls = ClusterTls::from_key(key, &NodeId::new(pod.node.name()))?;
                tls.trust_operator(Some(&self.authority))?;
                pod.tls.insert(tls).clone()
            }
        };
        Ok((pod.node.clone(), tls))
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.known().pods.values().map(|pod| pod.node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use sluice_identity::OperatorAuthority;

    use super::*;

    fn world() -> World {
        let authority = OperatorAuthority::generate().expect("an authority can be made");
        World::new(authority.certificate_pem().as_bytes().to_vec())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_pod_is_found_by_its_address_once_its_key_is_known() {
        let world = world();
        world.learn("pod media demo-edge-0 10.200.0.7 demo edge").unwrap();
        assert!(matches!(world.at(ip("10.200.0.7")), Err(Stranger::Key(..))));
        world.learn("key media demo 0123456789abcdef0123456789abcdef").unwrap();
        let (node, tls) = world.at(ip("10.200.0.7")).unwrap();
        assert_eq!((node.name(), tls.node().as_str()), ("demo-edge-0", "demo-edge-0"));
        assert!(matches!(world.at(ip("10.200.0.8")), Err(Stranger::Pod(_))));
    }

    #[test]
    fn a_pod_keeps_its_state_until_another_one_has_its_address() {
        let world = world();
        world.learn("key media demo 0123456789abcdef").unwrap();
        world.learn("pod media demo-edge-0 10.200.0.7 demo edge").unwrap();
        let first = world.at(ip("10.200.0.7")).unwrap().0.report();
        world.learn("pod media demo-edge-0 10.200.0.7 demo edge").unwrap();
        assert_eq!(world.at(ip("10.200.0.7")).unwrap().0.report().boot, first.boot);
        world.learn("pod media demo-edge-1 10.200.0.7 demo edge").unwrap();
        assert_eq!(world.at(ip("10.200.0.7")).unwrap().0.report().node, "demo-edge-1");
    }

    #[test]
    fn lines_that_say_nothing_do_nothing() {
        let world = world();
        assert_eq!(world.learn("pod media demo-edge-0 demo edge"), Ok(()));
        assert_eq!(world.learn(""), Ok(()));
        assert_eq!(world.learn("pod media demo-edge-0 nowhere demo edge"), Err(Unclear::Address));
        assert_eq!(world.learn("pod media demo-edge-0 10.200.0.7 demo both"), Err(Unclear::Role));
        assert_eq!(world.learn("other"), Err(Unclear::Word));
        assert!(world.nodes().is_empty());
    }
}
