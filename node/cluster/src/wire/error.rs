use sluice_media::CodecError;

/// What a peer sent is not the relay's format, or more than it may be; or what is to be sent does not fit into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It ends before it should.
    #[error("a relay message is cut short in its {what}: do both nodes run releases that fit together?")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// There is more than there should be.
    #[error(
        "a relay message has {bytes} bytes more than its {what} needs: do both nodes run releases that fit together?"
    )]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// Something is larger than it may be.
    #[error("the {what} of a relay message has {size}, allowed are {most}: the connection is given up")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size or value.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// A value that means nothing.
    #[error(
        "the {what} of a relay message is {value}, which means nothing: do both nodes run releases that fit together?"
    )]
    Invalid {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A codec configuration that cannot be used.
    #[error("a relay message has a codec configuration that cannot be used: {0}")]
    Codec(#[from] CodecError),
    /// A message where it has no place.
    #[error("a relay message came where it has no place: {what}")]
    Unexpected {
        /// Which one.
        what: &'static str,
    },
    /// A name that is not UTF-8.
    #[error("the {what} of a relay message is not UTF-8")]
    Text {
        /// Which one.
        what: &'static str,
    },
    /// The other side speaks another version.
    #[error(
        "the other node speaks version {theirs} of the relay's format, this one {} to {}: update both to one release",
        super::OLDEST,
        super::VERSION
    )]
    Version {
        /// Its version.
        theirs: u8,
    },
}
