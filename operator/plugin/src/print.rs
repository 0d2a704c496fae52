//! Writes results to the standard output and remarks to the standard error. A reader that goes away (`| head`) ends the program
//! quietly.

use std::io::Write;

use serde::Serialize;

use crate::failure::Failure;
use crate::table::printable;

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    written(writeln!(std::io::stdout().lock(), "{}", printable(text)))
}

/// Writes lines.
pub(crate) fn lines(lines: &[String]) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        written(writeln!(out, "{}", printable(line)))?;
    }
    written(out.flush())
}

/// Writes text as it is.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes JSON, indented.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Failure::Io { what: "write JSON".into(), source: error.into() })?;
    text.push(b'\n');
    raw(&text)
}

/// Says something that is not part of the result.
pub(crate) fn warn(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|source| Failure::Io { what: "write to the standard output".into(), source }),
    }
}
