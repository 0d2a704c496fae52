//! The relay over the cluster port: real sockets, mutual TLS.

mod relay_common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use relay_common::*;
use sluice_cluster::identity::ClusterTls;
use sluice_cluster::member::NodeId;
use sluice_cluster::port::{Accept, Client, ClusterPort, Handlers, Incoming, Limits};
use sluice_cluster::relay::{FetchError, Follow, Serve};
use sluice_media::Start;

const KEY: &[u8] = b"a cluster key of enough bytes";

struct Nobody;

#[async_trait]
impl Accept for Nobody {
    async fn accept(&self, _: NodeId, _: SocketAddr, _: Incoming) {}
}

/// A node whose relay is reached through a port of its own.
fn node(name: &str, key: &[u8]) -> (Node, ClusterPort) {
    let tls = ClusterTls::from_key(key, &NodeId::new(name)).expect("a key");
    let node = Node::dialling(name, Arc::new(Client::new(&tls)), Follow::default(), Serve::default());
    let handlers = Handlers {
        relay: node.server.clone(),
        mesh: Arc::new(Nobody),
        requests: axum::Router::new(),
        operator: axum::Router::new(),
        limits: Limits::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = ClusterPort::serve(vec![listener], &tls, handlers).expect("serves");
    (node, port)
}

#[tokio::test]
async fn frames_are_the_same_over_tls_and_two_hops() {
    let ((a, port_a), (b, port_b), (c, _port_c)) = (node("a", KEY), node("b", KEY), node("c", KEY));
    let mut camera = Camera::new(&a.hub, 1).with_pictures_of(30_000);
    camera.film(500);
    b.known.set_at(&key(), "a", port_a.addresses()[0].to_string(), 1);
    c.known.set_at(&key(), "b", port_b.addresses()[0].to_string(), 1);
    let at_c = {
        let asked = tokio::time::Instant::now();
        let at_b = b.relays.fetch(&key()).await.expect("is there");
        let at_c = c.relays.fetch(&key()).await.expect("is there");
        println!("two hops: {:?}", asked.elapsed());
        at_b.wait_backfilled(Duration::from_secs(10)).await;
        at_c
    };
    let _reader = at_c.subscribe(Start::Newest, Duration::from_secs(5));
    for _ in 0..20 {
        camera.film(10);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("all is there", || dump(camera.stream()) == dump(&at_c)).await;
    assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_c, 0));
    assert_eq!(c.known.carried().expect("carries").path, [NodeId::new("a"), NodeId::new("b")]);
    // The port of the node in between closes; c is told of the owner and goes on there by frame.
    drop(port_b);
    c.known.set_at(&key(), "a", port_a.addresses()[0].to_string(), 1);
    camera.film(100);
    until("it goes on", || dump(camera.stream()) == dump(&at_c)).await;
    assert_eq!(c.known.carried().expect("carries").path, [NodeId::new("a")]);
    assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_c, 0));
}

#[tokio::test]
async fn a_node_of_another_cluster_gets_nothing() {
    let ((a, port_a), (b, _port_b)) = (node("a", KEY), node("b", b"the key of another cluster"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set_at(&key(), "a", port_a.addresses()[0].to_string(), 1);
    let error = b.relays.fetch(&key()).await.expect_err("is refused");
    assert!(matches!(&error, FetchError::Unreachable { .. }), "{error}");
    assert_eq!(a.server.counts().accepted, 0);
}
