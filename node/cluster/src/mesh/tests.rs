use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::Message;
use super::*;
use crate::identity::ClusterTls;
use crate::membership::{Entry, Listed};
use crate::port::{Alpn, ClusterPort, Handlers, Limits};

const KEY: &[u8] = b"a key for tests, long enough";
const SECOND: Duration = Duration::from_secs(1);

struct Own {
    member: Mutex<Member>,
    owned: Mutex<Vec<Owned>>,
    carried: Mutex<Vec<Carried>>,
    changed: watch::Sender<u64>,
}

impl Own {
    fn change(&self, owned: &[Owned]) {
        *self.owned.lock().unwrap() = owned.to_vec();
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Local for Own {
    fn member(&self) -> Member {
        self.member.lock().unwrap().clone()
    }
    fn owned(&self) -> Vec<Owned> {
        self.owned.lock().unwrap().clone()
    }
    fn carried(&self) -> Vec<Carried> {
        self.carried.lock().unwrap().clone()
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What a node knows of another.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    boot: u32,
    up: bool,
    hellos: u32,
    downs: u32,
    ticks: u32,
    streams: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Others {
    known: Mutex<BTreeMap<String, Known>>,
    changed: watch::Sender<u64>,
}

impl Others {
    fn note(&self, node: &NodeId, what: impl FnOnce(&mut Known)) {
        what(self.known.lock().unwrap().entry(node.to_string()).or_default());
        self.changed.send_modify(|version| *version += 1);
    }

    fn of(&self, node: &str) -> Known {
        self.known.lock().unwrap().get(node).cloned().unwrap_or_default()
    }
}

impl Remote for Others {
    fn hello(&self, member: Member, owned: Vec<Owned>, _carried: Vec<Carried>) -> bool {
        self.note(&member.id, |known| {
            assert!(!known.up || known.boot == member.boot.0, "hello of another run without a down");
            known.up = true;
            known.boot = member.boot.0;
            known.hellos += 1;
            known.streams = owned.iter().map(|stream| (stream.id.to_string(), stream.epoch)).collect();
        });
        true
    }
    fn tick(&self, member: Member) {
        self.note(&member.id, |known| {
            assert!(known.up && known.boot == member.boot.0);
            known.ticks += 1;
        });
    }
    fn update(&self, from: &NodeId, boot: BootId, owned: Changes<Owned>, _carried: Changes<Carried>) {
        self.note(from, |known| {
            assert!(known.up && known.boot == boot.0);
            owned.gone.iter().for_each(|(_, id)| {
                known.streams.remove(&**id);
            });
            known.streams.extend(owned.put.iter().map(|stream| (stream.id.to_string(), stream.epoch)));
        });
    }
    fn down(&self, from: &NodeId, boot: BootId) {
        self.note(from, |known| {
            assert!(known.up && known.boot == boot.0, "down of another run");
            known.up = false;
            known.downs += 1;
        });
    }
}

struct Node {
    addr: String,
    own: Arc<Own>,
    others: Arc<Others>,
    mesh: Arc<Mesh>,
    port: ClusterPort,
}

fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

fn addr_of(listener: &std::net::TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

fn stream(id: &str, epoch: u64) -> Owned {
    serde_json::from_value(serde_json::json!({"app": "live", "id": id, "epoch": epoch})).unwrap()
}

fn member(id: &str, boot: u32, port: u16) -> Member {
    let member = serde_json::json!({"id": id, "boot": boot, "host": "127.0.0.1", "ports": {"cluster": port}});
    serde_json::from_value(member).unwrap()
}

impl Node {
    fn start_as(key: &[u8], id: &str, boot: u32, listener: std::net::TcpListener, list: &str) -> Node {
        let tls = ClusterTls::from_key(key, &NodeId::new(id)).unwrap();
        let at = listener.local_addr().unwrap();
        let own = Arc::new(Own {
            member: Mutex::new(member(id, boot, at.port())),
            owned: Mutex::new(vec![stream(&format!("of-{id}"), 1)]),
            carried: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        let others = Arc::new(Others::default());
        let listed = Listed::new(&Entry::list(list).unwrap(), &NodeId::new(id), None);
        let mesh = Mesh::start(Client::new(&tls), Arc::new(listed), own.clone(), others.clone());
        let handlers = Handlers {
            relay: mesh.clone(),
            mesh: mesh.clone(),
            requests: axum::Router::new(),
            operator: axum::Router::new(),
            limits: Limits::default(),
        };
        let port = ClusterPort::serve(vec![listener], &tls, handlers).unwrap();
        Node { addr: at.to_string(), own, others, mesh, port }
    }

    fn start(id: &str, boot: u32, listener: std::net::TcpListener, list: &str) -> Node {
        Self::start_as(KEY, id, boot, listener, list)
    }

    /// Waits until what is known of a node is as expected.
    async fn sees(&self, node: &str, what: &str, expected: impl Fn(&Known) -> bool) -> Duration {
        let began = Instant::now();
        let mut changed = self.others.changed.subscribe();
        let seen = tokio::time::timeout(10 * SECOND, async {
            while !expected(&self.others.of(node)) {
                changed.changed().await.unwrap();
            }
        });
        assert!(seen.await.is_ok(), "{node} {what}: {:?}", self.others.of(node));
        began.elapsed()
    }

    async fn links(&self, what: &str, expected: impl Fn(&[LinkView]) -> bool) {
        let began = Instant::now();
        while !expected(&self.mesh.peers()) {
            assert!(began.elapsed() < 10 * SECOND, "{what}: {:#?}", self.mesh.peers());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Like a killed process: every connection breaks.
    fn kill(self) -> String {
        self.port.close();
        self.addr
    }
}

fn failed_with(links: &[LinkView], text: &str) -> bool {
    links.first().and_then(|link| link.error.as_deref()).is_some_and(|error| error.contains(text))
}

fn listener_at(addr: &str) -> std::net::TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&addr.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

#[tokio::test]
async fn nodes_tell_each_other_what_they_own_and_what_changes() {
    let listeners = [listener(), listener(), listener()];
    let list = listeners.iter().map(addr_of).collect::<Vec<_>>().join(",");
    let [a, b, c] = listeners;
    let (a, b, c) =
        (Node::start("a", 1, a, &list), Node::start("b", 2, b, &list), Node::start("c", 3, c, &list));
    for (node, other) in [(&a, "b"), (&a, "c"), (&b, "a"), (&b, "c"), (&c, "a"), (&c, "b")] {
        let expected = BTreeMap::from([(format!("of-{other}"), 1)]);
        node.sees(other, "says hello", |known| known.up && known.streams == expected).await;
    }
    // Changes do not wait for ticks, which are a second apart.
    let began = Instant::now();
    for epoch in 2..8 {
        a.own.change(&[stream("x", epoch)]);
        for node in [&b, &c] {
            let expected = BTreeMap::from([("x".to_owned(), epoch)]);
            node.sees("a", "has x", |known| known.streams == expected).await;
        }
    }
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
    b.sees("a", "ticks", |known| known.ticks >= 2).await;
    assert_eq!(b.others.of("a").hellos, 1);
    // The list names the node itself, too. It is not dialled.
    a.links("two links", |links| {
        links.len() == 2
            && links.iter().all(|link| {
                link.state == LinkState::Up
                    && link.since.is_some()
                    && link.heard_since.is_some()
                    && link.error.is_none()
            })
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_is_noticed_at_once_and_welcome_again() {
    let (at_a, at_b) = (listener(), listener());
    let list = format!("{},{}", addr_of(&at_a), addr_of(&at_b));
    let (a, b) = (Node::start("a", 1, at_a, &list), Node::start("b", 1, at_b, &list));
    a.sees("b", "is up", |known| known.up).await;
    b.sees("a", "is up", |known| known.up).await;
    let addr = b.kill();
    // Long before its silence would be noticed.
    assert!(a.sees("b", "is down", |known| !known.up).await < 2 * SECOND);
    a.links("the dead link", |links| {
        links.first().is_some_and(|link| link.state == LinkState::Down && link.error.is_some())
    })
    .await;

    let b = Node::start("b", 2, listener_at(&addr), &list);
    a.sees("b", "is back", |known| known.up && known.boot == 2).await;
    b.sees("a", "is up", |known| known.up).await;
    a.links("the new link", |links| links.first().is_some_and(|link| link.state == LinkState::Up)).await;
}

#[tokio::test]
async fn who_is_not_listed_is_dialled_back() {
    let (at_a, at_b) = (listener(), listener());
    let list = addr_of(&at_a);
    let (a, b) = (Node::start("a", 1, at_a, ""), Node::start("b", 1, at_b, &list));
    a.sees("b", "is up", |known| known.up).await;
    b.sees("a", "is up", |known| known.up).await;
    drop(b);
    a.links("nothing left to dial", |links| links.is_empty()).await;
}

#[tokio::test]
async fn a_node_by_two_addresses_has_one_link() {
    let (at_a, at_b) = (listener(), listener());
    let port = at_b.local_addr().unwrap().port();
    let a = Node::start("a", 1, at_a, &format!("127.0.0.1:{port},localhost:{port}"));
    let b = Node::start("b", 1, at_b, "");
    b.sees("a", "is up", |known| known.up).await;
    a.links("one up, one alias", |links| {
        let mut states: Vec<_> = links.iter().map(|link| format!("{:?}", link.state)).collect();
        states.sort();
        states == ["Alias", "Up"]
    })
    .await;
    tokio::time::sleep(SECOND).await;
    assert_eq!((b.others.of("a").hellos, b.others.of("a").downs), (1, 0));
}

#[tokio::test]
async fn a_node_knows_itself_under_another_name() {
    let at = listener();
    let port = at.local_addr().unwrap().port();
    let a = Node::start("a", 1, at, &format!("localhost:{port}"));
    a.links("itself", |links| links.first().is_some_and(|link| link.state == LinkState::Itself)).await;
    assert!(a.others.known.lock().unwrap().is_empty());
}

#[tokio::test]
async fn of_two_nodes_with_one_id_the_newer_is_heard() {
    let (at_a, at_x, at_y) = (listener(), listener(), listener());
    let list = addr_of(&at_a);
    let a = Node::start("a", 1, at_a, "");
    let x = Node::start("x", 1, at_x, &list);
    a.sees("x", "is up", |known| known.up && known.boot == 1).await;
    let _y = Node::start("x", 2, at_y, &list);
    a.sees("x", "is the newer", |known| known.up && known.boot == 2).await;
    // The older one comes back, and a says so; `Others` checks that runs never mix.
    a.sees("x", "is the older again", |known| known.boot == 1).await;
    assert!(a.mesh.shared.warned.load(Ordering::Relaxed));
    // A node that dials its own namesake is told so.
    let at_z = listener();
    let z = Node::start("x", 3, at_z, &x.addr);
    z.links("namesake", |links| failed_with(links, "id of this one")).await;
}

#[tokio::test]
async fn another_key_stays_outside() {
    let (at_a, at_b) = (listener(), listener());
    let (list_a, list_b) = (addr_of(&at_a), addr_of(&at_b));
    let a = Node::start("a", 1, at_a, &list_b);
    let b = Node::start_as(b"the key of another cluster", "b", 1, at_b, &list_a);
    for node in [&a, &b] {
        node.links("refused", |links| failed_with(links, "same cluster key")).await;
        assert!(node.others.known.lock().unwrap().is_empty());
    }
}

/// A peer that has the key and says what it likes.
struct Peer(crate::port::Outgoing);

impl Peer {
    async fn dial(node: &Node, id: &str) -> Peer {
        let tls = ClusterTls::from_key(KEY, &NodeId::new(id)).unwrap();
        Peer(Client::new(&tls).dial(&node.addr, Alpn::Mesh).await.unwrap())
    }

    async fn say(&mut self, message: &Message) {
        self.0.write_all(&message.encode()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn hello(&mut self, member: Member) {
        self.say(&Message::Hello { member, owned: vec![], carried: vec![], more: false }).await;
    }

    async fn hear(&mut self) -> Option<Message> {
        let length = tokio::time::timeout(10 * SECOND, self.0.read_u32()).await.expect("an answer").ok()?;
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(Message::parse(&bytes).unwrap())
    }
}

#[tokio::test]
async fn a_silent_link_is_down_and_ticks_are_answered() {
    let a = Node::start("a", 1, listener(), "");
    let mut peer = Peer::dial(&a, "p").await;
    let me = member("p", 5, 0);
    peer.hello(me.clone()).await;
    assert_eq!(peer.hear().await, Some(Message::Welcome { id: NodeId::new("a"), boot: BootId(1) }));
    peer.say(&Message::Tick { counter: 8, member: me }).await;
    assert_eq!(peer.hear().await, Some(Message::Ack { counter: 8 }));
    a.sees("p", "ticked", |known| known.up && known.ticks == 1).await;
    let silence = a.sees("p", "is down", |known| !known.up).await;
    assert!(silence > 2 * SECOND && silence < 6 * SECOND, "{silence:?}");
}

/// Welcomes whoever comes, and then says nothing more.
struct Mute;

#[async_trait]
impl Accept for Mute {
    async fn accept(&self, _peer: NodeId, _addr: SocketAddr, mut stream: Incoming) {
        let welcome = Message::Welcome { id: NodeId::new("mute"), boot: BootId(1) }.encode();
        stream.write_all(&welcome).await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

#[tokio::test]
async fn a_node_that_acknowledges_nothing_is_down() {
    let tls = ClusterTls::from_key(KEY, &NodeId::new("mute")).unwrap();
    let (at, limits) = (listener(), Limits::default());
    let list = addr_of(&at);
    let handlers = Handlers {
        relay: Arc::new(Mute),
        mesh: Arc::new(Mute),
        requests: axum::Router::new(),
        operator: axum::Router::new(),
        limits,
    };
    let _mute = ClusterPort::serve(vec![at], &tls, handlers).unwrap();
    let a = Node::start("a", 1, listener(), &list);
    a.links("up at first", |links| links.first().is_some_and(|link| link.state == LinkState::Up)).await;
    let began = Instant::now();
    a.links("down", |links| failed_with(links, "nothing came")).await;
    assert!(began.elapsed() > 2 * SECOND && began.elapsed() < 6 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_newer_link_of_the_same_run_replaces_the_older_without_a_down() {
    let a = Node::start("a", 1, listener(), "");
    let (mut old, mut new) = (Peer::dial(&a, "p").await, Peer::dial(&a, "p").await);
    let me = member("p", 5, 0);
    old.hello(me.clone()).await;
    old.hear().await.unwrap();
    new.hello(me.clone()).await;
    new.hear().await.unwrap();
    // What the older link says is not passed on any more.
    old.say(&Message::Tick { counter: 1, member: me.clone() }).await;
    assert_eq!(old.hear().await, None);
    new.say(&Message::Tick { counter: 1, member: me }).await;
    assert_eq!(new.hear().await, Some(Message::Ack { counter: 1 }));
    let known = a.others.of("p");
    assert_eq!((known.up, known.hellos, known.downs, known.ticks), (true, 2, 0, 1));
    drop(new);
    a.sees("p", "is down", |known| known.downs == 1).await;
}

#[tokio::test]
async fn who_lies_about_its_name_or_talks_nonsense_is_cut() {
    let a = Node::start("a", 1, listener(), "");
    let mut liar = Peer::dial(&a, "p").await;
    liar.hello(member("q", 5, 0)).await;
    assert_eq!(liar.hear().await, Some(Message::Refused { reason: message::Refusal::Name }));
    assert_eq!(liar.hear().await, None);

    let mut early = Peer::dial(&a, "p").await;
    early.say(&Message::Tick { counter: 1, member: member("p", 5, 0) }).await;
    assert_eq!(early.hear().await, None);
    let mut garbage = Peer::dial(&a, "p").await;
    garbage.0.write_all(b"\0\0\0\x05hello").await.unwrap();
    assert_eq!(garbage.hear().await, None);
    assert!(a.others.known.lock().unwrap().is_empty());

    let mut later = Peer::dial(&a, "p").await;
    later.hello(member("p", 5, 0)).await;
    later.hear().await.unwrap();
    later.say(&Message::Tick { counter: 1, member: member("q", 5, 0) }).await;
    assert_eq!(later.hear().await, None);
    a.sees("p", "is down", |known| known.downs == 1 && known.ticks == 0).await;
}

#[tokio::test]
async fn thousands_of_streams_arrive() {
    let (at_a, at_b) = (listener(), listener());
    let list = addr_of(&at_b);
    let a = Node::start("a", 1, at_a, "");
    let all: Vec<Owned> = (0..20_000).map(|n| stream(&format!("{n:0>200}"), n)).collect();
    a.own.change(&all);
    let b = Node::start("b", 1, at_b, "");
    let listed = Listed::new(&Entry::list(&list).unwrap(), &NodeId::new("a"), None);
    let tls = ClusterTls::from_key(KEY, &NodeId::new("a")).unwrap();
    // Larger than a message may be: a hello in several parts.
    let _mesh = Mesh::start(Client::new(&tls), Arc::new(listed), a.own.clone(), a.others.clone());
    b.sees("a", "has them", |known| known.streams.len() == all.len()).await;
    a.own.change(&all[..10]);
    b.sees("a", "has few", |known| known.streams.len() == 10).await;
}
