use proptest::prelude::*;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtc_shared::marshal::Unmarshal;

use super::*;
use crate::ingest::rtcp::Compound;

/// What the library reads of a report: number and arrival in microseconds, `None` for what did not come.
fn read(body: &[u8]) -> Vec<(u16, Option<i64>)> {
    let mut compound = Compound::new(&[]);
    let empty = compound.size();
    compound.transport(0x1234, body);
    let packet = compound.finish().unwrap().split_off(empty);
    let feedback = TransportLayerCc::unmarshal(&mut &packet[..]).unwrap();
    assert_eq!(feedback.media_ssrc, 0x1234);
    let mut symbols = Vec::new();
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(c) => {
                symbols.extend(std::iter::repeat_n(c.packet_status_symbol, usize::from(c.run_length)));
            }
            PacketStatusChunk::StatusVectorChunk(c) => symbols.extend(&c.symbol_list),
        }
    }
    symbols.truncate(usize::from(feedback.packet_status_count));
    let mut at = i64::from(feedback.reference_time) * 64_000;
    let mut deltas = feedback.recv_deltas.iter();
    let read = symbols.iter().enumerate().map(|(i, symbol)| {
        let seq = feedback.base_sequence_number.wrapping_add(i as u16);
        if *symbol == SymbolTypeTcc::PacketNotReceived {
            return (seq, None);
        }
        at += deltas.next().unwrap().delta;
        (seq, Some(at))
    });
    read.collect()
}

#[test]
fn what_did_not_come_is_told_too() {
    let now = Instant::now();
    let mut a = Arrivals::default();
    for (seq, at) in [(65_534, 1_000_000), (65_535, 1_001_000), (1, 1_200_000), (2, 1_190_000)] {
        a.packet(seq, at, now);
    }
    assert_eq!(a.report(now), None, "not yet");
    let now = now + INTERVAL;
    let told = read(&a.report(now).unwrap());
    assert_eq!(
        told,
        [
            (65_534, Some(1_000_000)),
            (65_535, Some(1_001_000)),
            (0, None),
            (1, Some(1_200_000)),
            (2, Some(1_190_000))
        ]
    );
    assert_eq!((a.report(now), a.next()), (None, None));
    a.packet(5, 1_300_000, now);
    let told = read(&a.report(now + INTERVAL).unwrap());
    assert_eq!(told, [(3, None), (4, None), (5, Some(1_300_000))], "from where the last one ended");
}

proptest! {
    #[test]
    fn every_arrival_is_told_once(
        start: u16,
        packets in prop::collection::vec((prop::bool::weighted(0.8), 0i64..20_000, prop::bool::weighted(0.01)), 1..2000),
    ) {
        let mut now = Instant::now();
        let mut a = Arrivals::default();
        let (mut sent, mut told, mut micros) = (Vec::new(), Vec::new(), 0);
        for (i, (comes, pause, long)) in packets.into_iter().enumerate() {
            micros += if long { 9_000_000 } else { pause };
            now += Duration::from_micros(pause as u64);
            if comes {
                a.packet(start.wrapping_add(i as u16), micros, now);
                sent.push((start.wrapping_add(i as u16), micros));
            }
            while let Some(body) = a.report(now) {
                prop_assert!(body.len() < 900);
                told.extend(read(&body).into_iter().filter_map(|(seq, at)| Some((seq, at?))));
            }
        }
        now += INTERVAL;
        while let Some(body) = a.report(now) {
            told.extend(read(&body).into_iter().filter_map(|(seq, at)| Some((seq, at?))));
        }
        prop_assert_eq!(told.len(), sent.len());
        for (a, b) in told.iter().zip(&sent) {
            prop_assert!(a.0 == b.0 && (a.1 - b.1).abs() < 250, "{:?} {:?}", a, b);
        }
    }
}
