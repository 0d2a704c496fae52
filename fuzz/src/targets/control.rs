//! What a node tells the operator: a node may be broken, or not be what it was.

use sluice_control::{MAX_PROBLEMS, PROBLEM_CHARS, Report};

/// Parts of a report.
pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"node\":\"n\"",
    b"\"revision\":18446744073709551615",
    b"\"draining\":{\"by\":\"signal\",\"reason\":\"\"}",
    b"\"store\":{\"state\":\"away\",\"since_s\":1}",
    b"\"load\":{\"cpu_percent\":1e38}",
    b"\"problems\":[\"\",\"\"]",
    b"\"capacity\":{\"streams\":null}",
];

/// What is taken is bounded, and the same when it is written and read again.
pub(crate) fn report(data: &[u8]) {
    let Ok(report) = Report::parse(data) else { return };
    assert!(report.problems.len() <= MAX_PROBLEMS);
    let reason = report.draining.iter().map(|draining| &draining.reason);
    for text in report.problems.iter().chain(reason) {
        assert!(text.chars().count() <= PROBLEM_CHARS && !text.contains(char::is_control));
    }
    let again = serde_json::to_vec(&report).expect("a report can be written");
    assert_eq!(Report::parse(&again).expect("and read again"), report);
}
