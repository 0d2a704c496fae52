//! DTLS 1.2 (RFC 6347, RFC 5764): one association with the other side, whatever its address is.
//!
//! The records are made and read by `rtc-dtls`; this is what stands in front of it. [`screen`] lets only through what is in
//! order and new, because the library keeps what it gets, and because it stops repeating its own flight as soon as
//! anything of a handshake comes, were it the other side's repetition. When the flight is repeated is decided here.

mod hello;
mod screen;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::SecretVec;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::certificate::{Certificate, fingerprint};
use super::srtp::Profile;
use crate::agreed::{DtlsRole, Fingerprint};
use hello::Hello;
use screen::{Screen, Verdict};

/// The library's interval between repetitions. Ours are longer, so that its timer is always ready when ours runs out.
pub(super) const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);
/// Until a flight is repeated for the first time; doubled each time, which makes 38 s of the seven times that the
/// library allows.
const FIRST_REPEAT: Duration = Duration::from_millis(300);
/// Most datagrams that wait while the client's first message is not complete.
const MAX_HELD: usize = 4;
/// Stands for the other side, which may change its address.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4433);

/// What came of a datagram.
#[derive(Debug)]
pub(super) enum Event {
    /// The handshake is done and the other side is who it should be.
    Connected,
    /// Application data: an SCTP packet.
    Data(BytesMut),
    /// The other side said goodbye.
    Closed,
}

/// A DTLS association.
pub(super) struct Dtls {
    endpoint: Endpoint,
    certificate: Arc<Certificate>,
    expected: Fingerprint,
    role: DtlsRole,
    screen: Screen,
    hello: Hello,
    held: Vec<BytesMut>,
    out: VecDeque<BytesMut>,
    phase: Phase,
    repeat: Option<Instant>,
    interval: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A server that has not seen all of the client's first message.
    Listening,
    Handshake,
    Connected,
    Over,
}

impl Dtls {
    /// Begins: a client sends its first flight.
    pub(super) fn new(
        certificate: Arc<Certificate>,
        expected: Fingerprint,
        role: DtlsRole,
        now: Instant,
    ) -> Result<Self, String> {
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        let phase = match role {
            DtlsRole::Server => Phase::Listening,
            DtlsRole::Client => {
                endpoint.connect(now, PEER, certificate.client(), None).map_err(|e| failed(&e))?;
                Phase::Handshake
            }
        };
        let mut dtls = Dtls {
            endpoint,
            certificate,
            expected,
            role,
            screen: Screen::new(role),
            hello: Hello::default(),
            held: Vec::new(),
            out: VecDeque::new(),
            phase,
            repeat: None,
            interval: FIRST_REPEAT,
        };
        dtls.take_flight(now);
        Ok(dtls)
    }

    /// A datagram came.
    ///
    /// # Errors
    /// The association is over; the text says why.
    pub(super) fn receive(
        &mut self,
        datagram: BytesMut,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        if self.phase == Phase::Over
            || self.screen.judge(&datagram, self.phase == Phase::Connected) == Verdict::Drop
        {
            return Ok(());
        }
        if self.phase != Phase::Listening {
            return self.read(datagram, now, events);
        }
        self.hello.add(&datagram);
        let Some(profile) = self.hello.profile() else {
            if self.held.len() < MAX_HELD {
                self.held.push(datagram);
            }
            return Ok(());
        };
        self.phase = Phase::Handshake;
        self.hello = Hello::default();
        self.endpoint.set_server_config(Some(self.certificate.server(profile)));
        for held in std::mem::take(&mut self.held) {
            self.read(held, now, events)?;
        }
        self.read(datagram, now, events)
    }

    fn read(&mut self, datagram: BytesMut, now: Instant, events: &mut Vec<Event>) -> Result<(), String> {
        let result = self.endpoint.read(now, PEER, None, datagram);
        self.take_flight(now);
        let read = match result {
            Ok(read) => read,
            // A warning, or something unusual, among authentic records is no reason to end it.
            Err(e) if self.phase == Phase::Connected && e != Error::ErrAlertFatalOrClose => return Ok(()),
            Err(e) => {
                self.phase = Phase::Over;
                return Err(failed(&e));
            }
        };
        for event in read {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.verify(now)?;
                    self.phase = Phase::Connected;
                    self.repeat = None;
                    events.push(Event::Connected);
                }
                EndpointEvent::ApplicationData(data) if self.phase == Phase::Connected => {
                    events.push(Event::Data(data));
                }
                EndpointEvent::PeerClosed => {
                    self.phase = Phase::Over;
                    events.push(Event::Closed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the other side's certificate is the one that its description announced.
    fn verify(&mut self, now: Instant) -> Result<(), String> {
        let leaf = self.endpoint.get_connection_state(PEER).and_then(|s| s.peer_certificates.first());
        if leaf.and_then(|der| fingerprint(self.certificate.crypto(), der)) == Some(self.expected) {
            return Ok(());
        }
        self.close(now);
        Err("the DTLS certificate is not the one of the session description: a=fingerprint must be its SHA-256".into())
    }

    /// The SRTP profile that was agreed on and the keying material for it; `None` before the handshake is done, and where the
    /// other side carries no media.
    pub(super) fn keys(&self) -> Option<(Profile, SecretVec)> {
        let state = self.endpoint.get_connection_state(PEER).filter(|_| self.phase == Phase::Connected)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Sha1,
            _ => return None,
        };
        let material =
            state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.material_len()).ok()?;
        Some((profile, material))
    }

    /// Our role.
    pub(super) fn role(&self) -> DtlsRole {
        self.role
    }

    /// Sends application data. What cannot be sent is lost, as on a network.
    pub(super) fn send(&mut self, data: &[u8], now: Instant) {
        if self.phase == Phase::Connected && self.endpoint.write(now, PEER, data).is_ok() {
            self.take();
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            // It never fails.
            let _ = self.endpoint.close(now);
            self.take();
        }
    }

    /// The next datagram to send.
    pub(super) fn poll(&mut self) -> Option<BytesMut> {
        self.out.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.repeat.filter(|_| self.phase == Phase::Handshake)
    }

    /// Repeats the flight when its time has come.
    ///
    /// # Errors
    /// It has been repeated too often.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        if self.timeout().is_none_or(|at| now < at) {
            return Ok(());
        }
        self.repeat = None;
        let result = self.endpoint.handle_timeout(PEER, now);
        if self.take() {
            self.interval *= 2;
            self.repeat = Some(now + self.interval);
        }
        result.map_err(|_| {
            self.phase = Phase::Over;
            "the DTLS handshake was not answered: does UDP pass in both directions?".to_owned()
        })
    }

    /// What the library wants to send; a new flight is repeated after the first interval.
    fn take_flight(&mut self, now: Instant) {
        if self.take() {
            self.interval = FIRST_REPEAT;
            self.repeat = Some(now + FIRST_REPEAT);
        }
    }

    fn take(&mut self) -> bool {
        let before = self.out.len();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.out.push_back(transmit.message);
        }
        self.out.len() > before
    }
}

fn failed(why: &Error) -> String {
    match why {
        Error::ErrAlertFatalOrClose => "the other side ended the DTLS session with an alert".to_owned(),
        why => format!("the DTLS handshake failed: {why}"),
    }
}
