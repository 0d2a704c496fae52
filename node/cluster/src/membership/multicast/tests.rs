use super::*;

const KEY: [u8; 32] = [9; 32];

fn member(id: &str) -> Member {
    let member = serde_json::json!({
        "id": id, "boot": 7, "host": format!("{id}.example"), "ports": {"cluster": 5000},
    });
    serde_json::from_value(member).unwrap()
}

fn settings(group: &str, interface: &str) -> MulticastSettings {
    MulticastSettings {
        group: group.parse().unwrap(),
        interface: Some(interface.parse().unwrap()),
        every: Duration::from_millis(50),
        gone_after: Duration::from_millis(400),
        ..Default::default()
    }
}

fn start(settings: &MulticastSettings, key: [u8; 32], id: &str) -> Multicast {
    Multicast::start(settings.clone(), key, watch::channel(member(id)).1).unwrap()
}

/// Waits until exactly these are listed.
async fn lists(node: &Multicast, expected: &[&str]) {
    let mut changed = node.changed();
    let found = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let mut ids: Vec<_> = node.peers().into_iter().filter_map(|peer| peer.id).collect();
            ids.sort();
            if ids.iter().map(NodeId::as_str).eq(expected.iter().copied()) {
                return;
            }
            changed.changed().await.unwrap();
        }
    });
    assert!(found.await.is_ok(), "{:?} lists {:?}, not {expected:?}", node.shared.settings, node.peers());
}

async fn three_find_each_other(settings: MulticastSettings) {
    let (a, b) = (start(&settings, KEY, "a"), start(&settings, KEY, "b"));
    let stranger = start(&settings, [8; 32], "x");
    lists(&a, &["b"]).await;
    lists(&b, &["a"]).await;
    assert_eq!(a.peers()[0].addr, "b.example:5000");
    let c = start(&settings, KEY, "c");
    lists(&a, &["b", "c"]).await;
    lists(&c, &["a", "b"]).await;
    drop(b);
    lists(&a, &["c"]).await;
    assert!(a.remove(&NodeId::new("c")).await);
    // It lives, and so it comes back.
    lists(&a, &["c"]).await;
    assert!(stranger.peers().is_empty());
}

#[tokio::test]
async fn nodes_of_one_machine_find_each_other() {
    three_find_each_other(settings("239.77.77.77:21501", "127.0.0.1")).await;
}

/// Loopback has no route for IPv6 multicast: this needs another interface. The group's scope is that interface, nothing is sent.
#[tokio::test]
async fn over_ipv6_too() {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let Some(address) = table.lines().find_map(|line| {
        let address = line.split_whitespace().next().filter(|address| address.starts_with("fe80"))?;
        Some(Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?))
    }) else {
        eprintln!("no interface with an IPv6 address on this machine: not tested");
        return;
    };
    three_find_each_other(settings("[ff01::7777]:21502", &address.to_string())).await;
}

#[tokio::test]
async fn a_flood_of_garbage_leaves_it_working() {
    let settings = settings("239.77.77.78:21503", "127.0.0.1");
    let (a, _b) = (start(&settings, KEY, "a"), start(&settings, KEY, "b"));
    let flood = speak(&settings).unwrap();
    for n in 0..20_000usize {
        let _ = flood.send_to(&vec![b'S'; n % 700], settings.group).await;
    }
    lists(&a, &["b"]).await;
}

#[tokio::test]
async fn what_cannot_work_says_so() {
    let start = |settings: MulticastSettings, id: &str| {
        Multicast::start(settings, KEY, watch::channel(member(id)).1).err().unwrap().to_string()
    };
    let error = start(settings("239.77.77.77:21504", "::1"), "a");
    assert!(error.contains("both be IPv4"), "{error}");
    let error = start(settings("239.77.77.77:21504", "192.0.2.77"), "a");
    assert!(error.contains("on interface 192.0.2.77") && error.contains("multicast_interface"), "{error}");
    let error = start(settings("239.77.77.77:21504", "127.0.0.1"), &"n".repeat(250));
    assert!(error.contains("shorten"), "{error}");
}

#[test]
fn an_interface_is_found_by_its_address() {
    let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                 fe800000000000000000000000000002 0b 40 20 80     eth0\n";
    assert_eq!(find_index(table, "::1".parse().unwrap()), Some(1));
    assert_eq!(find_index(table, "fe80::2".parse().unwrap()), Some(11));
    assert_eq!(find_index(table, "fe80::3".parse().unwrap()), None);
    assert_eq!(find_index("garbage\n\n", "::1".parse().unwrap()), None);
}
