//! What clients say: AMS's commands, with their spellings. Everything is bounded; fields that a client leaves out, or
//! sends as `null`, are empty.

use serde_json::{Map, Value};

/// The longest message that is read, in bytes.
pub const LONGEST: usize = 80 << 10;
/// The most elements of a list that are looked at.
const LIST: usize = 200;
/// The longest token, name or code, in bytes.
const TEXT: usize = 4 << 10;
/// The longest `metaData`, in bytes.
const META_DATA: usize = 16 << 10;
/// The longest candidate, in bytes.
const CANDIDATE: usize = 1 << 10;

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
    let fields = Fields(object);
    let Some(name) = fields.0.get("command").and_then(Value::as_str) else {
        return Err(none(Invalid::NoCommand));
    };
    // Who sends nonsense as an id gets it back in the text only.
    let stream = fields.text("streamId", 255).filter(|id| valid_id(id)).unwrap_or_default();
    match fields.command(name) {
        Ok(command) => Ok((command, stream)),
        Err(invalid) => Err((invalid, stream)),
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn command(&self, name: &str) -> Result<Command, Invalid> {
        Ok(match name {
            "ping" => Command::Ping,
            "getIceServerConfig" => Command::IceServers,
            "registerPushNotificationToken" => Command::Push("registerPushNotificationToken"),
            "sendPushNotification" => Command::Push("sendPushNotification"),
            "joinRoom" => Command::JoinRoom { room: self.room(name)?, stream: self.optional_stream()? },
            "leaveFromRoom" => Command::LeaveRoom { room: self.room(name)?, stream: self.optional_stream()? },
            "getRoomInfo" => Command::RoomInfo { room: self.room(name)?, stream: self.optional_stream()? },
            _ => self.of_stream(name)?,
        })
    }

    fn of_stream(&self, name: &str) -> Result<Command, Invalid> {
        if !KNOWN.contains(&name) {
            return Err(Invalid::Unknown(name.chars().take(64).collect()));
        }
        let stream = self.id("streamId")?.ok_or_else(|| Invalid::NoStream(name.to_owned()))?;
        Ok(match name {
            "publish" => Command::Publish(self.publish(stream)?),
            "play" => Command::Play(self.play(stream)?),
            "stop" => Command::Stop(stream),
            "takeConfiguration" => Command::Description {
                stream,
                offer: match self.0.get("type").and_then(Value::as_str) {
                    Some("offer") => true,
                    Some("answer") => false,
                    _ => return Err(Invalid::Field("takeConfiguration needs a type: offer or answer")),
                },
                sdp: self
                    .text("sdp", LONGEST)
                    .filter(|sdp| !sdp.is_empty())
                    .ok_or(Invalid::Field("takeConfiguration needs an sdp"))?,
            },
            "takeCandidate" => Command::Candidate {
                stream,
                label: self.number("label"),
                mid: self.text("id", 255).unwrap_or_default(),
                candidate: self
                    .text("candidate", CANDIDATE)
                    .ok_or(Invalid::Field("the candidate is too long"))?,
            },
            "getStreamInfo" => Command::StreamInfo(stream),
            "forceStreamQuality" => Command::Quality { stream, height: self.height(), track: self.track()? },
            "enableTrack" => self.enable(stream, self.track()?, Media::All),
            "toggleVideo" => self.enable(stream, self.track()?, Media::Video),
            "toggleAudio" => self.enable(stream, self.track()?, Media::Audio),
            "assignVideoTrackCommand" => {
                let track = self.text("videoTrackId", 262).unwrap_or_default();
                self.enable(stream, plain(&track)?, Media::Video)
            }
            "updateVideoTrackAssignmentsCommand" => {
                Command::Window { stream, offset: self.count("offset"), size: self.count("size") }
            }
            "setMaxVideoTrackCountCommand" => {
                Command::Window { stream, offset: 0, size: self.count("maxTrackCount") }
            }
            "getVideoTrackAssignmentsCommand" => Command::Assignments(stream),
            "getTrackList" => Command::Tracks(stream),
            "getBroadcastObject" => Command::Broadcast(stream),
            "getSubtracks" => {
                let (offset, size) = (self.count("offset"), self.count("size"));
                Command::Subtracks { stream, role: self.role(), offset, size }
            }
            "getSubtracksCount" => Command::SubtrackCount { stream, role: self.role() },
            "getSubscriberCount" => Command::SubscriberCount(stream),
            "getSubscribers" => {
                Command::Subscribers { stream, offset: self.count("offset"), size: self.count("size") }
            }
            "updateStreamMetaData" => Command::MetaData {
                stream,
                meta_data: self
                    .text("metaData", META_DATA)
                    .ok_or(Invalid::Field("metaData has more than 16 KiB"))?,
            },
            "getDebugInfo" => Command::DebugInfo(stream),
            "join" => Command::Join {
                stream,
                multi_peer: self.flag("multiPeer"),
                only_plays: self.0.get("mode").and_then(Value::as_str) == Some("play"),
            },
            "leave" => Command::Leave(stream),
            "peerMessageCommand" => Command::PeerMessage {
                stream,
                definition: self.text("definition", TEXT).unwrap_or_default(),
                data: self.0.get("data").cloned().unwrap_or_default(),
            },
            other => return Err(Invalid::Unknown(other.to_owned())),
        })
    }

    fn publish(&self, stream: String) -> Result<Publish, Invalid> {
        Ok(Publish {
            stream,
            main_track: self.id("mainTrack")?.unwrap_or_default(),
            subscriber: self.text("subscriberId", TEXT).unwrap_or_default(),
            query: self.query(&[
                "token",
                "subscriberId",
                "subscriberCode",
                "streamName",
                "role",
                "metaData",
            ])?,
        })
    }

    fn play(&self, stream: String) -> Result<Play, Invalid> {
        let list = self.0.get("trackList").and_then(Value::as_array);
        let tracks = list.into_iter().flatten().filter_map(Value::as_str).take(LIST);
        Ok(Play {
            stream,
            tracks: tracks
                .filter(|t| valid_id(t.strip_prefix('!').unwrap_or(t)))
                .map(str::to_owned)
                .collect(),
            own: self.id("userPublishId").ok().flatten().unwrap_or_default(),
            subscriber: self.text("subscriberId", TEXT).unwrap_or_default(),
            disabled: self.flag("disableTracksByDefault"),
            query: self.query(&[
                "token",
                "subscriberId",
                "subscriberName",
                "subscriberCode",
                "room",
                "role",
                "viewerInfo",
            ])?,
        })
    }

    fn query(&self, names: &[&str]) -> Result<Vec<(String, String)>, Invalid> {
        let mut query = Vec::new();
        for name in names {
            let limit = if matches!(*name, "metaData" | "viewerInfo") { META_DATA } else { TEXT };
            let too_long =
                Invalid::Field("a token, name or code has more than 4 KiB, or metaData more than 16 KiB");
            let text = self.text(name, limit).ok_or(too_long)?;
            if !text.is_empty() {
                query.push(((*name).to_owned(), text));
            }
        }
        Ok(query)
    }

    fn enable(&self, stream: String, track: String, media: Media) -> Command {
        Command::Enable { stream, track, media, enabled: self.flag("enabled") }
    }

    /// A text; empty when there is none, and `None` when it is too long. Other values as the JSON that they are.
    fn text(&self, name: &str, longest: usize) -> Option<String> {
        let text = match self.0.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) if text.len() > longest => return None,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        (text.len() <= longest).then_some(text)
    }

    fn id(&self, name: &str) -> Result<Option<String>, Invalid> {
        let id = self
            .text(name, 255)
            .ok_or_else(|| Invalid::BadId(format!("a {name} of more than 255 letters")))?;
        if id.is_empty() {
            return Ok(None);
        }
        if valid_id(&id) { Ok(Some(id)) } else { Err(Invalid::BadId(id)) }
    }

    fn optional_stream(&self) -> Result<String, Invalid> {
        Ok(self.id("streamId")?.unwrap_or_default())
    }

    fn room(&self, command: &str) -> Result<String, Invalid> {
        let room = self.id("room")?.or(self.id("mainTrack")?);
        room.ok_or_else(|| Invalid::NoRoom(command.to_owned()))
    }

    fn track(&self) -> Result<String, Invalid> {
        plain(&self.text("trackId", 262).unwrap_or_default())
    }

    fn role(&self) -> String {
        self.text("role", TEXT).unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    fn number(&self, name: &str) -> u64 {
        match self.0.get(name) {
            Some(Value::String(text)) => text.parse().unwrap_or(0),
            Some(value) => value.as_u64().unwrap_or(0),
            None => 0,
        }
    }

    fn count(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn height(&self) -> Option<u32> {
        u32::try_from(self.number("streamHeight")).ok().filter(|height| *height > 0)
    }
}

/// A track's id without the prefix that tells sound from pictures.
fn plain(track: &str) -> Result<String, Invalid> {
    let id = track.strip_prefix("ARDAMSv").or_else(|| track.strip_prefix("ARDAMSa")).unwrap_or(track);
    if id.is_empty() || valid_id(id) { Ok(id.to_owned()) } else { Err(Invalid::BadId(id.to_owned())) }
}

/// The commands that name a stream.
const KNOWN: [&str; 25] = [
    "publish",
    "play",
    "stop",
    "takeConfiguration",
    "takeCandidate",
    "getStreamInfo",
    "forceStreamQuality",
    "enableTrack",
    "toggleVideo",
    "toggleAudio",
    "assignVideoTrackCommand",
    "updateVideoTrackAssignmentsCommand",
    "setMaxVideoTrackCountCommand",
    "getVideoTrackAssignmentsCommand",
    "getTrackList",
    "getBroadcastObject",
    "getSubtracks",
    "getSubtracksCount",
    "getSubscriberCount",
    "getSubscribers",
    "updateStreamMetaData",
    "getDebugInfo",
    "join",
    "leave",
    "peerMessageCommand",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
