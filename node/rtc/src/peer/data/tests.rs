use std::time::Duration;

use super::*;

/// Two sides and what is between them.
struct Link {
    client: Data,
    server: Data,
    now: Instant,
    /// Whether the packet with this number is lost.
    lose: fn(usize) -> bool,
    sent: usize,
}

impl Link {
    fn new(opens: (Option<&str>, Option<&str>), lose: fn(usize) -> bool) -> Self {
        let now = Instant::now();
        let make = |role, opens: Option<&str>| Data::new(role, 0, opens.map(Into::into), 1200, now);
        let (client, server) = (make(DtlsRole::Client, opens.0), make(DtlsRole::Server, opens.1));
        Link { client, server, now, lose, sent: 0 }
    }

    /// Lets packets pass, and time where there are none, for so many rounds.
    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let (from_client, from_server) = (self.client.transmit(self.now), self.server.transmit(self.now));
            if from_client.is_empty() && from_server.is_empty() {
                let next = [self.client.timeout(), self.server.timeout()].into_iter().flatten().min();
                let Some(next) = next else { return };
                self.now = self.now.max(next);
                self.client.handle_timeout(self.now);
                self.server.handle_timeout(self.now);
            }
            for (packets, to) in [(from_client, &mut self.server), (from_server, &mut self.client)] {
                for packet in packets {
                    self.sent += 1;
                    if !(self.lose)(self.sent) {
                        to.receive(packet, self.now);
                    }
                }
            }
            self.now += Duration::from_millis(5);
        }
    }
}

fn events(data: &mut Data) -> Vec<Event> {
    std::iter::from_fn(|| data.event()).collect()
}

fn text(what: &str) -> Message {
    Message { text: true, payload: Bytes::copy_from_slice(what.as_bytes()) }
}

fn bytes(len: usize) -> Message {
    Message { text: false, payload: (0..len).map(|i| i as u8).collect::<Vec<_>>().into() }
}

#[test]
fn channels_open_from_both_sides_and_carry_messages() {
    let mut link = Link::new((Some("from client"), Some("from server")), |_| false);
    link.run(20);
    let opened = |label: &str, channel| Event::Open { channel, label: label.into() };
    let mut at_client = events(&mut link.client);
    at_client.sort_by_key(|e| format!("{e:?}"));
    assert_eq!(at_client, [opened("from client", 0), opened("from server", 1)]);
    assert_eq!(events(&mut link.server).len(), 2);

    let all = [text("hello"), text(""), bytes(0), bytes(1), bytes(60_000)];
    for message in &all {
        assert!(link.client.send(0, message, link.now));
        assert!(link.server.send(0, message, link.now));
    }
    link.run(60);
    let expected: Vec<_> = all.into_iter().map(|message| Event::Message { channel: 0, message }).collect();
    assert_eq!(events(&mut link.server), expected);
    assert_eq!(events(&mut link.client), expected);
    assert_eq!(link.server.pieces, 0);
}

#[test]
fn losses_are_made_good() {
    let mut link = Link::new((Some("a"), None), |n| n.wrapping_mul(0x9e37_79b9) >> 13 & 7 == 0);
    link.run(200);
    assert_eq!(events(&mut link.server), [Event::Open { channel: 0, label: "a".into() }]);
    for _ in 0..20 {
        assert!(link.client.send(0, &bytes(3000), link.now));
    }
    link.run(4000);
    let got = events(&mut link.server);
    assert_eq!(got.len(), 20);
    assert!(got.iter().all(|e| *e == Event::Message { channel: 0, message: bytes(3000) }));
}

#[test]
fn a_message_that_is_too_long_closes_its_channel_and_no_other() {
    let mut link = Link::new((Some("a"), Some("b")), |_| false);
    link.run(20);
    assert_eq!(events(&mut link.client).len() + events(&mut link.server).len(), 4);
    assert!(link.client.send(0, &bytes(MAX_MESSAGE + 1), link.now));
    link.run(200);
    assert_eq!(events(&mut link.server), []);
    assert!(!link.server.send(0, &text("x"), link.now));
    assert!(!link.client.send(0, &text("x"), link.now), "the other side has learnt it");
    assert!(link.client.send(1, &text("goes on"), link.now));
    link.run(20);
    assert_eq!(events(&mut link.server), [Event::Message { channel: 1, message: text("goes on") }]);
}

#[test]
fn a_message_without_end_ends_the_association() {
    let mut link = Link::new((Some("a"), None), |_| false);
    link.run(20);
    assert!(link.client.send(0, &bytes(900 << 10), link.now));
    link.run(2000);
    assert!(link.server.associations.is_empty());
    assert!(link.server.timeout().is_none());
    assert!(!link.server.send(0, &text("x"), link.now));
}

#[test]
fn channels_and_streams_are_bounded() {
    let mut link = Link::new((None, None), |_| false);
    link.run(20);
    for id in 0..20 {
        let open = DataChannelOpen {
            channel_type: ChannelType::Reliable,
            priority: 0,
            reliability_parameter: 0,
            label: b"label".to_vec(),
            protocol: Vec::new(),
        };
        let association = link.client.association().expect("established");
        assert!(association.open_stream(id * 2, Ppid::Binary).is_ok());
        assert!(link.client.write_dcep(id * 2, &Dcep::DataChannelOpen(open), link.now));
        link.client.channels.push(Channel { id: id * 2, label: String::new(), open: false });
        link.run(10);
    }
    assert_eq!(events(&mut link.server).len(), MAX_CHANNELS);
    for id in 100..200 {
        let association = link.client.association().expect("established");
        assert!(association.open_stream(id * 2, Ppid::Binary).is_ok());
        // A message that is never complete keeps its stream.
        let stray = Bytes::from(vec![0; 3000]);
        assert!(
            association.stream(id * 2).and_then(|mut s| s.write_sctp(link.now, &stray, Ppid::Binary)).is_ok()
        );
    }
    let packets = link.client.transmit(link.now);
    for packet in packets {
        link.server.receive(packet, link.now);
        assert!(link.server.associations.iter().all(|(_, a)| a.stream_ids().len() <= MAX_STREAMS + 64));
    }
}

#[test]
fn what_waits_to_be_sent_is_bounded() {
    let mut link = Link::new((Some("a"), None), |_| false);
    link.run(20);
    let taken = (0..100).filter(|_| link.client.send(0, &bytes(60_000), link.now)).count();
    assert_eq!(taken, MAX_WAITING / 60_000);
    assert!(!link.client.send(7, &text("no such channel"), link.now));
}

#[test]
fn longer_messages_than_the_other_side_takes_are_not_sent() {
    let mut link = Link::new((Some("a"), None), |_| false);
    link.client.takes = 1000;
    link.run(20);
    assert!(link.client.send(0, &bytes(1000), link.now));
    assert!(!link.client.send(0, &bytes(1001), link.now));
}

#[test]
fn no_first_packet_makes_it_panic() {
    let now = Instant::now();
    let mut server = Data::new(DtlsRole::Server, 0, None, 1200, now);
    let mut client = Data::new(DtlsRole::Client, 0, None, 1200, now);
    let init = client.transmit(now).remove(0);
    for len in 0..init.len() {
        server.receive(init.slice(..len), now);
    }
    for _ in 0..10 {
        server.receive(init.clone(), now);
    }
    assert_eq!(server.associations.len(), MAX_BEGUN);
}
