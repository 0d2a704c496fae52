use std::time::{Duration, Instant};

use proptest::prelude::*;
use sluice_media::StreamKey;
use sluice_store::Numbers;

use super::*;
use crate::member::{BootId, Carried, Load, Member, NodeId, Owned, Ports, Role, Viewers};
use crate::mesh::Changes;

fn id(name: &str) -> NodeId {
    NodeId::new(name)
}

fn member(name: &str, boot: u32, group: &str) -> Member {
    Member {
        id: id(name),
        boot: BootId(boot),
        role: Role::Both,
        group: group.into(),
        version: String::new(),
        host: format!("{name}.example"),
        ports: Ports { cluster: 5000, ..Ports::default() },
        capacity: Default::default(),
        load: Load::default(),
        draining: false,
    }
}

fn key(id: &str) -> StreamKey {
    StreamKey::new("live", id)
}

fn owned(stream: &str, epoch: u64) -> Owned {
    Owned {
        app: "live".into(),
        id: stream.into(),
        epoch,
        interrupted: false,
        bitrate: 1,
        viewers: Viewers { hls: 2, rtmp: 1, webrtc: 0 },
        numbers: Numbers { media_sequence: epoch, discontinuity_sequence: 0, timeline: 0 },
        part: None,
    }
}

fn carried(stream: &str, epoch: u64, path: &[&str]) -> Carried {
    let viewers = Viewers { hls: 10, rtmp: 0, webrtc: 3 };
    let path = path.iter().map(|n| id(n)).collect();
    Carried { app: "live".into(), id: stream.into(), epoch, path, viewers }
}

fn put<T>(put: Vec<T>) -> Changes<T> {
    Changes { put, gone: Vec::new() }
}

struct World {
    core: Core,
    start: Instant,
    ms: u64,
}

impl World {
    fn new(group: &str) -> World {
        let start = Instant::now();
        World { core: Core::new(member("me", 1, group), Times::default(), start), start, ms: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn hello(&mut self, name: &str, boot: u32, group: &str, owned: Vec<Owned>, carried: Vec<Carried>) {
        self.core.hello(member(name, boot, group), owned, carried, self.now());
    }

    /// Time passes, in which only those named are heard.
    fn pass(&mut self, seconds: u64, ticking: &[(&str, u32)]) {
        for _ in 0..seconds {
            self.ms += 1000;
            for (name, boot) in ticking {
                self.core.tick(member(name, *boot, ""), self.now());
            }
            self.core.expire(self.now());
        }
    }

    fn owner(&self, stream: &str) -> Option<(String, u64)> {
        let owner = self.core.find(&key(stream))?.owner?;
        Some((owner.node.to_string(), owner.epoch))
    }

    fn sources(&self, stream: &str) -> Vec<(String, usize)> {
        self.core.sources(&key(stream)).into_iter().map(|s| (s.node.to_string(), s.hops)).collect()
    }
}

fn is(name: &str, epoch: u64) -> Option<(String, u64)> {
    Some((name.into(), epoch))
}

fn list(sources: &[(&str, usize)]) -> Vec<(String, usize)> {
    sources.iter().map(|(n, h)| (n.to_string(), *h)).collect()
}

#[test]
fn of_two_owners_the_higher_epoch_has_it() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.hello("b", 11, "", vec![owned("s", 7)], vec![]);
    assert_eq!(w.owner("s"), is("b", 7));
    w.hello("c", 12, "", vec![owned("s", 6)], vec![]);
    assert_eq!(w.owner("s"), is("b", 7));
    // Those who are behind are told each second, until they let go.
    w.pass(1, &[]);
    let behind = |owner: &str| Event::Behind { key: key("s"), owner: id(owner), highest: 7 };
    assert_eq!(w.core.events(), [behind("a"), behind("c")]);
    w.core.update(
        &id("a"),
        BootId(10),
        Changes { put: vec![], gone: vec![("live".into(), "s".into())] },
        put(vec![]),
        w.now(),
    );
    w.pass(1, &[]);
    assert_eq!(w.core.events(), [behind("c")]);
    assert_eq!(w.core.view(&key("s")).owner, Some(id("b")));
}

#[test]
fn an_own_stream_is_lost_to_a_higher_epoch_and_said_once() {
    let mut w = World::new("");
    assert_eq!(w.core.own(owned("s", 5), w.now()), Ok(()));
    w.hello("a", 10, "", vec![owned("s", 4)], vec![]);
    assert_eq!((w.owner("s"), w.core.events()), (is("me", 5), vec![]));
    w.core.update(&id("a"), BootId(10), put(vec![owned("s", 9)]), put(vec![]), w.now());
    let by = Fenced { highest: 9, owner: Some(id("a")) };
    assert_eq!(w.core.events(), [Event::Displaced { key: key("s"), epoch: 5, by: by.clone() }]);
    w.core.update(
        &id("a"),
        BootId(10),
        put(vec![Owned { bitrate: 7, ..owned("s", 9) }]),
        put(vec![]),
        w.now(),
    );
    assert_eq!(w.core.events(), []);
    assert_eq!(w.core.own(owned("s", 8), w.now()), Err(by), "too late");
    assert!(w.core.disown(&key("s"), 5, w.now()));
    assert!(!w.core.disown(&key("s"), 5, w.now()));
    // A reader that saw a higher epoch, or whoever told us so, takes a stream as well.
    assert_eq!(w.core.own(owned("t", 5), w.now()), Ok(()));
    w.core.know_epoch(&key("t"), 6, w.now());
    let by = Fenced { highest: 6, owner: None };
    assert_eq!(w.core.events(), [Event::Displaced { key: key("t"), epoch: 5, by }]);
    // With a later epoch it is ours again, and may be lost again.
    assert_eq!(w.core.own(owned("t", 7), w.now()), Ok(()));
    w.core.know_epoch(&key("t"), 8, w.now());
    assert_eq!(w.core.events().len(), 1);
}

#[test]
fn a_claim_that_was_too_slow_takes_nothing() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    let by = Fenced { highest: 5, owner: Some(id("a")) };
    assert_eq!(w.core.take(owned("s", 9), 4, w.now()), Err(by), "higher, but made without knowing of 5");
    assert_eq!(w.owner("s"), is("a", 5));
    assert_eq!(w.core.take(owned("s", 9), 5, w.now()), Ok(()));
    assert_eq!(w.owner("s"), is("me", 9));
    assert_eq!(w.core.take(owned("s", 9), 5, w.now()), Ok(()), "again");
}

#[test]
fn the_fence_outlives_owners_and_carriers() {
    let mut w = World::new("");
    assert!(w.core.admit(&key("s"), 5, w.now()));
    assert!(w.core.admit(&key("s"), 7, w.now()));
    assert!(!w.core.admit(&key("s"), 6, w.now()));
    w.hello("a", 10, "", vec![owned("s", 9)], vec![]);
    w.core.update(
        &id("a"),
        BootId(10),
        Changes { put: vec![], gone: vec![("live".into(), "s".into())] },
        put(vec![]),
        w.now(),
    );
    assert!(!w.core.admit(&key("s"), 8, w.now()));
    assert_eq!(w.core.highest_epoch(&key("s")), 9);
    let view = w.core.view(&key("s"));
    assert_eq!((view.owner, view.known, view.told.map(|t| t.media_sequence)), (None, 9, Some(9)));
    assert!(!w.core.admit(&key("s"), u64::MAX, w.now()), "no epoch is that high");
    w.core.know_epoch(&key("s"), u64::MAX, w.now());
    assert_eq!(w.core.highest_epoch(&key("s")), 9);
}

#[test]
fn a_broken_link_leaves_the_streams_until_the_lease_is_lost() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.core.down(&id("a"), BootId(10));
    w.pass(5, &[]);
    let located = w.core.find(&key("s")).expect("there");
    assert!(!located.owner.expect("owned").reachable);
    assert_eq!(w.core.events(), []);
    w.pass(1, &[]);
    assert_eq!(w.owner("s"), None);
    assert_eq!(w.core.events(), [Event::Lost { id: id("a"), boot: BootId(10) }]);
    w.pass(3, &[]);
    assert_eq!(w.core.events(), [], "once");
    let view = |w: &World| w.core.member(&id("a"), w.now()).expect("listed");
    assert!(view(&w).alive && !view(&w).reachable);
    w.pass(11, &[]);
    assert!(!view(&w).alive);
    assert_eq!(view(&w).heard_ago, Some(Duration::from_secs(20)));
    // It is back, with all that it has.
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    assert_eq!(w.owner("s"), is("a", 5));
    w.core.down(&id("a"), BootId(10));
    w.pass(6, &[]);
    assert_eq!(w.core.events().len(), 1, "lost again");
}

#[test]
fn a_heartbeat_keeps_a_lease_without_a_link() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.core.down(&id("a"), BootId(10));
    for counter in 0..10 {
        w.core.heard(&id("a"), BootId(10), counter, w.now());
        w.pass(2, &[]);
    }
    assert_eq!(w.owner("s"), is("a", 5));
    // The record is still there, but nobody renews it.
    for _ in 0..3 {
        w.core.heard(&id("a"), BootId(10), 9, w.now());
        w.pass(2, &[]);
    }
    assert_eq!(w.owner("s"), None);
}

#[test]
fn a_record_that_a_dead_node_left_is_settled_once() {
    let mut w = World::new("");
    for _ in 0..10 {
        w.core.heard(&id("old"), BootId(3), 77, w.now());
        w.pass(1, &[]);
    }
    assert_eq!(w.core.events(), [Event::Lost { id: id("old"), boot: BootId(3) }]);
    assert!(!w.core.members(w.now()).iter().any(|m| m.id == id("old") && m.alive));
    assert!(w.core.forget(&id("old"), w.now()));
    assert!(w.core.member(&id("old"), w.now()).is_none());
    assert!(!w.core.forget(&id("me"), w.now()));
}

#[test]
fn a_linked_node_is_never_lost_and_cannot_be_forgotten() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.pass(30, &[]);
    assert_eq!((w.core.events(), w.owner("s")), (vec![], is("a", 5)));
    assert!(!w.core.forget(&id("a"), w.now()));
}

#[test]
fn when_this_process_stood_still_nobody_is_lost() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.core.down(&id("a"), BootId(10));
    w.pass(1, &[]);
    w.ms += 60_000;
    w.core.expire(w.now());
    assert_eq!((w.core.events(), w.owner("s")), (vec![], is("a", 5)));
    w.pass(6, &[]);
    assert_eq!(w.core.events().len(), 1);
}

#[test]
fn a_new_run_ends_what_the_old_one_had() {
    let mut w = World::new("");
    w.hello("a", 10, "", vec![owned("s", 5)], vec![carried("t", 3, &["b"])]);
    w.hello("a", 11, "", vec![owned("u", 2)], vec![]);
    assert_eq!((w.owner("s"), w.owner("u")), (None, is("a", 2)));
    // What the old one still says is not listened to.
    w.hello("a", 10, "", vec![owned("s", 5)], vec![]);
    w.core.update(&id("a"), BootId(10), put(vec![owned("s", 5)]), put(vec![]), w.now());
    w.core.tick(member("a", 10, ""), w.now());
    w.core.down(&id("a"), BootId(10));
    assert_eq!((w.owner("s"), w.owner("u")), (None, is("a", 2)));
    assert!(w.core.member(&id("a"), w.now()).is_some_and(|m| m.reachable && m.boot == BootId(11)));
    // A counter of another run is believed only when it grows, and while the known run has no link.
    w.core.heard(&id("a"), BootId(12), 1, w.now());
    w.core.heard(&id("a"), BootId(12), 2, w.now());
    assert_eq!(w.owner("u"), is("a", 2));
    w.core.down(&id("a"), BootId(11));
    w.core.heard(&id("a"), BootId(12), 2, w.now());
    assert_eq!(w.owner("u"), is("a", 2));
    w.core.heard(&id("a"), BootId(12), 3, w.now());
    assert_eq!(w.owner("u"), None);
    assert!(w.core.member(&id("a"), w.now()).is_some_and(|m| m.alive && m.boot == BootId(12)));
}

#[test]
fn sources_without_groups() {
    let mut w = World::new("");
    w.hello("o", 10, "", vec![owned("s", 5)], vec![]);
    w.hello("e", 11, "", vec![], vec![carried("s", 5, &["o"])]);
    assert_eq!(w.sources("s"), list(&[("o", 1)]));
    w.core.down(&id("o"), BootId(10));
    assert_eq!(w.sources("s"), list(&[("e", 2), ("o", 1)]), "the owner last: its port may answer yet");
    assert_eq!(w.sources("nothing"), list(&[]));
    assert_eq!(w.core.sources(&key("s"))[1].addr, "o.example:5000");
    assert_eq!(w.core.own(owned("s", 6), w.now()), Ok(()));
    assert_eq!(w.sources("s"), list(&[]), "it is here");
}

#[test]
fn sources_within_groups() {
    let mut w = World::new("berlin");
    w.hello("o", 10, "", vec![owned("s", 5)], vec![]);
    w.hello("p", 11, "paris", vec![], vec![carried("s", 5, &["o"])]);
    assert_eq!(w.sources("s"), list(&[("o", 1)]), "nobody of Berlin has it");
    w.hello("b", 12, "berlin", vec![], vec![carried("s", 5, &["o", "p"])]);
    assert_eq!(w.sources("s"), list(&[("b", 3), ("o", 1)]));
    w.core.down(&id("o"), BootId(10));
    assert_eq!(w.sources("s"), list(&[("b", 3), ("p", 2), ("o", 1)]));
    w.hello("o", 10, "berlin", vec![owned("s", 5)], vec![]);
    assert_eq!(w.sources("s"), list(&[("o", 1), ("b", 3)]));
}

#[test]
fn never_a_loop_a_long_way_or_a_past_epoch() {
    let mut w = World::new("g");
    w.hello("o", 10, "", vec![owned("s", 5)], vec![]);
    w.hello("mine", 11, "g", vec![], vec![carried("s", 5, &["o", "me"])]);
    w.hello("far", 12, "g", vec![], vec![carried("s", 5, &["o", "x", "y", "z"])]);
    w.hello("near", 13, "g", vec![], vec![carried("s", 5, &["o", "x", "y"])]);
    w.hello("late", 14, "g", vec![], vec![carried("s", 4, &["o"])]);
    assert_eq!(w.sources("s"), list(&[("near", 4), ("o", 1)]));
    // An owner that is behind is no source.
    w.core.know_epoch(&key("s"), 6, w.now());
    assert_eq!(w.sources("s"), list(&[]));
    assert_eq!(w.owner("s"), is("o", 5), "but it can be asked to let it go");
}

#[test]
fn carriers_are_asked_whether_they_can_be_reached_or_not() {
    let mut w = World::new("");
    w.hello("o", 10, "", vec![owned("s", 5)], vec![]);
    w.hello("e", 11, "", vec![], vec![carried("s", 5, &["o"])]);
    w.core.carry(carried("s", 5, &["o"]), w.now());
    w.core.down(&id("e"), BootId(11));
    let view = w.core.view(&key("s"));
    assert_eq!((view.owner, view.carriers, view.known), (Some(id("o")), vec![id("e")], 5));
    assert!(view.others.is_empty());
    let unknown = w.core.view(&key("new"));
    assert_eq!(
        (unknown.known, unknown.others),
        (0, vec![id("o")]),
        "who can be reached, of a stream unheard of"
    );
}

#[test]
fn the_map_and_the_viewers() {
    let mut w = World::new("");
    w.hello("o", 10, "", vec![owned("s", 5), owned("a", 1)], vec![]);
    w.hello("e", 11, "", vec![], vec![carried("s", 5, &["o"])]);
    w.core.carry(carried("s", 5, &["o"]), w.now());
    assert_eq!(w.core.viewers(&key("s")), Viewers { hls: 22, rtmp: 1, webrtc: 6 });
    let streams = w.core.streams();
    let names: Vec<_> = streams.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(names, ["live/a", "live/s"]);
    let carriers: Vec<_> = streams[1].carriers.iter().map(|(n, _)| n.to_string()).collect();
    assert_eq!(carriers, ["e", "me"]);
    assert_eq!(streams[1].owner.as_ref().map(|(n, o)| (n.as_str(), o.epoch)), Some(("o", 5)));
    w.core.drop_carried(&key("s"), w.now());
    assert_eq!(w.core.viewers(&key("s")), Viewers { hls: 12, rtmp: 1, webrtc: 3 });
}

#[test]
fn only_what_matters_wakes_those_who_wait() {
    let mut w = World::new("");
    w.hello("o", 10, "", vec![owned("s", 5)], vec![]);
    let version = w.core.version();
    w.core.tick(member("o", 10, ""), w.now());
    w.core.update(
        &id("o"),
        BootId(10),
        put(vec![Owned { bitrate: 99, ..owned("s", 5) }]),
        put(vec![]),
        w.now(),
    );
    w.core.expire(w.now());
    assert_eq!(w.core.version(), version);
    w.core.tick(Member { draining: true, ..member("o", 10, "") }, w.now());
    assert!(w.core.version() > version);
    let version = w.core.version();
    w.core.update(&id("o"), BootId(10), put(vec![owned("s", 6)]), put(vec![]), w.now());
    assert!(w.core.version() > version);
}

#[test]
fn a_hundred_nodes_with_thousands_of_streams_are_quick() {
    let mut w = World::new("");
    let begun = Instant::now();
    for node in 0..100u32 {
        let streams = (0..100).map(|s| owned(&format!("{node}-{s}"), 5)).collect();
        let others = (0..1000).map(|s| carried(&format!("{}-{}", s % 100, s / 100), 5, &["o"])).collect();
        w.hello(&format!("n{node}"), node + 10, "", streams, others);
    }
    for round in 0..10 {
        for node in 0..100u32 {
            let streams =
                (0..100).map(|s| Owned { bitrate: round, ..owned(&format!("{node}-{s}"), 5) }).collect();
            w.core.update(&id(&format!("n{node}")), BootId(node + 10), put(streams), put(vec![]), w.now());
        }
        w.core.expire(w.now());
    }
    assert_eq!(w.core.streams().len(), 10_000);
    // 210,000 records; a quadratic step anywhere would take minutes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_shared_one_tells_when_it_changes() {
    use crate::mesh::{Local, Remote};
    let directory = Directory::new(member("me", 1, ""), Times::default());
    let (mut changed, mut own) = (directory.changed(), Local::changed(&*directory));
    directory.hello(member("a", 10, ""), vec![owned("s", 5)], vec![]);
    assert!(changed.has_changed().expect("open") && !own.has_changed().expect("open"));
    changed.mark_unchanged();
    assert_eq!(directory.own(owned("t", 5)), Ok(()));
    assert!(own.has_changed().expect("open"));
    own.mark_unchanged();
    assert_eq!(Local::owned(&*directory), [owned("t", 5)]);
    assert_eq!(Local::member(&*directory), member("me", 1, ""));
    directory.down(&id("a"), BootId(10));
    assert!(changed.has_changed().expect("open"));
    assert_eq!(directory.members().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_the_others_to_say_hello_only_once() {
    let directory = Directory::new(member("me", 1, ""), Times::default());
    let begun = tokio::time::Instant::now();
    directory.introduced().await;
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < Duration::from_millis(1_100), "{waited:?}");
    directory.introduced().await;
    assert_eq!(begun.elapsed(), waited);
}

#[derive(Clone, Debug)]
enum Input {
    Hello(u8, u8, Vec<(u8, u64)>, Vec<(u8, u64)>),
    Update(u8, u8, Vec<(u8, u64)>, Vec<u8>),
    Tick(u8, u8),
    Down(u8, u8),
    Heard(u8, u8, u64),
    Own(u8, u64),
    Disown(u8, u64),
    Know(u8, u64),
    Forget(u8),
    Pass(u8),
}

fn input() -> impl Strategy<Value = Input> {
    let streams = || prop::collection::vec((0..4u8, 1..12u64), 0..4);
    prop_oneof![
        (0..4u8, 0..3u8, streams(), streams()).prop_map(|(n, b, o, c)| Input::Hello(n, b, o, c)),
        (0..4u8, 0..3u8, streams(), prop::collection::vec(0..4u8, 0..3))
            .prop_map(|(n, b, o, g)| Input::Update(n, b, o, g)),
        (0..4u8, 0..3u8).prop_map(|(n, b)| Input::Tick(n, b)),
        (0..4u8, 0..3u8).prop_map(|(n, b)| Input::Down(n, b)),
        (0..4u8, 0..3u8, 0..9u64).prop_map(|(n, b, c)| Input::Heard(n, b, c)),
        (0..4u8, 1..12u64).prop_map(|(s, e)| Input::Own(s, e)),
        (0..4u8, 1..12u64).prop_map(|(s, e)| Input::Disown(s, e)),
        (0..4u8, 1..12u64).prop_map(|(s, e)| Input::Know(s, e)),
        (0..4u8).prop_map(Input::Forget),
        (1..8u8).prop_map(Input::Pass),
    ]
}

proptest! {
    /// Whatever comes in whatever order: epochs never sink, the owner shown is the highest of those who say so, an own
    /// stream below the highest epoch was reported, and no source is a loop.
    #[test]
    fn any_order_of_inputs_leaves_it_consistent(inputs in prop::collection::vec(input(), 1..60)) {
        let mut w = World::new("");
        let name = |n: u8| format!("n{n}");
        let stream = |s: u8| format!("s{s}");
        let all_owned = |list: Vec<(u8, u64)>| list.into_iter().map(|(s, e)| owned(&stream(s), e)).collect::<Vec<_>>();
        let mut highest = [0u64; 4];
        let mut reported = std::collections::HashSet::new();
        for input in inputs {
            let now = w.now();
            match input {
                Input::Hello(n, b, o, c) => {
                    let c = c.into_iter().map(|(s, e)| carried(&stream(s), e, &["n1", "me"])).collect();
                    w.hello(&name(n), u32::from(b) + 1, "", all_owned(o), c);
                }
                Input::Update(n, b, o, g) => {
                    let gone = g.into_iter().map(|s| ("live".into(), stream(s).into())).collect();
                    let changes = Changes { put: all_owned(o), gone };
                    w.core.update(&id(&name(n)), BootId(u32::from(b) + 1), changes, Changes::default(), now);
                }
                Input::Tick(n, b) => w.core.tick(member(&name(n), u32::from(b) + 1, ""), now),
                Input::Down(n, b) => w.core.down(&id(&name(n)), BootId(u32::from(b) + 1)),
                Input::Heard(n, b, c) => w.core.heard(&id(&name(n)), BootId(u32::from(b) + 1), c, now),
                Input::Own(s, e) => {
                    let known = w.core.highest_epoch(&key(&stream(s)));
                    prop_assert_eq!(w.core.own(owned(&stream(s), e), now).is_ok(), e >= known);
                }
                Input::Disown(s, e) => { w.core.disown(&key(&stream(s)), e, now); }
                Input::Know(s, e) => { w.core.know_epoch(&key(&stream(s)), e, now); }
                Input::Forget(n) => { w.core.forget(&id(&name(n)), now); }
                Input::Pass(s) => w.pass(u64::from(s), &[]),
            }
            for event in w.core.events() {
                if let Event::Displaced { key, epoch, by } = event {
                    prop_assert!(by.highest > epoch);
                    reported.insert((key, epoch));
                }
            }
            for (s, known) in highest.iter_mut().enumerate() {
                let key = key(&stream(s as u8));
                let now_known = w.core.highest_epoch(&key);
                prop_assert!(now_known >= *known);
                *known = now_known;
                if let Some(mine) = w.core.owned_epoch(&key).filter(|e| *e < now_known) {
                    prop_assert!(reported.contains(&(key.clone(), mine)));
                }
                prop_assert!(w.core.sources(&key).iter().all(|s| s.hops == 1 && s.epoch == now_known));
                let says = w.core.nodes.values().filter_map(|n| n.owned.get(&key)).map(|o| o.epoch).max();
                let owner = w.core.find(&key).and_then(|l| l.owner);
                prop_assert_eq!(owner.map(|o| o.epoch), says);
            }
        }
    }
}

#[test]
fn a_node_whose_name_another_had_for_a_while_is_heard_again() {
    let mut world = World::new("");
    let hello = |world: &mut World, boot| {
        let now = world.now();
        world.core.hello(member("a", boot, ""), vec![owned("s", 5)], vec![], now)
    };
    assert!(hello(&mut world, 1));
    assert!(hello(&mut world, 2), "a new run");
    assert!(!hello(&mut world, 1), "of which the earlier one is no more than an echo");
    world.core.down(&id("a"), BootId(2));
    assert!(!hello(&mut world, 1));
    world.pass(7, &[]);
    assert!(hello(&mut world, 1), "until the other one has been silent for as long as a lease lasts");
    assert_eq!(world.owner("s"), is("a", 5));
}
