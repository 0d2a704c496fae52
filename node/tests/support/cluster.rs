//! Several nodes as one cluster, found by a static list.

use std::time::Duration;

use super::{Node, broadcast, get, http, port, wait_for};
use tempfile::TempDir;

/// A member: its name, its node, and what is needed to start it again.
pub struct Member {
    pub name: &'static str,
    pub node: Node,
}

/// Members by role, `o…` origins and `e…` edges; each knows all others.
pub struct Cluster {
    members: Vec<Member>,
    env: Vec<(&'static str, Vec<(String, String)>)>,
    temp: TempDir,
}

impl Cluster {
    /// Starts them and waits until each lists all others as alive.
    pub fn start(names: &[&'static str]) -> Self {
        let temp = TempDir::new().expect("a temporary directory");
        let addresses: Vec<_> = names.iter().map(|name| (*name, format!("127.0.0.1:{}", port()))).collect();
        let list: Vec<_> = addresses.iter().map(|(name, at)| format!("{at};{name}")).collect();
        let env: Vec<(&'static str, Vec<(String, String)>)> = addresses
            .iter()
            .map(|(name, at)| {
                let settings = [
                    ("SLUICE_CLUSTER_MODE", "static".to_owned()),
                    ("SLUICE_CLUSTER_KEY", "a-key-for-tests-of-the-cluster".to_owned()),
                    ("SLUICE_CLUSTER_ADDR", at.clone()),
                    ("SLUICE_STATIC_MEMBERS", list.join(",")),
                    ("SLUICE_ADVERTISE_HOST", "127.0.0.1".to_owned()),
                    ("SLUICE_NODE_ID", (*name).to_owned()),
                    ("SLUICE_ROLE", if name.starts_with('o') { "origin" } else { "edge" }.to_owned()),
                ];
                (*name, settings.map(|(key, value)| (key.to_owned(), value)).into())
            })
            .collect();
        let mut cluster = Cluster { members: Vec::new(), env, temp };
        for name in names {
            cluster.join(name);
        }
        for member in &cluster.members {
            wait_for(Duration::from_secs(15), "all members to be alive", || {
                alive(&member.node).len() == names.len()
            });
        }
        cluster
    }

    /// Starts a member; it has its data directory from before, if it was there.
    pub fn join(&mut self, name: &'static str) {
        let env = &self.env.iter().find(|(n, _)| *n == name).expect("a member").1;
        let env: Vec<_> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let dir = self.temp.path().join(name);
        std::fs::create_dir_all(&dir).expect("a data directory");
        self.members.push(Member { name, node: Node::start_in(&dir, (port(), port()), &env) });
    }

    /// `kill -9`.
    pub fn crash(&mut self, name: &str) {
        let at = self.members.iter().position(|m| m.name == name).expect("a member");
        self.members.remove(at).node.crash();
    }

    /// Waits for the end of a member that was told to stop.
    pub fn ended(&mut self, name: &str) {
        let at = self.members.iter().position(|m| m.name == name).expect("a member");
        let mut member = self.members.remove(at);
        assert!(member.node.wait(Duration::from_secs(30)).success(), "{name} ends well");
    }

    pub fn node(&self, name: &str) -> &Node {
        &self.members.iter().find(|m| m.name == name).expect("a member").node
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }
}

/// The names of the nodes that this one lists as alive.
pub fn alive(node: &Node) -> Vec<String> {
    let all = get(&node.url("/rest/v2/cluster/nodes/0/50")).json();
    let all = all.as_array().cloned().unwrap_or_default();
    all.iter().filter(|n| n["status"] == "alive").filter_map(|n| Some(n["id"].as_str()?.to_owned())).collect()
}

/// Who owns a stream, as this node sees it.
pub fn owner(node: &Node, stream: &str) -> Option<String> {
    let all = get(&node.url("/rest/v2/cluster/streams")).json();
    let place = all.as_array()?.iter().find(|p| p["streamId"] == stream)?.clone();
    Some(place["owner"].as_str()?.to_owned())
}

/// Whether this node's REST says that a stream is live.
pub fn is_live(node: &Node, stream: &str) -> bool {
    let answer = broadcast(node, stream);
    answer.status == 200 && answer.json()["status"] == "broadcasting"
}

pub fn post(url: &str) -> super::Answer {
    http(url, &["-X", "POST"])
}
