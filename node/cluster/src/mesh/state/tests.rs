use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::message::Decoder;
use super::*;
use crate::member::{NodeId, Viewers};

fn member() -> Member {
    serde_json::from_value(serde_json::json!({"id": "a", "boot": 7, "host": "h", "ports": {}})).unwrap()
}

fn owned(id: &str, epoch: u64, bitrate: u64) -> Owned {
    let stream = serde_json::json!({"app": "live", "id": id, "epoch": epoch, "bitrate": bitrate});
    serde_json::from_value(stream).unwrap()
}

fn carried(id: &str, from: &str) -> Carried {
    Carried {
        app: "live".into(),
        id: id.into(),
        epoch: 1,
        path: vec![NodeId::new(from)],
        viewers: Viewers::default(),
    }
}

fn read(frames: &[Bytes]) -> Vec<Message> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for frame in frames {
        decoder.buffer.extend_from_slice(frame);
        messages.push(decoder.next().unwrap().unwrap());
    }
    messages
}

/// What somebody knows who heard these messages.
#[derive(Clone, Debug, Default, PartialEq)]
struct Knows {
    owned: BTreeMap<Key, Owned>,
    carried: BTreeMap<Key, Carried>,
}

impl Knows {
    fn hear(&mut self, frames: &[Bytes]) {
        for message in read(frames) {
            match message {
                Message::Hello { owned, carried, .. } | Message::More { owned, carried, .. } => {
                    self.owned.extend(owned.into_iter().map(|stream| (stream.name(), stream)));
                    self.carried.extend(carried.into_iter().map(|stream| (stream.name(), stream)));
                }
                Message::Update { owned, carried } => {
                    owned.gone.iter().for_each(|key| drop(self.owned.remove(key)));
                    carried.gone.iter().for_each(|key| drop(self.carried.remove(key)));
                    self.owned.extend(owned.put.into_iter().map(|stream| (stream.name(), stream)));
                    self.carried.extend(carried.put.into_iter().map(|stream| (stream.name(), stream)));
                }
                Message::Tick { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn only_what_matters_is_told_at_once() {
    let first = State::first(member(), vec![owned("x", 1, 100)], vec![]);
    assert!(first.next(member(), vec![owned("x", 1, 200)], vec![], false).is_none());
    let ticked = first.next(member(), vec![owned("x", 1, 200)], vec![], true).unwrap();
    let messages = read(&ticked.since(&first));
    assert!(matches!(&messages[0], Message::Update { owned, .. } if owned.put[0].bitrate == 200));
    assert!(matches!(messages[1], Message::Tick { counter: 1, .. }));

    let taken = ticked.next(member(), vec![owned("x", 2, 300)], vec![carried("y", "b")], false).unwrap();
    let messages = read(&taken.since(&ticked));
    assert_eq!(messages.len(), 1);
    assert!(
        matches!(&messages[0], Message::Update { owned, carried } if owned.put.len() == 1 && carried.put.len() == 1)
    );
    let moved = taken.next(member(), vec![], vec![carried("y", "c")], false).unwrap();
    let messages = read(&moved.since(&taken));
    assert!(matches!(&messages[0], Message::Update { owned, carried }
        if owned.gone.len() == 1 && owned.put.is_empty() && carried.put[0].path[0].as_str() == "c"));
}

#[test]
fn a_member_that_changes_is_told_at_once_and_its_load_is_not() {
    let first = State::first(member(), vec![], vec![]);
    let busy = Member { load: Load { viewers: 5, ..Load::default() }, ..member() };
    assert!(first.next(busy, vec![], vec![], false).is_none());
    let draining = first.next(Member { draining: true, ..member() }, vec![], vec![], false).unwrap();
    assert!(matches!(&read(&draining.since(&first))[..], [Message::Tick { member, .. }] if member.draining));
}

#[test]
fn what_is_no_number_is_told_as_nothing() {
    let odd = Member {
        load: Load { cpu_percent: f64::NAN, store_ms: f64::INFINITY, ..Load::default() },
        ..member()
    };
    let state = State::first(odd, vec![], vec![]);
    assert!(
        matches!(&read(&state.hello())[..], [Message::Hello { member, .. }] if member.load.store_ms == 0.0)
    );
}

proptest! {
    /// Whoever hears every version, and whoever misses some, know the same in the end: what a hello would tell.
    #[test]
    fn changes_add_up(
        steps in proptest::collection::vec(
            (proptest::collection::btree_map("[a-e]", (1u64..3, 0u64..3), 0..4),
             proptest::collection::btree_map("[a-e]", "[xy]", 0..3), any::<bool>(), any::<bool>()),
            1..20,
        )
    ) {
        let mut state = State::first(member(), vec![owned("a", 1, 1)], vec![]);
        let (mut every, mut some) = (Knows::default(), Knows::default());
        every.hear(&state.hello());
        some.hear(&state.hello());
        let mut last = State::first(member(), vec![owned("a", 1, 1)], vec![]);
        for (own, fetched, tick, heard) in steps {
            let own = own.iter().map(|(id, (epoch, bitrate))| owned(id, *epoch, *bitrate)).collect();
            let fetched = fetched.iter().map(|(id, from)| carried(id, from)).collect();
            if let Some(next) = state.next(member(), own, fetched, tick) {
                every.hear(&next.since(&state));
                if heard {
                    some.hear(&next.since(&last));
                    last = copy(&next);
                }
                state = next;
            }
        }
        some.hear(&state.since(&last));
        let mut new = Knows::default();
        new.hear(&state.hello());
        prop_assert_eq!(&every, &new);
        prop_assert_eq!(&some, &new);
    }
}

fn copy(state: &State) -> State {
    State {
        version: state.version,
        ticks: state.ticks,
        member: state.member.clone(),
        owned: state.owned.clone(),
        carried: state.carried.clone(),
        delta: state.delta.clone(),
        tick: state.tick.clone(),
    }
}
