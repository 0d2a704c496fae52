//! STUN binding requests and responses with short-term credentials (RFC 8489, RFC 8445), on top of `rtc-stun`.

use std::net::SocketAddr;

use rtc_crypto::RTCCrypto;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY, ATTR_USE_CANDIDATE,
    ATTR_USERNAME, AttrType,
};
use rtc_stun::error_code::CODE_ROLE_CONFLICT;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MAGIC_COOKIE, Message, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;

/// The length of a STUN header, in bytes.
const HEADER: usize = 20;
/// The longest message that is looked at, in bytes.
const MAX_LEN: usize = 1280;
const TYPE_BINDING_REQUEST: u16 = 1;
const TYPE_USERNAME: u16 = 6;
/// USERNAME is among the first attributes; a request with more of them before it is none of a browser's.
const MAX_BEFORE_USERNAME: usize = 16;

/// Our user fragment in a STUN binding request, as the other side wrote it: the part before the colon of USERNAME (RFC 8445, 7.2.2).
/// Nothing is verified: it only says whose request it would be. Costs little, so that garbage does, too.
pub fn ufrag_of(datagram: &[u8]) -> Option<&str> {
    let head: &[u8; HEADER] = datagram.first_chunk()?;
    let (kind, len) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
    let cookie = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let whole = datagram.len() == HEADER + usize::from(len) && datagram.len() <= MAX_LEN;
    if kind != TYPE_BINDING_REQUEST || cookie != MAGIC_COOKIE || !whole {
        return None;
    }
    let mut rest = &datagram[HEADER..];
    for _ in 0..MAX_BEFORE_USERNAME {
        let (attribute, behind) = rest.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([attribute[0], attribute[1]]);
        let len = usize::from(u16::from_be_bytes([attribute[2], attribute[3]]));
        let value = behind.get(..len)?;
        if kind == TYPE_USERNAME {
            let colon = value.iter().position(|byte| *byte == b':')?;
            return std::str::from_utf8(&value[..colon]).ok();
        }
        rest = behind.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// A binding request that has not been verified yet.
pub(super) struct Request {
    message: Message,
    len: usize,
}

/// A binding response that has not been verified yet.
pub(super) struct Response {
    message: Message,
}

/// What a binding message is.
pub(super) enum Binding {
    Request(Request),
    Response(Response),
}

/// Reads a binding request or success response with a right FINGERPRINT.
pub(super) fn read(datagram: &[u8]) -> Option<Binding> {
    if datagram.len() > MAX_LEN {
        return None;
    }
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if datagram.len() != HEADER + message.length as usize || FINGERPRINT.check(&message).is_err() {
        return None;
    }
    match message.typ {
        BINDING_REQUEST => Some(Binding::Request(Request { message, len: datagram.len() })),
        BINDING_SUCCESS => Some(Binding::Response(Response { message })),
        _ => None,
    }
}

impl Request {
    /// The two user fragments of USERNAME: ours, then theirs.
    pub(super) fn username(&self) -> Option<(&str, &str)> {
        std::str::from_utf8(self.get(ATTR_USERNAME)?).ok()?.split_once(':')
    }

    /// Whether MESSAGE-INTEGRITY is right. Compared in constant time.
    pub(super) fn is_authentic(&mut self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }

    /// Whether it nominates its path.
    pub(super) fn nominates(&self) -> bool {
        self.get(ATTR_USE_CANDIDATE).is_some()
    }

    /// Whether the sender takes itself for the controlled side.
    pub(super) fn is_controlled(&self) -> bool {
        self.get(ATTR_ICE_CONTROLLED).is_some()
    }

    /// Whether the sender takes itself for the controlling side.
    pub(super) fn is_controlling(&self) -> bool {
        self.get(ATTR_ICE_CONTROLLING).is_some()
    }

    /// The response, if it is no longer than the request: nobody gets more out of us than he put in.
    pub(super) fn succeed(
        &self,
        from: SocketAddr,
        password: &str,
        crypto: &dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        let address = XorMappedAddress { ip: from.ip().to_canonical(), port: from.port() };
        let response = build(&[&BINDING_SUCCESS, &self.message.transaction_id, &address], password, crypto)?;
        (response.len() <= self.len).then_some(response)
    }

    /// The response to a request with the wrong role (487), under the same condition.
    pub(super) fn conflict(&self, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
        let response =
            build(&[&BINDING_ERROR, &self.message.transaction_id, &CODE_ROLE_CONFLICT], password, crypto)?;
        (response.len() <= self.len).then_some(response)
    }

    /// An attribute, if it stands where MESSAGE-INTEGRITY covers it (RFC 8489, 14.5).
    fn get(&self, kind: AttrType) -> Option<&[u8]> {
        let covered = self.message.attributes.0.iter().take_while(|a| a.typ != ATTR_MESSAGE_INTEGRITY);
        covered.filter(|a| a.typ == kind).map(|a| a.value.as_slice()).next()
    }
}

impl Response {
    /// Whether it answers that request and its MESSAGE-INTEGRITY is right.
    pub(super) fn answers(&mut self, transaction: [u8; 12], password: &str, crypto: &dyn RTCCrypto) -> bool {
        self.message.transaction_id == TransactionId(transaction)
            && MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }
}

/// A request of a controlling agent that nominates at once (RFC 8445, 7.2.2).
pub(super) fn request(
    transaction: [u8; 12],
    username: &str,
    password: &str,
    tie_breaker: u64,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    build(
        &[
            &BINDING_REQUEST,
            &TransactionId(transaction),
            &Attribute(ATTR_USERNAME, username.as_bytes()),
            // A host candidate's (RFC 8445, 5.1.2.1).
            &Attribute(ATTR_PRIORITY, &0x7eff_ffff_u32.to_be_bytes()),
            &Attribute(ATTR_ICE_CONTROLLING, &tie_breaker.to_be_bytes()),
            &Attribute(ATTR_USE_CANDIDATE, &[]),
        ],
        password,
        crypto,
    )
}

/// A request of a full agent that waits to be called.
#[cfg(test)]
pub(super) fn controlled_request(username: &str, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let role = Attribute(ATTR_ICE_CONTROLLED, &[0; 8]);
    build(&[&BINDING_REQUEST, &Attribute(ATTR_USERNAME, username.as_bytes()), &role], password, crypto)
}

struct Attribute<'a>(AttrType, &'a [u8]);

impl Setter for Attribute<'_> {
    fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
        message.add(self.0, self.1);
        Ok(())
    }
}

fn build(parts: &[&dyn Setter], password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.write_header();
    for part in parts {
        part.add_to(&mut message).ok()?;
    }
    MessageIntegrity::new_raw_integrity_with_provider(password.as_bytes(), crypto)
        .add_to(&mut message)
        .ok()?;
    FINGERPRINT.add_to(&mut message).ok()?;
    Some(message.raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let provider = rtc_crypto::default_provider().expect("a provider");
        request([7; 12], "ours:theirs", "password", 1, provider.crypto()).expect("a request")
    }

    #[test]
    fn the_user_fragment_is_found() {
        assert_eq!(ufrag_of(&sample()), Some("ours"));
        let mut longer = sample();
        longer.push(0);
        assert_eq!(ufrag_of(&longer), None);
        let mut response = sample();
        response[0] = 1;
        assert_eq!(ufrag_of(&response), None);
        for end in 0..sample().len() {
            assert_eq!(ufrag_of(&sample()[..end]), None, "{end}");
        }
        let mut many = sample()[..HEADER].to_vec();
        many.extend([0x80, 0x22, 0, 0].repeat(MAX_BEFORE_USERNAME));
        many.extend(&sample()[HEADER..]);
        let len = (many.len() - HEADER) as u16;
        many[2..4].copy_from_slice(&len.to_be_bytes());
        assert_eq!(ufrag_of(&many), None);
    }

    #[test]
    fn what_stands_behind_the_integrity_does_not_count() {
        let provider = rtc_crypto::default_provider().expect("a provider");
        let parts: &[&dyn Setter] = &[&BINDING_REQUEST, &Attribute(ATTR_USERNAME, b"a:b")];
        let mut message = Message::new();
        message.write_header();
        for part in parts {
            part.add_to(&mut message).expect("it fits");
        }
        let integrity =
            MessageIntegrity::new_raw_integrity_with_provider(b"password".as_slice(), provider.crypto());
        integrity.add_to(&mut message).expect("it fits");
        message.add(ATTR_USE_CANDIDATE, &[]);
        FINGERPRINT.add_to(&mut message).expect("it fits");
        let Some(Binding::Request(mut request)) = read(&message.raw) else { panic!("a request") };
        assert!(request.is_authentic("password", provider.crypto()));
        assert!(!request.is_authentic("passwore", provider.crypto()));
        assert!(!request.nominates());
        // It is too short for an answer.
        assert!(
            request.succeed(([0, 0, 0, 0, 0, 0, 0, 1], 1).into(), "password", provider.crypto()).is_none()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), shape in any::<bool>()) {
            if shape && bytes.len() >= HEADER {
                let len = (bytes.len() - HEADER) as u16;
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            }
            let _ = ufrag_of(&bytes);
            let _ = read(&bytes);
        }

        #[test]
        fn a_changed_request_is_not_authentic(at in 0_usize..100, with in 1_u8..) {
            let provider = rtc_crypto::default_provider().expect("a provider");
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] ^= with;
            if let Some(Binding::Request(mut request)) = read(&bytes) {
                prop_assert!(!request.is_authentic("password", provider.crypto()));
            }
        }
    }
}
