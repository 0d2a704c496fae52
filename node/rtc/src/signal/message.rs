//! What clients say: AMS's commands, with their spellings. Everything is bounded; fields that a client leaves out, or
//! sends as `null`, are empty.

use serde_json::Value;

mod fields;

use fields::Fields;

/// The longest message that is read, in bytes.
pub const LONGEST: usize = 80 << 10;

/// A command of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `ping`: is answered with `pong`.
    Ping,
    /// `getIceServerConfig`.
    IceServers,
    /// `publish`: the offer follows.
    Publish(Publish),
    /// `play`: is answered with an offer.
    Play(Play),
    /// `stop`.
    Stop(String),
    /// `takeConfiguration`: a description.
    Description {
        /// Of which stream.
        stream: String,
        /// Whether it is an offer rather than an answer.
        offer: bool,
        /// The description.
        sdp: String,
    },
    /// `takeCandidate`: for the other peer; this server needs none.
    Candidate {
        /// Of which stream.
        stream: String,
        /// The number of the media section.
        label: u64,
        /// The name of the media section.
        mid: String,
        /// The candidate (RFC 8839); empty at the end of them.
        candidate: String,
    },
    /// `getStreamInfo`.
    StreamInfo(String),
    /// `forceStreamQuality`.
    Quality {
        /// The stream that is played.
        stream: String,
        /// The height, or as the link allows.
        height: Option<u32>,
        /// One track of several; empty: all.
        track: String,
    },
    /// `enableTrack`, `toggleVideo`, `toggleAudio`, `assignVideoTrackCommand`.
    Enable {
        /// The stream that is played.
        stream: String,
        /// One track of several; empty: all.
        track: String,
        /// Sound, pictures or both.
        media: Media,
        /// Whether it is sent.
        enabled: bool,
    },
    /// `updateVideoTrackAssignmentsCommand`, `setMaxVideoTrackCountCommand`: pictures of so many tracks from there on.
    Window {
        /// The stream that is played.
        stream: String,
        /// The first track.
        offset: usize,
        /// How many.
        size: usize,
    },
    /// `getVideoTrackAssignmentsCommand`.
    Assignments(String),
    /// `getTrackList`.
    Tracks(String),
    /// `getBroadcastObject`.
    Broadcast(String),
    /// `getSubtracks`.
    Subtracks {
        /// The main track.
        stream: String,
        /// Only those with this role; empty: all.
        role: String,
        /// How many are left out.
        offset: usize,
        /// How many are wanted.
        size: usize,
    },
    /// `getSubtracksCount`.
    SubtrackCount {
        /// The main track.
        stream: String,
        /// Only those with this role; empty: all.
        role: String,
    },
    /// `getSubscriberCount`.
    SubscriberCount(String),
    /// `getSubscribers`.
    Subscribers {
        /// Of which stream.
        stream: String,
        /// How many are left out.
        offset: usize,
        /// How many are wanted.
        size: usize,
    },
    /// `updateStreamMetaData`.
    MetaData {
        /// Of which stream.
        stream: String,
        /// The new one.
        meta_data: String,
    },
    /// `getDebugInfo`.
    DebugInfo(String),
    /// `joinRoom`.
    JoinRoom {
        /// The room: the id of its main track.
        room: String,
        /// The id with which the client is going to publish; empty: it wants one.
        stream: String,
    },
    /// `leaveFromRoom`.
    LeaveRoom {
        /// The room.
        room: String,
        /// With which id the client publishes.
        stream: String,
    },
    /// `getRoomInfo`.
    RoomInfo {
        /// The room.
        room: String,
        /// With which id the client publishes.
        stream: String,
    },
    /// `join`: peer to peer.
    Join {
        /// Where they meet.
        stream: String,
        /// Whether it takes several peers, each under an id of its own.
        multi_peer: bool,
        /// Whether it sends nothing itself.
        only_plays: bool,
    },
    /// `leave`: peer to peer.
    Leave(String),
    /// `peerMessageCommand`.
    PeerMessage {
        /// Where they meet.
        stream: String,
        /// What kind of message.
        definition: String,
        /// The message.
        data: Value,
    },
    /// `registerPushNotificationToken` or `sendPushNotification`.
    Push(&'static str),
}

/// `publish`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// The stream.
    pub stream: String,
    /// The room that it belongs to; may be empty.
    pub main_track: String,
    /// Whose it is; may be empty.
    pub subscriber: String,
    /// `token`, `subscriberId` and the like, without those that are empty.
    pub query: Vec<(String, String)>,
}

/// `play`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Play {
    /// The stream, or a main track.
    pub stream: String,
    /// The tracks that are wanted, or with a leading `!` not wanted; empty: all.
    pub tracks: Vec<String>,
    /// The stream that the client itself publishes: not sent back to it.
    pub own: String,
    /// Whose it is; may be empty.
    pub subscriber: String,
    /// Whether nothing is sent until it is enabled.
    pub disabled: bool,
    /// `token`, `subscriberId` and the like, without those that are empty.
    pub query: Vec<(String, String)>,
}

/// What of a track is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Sound and pictures.
    All,
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// Why a message is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not JSON, or no object with a `command`.
    #[error("a message is a JSON object with a text \"command\"")]
    NoCommand,
    /// A command that is not known.
    #[error("the command {0:?} is not known here")]
    Unknown(String),
    /// Without a stream.
    #[error("{0} needs a streamId")]
    NoStream(String),
    /// Its id is none.
    #[error("{0:?} is not a stream id: use letters, digits, '-', '_' and '.', at most 255")]
    BadId(String),
    /// Without a room.
    #[error("{0} needs a room")]
    NoRoom(String),
    /// Something else is missing or too long.
    #[error("{0}")]
    Field(&'static str),
}

impl Invalid {
    /// AMS's name for it.
    pub fn definition(&self) -> &'static str {
        match self {
            Invalid::NoCommand | Invalid::Field(_) => "missingParameter",
            Invalid::Unknown(_) => "unknown_command",
            Invalid::NoStream(_) => "noStreamNameSpecified",
            Invalid::BadId(_) => "invalidStreamName",
            Invalid::NoRoom(_) => "no_room_specified",
        }
    }
}

/// Whether an id is one by AMS's rules.
pub fn valid_id(id: &str) -> bool {
    (1..=255).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && id != "."
        && id != ".."
}

/// A command, and the stream that it names, which answers to it name, too (empty where it names none).
///
/// # Errors
/// [`Invalid`], with the stream.
pub fn parse(text: &str) -> Result<(Command, String), (Invalid, String)> {
    let none = |invalid| (invalid, String::new());
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return Err(none(Invalid::NoCommand)) };
    let fields = Fields::from(object);
    let Some(name) = fields.name() else { return Err(none(Invalid::NoCommand)) };
    // Who sends nonsense as an id gets it back in the text only.
    let stream = fields.text("streamId", 255).filter(|id| valid_id(id)).unwrap_or_default();
    match fields.command(name) {
        Ok(command) => Ok((command, stream)),
        Err(invalid) => Err((invalid, stream)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fields::{KNOWN, LIST};
    use super::*;

    fn refused(text: &str) -> &'static str {
        parse(text).unwrap_err().0.definition()
    }

    #[test]
    fn what_the_adaptor_sends_to_publish_is_read() {
        let text = r#"{"command":"publish","streamId":"cam1","token":null,"subscriberId":"","subscriberCode":"",
            "streamName":"My camera","mainTrack":"room1","video":true,"audio":true,"metaData":{"a":1},"role":""}"#;
        let (command, stream) = parse(text).unwrap();
        let Command::Publish(publish) = command else { panic!("{command:?}") };
        assert_eq!((stream.as_str(), publish.main_track.as_str()), ("cam1", "room1"));
        let query = [("streamName", "My camera"), ("metaData", r#"{"a":1}"#)];
        assert_eq!(publish.query, query.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_the_adaptor_sends_to_play_is_read() {
        let text = r#"{"command":"play","streamId":"room1","token":"t","room":"","trackList":["!cam1","..",7],
            "subscriberId":"s","subscriberCode":"","viewerInfo":"","role":"","userPublishId":"cam2"}"#;
        let Command::Play(play) = parse(text).unwrap().0 else { panic!("play") };
        assert_eq!((play.own.as_str(), play.subscriber.as_str(), play.disabled), ("cam2", "s", false));
        assert_eq!(play.tracks, ["!cam1"]);
        assert_eq!(play.query.len(), 2);
    }

    #[test]
    fn commands_without_a_stream_need_none() {
        for (text, command) in [
            (r#"{"command":"ping"}"#, Command::Ping),
            (r#"{"command":"getIceServerConfig"}"#, Command::IceServers),
            (r#"{"command":"sendPushNotification","topic":"x"}"#, Command::Push("sendPushNotification")),
        ] {
            assert_eq!(parse(text).unwrap(), (command, String::new()));
        }
        assert_eq!(refused(r#"{"command":"play"}"#), "noStreamNameSpecified");
        assert_eq!(refused(r#"{"command":"play","streamId":""}"#), "noStreamNameSpecified");
        assert_eq!(refused(r#"{"command":"play","streamId":"a/b"}"#), "invalidStreamName");
        assert_eq!(refused(r#"{"command":"joinRoom","streamId":"a"}"#), "no_room_specified");
    }

    #[test]
    fn quality_is_a_height_or_automatic() {
        for (height, expected) in
            [("\"auto\"", None), ("0", None), ("480", Some(480)), ("\"720\"", Some(720))]
        {
            let text =
                format!(r#"{{"command":"forceStreamQuality","streamId":"a","streamHeight":{height}}}"#);
            let Command::Quality { height, .. } = parse(&text).unwrap().0 else { panic!("quality") };
            assert_eq!(height, expected);
        }
    }

    #[test]
    fn a_track_is_known_with_and_without_its_prefix() {
        for id in ["ARDAMSvcam1", "ARDAMSacam1", "cam1"] {
            let text =
                format!(r#"{{"command":"enableTrack","streamId":"r","trackId":"{id}","enabled":true}}"#);
            let Command::Enable { track, enabled, .. } = parse(&text).unwrap().0 else { panic!("enable") };
            assert!(track == "cam1" && enabled);
        }
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        for text in ["", "[]", "7", "{}", r#"{"command":7}"#, "{\"command\":\"ping\"", &"[".repeat(10_000)] {
            assert_eq!(refused(text), "missingParameter", "{text:.20}");
        }
        assert_eq!(refused(r#"{"command":"dance","streamId":"a"}"#), "unknown_command");
        assert_eq!(refused(r#"{"command":"connectWithNewId","streamId":"a"}"#), "unknown_command");
        let long = "t".repeat(5000);
        let text = format!(r#"{{"command":"play","streamId":"a","token":"{long}"}}"#);
        assert_eq!(refused(&text), "missingParameter");
        assert_eq!(
            refused(r#"{"command":"takeConfiguration","streamId":"a","type":"x"}"#),
            "missingParameter"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn whatever_a_command_holds_ids_are_ids(
            name in proptest::sample::select(&KNOWN[..]), id in "\\PC{0,12}", list in proptest::collection::vec("\\PC{0,4}", 0..9)
        ) {
            let text = serde_json::json!({"command": name, "streamId": id, "trackId": id, "trackList": list}).to_string();
            match parse(&text) {
                Ok((Command::Play(play), stream)) => {
                    prop_assert!(valid_id(&stream) && play.tracks.len() <= LIST);
                }
                Ok((_, stream)) => prop_assert!(valid_id(&stream)),
                Err((_, stream)) => prop_assert!(stream.is_empty() || valid_id(&stream)),
            }
        }
    }
}
