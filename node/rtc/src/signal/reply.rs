//! What clients are told, with AMS's spellings.

use serde_json::{Value, json};
use sluice_media::session::Refusal;

use super::directory::{Rendition, Subtrack};
use super::message::Invalid;
use crate::sdp::SdpError;
use crate::service::Refused;
use crate::settings::IceServer;

/// A refusal as AMS calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusing {
    /// AMS's name.
    pub(super) definition: &'static str,
    /// AMS's number, where it has one.
    pub(super) code: Option<&'static str>,
    /// What happened and what to do, for people.
    pub(super) information: String,
}

impl Refusing {
    pub(super) fn new(definition: &'static str, information: impl Into<String>) -> Self {
        let code = (definition == "no_stream_exist").then_some("404");
        Refusing { definition, code, information: information.into() }
    }

    pub(super) fn not_live(stream: &str) -> Self {
        Self::new("no_stream_exist", format!("{stream} is not being published"))
    }

    /// Of one who wanted to publish, or to play.
    pub(super) fn of(refused: &Refused, publishing: bool) -> Self {
        let definition = match refused {
            Refused::Refusal(refusal) => of_node(refusal, publishing),
            Refused::Sdp(SdpError::NoCodec(_)) => "no_codec_enabled_in_the_server",
            Refused::Sdp(SdpError::Unusable(_)) => "notSetRemoteDescription",
            Refused::TooMany(_) => "highResourceUsage",
        };
        Self::new(definition, refused.to_string())
    }
}

fn of_node(refusal: &Refusal, publishing: bool) -> &'static str {
    match refusal {
        Refusal::UnknownApp(_) => "not_initialized_yet",
        Refusal::InvalidId(_) => "invalidStreamName",
        Refusal::InUse(_) => "streamIdInUse",
        Refusal::NotLive(_) => "no_stream_exist",
        Refusal::NotCreated(_) => "not_allowed_unregistered_streams",
        Refusal::NotAllowed(_) => "unauthorized_access",
        Refusal::Disabled(_) => "webrtc_not_enabled",
        Refusal::Limit(_) if !publishing => "viewerLimitReached",
        // The client tries again, which leads it to another node.
        Refusal::Limit(_)
        | Refusal::Edge(_)
        | Refusal::NoViewers(_)
        | Refusal::Draining
        | Refusal::Stopping => "highResourceUsage",
        Refusal::Unavailable(_) => "data_store_not_available",
        _ => "server_error_check_logs",
    }
}

impl From<&Invalid> for Refusing {
    fn from(invalid: &Invalid) -> Self {
        Self::new(invalid.definition(), invalid.to_string())
    }
}

/// `error`.
pub(super) fn error(stream: &str, refusing: &Refusing) -> String {
    let mut error = json!({
        "command": "error",
        "definition": refusing.definition,
        "streamId": stream,
        "information": refusing.information,
    });
    if let Some(code) = refusing.code {
        error["error_code"] = json!(code);
    }
    error.to_string()
}

/// `notification` with these fields besides.
pub(super) fn notification(definition: &str, fields: Value) -> String {
    let mut all = json!({"command": "notification", "definition": definition});
    if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    all.to_string()
}

/// A notification of a stream.
pub(super) fn of_stream(definition: &str, stream: &str, subscriber: &str) -> String {
    notification(definition, json!({"streamId": stream, "subscriberId": subscriber}))
}

pub(super) fn pong() -> String {
    json!({"command": "pong"}).to_string()
}

/// `start`: make your offer.
pub(super) fn start(stream: &str, subscriber: &str) -> String {
    json!({"command": "start", "streamId": stream, "subscriberId": subscriber}).to_string()
}

/// `stop`: the other peer is gone (peer to peer only).
pub(super) fn stop(stream: &str) -> String {
    json!({"command": "stop", "streamId": stream}).to_string()
}

/// `takeConfiguration`; `mids` only with an offer of ours: the name of the track in each media section.
pub(super) fn description(
    stream: &str,
    offer: bool,
    sdp: &str,
    mids: Option<&[(String, String)]>,
    subscriber: &str,
) -> String {
    let mut said = json!({
        "command": "takeConfiguration",
        "streamId": stream,
        "type": if offer { "offer" } else { "answer" },
        "sdp": sdp,
        "linkSession": null,
        "subscriberId": subscriber,
    });
    if let Some(mids) = mids {
        let mids = mids.iter().map(|(mid, track)| (mid.clone(), Value::from(track.as_str())));
        said["idMapping"] = Value::Object(mids.collect());
    }
    said.to_string()
}

/// `takeCandidate`.
pub(super) fn candidate(stream: &str, label: u64, mid: &str, candidate: &str, subscriber: &str) -> String {
    json!({
        "command": "takeCandidate",
        "streamId": stream,
        "label": label,
        "id": mid,
        "candidate": candidate,
        "linkSession": null,
        "subscriberId": subscriber,
    })
    .to_string()
}

/// The candidates of a description's first media section (the others are bundled with it), each as a message.
pub(super) fn candidates(stream: &str, sdp: &str, subscriber: &str) -> Vec<String> {
    let Some(section) = sdp.split("\nm=").nth(1) else { return Vec::new() };
    let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).map_or("0", str::trim);
    let of_section = section.lines().filter_map(|line| line.strip_prefix("a="));
    let candidates = of_section.filter(|line| line.starts_with("candidate:"));
    candidates.map(|c| candidate(stream, 0, mid, c.trim(), subscriber)).collect()
}

/// `iceServerConfig`. The client knows one server: a TURN server by preference, without `turns:`, which it ignores.
pub(super) fn ice_servers(servers: &[IceServer]) -> String {
    let first = |scheme: &str| servers.iter().find(|server| server.url.starts_with(scheme));
    let server = first("turn:").or_else(|| first("stun:"));
    let text = |text: Option<&String>| Value::from(text.map_or("", String::as_str));
    json!({
        "command": "iceServerConfig",
        "stunServerUri": text(server.map(|server| &server.url)),
        "turnServerUsername": text(server.and_then(|server| server.username.as_ref())),
        "turnServerCredential": text(server.and_then(|server| server.credential.as_ref())),
    })
    .to_string()
}

/// `streamInformation`.
pub(super) fn stream_information(stream: &str, renditions: &[Rendition]) -> String {
    let info = |rendition: &Rendition| {
        json!({
            "streamWidth": rendition.width,
            "streamHeight": rendition.height,
            "videoBitrate": rendition.video_bitrate,
            "audioBitrate": rendition.audio_bitrate,
            "videoCodec": rendition.codec,
        })
    };
    let info: Vec<Value> = renditions.iter().map(info).collect();
    json!({"command": "streamInformation", "streamId": stream, "streamInfo": info}).to_string()
}

/// `trackList`.
pub(super) fn track_list(stream: &str, tracks: &[String]) -> String {
    json!({"command": "trackList", "streamId": stream, "trackList": tracks}).to_string()
}

/// `bitrateMeasurement`, in bits a second.
pub(super) fn bitrate(stream: &str, target: u64, video: u64, audio: u64) -> String {
    let fields =
        json!({"streamId": stream, "targetBitrate": target, "videoBitrate": video, "audioBitrate": audio});
    notification("bitrateMeasurement", fields)
}

/// Who is in a room, as `joinedTheRoom` and `roomInformation` say it.
fn room(room: &str, stream: &str, others: &[Subtrack]) -> Value {
    let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    let list = others
        .iter()
        .map(|other| json!({"streamId": other.id, "streamName": other.name, "metaData": other.meta_data}));
    json!({
        "streamId": stream,
        "streams": ids,
        "streamList": list.collect::<Vec<_>>(),
        "ATTR_ROOM_NAME": room,
        "room": room,
    })
}

/// `joinedTheRoom`; `most` is how many tracks a player gets.
pub(super) fn joined_room(name: &str, stream: &str, others: &[Subtrack], most: usize) -> String {
    let mut fields = room(name, stream, others);
    fields["maxTrackCount"] = json!(most);
    notification("joinedTheRoom", fields)
}

/// `roomInformation`.
pub(super) fn room_information(name: &str, stream: &str, others: &[Subtrack]) -> String {
    let mut said = room(name, stream, others);
    said["command"] = json!("roomInformation");
    said.to_string()
}

#[cfg(test)]
mod tests {
    use sluice_media::StreamKey;

    use super::*;
    use crate::transport::TooMany;

    #[test]
    fn refusals_have_the_names_of_ams() {
        let key = StreamKey::new("live", "cam1");
        let cases = [
            (Refused::from(Refusal::InUse(key.clone())), true, "streamIdInUse"),
            (Refused::from(Refusal::NotLive(key)), false, "no_stream_exist"),
            (Refused::from(Refusal::Limit("10 viewers".into())), false, "viewerLimitReached"),
            (Refused::from(Refusal::Limit("10 streams".into())), true, "highResourceUsage"),
            (Refused::from(Refusal::NotAllowed([10, 0, 0, 1].into())), true, "unauthorized_access"),
            (Refused::from(SdpError::Unusable("no ufrag".into())), true, "notSetRemoteDescription"),
            (Refused::from(TooMany::OfNode), false, "highResourceUsage"),
            (Refused::from(TooMany::OfClient), true, "highResourceUsage"),
        ];
        for (refused, publishing, definition) in cases {
            let refusing = Refusing::of(&refused, publishing);
            assert_eq!(refusing.definition, definition);
            assert_eq!(refusing.information, refused.to_string(), "our sentence tells the way out");
            let said: Value = serde_json::from_str(&error("cam1", &refusing)).unwrap();
            assert_eq!(said.get("error_code").is_some(), definition == "no_stream_exist");
        }
    }

    #[test]
    fn candidates_are_those_of_the_first_section() {
        let sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host\r\n\
            a=mid:a0\r\na=end-of-candidates\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:2 1 udp 1 192.0.2.1 5004 typ host\r\n";
        let said = candidates("cam1", sdp, "");
        let said: Vec<Value> = said.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0]["candidate"], "candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host");
        assert_eq!((said[0]["id"].as_str(), said[0]["label"].as_u64()), (Some("a0"), Some(0)));
        assert!(candidates("cam1", "no sdp", "").is_empty());
    }

    #[test]
    fn the_client_is_told_a_server_that_it_understands() {
        let server = |url: &str, user: Option<&str>| IceServer {
            url: url.into(),
            username: user.map(str::to_owned),
            credential: user.map(str::to_owned),
        };
        let told = |servers: &[IceServer]| -> Value { serde_json::from_str(&ice_servers(servers)).unwrap() };
        let both = [
            server("turns:t:5349", Some("x")),
            server("stun:s:3478", None),
            server("turn:t:3478", Some("u")),
        ];
        assert_eq!(told(&both)["stunServerUri"], "turn:t:3478");
        assert_eq!(told(&both)["turnServerUsername"], "u");
        assert_eq!(told(&both[..2])["stunServerUri"], "stun:s:3478");
        assert_eq!(told(&[])["stunServerUri"], "", "the client keeps what it has");
    }
}
