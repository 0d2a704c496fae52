//! The broadcast record. Names, types and defaults are AMS's, its spellings included (`originAdress`).

use serde::{Deserialize, Serialize};

/// A stream that says it is live but was not heard of for longer than this (ms) is reported as
/// [`Status::TerminatedUnexpectedly`]. AMS's value.
pub const STALE_AFTER_MS: i64 = 20_000;

/// What a broadcast is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created over REST, not published yet.
    #[default]
    Created,
    /// Being started.
    Preparing,
    /// Live.
    Broadcasting,
    /// Was live, ended in order.
    Finished,
    /// Ended by an error.
    Error,
    /// Could not be started.
    Failed,
    /// Was live, and its node went away.
    TerminatedUnexpectedly,
}

impl Status {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Preparing => "preparing",
            Status::Broadcasting => "broadcasting",
            Status::Finished => "finished",
            Status::Error => "error",
            Status::Failed => "failed",
            Status::TerminatedUnexpectedly => "terminated_unexpectedly",
        }
    }

    /// Whether a node has to be alive for this to be true.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Broadcasting | Status::Preparing)
    }
}

/// Where a stream is pushed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// What the push is doing.
    pub status: Option<Status>,
    /// `generic`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The URL that it is pushed to.
    pub endpoint_url: Option<String>,
    /// The id by which it is removed.
    pub endpoint_service_id: Option<String>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint { status: None, kind: Some("generic".into()), endpoint_url: None, endpoint_service_id: None }
    }
}

/// An item of a playlist source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PlayListItem {
    /// What is played.
    pub stream_url: Option<String>,
    /// Its kind, `VoD` for a file.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its length in milliseconds.
    pub duration_in_ms: i64,
    /// Where in it to begin, in milliseconds.
    pub seek_time_in_ms: i64,
}

/// HLS settings of one stream, over those of its app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HlsParameters {
    /// Seconds of a segment, as a string.
    pub hls_time: Option<String>,
    /// Segments in a playlist, as a string.
    pub hls_list_size: Option<String>,
    /// `event`, `vod` or empty.
    pub hls_play_list_type: Option<String>,
    /// Seconds of an LL-HLS part, as a string. Not in AMS, so it is left out when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hls_part_duration: Option<String>,
}

/// One rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EncoderSettings {
    /// Picture height in pixels.
    pub height: i32,
    /// Video bits per second.
    pub video_bitrate: i32,
    /// Audio bits per second.
    pub audio_bitrate: i32,
    /// Encode even when the source is smaller.
    pub force_encode: bool,
    /// Encode even when the source has this height.
    pub force_same_resolution_encode: bool,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        EncoderSettings {
            height: 0,
            video_bitrate: 0,
            audio_bitrate: 0,
            force_encode: true,
            force_same_resolution_encode: false,
        }
    }
}

/// One table of fields makes the record, its defaults, the update and how that is applied.
macro_rules! fields {
    (
        optional { $( $(#[$odoc:meta])* $oname:ident $ojson:literal : $oty:ty; )* }
        plain { $( $(#[$pdoc:meta])* $pname:ident $pjson:literal : $pty:ty = $pdefault:expr; )* }
        ours { $( $(#[$rdoc:meta])* $rname:ident $rjson:literal : $rty:ty; )* }
    ) => {
        /// A broadcast as it is stored and as REST shows it. Absent values are written as `null`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Broadcast {
            $( $(#[$pdoc])* #[serde(rename = $pjson)] pub $pname: $pty, )*
            $( $(#[$odoc])* #[serde(rename = $ojson)] pub $oname: Option<$oty>, )*
            $( $(#[$rdoc])* #[serde(rename = $rjson, skip_serializing_if = "Option::is_none")]
               pub $rname: Option<$rty>, )*
        }

        impl Default for Broadcast {
            fn default() -> Self {
                Broadcast { $( $pname: $pdefault, )* $( $oname: None, )* $( $rname: None, )* }
            }
        }

        /// A change to a broadcast, and also the body of its creation: fields that are absent or null stay as
        /// they are. An unknown property is an error.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct BroadcastUpdate {
            $( $(#[$pdoc])* #[serde(rename = $pjson, skip_serializing_if = "Option::is_none")]
               pub $pname: Option<$pty>, )*
            $( $(#[$odoc])* #[serde(rename = $ojson, skip_serializing_if = "Option::is_none")]
               pub $oname: Option<$oty>, )*
            $( $(#[$rdoc])* #[serde(rename = $rjson, skip_serializing_if = "Option::is_none")]
               pub $rname: Option<$rty>, )*
        }

        impl Broadcast {
            /// Takes over what `update` has.
            pub fn apply(&mut self, update: BroadcastUpdate) {
                let BroadcastUpdate { $( $pname, )* $( $oname, )* $( $rname, )* } = update;
                $( if let Some(v) = $pname { self.$pname = v; } )*
                $( if $oname.is_some() { self.$oname = $oname; } )*
                $( if $rname.is_some() { self.$rname = $rname; } )*
            }
        }
    };
}

fields! {
    optional {
        /// What the playlist source is doing.
        play_list_status "playListStatus": Status;
        /// `RTMP`, `WebRTC`, `SRT` or `Pull`.
        publish_type "publishType": String;
        /// The name that people see.
        name "name": String;
        /// Free text.
        description "description": String;
        /// Free text.
        category "category": String;
        /// Where events of this stream are posted.
        listener_hook_url "listenerHookURL": String;
        /// Free text, usually JSON.
        meta_data "metaData": String;
        /// The role of a participant in a room.
        role "role": String;
        /// How well the publisher's connection does, as a word.
        quality "quality": String;
        /// Where recordings go.
        sub_folder "subFolder": String;
        /// The publisher's address.
        remote_ip "remoteIp": String;
        /// Where it is, as text.
        latitude "latitude": String;
        /// Where it is, as text.
        longitude "longitude": String;
        /// Where it is, as text.
        altitude "altitude": String;
        /// Where the stream is pushed to.
        end_point_list "endPointList": Vec<Endpoint>;
        /// The items of a playlist source.
        play_list_item_list "playListItemList": Vec<PlayListItem>;
        /// Where a pull source is.
        stream_url "streamUrl": String;
        /// The address of a camera.
        ip_addr "ipAddr": String;
        /// The user name for a camera.
        username "username": String;
        /// The password for a camera.
        password "password": String;
        /// The host of the node that has the stream. AMS's spelling.
        origin_address "originAdress": String;
        /// Where to publish it over RTMP.
        rtmp_url "rtmpURL": String;
        /// The room that it is part of.
        main_track_stream_id "mainTrackStreamId": String;
        /// HLS settings of this stream.
        hls_parameters "hlsParameters": HlsParameters;
        /// Renditions of this stream.
        encoder_settings_list "encoderSettingsList": Vec<EncoderSettings>;
    }
    plain {
        /// The id, unique within the app.
        stream_id "streamId": String = String::new();
        /// What it is doing.
        status "status": Status = Status::Created;
        /// `liveStream`, `ipCamera`, `streamSource`, `VoD` or `playlist`.
        kind "type": String = "liveStream".into();
        /// The publisher's software.
        user_agent "userAgent": String = "N/A".into();
        /// Whether it may be published.
        publish "publish": bool = true;
        /// Whether it is listed publicly.
        public_stream "publicStream": bool = true;
        /// Whether it is a 360 degree video.
        is_360 "is360": bool = false;
        /// Made by a publisher, not over REST: it goes when the publisher does.
        zombi "zombi": bool = false;
        /// Whether the playlist starts again at its end.
        playlist_loop_enabled "playlistLoopEnabled": bool = true;
        /// Whether a pull source runs only while somebody watches.
        auto_start_stop_enabled "autoStartStopEnabled": bool = false;
        /// A main track without media of its own.
        is_virtual "virtual": bool = false;
        /// When it was created, ms.
        date "date": i64 = 0;
        /// When it last went live, ms.
        start_time "startTime": i64 = 0;
        /// The publisher's own start time, ms.
        absolute_start_time_ms "absoluteStartTimeMs": i64 = 0;
        /// When its node last wrote about it, ms.
        update_time "updateTime": i64 = 0;
        /// How long it has been live, ms.
        duration "duration": i64 = 0;
        /// Bytes received from the publisher.
        received_bytes "receivedBytes": i64 = 0;
        /// Bits per second from the publisher.
        bitrate "bitrate": i64 = 0;
        /// Where a file source begins, ms.
        seek_time_in_ms "seekTimeInMs": i64 = 0;
        /// When it is planned to begin, s.
        planned_start_date "plannedStartDate": i64 = 0;
        /// When it is planned to end, s.
        planned_end_date "plannedEndDate": i64 = 0;
        /// The item of the playlist that is playing.
        current_play_index "currentPlayIndex": i32 = 0;
        /// MP4 recording: 1 on, -1 off, 0 as the app says.
        mp4_enabled "mp4Enabled": i32 = 0;
        /// WebM recording: 1 on, -1 off, 0 as the app says.
        webm_enabled "webMEnabled": i32 = 0;
        /// Participants that a room may have, -1 for any number.
        subtracks_limit "subtracksLimit": i32 = -1;
        /// WebRTC viewers that it may have, -1 for any number.
        webrtc_viewer_limit "webRTCViewerLimit": i32 = -1;
        /// HLS viewers that it may have, -1 for any number.
        hls_viewer_limit "hlsViewerLimit": i32 = -1;
        /// DASH viewers that it may have, -1 for any number.
        dash_viewer_limit "dashViewerLimit": i32 = -1;
        /// How long it may live, ms, 0 for ever.
        expire_duration_ms "expireDurationMS": i32 = 0;
        /// Seconds without a viewer or publisher before the idle webhook, 0 for never.
        max_idle_time "maxIdleTime": i32 = 0;
        /// Media seconds received per second.
        speed "speed": f64 = 0.0;
        /// Share of packets lost.
        packet_lost_ratio "packetLostRatio": f64 = 0.0;
        /// Picture width in pixels.
        width "width": i32 = 0;
        /// Picture height in pixels.
        height "height": i32 = 0;
        /// Frames that wait for the encoder.
        encoder_queue_size "encoderQueueSize": i32 = 0;
        /// Packets that wait to be packaged.
        pending_packet_size "pendingPacketSize": i32 = 0;
        /// Packets dropped at ingest.
        drop_packet_count_in_ingestion "dropPacketCountInIngestion": i32 = 0;
        /// Frames dropped before the encoder.
        drop_frame_count_in_encoding "dropFrameCountInEncoding": i32 = 0;
        /// Packets lost on the way in.
        packets_lost "packetsLost": i32 = 0;
        /// Jitter on the way in, ms.
        jitter_ms "jitterMs": i32 = 0;
        /// Round-trip time to the publisher, ms.
        rtt_ms "rttMs": i32 = 0;
        /// HLS viewers.
        hls_viewer_count "hlsViewerCount": i32 = 0;
        /// DASH viewers.
        dash_viewer_count "dashViewerCount": i32 = 0;
        /// WebRTC viewers.
        webrtc_viewer_count "webRTCViewerCount": i32 = 0;
        /// RTMP viewers.
        rtmp_viewer_count "rtmpViewerCount": i32 = 0;
    }
    ours {
        /// Whether a source is to be pulled: it was started, and not stopped since. Not in AMS, so it is left out when not set.
        source_started "sourceStarted": bool;
    }
}

impl Broadcast {
    /// Whether anybody watches it.
    pub fn anyone_watching(&self) -> bool {
        [self.hls_viewer_count, self.dash_viewer_count, self.webrtc_viewer_count, self.rtmp_viewer_count]
            .iter()
            .any(|n| *n > 0)
    }

    /// How it is shown to a reader at `now` (ms): one that claims to be live but was not heard of for
    /// [`STALE_AFTER_MS`] has terminated unexpectedly.
    #[must_use]
    pub fn as_seen_at(mut self, now: i64) -> Self {
        if self.is_stale_at(now) {
            self.status = Status::TerminatedUnexpectedly;
        }
        self
    }

    /// Whether its status says that it is live though nothing was heard of it for [`STALE_AFTER_MS`].
    pub fn is_stale_at(&self, now: i64) -> bool {
        self.status.is_live() && !self.is_virtual && now.saturating_sub(self.update_time) > STALE_AFTER_MS
    }

    /// Sets what only makes sense while it is live back to nothing: rates and viewers.
    pub fn clear_live(&mut self) {
        self.speed = 0.0;
        self.bitrate = 0;
        self.encoder_queue_size = 0;
        self.pending_packet_size = 0;
        self.hls_viewer_count = 0;
        self.dash_viewer_count = 0;
        self.webrtc_viewer_count = 0;
        self.rtmp_viewer_count = 0;
    }
}

impl BroadcastUpdate {
    /// Reads the JSON body of a create or update call. `anyoneWatching` is accepted and not looked at, so that
    /// what was read can be written back.
    ///
    /// # Errors
    /// The parser's words: not JSON, an unknown property, a value of the wrong type.
    pub fn from_json(body: &[u8]) -> serde_json::Result<Self> {
        // A map and nothing else: a struct would take an array, too.
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
        object.shift_remove("anyoneWatching");
        serde_json::from_value(object.into())
    }

    /// Without what the server itself measures or decides, so that somebody who writes back an older copy
    /// does not turn back the clock of a live stream.
    #[must_use]
    pub fn without_server_fields(self) -> Self {
        BroadcastUpdate {
            stream_id: None,
            status: None,
            play_list_status: None,
            publish_type: None,
            quality: None,
            remote_ip: None,
            user_agent: None,
            origin_address: None,
            rtmp_url: None,
            zombi: None,
            date: None,
            start_time: None,
            absolute_start_time_ms: None,
            update_time: None,
            duration: None,
            received_bytes: None,
            bitrate: None,
            speed: None,
            packet_lost_ratio: None,
            width: None,
            height: None,
            encoder_queue_size: None,
            pending_packet_size: None,
            drop_packet_count_in_ingestion: None,
            drop_frame_count_in_encoding: None,
            packets_lost: None,
            jitter_ms: None,
            rtt_ms: None,
            hls_viewer_count: None,
            dash_viewer_count: None,
            webrtc_viewer_count: None,
            rtmp_viewer_count: None,
            source_started: None,
            ..self
        }
    }
}

/// Whether `id` may be a stream id: letters, digits, `-`, `_`, `.`, at most 255 of them, and neither `.` nor `..`.
pub fn valid_stream_id(id: &str) -> bool {
    (1..=255).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && id != "."
        && id != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_ams_names_and_nulls() {
        let v = serde_json::to_value(Broadcast { stream_id: "a".into(), ..Default::default() }).unwrap();
        assert_eq!(v["streamId"], "a");
        assert_eq!(v["status"], "created");
        assert_eq!(v["type"], "liveStream");
        assert_eq!(v["webRTCViewerLimit"], -1);
        assert_eq!(v["expireDurationMS"], 0);
        assert_eq!(v["userAgent"], "N/A");
        assert!(v.as_object().unwrap().contains_key("originAdress") && v["originAdress"].is_null());
        assert!(v["hlsParameters"].is_null());
        assert_eq!(v["speed"], 0.0);
        assert!(
            v.get("sourceStarted").is_none(),
            "what AMS does not have is not shown where it says nothing"
        );
        let started = Broadcast { source_started: Some(true), ..Default::default() };
        assert_eq!(serde_json::to_value(started).unwrap()["sourceStarted"], true);
    }

    #[test]
    fn record_survives_json() {
        let b = Broadcast {
            stream_id: "x".into(),
            name: Some("Käse".into()),
            hls_parameters: Some(HlsParameters { hls_time: Some("4".into()), ..Default::default() }),
            end_point_list: Some(vec![Endpoint::default()]),
            ..Default::default()
        };
        let back: Broadcast = serde_json::from_slice(&serde_json::to_vec(&b).unwrap()).unwrap();
        assert_eq!(b, back);
    }

    #[test]
    fn unknown_properties_are_refused_and_nulls_ignored() {
        assert!(BroadcastUpdate::from_json(br#"{"nome":"x"}"#).is_err());
        assert!(BroadcastUpdate::from_json(br#"{"dbId":null}"#).is_err());
        assert!(BroadcastUpdate::from_json(b"[]").is_err());
        assert!(BroadcastUpdate::from_json(br#"{"endPointList":[{"what":1}]}"#).is_err());
        let mut b = Broadcast { name: Some("old".into()), ..Default::default() };
        b.apply(
            BroadcastUpdate::from_json(
                br#"{"name":null,"publish":null,"description":"d","anyoneWatching":true}"#,
            )
            .unwrap(),
        );
        assert_eq!((b.name.as_deref(), b.publish, b.description.as_deref()), (Some("old"), true, Some("d")));
    }

    #[test]
    fn a_whole_record_can_be_written_back() {
        let b = Broadcast { stream_id: "x".into(), status: Status::Broadcasting, ..Default::default() };
        let b = Broadcast { source_started: Some(true), ..b };
        let u = BroadcastUpdate::from_json(&serde_json::to_vec(&b).unwrap()).unwrap().without_server_fields();
        assert_eq!((u.status, u.bitrate, u.stream_id, u.source_started), (None, None, None, None));
        assert_eq!(u.kind.as_deref(), Some("liveStream"));
    }

    #[test]
    fn stale_streams_are_seen_as_terminated() {
        let b = Broadcast { status: Status::Broadcasting, update_time: 1_000, ..Default::default() };
        assert_eq!(b.clone().as_seen_at(21_000).status, Status::Broadcasting);
        assert_eq!(b.clone().as_seen_at(21_001).status, Status::TerminatedUnexpectedly);
        assert_eq!(Broadcast { is_virtual: true, ..b }.as_seen_at(99_000).status, Status::Broadcasting);
    }

    #[test]
    fn stream_ids() {
        for ok in ["a", "stream1", "a-b_c.d", &"x".repeat(255)] {
            assert!(valid_stream_id(ok), "{ok}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a?b", &"x".repeat(256)] {
            assert!(!valid_stream_id(bad), "{bad}");
        }
    }
}
