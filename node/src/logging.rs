//! Log lines to standard error, as text or JSON. Spans carry `stream` and `peer`, so that each line says whose it is.
//!
//! Lines are written by a thread of their own: a full pipe behind standard error must not stop the media path.
//! When that thread cannot keep up, lines are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::config::LogFormat;
use crate::exit::{Exit, Failure};

/// How many lines may wait for the thread that writes them.
const QUEUE: usize = 4096;

/// Changes which lines are written, from now on; false when the text is no filter.
pub type SetFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Keeps logging alive; what waits is written when it is dropped.
pub struct Logging {
    set: SetFilter,
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter is not one (which [`Config`](crate::config::Config) rules out), logging was started before, or
/// the system gives no thread.
pub fn start(filter: &str, format: LogFormat) -> Result<Logging, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::new(Exit::System, format!("cannot start logging: {error}"));
    let (sender, receiver) = sync_channel(QUEUE);
    let lines = Lines { sender, dropped: Arc::default() };
    let dropped = lines.dropped.clone();
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&receiver, &dropped, &mut io::stderr()))
        .map_err(|error| wrong(&error))?;

    let filter = filter_of(filter).map_err(|error| wrong(&error))?;
    let (filter, handle) = reload::Layer::new(filter);
    let writer = lines.clone();
    let layer = match format {
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(writer).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_current_span(true)
            .with_writer(writer)
            .boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|error| wrong(&error))?;
    let set =
        Arc::new(move |filter: &str| filter_of(filter).is_ok_and(|filter| handle.reload(filter).is_ok()));
    Ok(Logging { set, lines, thread: Some(thread) })
}

/// Libraries that warn of whatever strangers send them: of theirs only errors are written, unless the filter names them.
const PROVOKED: [&str; 9] = [
    "rtc_crypto",
    "rtc_datachannel",
    "rtc_dtls",
    "rtc_ice",
    "rtc_rtcp",
    "rtc_rtp",
    "rtc_sctp",
    "rtc_shared",
    "rtc_stun",
];

/// The filter that is used for what was asked for.
fn filter_of(asked: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    // Alone, so that what follows cannot mend it.
    let filter = EnvFilter::try_new(asked)?;
    if filter.max_level_hint() == Some(LevelFilter::OFF) {
        return Ok(filter);
    }
    // Where a directive for the same target follows, that one counts.
    let quiet: String = PROVOKED.iter().map(|library| format!("{library}=error,")).collect();
    EnvFilter::try_new(format!("{quiet}{asked}"))
}

impl Logging {
    /// What changes the filter, for as long as the process lives.
    #[must_use]
    pub fn set_filter(&self) -> SetFilter {
        self.set.clone()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // The subscriber holds a sender for ever, so the end is a message. A pipe that nobody reads must not
        // keep the process: what cannot be written soon is left.
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut end = Message::End;
        while let Err(std::sync::mpsc::TrySendError::Full(back)) = self.lines.sender.try_send(end) {
            end = back;
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

enum Message {
    Line(Vec<u8>),
    End,
}

#[derive(Clone)]
struct Lines {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// One line under way: `tracing` writes each event with one `write_all`, but nothing depends on that.
struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.lines.sender.try_send(Message::Line(line)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(lines: &Receiver<Message>, dropped: &AtomicU64, out: &mut dyn Write) {
    while let Ok(Message::Line(line)) = lines.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} log lines were dropped because standard error did not take them");
        }
        // Standard error may be closed: there is nowhere to say so.
        let _ = out.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_warn_only_when_they_are_asked_to() {
        for (asked, warns, errs) in [
            ("info", false, true),
            ("debug,sluice_rtc=trace", false, true),
            ("info,rtc_dtls=warn", true, true),
            ("rtc_dtls::state=info", true, true),
            ("off", false, false),
            ("error", false, true),
        ] {
            let subscriber = tracing_subscriber::registry().with(filter_of(asked).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                let on = |level| match level {
                    tracing::Level::WARN => {
                        tracing::enabled!(target: "rtc_dtls::state", tracing::Level::WARN)
                    }
                    _ => tracing::enabled!(target: "rtc_dtls::state", tracing::Level::ERROR),
                };
                assert_eq!((on(tracing::Level::WARN), on(tracing::Level::ERROR)), (warns, errs), "{asked}");
            });
        }
        assert!(filter_of("=,=").is_err() && filter_of("info,a=b=c").is_err());
    }

    #[test]
    fn lines_that_do_not_fit_are_counted_and_said() {
        let (sender, receiver) = sync_channel(1);
        let lines = Lines { sender, dropped: Arc::default() };
        for text in ["first\n", "second\n", "third\n"] {
            lines.make_writer().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 2);
        let dropped = lines.dropped.clone();
        drop(lines);
        let mut out = Vec::new();
        write_lines(&receiver, &dropped, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("2 log lines were dropped") && text.ends_with("first\n"), "{text}");
    }
}
