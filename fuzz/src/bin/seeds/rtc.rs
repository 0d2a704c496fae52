//! What comes over WebRTC. Session descriptions and signalling are texts, and kept as such in the corpus.

use std::io;

use crate::put;

pub(crate) fn write() -> io::Result<()> {
    published()?;
    feedback()?;
    unproven()
}

/// A publisher over WebRTC as `rtc_rtp` takes it: a picture in two packets of each codec, with its sound and its reports.
fn published() -> io::Result<()> {
    /// Parameter sets in a STAP-A, written by x264.
    const SETS: &[u8] =
        b"\x78\x00\x18\x67\x42\xc0\x0d\xd9\x01\x51\x9e\x22\x6c\x04\x40\x00\x00\x03\x00\x40\x00\x00\x0c\x83\xc5\x0a\x92\x00\x05\x68\xcb\x83\xcb\x20";
    const PICTURES: [(&str, [&[u8]; 2]); 5] = [
        ("h264", [SETS, &[0x65, 0x88, 0x84]]),
        ("hevc", [&[0x60, 1, 0, 3, 0x40, 1, 7, 0, 3, 0x44, 1, 8], &[0x26, 1, 0x80, 9]]),
        ("vp8", [&[0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0], &[0, 7, 7]]),
        ("vp9", [&[0x08, 0x82, 0x49, 0x83, 0x42, 0, 0x77, 0xf0, 0x43, 0x76, 0x06], &[0x04, 0x38]]),
        (
            "av1",
            [&[0x18, 0x0a, 11, 0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0, 0xbe, 0, 0x10], &[0x10, 0x30, 0x10, 0x20]],
        ),
    ];
    for (i, (name, parts)) in (0u8..).zip(PICTURES) {
        let mut out = Vec::new();
        let mut datagram = |ms: u8, bytes: &[u8]| {
            out.push(ms);
            out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        // The layer `h` of a simulcast, and a packet that is left out and comes again.
        for (n, part) in (0u8..).zip(parts.iter().cycle().take(8)) {
            let (marker, time) = ((n % 2) << 7, n / 2 * 40);
            let head = [0x90, marker | (96 + 2 * i), 0, n, 0, 0, time, 0, 0, 0, 0, 9];
            let names = [0xbe, 0xde, 0, 3, 0x40, b'v', 0xa0, b'h', 0x51, 0, n, 0, 0, 0, 0, 0];
            if n == 5 {
                let again = [0x90, marker | (97 + 2 * i), 0, 0, 0, 0, time, 0, 0, 0, 0, 8];
                let names = [0xbe, 0xde, 0, 1, 0x40, b'v', 0xb0, b'h'];
                datagram(30, &[&again[..], &names, &[0, n], part].concat());
            } else {
                datagram(20, &[&head[..], &names, part].concat());
            }
            datagram(0, &[0x80, 111, 0, n, 0, 0, n * 7, 0x80, 0, 0, 0, 2, 0xfc, n]);
        }
        for ssrc in [9, 2] {
            let report = [
                0x80, 200, 0, 6, 0, 0, 0, ssrc, 0xe0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1,
            ];
            datagram(10, &report);
            put("rtc_rtcp", "report", &report)?;
        }
        let bye = [0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 203, 0, 1, 0, 0, 0, 9];
        datagram(255, &bye);
        put("rtc_rtcp", "bye", &bye)?;
        put("rtc_rtp", name, &out)?;
    }
    Ok(())
}

/// Each kind of feedback of a viewer as `rtc_rtcp_egress` takes it: about the stream 1, from a viewer who is 9.
fn feedback() -> io::Result<()> {
    let receiver_report: &[u8] = &[
        0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 12, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let nack: &[u8] = &[0x81, 205, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 2, 0, 5];
    let pli: &[u8] = &[0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1];
    let fir: &[u8] = &[0x84, 206, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0];
    // 1 Mbit/s for the stream 1.
    let remb: &[u8] =
        &[0x8f, 206, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0b, 0xd0, 0x90, 0, 0, 0, 1];
    // Seven packets arrived, the first at the reference time and each of the others 4 ms after the one before.
    let arrivals: &[u8] = &[
        0x8f, 205, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 1, 0, 0x20, 7, 0, 16, 16, 16, 16, 16, 16,
        0, 0, 0,
    ];
    let all = [
        ("receiver_report", receiver_report),
        ("nack", nack),
        ("pli", pli),
        ("fir", fir),
        ("remb", remb),
        ("arrivals", arrivals),
    ];
    for (name, packet) in all {
        put("rtc_rtcp_egress", name, packet)?;
    }
    put("rtc_rtcp_egress", "compound", &[receiver_report, nack, remb, arrivals].concat())
}

/// What somebody sends who does not know the password: a STUN request, DTLS records, and frames of ICE over TCP.
fn unproven() -> io::Result<()> {
    // A binding request of `client` to `server` with USE-CANDIDATE; nothing proves it.
    let mut request = vec![0, 1, 0, 24, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(&[0; 12]);
    request.extend_from_slice(b"\0\x06\0\x0dserver:client\0\0\0\0\x25\0\0");
    put("rtc_stun", "request", &request)?;

    let handshake = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16];
    let fragment = [1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    let change_cipher = [20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1];
    put("rtc_peer", "records", &[&handshake[..], &fragment, &change_cipher].concat())?;

    let mut frames = vec![0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    frames.extend_from_slice(&[0; 12]);
    // A second one, and half of the length of a third.
    frames.extend_from_slice(b"\0\x03abc\x01\0");
    put("rtc_tcp_frames", "two", &frames)
}
