//! The targets, by what they feed.

mod cluster;
mod codec;
mod control;
mod metrics;
mod relay;
mod replica;
mod rtc;
mod rtmp;
mod session;
mod stream;
mod time;

use crate::target::{Budget, Target};

const KIB: usize = 1 << 10;

/// What a target needs unless it says otherwise: a few buffers, and some copies of the input.
const MODEST: Budget = Budget { fixed: 16 * KIB, per_byte: 16 };

/// A value of AMF0 may be a single byte, so what counts is how many there may be in a message.
const VALUES: Budget = Budget { fixed: 768 * KIB, per_byte: 16 };

/// Each piece of a text becomes a text of its own, and a byte that is not UTF-8 becomes three, which the target encodes
/// in nine.
const TEXTS: Budget = Budget { fixed: 64 * KIB, per_byte: 64 };

const PLAIN: Target = Target { name: "", run: |_| {}, memory: MODEST, also: &[], words: &[] };

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "rtmp_handshake",
        run: rtmp::handshake,
        words: &[&[3], &[9, 0, 124, 2], &[0, 0, 0, 0]],
        ..PLAIN
    },
    Target {
        name: "rtmp_chunks",
        run: rtmp::chunks,
        // A chunk stream may hold 64 KiB for a message that has only begun; there may be 32.
        memory: Budget { fixed: 5 << 20, per_byte: 64 },
        also: &["rtmp_session", "rtmp_client"],
        words: rtmp::CHUNK_WORDS,
    },
    Target { name: "rtmp_amf0", run: rtmp::amf0, memory: VALUES, words: rtmp::AMF_WORDS, ..PLAIN },
    Target { name: "rtmp_message", run: rtmp::message, memory: VALUES, words: rtmp::AMF_WORDS, ..PLAIN },
    Target { name: "rtmp_tag", run: rtmp::tag, words: rtmp::TAG_WORDS, ..PLAIN },
    Target {
        name: "rtmp_aggregate",
        run: rtmp::aggregates,
        // A tag of 11 bytes and its back pointer of 4 becomes a message of 48.
        memory: Budget { fixed: 4 * KIB, per_byte: 8 },
        words: &[&[8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12], &[22, 0, 0, 30]],
        ..PLAIN
    },
    Target { name: "rtmp_target", run: rtmp::target, memory: TEXTS, words: rtmp::URL_WORDS, ..PLAIN },
    Target {
        name: "rtmp_session",
        run: session::server,
        memory: Budget { fixed: 5 << 20, per_byte: 64 },
        words: rtmp::AMF_WORDS,
        ..PLAIN
    },
    Target {
        name: "rtmp_client",
        run: session::client,
        memory: Budget { fixed: 5 << 20, per_byte: 64 },
        words: rtmp::AMF_WORDS,
        ..PLAIN
    },
    Target { name: "codec_avcc", run: codec::avcc, ..PLAIN },
    Target { name: "codec_hvcc", run: codec::hvcc, ..PLAIN },
    Target { name: "codec_av1c", run: codec::av1c, ..PLAIN },
    Target { name: "codec_vpcc", run: codec::vpcc, words: &[&[1, 0, 0, 0]], ..PLAIN },
    Target { name: "codec_asc", run: codec::asc, words: &[&[0x2b, 0x70], &[0xf8]], ..PLAIN },
    Target { name: "codec_opus", run: codec::opus, words: &[b"OpusHead"], ..PLAIN },
    Target { name: "codec_mp3", run: codec::mp3, words: &[&[0xff, 0xfb]], ..PLAIN },
    Target {
        name: "codec_nal",
        run: codec::nal,
        words: &[&[0, 0, 1], &[0, 0, 0, 1], &[0, 0, 3], &[0, 0, 0, 2, 0x67, 0x42], &[0x65], &[0x42, 1]],
        ..PLAIN
    },
    Target { name: "codec_av1", run: codec::av1, words: &[&[0x12, 0], &[0x0a, 0x0b], &[0x32]], ..PLAIN },
    Target { name: "codec_vpx", run: codec::vpx, words: &[&[0x9d, 1, 0x2a], &[0x49, 0x83, 0x42]], ..PLAIN },
    Target { name: "timeline", run: time::timeline, ..PLAIN },
    Target {
        name: "hls_stream",
        run: stream::stream,
        memory: Budget { fixed: 4 << 20, per_byte: 256 },
        words: stream::MESSAGE_WORDS,
        ..PLAIN
    },
    Target {
        name: "hls_request",
        run: stream::request,
        memory: Budget { fixed: 2 << 20, per_byte: 64 },
        words: stream::REQUEST_WORDS,
        ..PLAIN
    },
    Target {
        name: "relay_wire",
        run: relay::wire,
        // A payload that is announced gets its memory ahead, up to 1 MiB.
        memory: Budget { fixed: 5 << 20, per_byte: 256 },
        also: &["relay_asker", "relay_source"],
        words: relay::WORDS,
    },
    Target {
        name: "relay_asker",
        run: relay::asker,
        memory: Budget { fixed: 6 << 20, per_byte: 256 },
        also: &["relay_wire"],
        words: relay::WORDS,
    },
    Target {
        name: "relay_source",
        run: relay::source,
        memory: Budget { fixed: 8 << 20, per_byte: 512 },
        also: &["relay_wire"],
        words: relay::WORDS,
    },
    Target { name: "cluster_datagram", run: cluster::datagram, words: &[b"SLMC\x01"], ..PLAIN },
    Target {
        name: "control_report",
        run: control::report,
        // A problem of one byte is a text of its own before they are cut, and JSON is written again.
        memory: Budget { fixed: 64 * KIB, per_byte: 64 },
        words: control::WORDS,
        ..PLAIN
    },
    Target {
        name: "custom_metrics_path",
        run: metrics::path,
        // Each segment of a path, and each value of a selector, is a text of its own.
        memory: TEXTS,
        words: metrics::WORDS,
        ..PLAIN
    },
    Target {
        name: "cluster_mesh",
        run: cluster::mesh,
        memory: Budget { fixed: 256 * KIB, per_byte: 256 },
        words: cluster::MESH_WORDS,
        ..PLAIN
    },
    Target {
        name: "cluster_replica",
        run: replica::bodies,
        // A byte or two may be a record that is refused with a reason.
        memory: Budget { fixed: 512 * KIB, per_byte: 1024 },
        words: replica::WORDS,
        ..PLAIN
    },
    Target {
        name: "rtc_rtp",
        run: rtc::rtp,
        // A source may wait for 2,048 packets that are missing; there may be 32.
        memory: Budget { fixed: 16 << 20, per_byte: 256 },
        words: rtc::WORDS,
        ..PLAIN
    },
    Target { name: "rtc_rtcp", run: rtc::rtcp, words: rtc::WORDS, ..PLAIN },
];
