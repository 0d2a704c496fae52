//! From the fields of a JSON object to a command.

use serde_json::{Map, Value};

use super::{Command, Invalid, LONGEST, Media, Play, Publish, valid_id};

/// The most elements of a list that are looked at.
pub(super) const LIST: usize = 200;
/// The longest token, name or code, in bytes.
const TEXT: usize = 4 << 10;
/// The longest `metaData`, in bytes.
const META_DATA: usize = 16 << 10;
/// The longest candidate, in bytes.
const CANDIDATE: usize = 1 << 10;

/// The fields of a message.
pub(super) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Fields(fields)
    }
}

impl Fields {
    /// What the command is called.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.get("command").and_then(Value::as_str)
    }

    /// The command of this name.
    pub(super) fn command(&self, name: &str) -> Result<Command, Invalid> {
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
    pub(super) fn text(&self, name: &str, longest: usize) -> Option<String> {
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
pub(super) const KNOWN: [&str; 25] = [
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
