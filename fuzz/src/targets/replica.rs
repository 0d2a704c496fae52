//! Shared records between nodes: bodies of pushes, pulls and their answers.

use sluice_cluster::replica::exchange::{
    Told, ask_body, push_body, read_ask, read_page, read_parts, read_push, read_pushed,
};

/// Parts of the bodies.
pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"records\":[",
    b"{\"record\":{\"name\":\"app/a\",\"alive\":true}}",
    b"\"deleted\":[3,\"n1\",7]",
    b"\"fields\":{\"hlsTime\":{\"v\":\"4\",\"s\":[1,\"n1\",7]}}",
    b"\"seen\":{\"n1\":1}",
    b"\"conflicts\":[{\"kept\":[2,\"n2\",1],\"dropped\":[1,\"n1\",1],\"key\":\"x\"}]",
    b"\"gone\":true",
    b"\"age\":18446744073709551615",
    b"{\"ask\":\"parts\",\"hashes\":[",
    b"{\"ask\":\"records\",\"parts\":[1],\"have\":[[\"app/a\",5]]}",
    b"{\"newer\":[],\"refused\":[]}",
    b"\"next\":\"app/a\"",
    b"4503599627370497",
];

/// What is taken is told again the same, and joining it does not depend on the order.
pub(crate) fn bodies(data: &[u8]) {
    let mut taken = Vec::new();
    if let Ok(records) = read_push(data) {
        taken.extend(records.into_iter().flatten());
    }
    if let Ok((newer, _)) = read_pushed(data) {
        taken.extend(newer.into_iter().flatten());
    }
    if let Ok(page) = read_page(data) {
        taken.extend(page.records.into_iter().flatten());
    }
    for Told { record, age } in &taken {
        assert_eq!(record.check(), Ok(()), "a record that is not good is taken");
        let told = Told { record: record.clone(), age: *age };
        let again = read_push(&push_body(&[told])).expect("a body of our own");
        let Ok([Ok(again)]) = <[_; 1]>::try_from(again) else { panic!("a record that was taken is refused") };
        assert_eq!((again.record.hash(), again.age), (record.hash(), *age), "told otherwise");
        let mut same = record.clone();
        assert!(!same.join(record, |_| false).changed, "a record joined with itself is another");
    }
    for (a, b) in taken.iter().zip(taken.iter().skip(1)).filter(|(a, b)| a.record.name == b.record.name) {
        let (mut ab, mut ba) = (a.record.clone(), b.record.clone());
        ab.join(&b.record, |_| false);
        ba.join(&a.record, |_| false);
        assert_eq!(ab.hash(), ba.hash(), "joining depends on the order");
    }
    if let Ok(ask) = read_ask(data) {
        assert_eq!(read_ask(&ask_body(&ask)), Ok(ask), "asked otherwise");
    }
    let _ = read_parts(data);
}
