//! Log lines out of a stream of bytes, with Kubernetes' stamps, bounded.

use std::collections::VecDeque;

use futures_util::{AsyncBufRead, AsyncBufReadExt};
use jiff::Timestamp;

/// What is kept of one line; the rest is left out, with a mark.
const LONGEST: usize = 256 << 10;

/// A line of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// When, as Kubernetes writes it (RFC 3339).
    pub(crate) stamp: Option<String>,
    /// What.
    pub(crate) text: String,
}

impl Line {
    /// Takes the stamp off a line that was asked for with stamps.
    pub(crate) fn of(text: &str) -> Line {
        match text.split_once(' ') {
            Some((stamp, rest)) if stamp.parse::<Timestamp>().is_ok() => {
                Line { stamp: Some(stamp.into()), text: rest.into() }
            }
            // An empty line has a stamp and nothing behind it.
            None if text.parse::<Timestamp>().is_ok() => {
                Line { stamp: Some(text.into()), text: String::new() }
            }
            _ => Line { stamp: None, text: text.into() },
        }
    }
}

/// Whether a line is later than the last one that was seen. Without stamps it is: better twice than never.
pub(crate) fn is_after(stamp: Option<&str>, last: Option<&str>) -> bool {
    let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    match (time(stamp), time(last)) {
        (Some(stamp), Some(last)) => stamp > last,
        _ => true,
    }
}

/// Reads lines.
pub(crate) struct Lines<R> {
    from: R,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Reads from a log.
    pub(crate) fn new(from: R) -> Lines<R> {
        Lines { from }
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut cut = false;
        loop {
            let buffer = self.from.fill_buf().await?;
            if buffer.is_empty() {
                if bytes.is_empty() && !cut {
                    return Ok(None);
                }
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            let room = LONGEST.saturating_sub(bytes.len());
            cut |= piece.len() > room;
            bytes.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            let used = piece.len() + usize::from(end.is_some());
            self.from.consume_unpin(used);
            if end.is_some() {
                break;
            }
        }
        let mut line = Line::of(String::from_utf8_lossy(&bytes).trim_end_matches('\r'));
        if cut {
            line.text.push_str(" … (cut)");
        }
        Ok(Some(line))
    }
}

/// The last lines of a text, as many as fit.
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    most: usize,
    dropped: bool,
}

impl Tail {
    /// At most `most` bytes.
    pub(crate) fn new(most: usize) -> Tail {
        Tail { lines: VecDeque::new(), bytes: 0, most, dropped: false }
    }

    /// Takes a line; the oldest ones make room.
    pub(crate) fn push(&mut self, stamp: Option<&str>, text: &str) {
        let line = stamp.map_or_else(|| text.to_owned(), |stamp| format!("{stamp} {text}"));
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > self.most {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
            self.dropped = true;
        }
    }

    /// All as one text.
    pub(crate) fn into_text(self) -> String {
        let mut text = String::with_capacity(self.bytes + 32);
        if self.dropped {
            text.push_str("… (older lines left out)\n");
        }
        for line in self.lines {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use futures_util::io::{BufReader, Cursor};
    use proptest::prelude::*;

    use super::*;

    async fn all(bytes: Vec<u8>, buffer: usize) -> Vec<Line> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, Cursor::new(bytes)));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_come_with_their_stamps() {
        let log = b"2026-01-01T00:00:00.000000001Z first line\r\n2026-01-01T00:00:01Z\nno stamp here\n2026-01-01T00:00:02Z end";
        let lines = all(log.to_vec(), 7).await;
        assert_eq!(lines[0].stamp.as_deref(), Some("2026-01-01T00:00:00.000000001Z"));
        assert_eq!(lines[0].text, "first line");
        assert_eq!((lines[1].stamp.is_some(), lines[1].text.as_str()), (true, ""));
        assert_eq!(lines[2], Line { stamp: None, text: "no stamp here".into() });
        assert_eq!(lines[3].text, "end");
        assert_eq!(lines.len(), 4);
    }

    #[tokio::test]
    async fn a_line_without_end_takes_bounded_memory() {
        let mut log = vec![b'x'; 3 * LONGEST];
        log.extend_from_slice(b"\nnext\n");
        let lines = all(log, 8192).await;
        assert!(lines[0].text.len() < LONGEST + 32 && lines[0].text.ends_with("(cut)"));
        assert_eq!(lines[1].text, "next");
    }

    #[test]
    fn what_was_seen_is_left_out() {
        assert!(!is_after(Some("2026-01-01T00:00:00.5Z"), Some("2026-01-01T00:00:00.5Z")));
        assert!(is_after(Some("2026-01-01T00:00:00.50001Z"), Some("2026-01-01T00:00:00.5Z")));
        assert!(is_after(None, Some("2026-01-01T00:00:00Z")));
        assert!(is_after(Some("2026-01-01T00:00:00Z"), None));
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let mut tail = Tail::new(8);
        for line in ["aaa", "bbb", "ccc"] {
            tail.push(None, line);
        }
        assert_eq!(tail.into_text(), "… (older lines left out)\nbbb\nccc\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_the_end(bytes in prop::collection::vec(any::<u8>(), 0..300), buffer in 1..40usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let expected = bytes.split(|byte| *byte == b'\n').count() - usize::from(bytes.last().is_none_or(|last| *last == b'\n'));
            prop_assert_eq!(runtime.block_on(all(bytes, buffer)).len(), expected);
        }
    }
}
