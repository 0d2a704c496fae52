use proptest::prelude::*;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::packet::unmarshal;
use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc_shared::marshal::Marshal;

use super::*;

fn told(compound: &[u8]) -> Vec<String> {
    let mut list = Vec::new();
    read(compound, |f| {
        list.push(match f {
            Feedback::Nack { ssrc, items } => {
                format!("{ssrc} lacks {:?}", lost(items, 100).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        });
    });
    list
}

#[test]
fn reads_what_others_write() {
    let report = ReceptionReport {
        ssrc: 7,
        fraction_lost: 64,
        last_sender_report: 0x1234_5678,
        delay: 65_536,
        ..Default::default()
    };
    let rr = ReceiverReport { ssrc: 1, reports: vec![report], ..Default::default() };
    let nacks = vec![NackPair { packet_id: 65_535, lost_packets: 0b101 }];
    let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 7, nacks };
    let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: 7 };
    let fir = FullIntraRequest {
        sender_ssrc: 1,
        media_ssrc: 0,
        fir: vec![FirEntry { ssrc: 8, sequence_number: 1 }],
    };
    let remb = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 1_000_000.0, ssrcs: vec![7] };
    let compound = [
        rr.marshal().unwrap(),
        nack.marshal().unwrap(),
        pli.marshal().unwrap(),
        fir.marshal().unwrap(),
        remb.marshal().unwrap(),
    ]
    .concat();
    let block = Block { ssrc: 7, lost: 64, last_report: 0x1234_5678, delay: 65_536 };
    let want = [
        format!("{:?}", Feedback::Report(block)),
        "7 lacks [65535, 0, 2]".into(),
        format!("{:?}", Feedback::Keyframe { ssrc: 7 }),
        format!("{:?}", Feedback::Keyframe { ssrc: 8 }),
        format!("{:?}", Feedback::Remb(1_000_000)),
    ];
    assert_eq!(told(&compound), want);
    for end in 0..compound.len() {
        assert!(told(&compound[..end]).len() < want.len());
    }
}

#[test]
fn what_is_asked_for_is_bounded() {
    let items = [0xff; 400];
    assert_eq!(lost(&items, 33).count(), 33);
    assert_eq!(lost(&[0, 1, 0xff, 0xff], 100).count(), 17);
}

#[test]
fn reads_arrivals_of_each_form() {
    // Base 65534, 12 packets, reference 2 (128 ms): a run of 3 with small deltas, then 7 symbols of two bits.
    let mut body = vec![0xff, 0xfe, 0, 12, 0, 0, 2, 0];
    body.extend([0x20, 3]);
    body.extend([0b1101_0010, 0b0001_0000]);
    body.extend([0b1010_0000, 0]);
    body.extend([4, 8, 0]);
    body.extend([4, 0xff, 0xfc, 4]);
    let mut list = Vec::new();
    arrivals(&body, 100, &mut 0, |seq, at| list.push((seq, at)));
    let ms = |quarters: i64| Some(128_000 + quarters * 250);
    let want = [
        (65534, ms(4)),
        (65535, ms(12)),
        (0, ms(12)),
        (1, ms(16)),
        (2, None),
        (3, ms(12)),
        (4, None),
        (5, ms(16)),
        (6, None),
        (7, None),
    ];
    assert_eq!(list[..10], want);
    let mut first = Vec::new();
    arrivals(&body, 2, &mut 0, |seq, _| first.push(seq));
    assert_eq!(first, [65534, 65535]);
}

#[test]
fn the_time_of_arrival_goes_on_where_its_24_bits_wrap() {
    let mut reference = 0;
    let mut times = Vec::new();
    // Forward over the middle and the end of the range, and once a little back, as when feedback is reordered.
    for told in
        [0x7f_fffeu32, 0x80_0001, 0x80_0000, 0xc0_0000, 0xff_ffff, 2, 0x40_0000, 0x80_0000, 0xff_ffff, 0]
    {
        let told = told.to_be_bytes();
        let body = [0, 1, 0, 1, told[1], told[2], told[3], 0, 0x20, 1, 0, 0];
        arrivals(&body, 100, &mut reference, |_, at| times.extend(at.map(|at| at / 64_000)));
    }
    let steps: Vec<i64> = times.windows(2).map(|t| t[1] - t[0]).collect();
    assert_eq!(steps, [3, -1, 0x40_0000, 0x3f_ffff, 3, 0x3f_fffe, 0x40_0000, 0x7f_ffff, 1]);
}

#[test]
fn writes_what_others_read() {
    let report =
        SenderReport { ssrc: 7, ntp: 0xe000_0000_8000_0000, timestamp: 90_000, packets: 3, bytes: 4000 };
    let mut out = Vec::new();
    write_report(&report, "abc", &mut out);
    write_goodbye(7, &mut out);
    let packets = unmarshal(&mut &out[..]).unwrap();
    let sr = packets[0].as_any().downcast_ref::<rtc_rtcp::sender_report::SenderReport>().unwrap();
    assert_eq!((sr.ssrc, sr.ntp_time, sr.rtp_time), (7, report.ntp, 90_000));
    assert_eq!((sr.packet_count, sr.octet_count), (3, 4000));
    let sdes = packets[1].as_any().downcast_ref::<rtc_rtcp::source_description::SourceDescription>().unwrap();
    assert_eq!(sdes.chunks[0].items[0].text, "abc");
    assert_eq!(packets[2].as_any().downcast_ref::<Goodbye>().unwrap().sources, [7]);
}

proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>, kind in 200u8..207, count in 0u8..32) {
        let _ = told(&data);
        arrivals(&data, 1000, &mut 0, |_, _| ());
        let mut packet = vec![0x80 | count, kind, 0, (data.len() / 4) as u8];
        packet.extend(&data);
        let _ = told(&packet);
    }
}
