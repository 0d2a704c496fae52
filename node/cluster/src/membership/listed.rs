//! Members from a list.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Entry, Membership, Peer};
use crate::member::NodeId;

/// The members that an administrator listed. The list may name this node, too.
pub struct Listed {
    peers: Vec<Peer>,
    changed: watch::Sender<u64>,
}

impl Listed {
    /// From a list. The domain of this node is `domain`, or what its own entry says; members of other domains are left
    /// out. Without one, all are members.
    pub fn new(entries: &[Entry], me: &NodeId, domain: Option<&str>) -> Listed {
        let own = entries.iter().find(|entry| entry.id.as_ref() == Some(me));
        let domain = domain.or_else(|| own.and_then(|entry| entry.domain.as_deref()));
        let mut peers: Vec<Peer> = Vec::new();
        for entry in entries {
            let elsewhere =
                entry.domain.as_deref().is_some_and(|theirs| domain.is_some_and(|ours| ours != theirs));
            let addr = entry.addr();
            if elsewhere || entry.id.as_ref() == Some(me) || peers.iter().any(|peer| peer.addr == addr) {
                continue;
            }
            peers.push(Peer { id: entry.id.clone(), addr, boot: None, counter: None });
        }
        Listed { peers, changed: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Membership for Listed {
    fn peers(&self) -> Vec<Peer> {
        self.peers.clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn remove(&self, _id: &NodeId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &str, me: &str, domain: Option<&str>) -> Vec<String> {
        let listed = Listed::new(&Entry::list(list).unwrap(), &NodeId::new(me), domain);
        listed.peers().into_iter().map(|peer| peer.addr).collect()
    }

    #[test]
    fn all_but_this_node_each_once() {
        assert_eq!(addresses("a;n1,b;n2,c,b", "n1", None), ["b:5000", "c:5000"]);
    }

    #[test]
    fn only_those_of_its_own_domain() {
        let list = "a;n1;eu,b;n2;eu,c;n3;us,d;n4";
        assert_eq!(addresses(list, "n1", None), ["b:5000", "d:5000"]);
        assert_eq!(addresses(list, "n3", None), ["d:5000"]);
        assert_eq!(addresses(list, "n4", None), ["a:5000", "b:5000", "c:5000"]);
        assert_eq!(addresses(list, "n4", Some("us")), ["c:5000"]);
    }
}
