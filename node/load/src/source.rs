//! What is published: messages to be sent once, then messages that are repeated for ever.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use sluice_rtmp::amf0::{self, Value};
use sluice_rtmp::flv::{Audio, Video, parse_audio, parse_video};

use crate::cli::SourceOptions;
use crate::error::Error;
use crate::flv::{self, Kind, Tag};
use crate::synthetic;

/// A file is kept in memory, so there is a limit to it.
const MAX_FILE: u64 = 1 << 30;

/// A stream to be published.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// `onMetaData`.
    pub(crate) metadata: Vec<(String, Value)>,
    /// Codec configurations.
    pub(crate) head: Vec<Message>,
    /// In the order of their times, which are those since the beginning of the loop.
    pub(crate) body: Vec<Message>,
    /// How long the loop is, in milliseconds.
    pub(crate) length: u64,
    /// Length of the length field of H.264 NAL units; nothing when the video cannot be stamped.
    pub(crate) stampable: Option<u8>,
}

/// A message of a source.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Milliseconds since the beginning of the loop.
    pub(crate) time: u64,
    pub(crate) video: bool,
    pub(crate) body: Bytes,
}

/// Length of what stands before the NAL units in a classic video message.
pub(crate) const VIDEO_HEADER: usize = 5;

impl Source {
    pub(crate) fn open(options: &SourceOptions) -> Result<Self, Error> {
        match &options.file {
            Some(path) => Source::read(path),
            None => Ok(synthetic::source(options.kbps)),
        }
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let file = |e| Error::File(path.to_owned(), e);
        if fs::metadata(path).map_err(file)?.len() > MAX_FILE {
            return Err(Error::Source(path.to_owned(), format!("it is larger than {MAX_FILE} bytes")));
        }
        let data = Bytes::from(fs::read(path).map_err(file)?);
        flv::tags(data).and_then(Source::from_tags).map_err(|why| Error::Source(path.to_owned(), why))
    }

    /// Makes a loop of tags, as long as their pictures last.
    pub(crate) fn from_tags(tags: Vec<Tag>) -> Result<Self, String> {
        let mut source =
            Source { metadata: Vec::new(), head: Vec::new(), body: Vec::new(), length: 0, stampable: None };
        for tag in tags {
            let message =
                Message { time: tag.timestamp.into(), video: tag.kind == Kind::Video, body: tag.body };
            match tag.kind {
                Kind::Script => {
                    if let Ok(values) = amf0::decode(&message.body)
                        && let Some(Value::Object(p) | Value::EcmaArray(p)) = values.into_iter().nth(1)
                    {
                        source.metadata = p;
                    }
                }
                Kind::Video => match parse_video(message.body.clone()).map_err(|e| e.to_string())? {
                    Video::Config { record, .. } => {
                        let classic_h264 = message.body.first() == Some(&0x17);
                        source.stampable = record.get(4).filter(|_| classic_h264).map(|b| (b & 3) + 1);
                        source.head.push(message);
                    }
                    Video::Frame { .. } => source.body.push(message),
                    Video::End | Video::Nothing => {}
                },
                Kind::Audio => match parse_audio(message.body.clone()).map_err(|e| e.to_string())? {
                    Audio::Config { .. } => source.head.push(message),
                    Audio::Frame { .. } => source.body.push(message),
                    Audio::End | Audio::Nothing => {}
                },
            }
        }
        source.body.sort_by_key(|m| m.time);
        let first = source.body.first().map_or(0, |m| m.time);
        source.body.iter_mut().for_each(|m| m.time -= first);
        source.head.iter_mut().for_each(|m| m.time = 0);
        let has_video = source.body.iter().any(|m| m.video);
        let times: Vec<u64> = source.body.iter().filter(|m| m.video == has_video).map(|m| m.time).collect();
        let [start, .., end] = times[..] else { return Err("it has fewer than two frames".into()) };
        // The last frame lasts as long as the others do on average.
        let count = times.len() as u64;
        source.length = start + ((end - start) * count + (count - 1) / 2) / (count - 1);
        source.length = source.length.max(end + 1);
        source.body.retain(|m| m.time < source.length);
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: Kind, timestamp: u32, body: &'static [u8]) -> Tag {
        Tag { kind, timestamp, body: Bytes::from_static(body) }
    }

    #[test]
    fn a_loop_is_as_long_as_its_pictures() {
        let source = Source::from_tags(vec![
            tag(Kind::Video, 0, b"\x17\0\0\0\0\x01\x42\0\x1e\xff\xe0\0"),
            tag(Kind::Audio, 0, b"\xaf\0\x12\x10"),
            tag(Kind::Video, 100, b"\x17\x01\0\0\0nal"),
            tag(Kind::Audio, 110, b"\xaf\x01aac"),
            tag(Kind::Video, 140, b"\x27\x01\0\0\0nal"),
            tag(Kind::Video, 180, b"\x27\x01\0\0\0nal"),
            tag(Kind::Audio, 190, b"\xaf\x01aac"),
            tag(Kind::Audio, 225, b"\xaf\x01aac"),
        ])
        .unwrap();
        assert_eq!((source.head.len(), source.length, source.stampable), (2, 120, Some(4)));
        let times: Vec<_> = source.body.iter().map(|m| (m.time, m.video)).collect();
        assert_eq!(times, [(0, true), (10, false), (40, true), (80, true), (90, false)]);
    }

    #[test]
    fn sound_alone_will_do() {
        let source = Source::from_tags(vec![
            tag(Kind::Audio, 0, b"\xaf\x01a"),
            tag(Kind::Audio, 20, b"\xaf\x01a"),
            tag(Kind::Audio, 40, b"\xaf\x01a"),
        ])
        .unwrap();
        assert_eq!((source.length, source.stampable), (60, None));
        assert!(Source::from_tags(vec![]).is_err());
        assert!(Source::from_tags(vec![tag(Kind::Video, 0, b"\x22\x01")]).is_err());
    }
}
