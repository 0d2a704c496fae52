//! `GET /metrics`, in the text format of Prometheus (version 0.0.4).
//!
//! Values are read when somebody asks; labels are few and fixed, never a stream id.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use sluice_media::session::Protocol;
use sluice_store::Timings;

use crate::machine::{self, CpuTimes, Memory};
use crate::state::{ApiState, millis};

pub(crate) async fn metrics(State(state): State<Arc<ApiState>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&state)).into_response()
}

/// Builds the text.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    /// One metric with its samples: labels, written out, and a value each.
    fn add(&mut self, kind: &str, name: &str, help: &str, samples: &[(String, f64)]) {
        self.head(kind, name, help);
        for (labels, value) in samples {
            self.line(name, labels, *value);
        }
    }

    fn one(&mut self, kind: &str, name: &str, help: &str, value: f64) {
        self.add(kind, name, help, &[(String::new(), value)]);
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP sluice_{name} {help}\n# TYPE sluice_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "sluice_{name} {value}")
        } else {
            writeln!(self.0, "sluice_{name}{{{labels}}} {value}")
        };
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn render(state: &ApiState) -> String {
    let mut out = Exposition::default();
    let version =
        [label("version", env!("CARGO_PKG_VERSION")), label("build", &state.settings.build)].join(",");
    out.add("gauge", "build_info", "The version that runs, as labels.", &[(version, 1.0)]);
    streams(&mut out, state);
    network(&mut out, state);
    store(&mut out, state);
    process(&mut out, state);
    out.0
}

fn streams(out: &mut Exposition, state: &ApiState) {
    let streams = state.hub.streams();
    let live: Vec<_> = streams.iter().filter(|s| !s.is_ended()).collect();
    out.one("gauge", "streams", "Live streams.", live.len() as f64);
    let broken = live.iter().filter(|s| s.is_interrupted()).count();
    out.one(
        "gauge",
        "streams_interrupted",
        "Live streams whose publisher's connection is broken.",
        broken as f64,
    );
    let viewers = |p: Protocol| live.iter().map(|s| s.stats().viewers(p)).sum::<u64>() as f64;
    out.add(
        "gauge",
        "viewers",
        "Viewers now.",
        &[
            (label("protocol", "hls"), viewers(Protocol::Hls)),
            (label("protocol", "rtmp"), viewers(Protocol::Rtmp)),
        ],
    );
    let kept: u64 = live.iter().map(|s| s.bytes()).sum();
    out.one("gauge", "media_kept_bytes", "Payload bytes kept for readers.", kept as f64);
    let t = state.sampler.totals(&streams);
    out.one("counter", "streams_started_total", "Streams that went live.", t.streams as f64);
    out.one("counter", "media_in_bytes_total", "Payload bytes received from publishers.", t.bytes_in as f64);
    out.one("counter", "frames_in_total", "Frames received from publishers.", t.frames_in as f64);
    out.one(
        "counter",
        "frames_dropped_total",
        "Received frames that could not be used.",
        t.frames_dropped as f64,
    );
    let skipped = "Groups that readers left out because they were too slow.";
    out.one("counter", "groups_skipped_total", skipped, t.groups_skipped as f64);
}

fn network(out: &mut Exposition, state: &ApiState) {
    let traffic = state.node.traffic();
    out.one("counter", "received_bytes_total", "Bytes received on all ports.", traffic.bytes_in as f64);
    out.one("counter", "sent_bytes_total", "Bytes sent on all ports.", traffic.bytes_out as f64);
    let labelled = |name: &str, values: Vec<(&'static str, u64)>| -> Vec<(String, f64)> {
        values.into_iter().map(|(value, n)| (label(name, value), n as f64)).collect()
    };
    out.add("gauge", "connections", "Open connections.", &labelled("port", state.node.connections()));
    let refused = labelled("reason", state.node.refusals());
    out.add("counter", "publishers_refused_total", "Publishers that were refused.", &refused);
}

fn store(out: &mut Exposition, state: &ApiState) {
    let times = state.store.timings().snapshot();
    let name = "store_call_seconds";
    out.head("histogram", name, "How long calls to the store took, waiting included.");
    for (bound, n) in Timings::BOUNDS.iter().zip(&times.cumulative) {
        out.line("store_call_seconds_bucket", &label("le", &bound.to_string()), *n as f64);
    }
    out.line("store_call_seconds_bucket", &label("le", "+Inf"), times.count as f64);
    out.line("store_call_seconds_sum", "", times.sum.as_secs_f64());
    out.line("store_call_seconds_count", "", times.count as f64);
    out.one("counter", "store_failures_total", "Calls that the store could not do.", times.failed as f64);
}

fn process(out: &mut Exposition, state: &ApiState) {
    let memory = Memory::read();
    let cpu = CpuTimes::read().process as f64 / 100.0;
    out.one("counter", "process_cpu_seconds_total", "Processor time used, user and system.", cpu);
    let resident = memory.resident as f64;
    out.one("gauge", "process_resident_memory_bytes", "Resident memory of the process.", resident);
    let size = memory.virtual_size as f64;
    out.one("gauge", "process_virtual_memory_bytes", "Virtual memory of the process.", size);
    out.one("gauge", "process_open_fds", "Open file descriptors.", machine::open_files() as f64);
    let start = millis(state.started.1) as f64 / 1000.0;
    out.one("gauge", "process_start_time_seconds", "When the process started, since the epoch.", start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format() {
        let mut out = Exposition::default();
        out.add("gauge", "x", "An x.", &[(label("a", "b\"\\"), 1.5), (String::new(), 12_345_678_901_234.0)]);
        let text = "# HELP sluice_x An x.\n# TYPE sluice_x gauge\nsluice_x{a=\"b\\\"\\\\\"} 1.5\nsluice_x 12345678901234\n";
        assert_eq!(out.0, text);
    }
}
