//! What a connection to a cluster port is for.

/// What a connection is for, told in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Frames of a stream.
    Relay,
    /// What a node says about itself.
    Mesh,
    /// HTTP/2: of other nodes, and all that the operator asks.
    Requests,
}

impl Alpn {
    /// All of them.
    pub const ALL: [Alpn; 3] = [Alpn::Relay, Alpn::Mesh, Alpn::Requests];

    /// The bytes in the handshake.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Alpn::Relay => b"sluice-relay/1",
            Alpn::Mesh => b"sluice-mesh/1",
            Alpn::Requests => b"h2",
        }
    }

    /// From the bytes in the handshake.
    pub fn from_bytes(bytes: &[u8]) -> Option<Alpn> {
        Alpn::ALL.into_iter().find(|alpn| alpn.as_bytes() == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpn_is_known_by_its_bytes() {
        assert!(Alpn::ALL.into_iter().all(|alpn| Alpn::from_bytes(alpn.as_bytes()) == Some(alpn)));
        assert_eq!(Alpn::from_bytes(b"http/1.1"), None);
    }
}
