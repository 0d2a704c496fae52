//! Against nodes that are real on the wire: mutual TLS from `sluice-identity`, HTTP/2, long polls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluice_control::{DrainOrder, Draining, paths};
use sluice_crds::pool::Role;
use sluice_identity::{ClusterTls, OperatorAuthority};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

const KEY: &[u8] = b"a cluster key for tests, 32 bytes";
const INTERVAL: Duration = Duration::from_millis(400);

/// A node that answers as a real one does.
struct Node {
    addr: SocketAddr,
    report: watch::Sender<Report>,
    asked: Arc<AtomicUsize>,
    task: JoinSet<()>,
}

impl Node {
    async fn start(name: &str, authority: &OperatorAuthority) -> Node {
        Node::start_at(name, authority, "127.0.0.1:0".parse().expect("an address")).await
    }

    async fn start_at(name: &str, authority: &OperatorAuthority, addr: SocketAddr) -> Node {
        let tls = ClusterTls::from_key(KEY, &NodeId::new(name)).expect("a key");
        tls.trust_operator(Some(authority.certificate_pem().as_bytes())).expect("a CA");
        let listener = TcpListener::bind(addr).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let first = Report {
            node: name.into(),
            boot: 1,
            revision: 1,
            ready: true,
            accepting: true,
            ..Report::default()
        };
        let report = watch::Sender::new(first);
        let asked = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        let (reports, count) = (report.clone(), asked.clone());
        task.spawn(async move {
            let acceptor = TlsAcceptor::from(tls.server());
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, reports, count) = (acceptor.clone(), reports.clone(), count.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, reports.clone(), count.clone()));
                    let builder = http2::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .clone()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Node { addr, report, asked, task }
    }

    fn change(&self, f: impl FnOnce(&mut Report)) {
        self.report.send_modify(|report| {
            report.revision += 1;
            f(report);
        });
    }

    /// As when its machine goes: connections break.
    async fn stop(mut self) -> SocketAddr {
        self.task.shutdown().await;
        self.addr
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<Incoming>,
    reports: watch::Sender<Report>,
    asked: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let number = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse::<u64>().ok())
    };
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let json = match (method, path.as_str()) {
        (Method::GET, paths::REPORT) => {
            asked.fetch_add(1, Ordering::SeqCst);
            if let Some(known) = number(paths::KNOWN) {
                let wait = Duration::from_millis(number(paths::WAIT_MS).unwrap_or(0));
                let mut news = reports.subscribe();
                let _ = timeout(wait, news.wait_for(|report| report.revision != known)).await;
            }
            serde_json::to_vec(&*reports.borrow())
        }
        (Method::POST, paths::DRAIN) => {
            let order: Drain = serde_json::from_slice(&body).unwrap_or_default();
            reports.send_modify(|report| {
                report.revision += 1;
                report.accepting = false;
                let by = DrainOrder::Operator;
                report.draining = Some(Draining { reason: order.reason, by, ..Draining::default() });
            });
            Ok(b"{}".to_vec())
        }
        (Method::DELETE, paths::DRAIN) => {
            reports.send_modify(|report| {
                report.revision += 1;
                report.accepting = true;
                report.draining = None;
            });
            Ok(b"{}".to_vec())
        }
        (Method::PUT, paths::APPS) => serde_json::to_vec(&AppsResult::default()),
        _ => serde_json::to_vec(&SettingsResult::default()),
    };
    Ok(Response::new(Full::from(json.unwrap_or_default())))
}

struct World {
    authority: OperatorAuthority,
    metrics: Metrics,
    nodes: Nodes,
    changes: Arc<Mutex<Vec<(PoolRef, Urgency)>>>,
}

impl World {
    fn new() -> World {
        let (metrics, changes) = (Metrics::new(), Arc::new(Mutex::new(Vec::new())));
        let log = changes.clone();
        let nodes =
            Nodes::new(INTERVAL, &metrics, move |pool, urgency| lock(&log).push((pool.clone(), urgency)));
        World { authority: OperatorAuthority::generate().expect("randomness"), metrics, nodes, changes }
    }

    fn target(&self, name: &str, addr: SocketAddr) -> Target {
        let tls = OperatorTls::from_key(&self.authority, KEY).expect("a key");
        Target {
            uid: format!("uid-of-{name}"),
            name: name.into(),
            addr: addr.to_string(),
            credentials: Credentials::new(tls, KEY),
            pool: pool(),
        }
    }

    async fn until(&self, uid: &str, what: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        for _ in 0..1000 {
            match self.nodes.get(uid) {
                Some(seen) if fits(&seen) => return seen,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("not seen within 10 s: {what}; seen was {:?}", self.nodes.get(uid));
    }

    fn take_changes(&self) -> Vec<Urgency> {
        lock(&self.changes).drain(..).map(|(_, urgency)| urgency).collect()
    }
}

fn pool() -> PoolRef {
    PoolRef::new(Role::Edge, "media", "demo-edge")
}

#[tokio::test]
async fn reports_come_at_once_and_orders_go_the_same_way() {
    let world = World::new();
    let node = Node::start("demo-edge-0", &world.authority).await;
    let target = world.target("demo-edge-0", node.addr);
    let uid = target.uid.clone();
    world.nodes.track(target.clone()).expect("good credentials");
    let first = world.until(&uid, "the first report", |seen| seen.report.is_some()).await;
    assert!(first.failure.is_none());
    assert_eq!(world.take_changes(), [Urgency::Now]);
    assert_eq!(world.metrics.nodes.get(), 1);

    // The same once more is nothing new: no second connection, no second first question.
    world.nodes.track(target).expect("good credentials");
    let changed = Instant::now();
    node.change(|report| report.viewers = 3);
    world.until(&uid, "three viewers", |seen| seen.report.as_ref().is_some_and(|r| r.viewers == 3)).await;
    assert!(changed.elapsed() < INTERVAL, "{:?}", changed.elapsed());
    assert_eq!(world.take_changes(), [Urgency::Now], "the first viewer makes it busy");
    node.change(|report| report.viewers = 4);
    world.until(&uid, "four viewers", |seen| seen.report.as_ref().is_some_and(|r| r.viewers == 4)).await;
    assert_eq!(world.take_changes(), [Urgency::Counts]);

    let order = Drain { reason: "test".into(), ..Drain::default() };
    world.nodes.drain(&uid, &order).await.expect("taken");
    let seen = world.until(&uid, "draining", |seen| seen.report.as_ref().is_some_and(|r| !r.accepting)).await;
    let draining = seen.report.and_then(|report| report.draining.clone()).expect("draining");
    assert_eq!((draining.reason.as_str(), draining.by), ("test", DrainOrder::Operator));
    world.nodes.undrain(&uid).await.expect("taken");
    world.until(&uid, "accepting", |seen| seen.report.as_ref().is_some_and(|r| r.accepting)).await;
    assert!(world.nodes.apply_apps(&uid, &Apps::default()).await.expect("an answer").is_complete());
    let unknown = world.nodes.undrain("another").await.expect_err("not followed").to_string();
    assert!(unknown.contains("another"), "{unknown}");
}

#[tokio::test]
async fn at_rest_it_asks_once_an_interval_and_reports_stay_young() {
    let world = World::new();
    let node = Node::start("n", &world.authority).await;
    world.nodes.track(world.target("n", node.addr)).expect("good credentials");
    world.until("uid-of-n", "the first report", |seen| seen.report.is_some()).await;
    world.take_changes();
    let (before, begun) = (node.asked(), Instant::now());
    let mut oldest = Duration::ZERO;
    while begun.elapsed() < INTERVAL * 5 {
        sleep(Duration::from_millis(20)).await;
        oldest = oldest.max(world.nodes.get("uid-of-n").expect("followed").at.elapsed());
    }
    let asked = node.asked() - before;
    assert!((3..=6).contains(&asked), "asked {asked} times in five intervals");
    assert!(oldest < INTERVAL * 3, "{oldest:?}");
    assert_eq!(world.take_changes(), [], "nothing changed");
}

#[tokio::test]
async fn a_node_that_goes_is_named_and_found_again() {
    let world = World::new();
    let node = Node::start("n", &world.authority).await;
    world.nodes.track(world.target("n", node.addr)).expect("good credentials");
    world.until("uid-of-n", "the first report", |seen| seen.report.is_some()).await;
    world.take_changes();
    let addr = node.stop().await;
    let seen = world
        .until("uid-of-n", "two failures", |seen| seen.failure.as_ref().is_some_and(|f| f.times >= 2))
        .await;
    assert!(seen.report.is_some(), "what it said last is still known");
    let failure = seen.failure.expect("a failure");
    assert_eq!(failure.kind, "unreachable");
    assert!(failure.sentence.contains(&addr.to_string()), "{}", failure.sentence);
    assert_eq!(world.metrics.nodes_unreachable.get(), 1);
    assert_eq!(world.take_changes(), [Urgency::Now]);

    let _node = Node::start_at("n", &world.authority, addr).await;
    world.until("uid-of-n", "an answer again", |seen| seen.failure.is_none()).await;
    assert_eq!(world.metrics.nodes_unreachable.get(), 0);
    assert_eq!(world.take_changes().last(), Some(&Urgency::Now));
}

#[tokio::test]
async fn strangers_are_told_apart() {
    let world = World::new();
    // Another pod has the address now.
    let other = Node::start("other", &world.authority).await;
    world.nodes.track(world.target("n", other.addr)).expect("good credentials");
    // A node that has another operator's CA.
    let stranger = Node::start("m", &OperatorAuthority::generate().expect("randomness")).await;
    world.nodes.track(world.target("m", stranger.addr)).expect("good credentials");
    let failed = |seen: &Seen| seen.failure.is_some();
    let seen = world.until("uid-of-n", "a failure", failed).await.failure.expect("a failure");
    assert_eq!(seen.kind, "not_this_node", "{}", seen.sentence);
    let seen = world.until("uid-of-m", "a failure", failed).await.failure.expect("a failure");
    assert_eq!(seen.kind, "refused", "{}", seen.sentence);
    assert_eq!((other.asked(), stranger.asked()), (0, 0));
}

#[tokio::test]
async fn a_failing_node_is_not_asked_without_end() {
    let world = World::new();
    // A port where nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    drop(listener);
    world.nodes.track(world.target("n", addr)).expect("good credentials");
    sleep(Duration::from_secs(2)).await;
    let failure = world.nodes.get("uid-of-n").and_then(|seen| seen.failure).expect("a failure");
    // 0.25 + 0.5 + 1 s, and up to a quarter less.
    assert!((2..=5).contains(&failure.times), "{}", failure.times);
}

#[tokio::test]
async fn who_is_not_retained_is_forgotten() {
    let world = World::new();
    let node = Node::start("n", &world.authority).await;
    let other_pool = PoolRef::new(Role::Origin, "media", "demo-edge");
    world.nodes.track(world.target("n", node.addr)).expect("good credentials");
    world.nodes.track(Target { uid: "b".into(), ..world.target("b", node.addr) }).expect("good credentials");
    world
        .nodes
        .track(Target { uid: "c".into(), pool: other_pool.clone(), ..world.target("c", node.addr) })
        .expect("good credentials");
    world.nodes.retain(&pool(), &HashSet::from(["b"]));
    assert!(world.nodes.get("uid-of-n").is_none() && world.nodes.get("b").is_some());
    assert!(world.nodes.get("c").is_some(), "another kind of pool with the same name");
    world.nodes.retain(&pool(), &HashSet::new());
    world.nodes.retain(&other_pool, &HashSet::new());
    assert!(world.nodes.is_empty());
    assert_eq!(world.metrics.nodes.get(), 0);
    for _ in 0..500 {
        if world.metrics.nodes_unreachable.get() == 0 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("forgotten nodes still count as unreachable");
}

/// What 2,000 nodes at rest cost the operator; `make test-scale` runs it.
/// One process plays the nodes as well, so their halves of the connections are in the figures.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 30 s and prints figures: run by make test-scale"]
async fn cost() {
    const NODES: usize = 2000;
    let kib = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<usize>().ok()).expect("a number")
    };
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        ticks(11) + ticks(12)
    };
    let metrics = Metrics::new();
    let authority = OperatorAuthority::generate().expect("randomness");
    let nodes = Nodes::new(Duration::from_secs(2), &metrics, |_, _| ());
    let tls = OperatorTls::from_key(&authority, KEY).expect("a key");
    let mut all = Vec::new();
    for n in 0..NODES {
        all.push(Node::start(&format!("n{n}"), &authority).await);
    }
    let (before, begun) = (kib(), Instant::now());
    for (n, node) in all.iter().enumerate() {
        let target = Target {
            uid: n.to_string(),
            name: format!("n{n}"),
            addr: node.addr.to_string(),
            credentials: Credentials::new(tls.clone(), KEY),
            pool: pool(),
        };
        nodes.track(target).expect("good credentials");
    }
    while !(0..NODES).all(|n| nodes.get(&n.to_string()).is_some_and(|seen| seen.report.is_some())) {
        sleep(Duration::from_millis(50)).await;
    }
    let reached = begun.elapsed();
    let per_node = (kib() - before) as f64 / NODES as f64;
    let (ticks, begun) = (cpu(), Instant::now());
    sleep(Duration::from_secs(20)).await;
    let share = (cpu() - ticks) as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{NODES} nodes: all known after {reached:?}, {per_node:.1} KiB each (both ends), {share:.1} % of a core (both ends)"
    );
}
