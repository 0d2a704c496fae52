//! Many logs in the order of time. Each is in its own order already, so the earliest of the first lines is always the next.

use jiff::Timestamp;

use super::read::Line;

#[derive(Debug)]
enum Head {
    /// A line must be read first.
    Wanted,
    /// The next line, and its time: its own, or that of the line before it.
    Line(Timestamp, Line),
    /// There are no more.
    Ended,
}

/// Puts logs together. Every log must have given its next line, or have ended, before [`Merge::take`].
#[derive(Debug)]
pub(super) struct Merge {
    heads: Vec<(Timestamp, Head)>,
}

impl Merge {
    pub(super) fn new(logs: usize) -> Merge {
        Merge { heads: (0..logs).map(|_| (Timestamp::MIN, Head::Wanted)).collect() }
    }

    /// Whether a log's next line is needed.
    pub(super) fn wants(&self, log: usize) -> bool {
        matches!(self.heads.get(log), Some((_, Head::Wanted)))
    }

    /// The next line of a log. One without a time stays with the line before it.
    pub(super) fn put(&mut self, log: usize, line: Line) {
        if let Some((last, head)) = self.heads.get_mut(log) {
            let time = line.stamp.as_deref().and_then(|stamp| stamp.parse().ok()).unwrap_or(*last);
            *last = time;
            *head = Head::Line(time, line);
        }
    }

    /// A log has no more lines.
    pub(super) fn end(&mut self, log: usize) {
        if let Some((_, head)) = self.heads.get_mut(log) {
            *head = Head::Ended;
        }
    }

    /// The earliest line and its log; `None` when all have ended.
    pub(super) fn take(&mut self) -> Option<(usize, Line)> {
        let (log, _) = self
            .heads
            .iter()
            .enumerate()
            .filter_map(|(log, (_, head))| match head {
                Head::Line(time, _) => Some((log, *time)),
                Head::Wanted | Head::Ended => None,
            })
            .min_by_key(|(log, time)| (*time, *log))?;
        match std::mem::replace(&mut self.heads.get_mut(log)?.1, Head::Wanted) {
            Head::Line(_, line) => Some((log, line)),
            Head::Wanted | Head::Ended => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(logs: &[Vec<Line>]) -> Vec<(usize, Line)> {
        let mut left: Vec<_> = logs.iter().map(|log| log.iter().cloned()).collect();
        let mut merge = Merge::new(logs.len());
        let mut out = Vec::new();
        loop {
            for (index, log) in left.iter_mut().enumerate() {
                if merge.wants(index) {
                    match log.next() {
                        Some(line) => merge.put(index, line),
                        None => merge.end(index),
                    }
                }
            }
            match merge.take() {
                Some(next) => out.push(next),
                None => return out,
            }
        }
    }

    fn line(second: u8, text: &str) -> Line {
        Line { stamp: Some(format!("2026-01-01T00:00:{second:02}Z")), text: text.into() }
    }

    #[test]
    fn lines_without_a_time_stay_with_the_one_before() {
        let panic = vec![line(5, "panicked"), Line { stamp: None, text: "backtrace".into() }];
        let other = vec![line(4, "a"), line(5, "b"), line(6, "c")];
        let texts: Vec<String> = merged(&[panic, other]).into_iter().map(|(_, line)| line.text).collect();
        assert_eq!(texts, ["a", "panicked", "backtrace", "b", "c"]);
        assert!(merged(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_time_does_not_go_back(
            mut logs in prop::collection::vec(prop::collection::vec(0..60u8, 0..8), 0..5),
        ) {
            for log in &mut logs {
                log.sort_unstable();
            }
            let logs: Vec<Vec<Line>> =
                logs.iter().map(|log| log.iter().map(|second| line(*second, "x")).collect()).collect();
            let out = merged(&logs);
            prop_assert_eq!(out.len(), logs.iter().map(Vec::len).sum::<usize>());
            let stamps: Vec<_> = out.iter().map(|(_, line)| line.stamp.clone()).collect();
            prop_assert!(stamps.is_sorted());
            for (index, log) in logs.iter().enumerate() {
                let of_log: Vec<Line> = out.iter().filter(|(from, _)| *from == index).map(|(_, line)| line.clone()).collect();
                prop_assert_eq!(&of_log, log);
            }
        }
    }
}
