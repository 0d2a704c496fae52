//! `GET /metrics`, in the text format of Prometheus (version 0.0.4).
//!
//! Values are read when somebody asks; labels are few and fixed, never a stream id.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};
use sluice_media::session::Protocol;
use sluice_store::{Timings, TimingsSnapshot};

use crate::cluster::NodeView;
use crate::machine::{self, CpuTimes, Memory};
use crate::reply::Failed;
use crate::state::{ApiState, millis};

pub(crate) async fn metrics(State(state): State<Arc<ApiState>>) -> Result<Response, Failed> {
    let text = TextEncoder::new()
        .encode_to_string(&families(&state).0)
        .map_err(|e| Failed::internal(format!("the metrics cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// A label and its value.
type Label = (&'static str, String);

/// The metrics as they are at this moment.
#[derive(Default)]
struct Exposition(Vec<MetricFamily>);

impl Exposition {
    fn counter(&mut self, name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) {
        self.family(name, help, MetricType::COUNTER, samples, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    fn gauge(&mut self, name: &str, help: &str, samples: Vec<(Vec<Label>, f64)>) {
        self.family(name, help, MetricType::GAUGE, samples, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    fn histogram(&mut self, name: &str, help: &str, times: &TimingsSnapshot) {
        self.family(name, help, MetricType::HISTOGRAM, vec![(vec![], 0.0)], |metric, _| {
            let buckets = Timings::BOUNDS.iter().zip(&times.cumulative).map(|(bound, n)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(*n);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(times.count);
            histogram.set_sample_sum(times.sum.as_secs_f64());
            metric.set_histogram(histogram);
        });
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: Vec<(Vec<Label>, f64)>,
        set: impl Fn(&mut Metric, f64),
    ) {
        let metrics = samples.into_iter().map(|(labels, value)| {
            let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
            set(&mut metric, value);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(format!("sluice_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.collect());
        self.0.push(family);
    }
}

fn pair((name, value): Label) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

/// The one sample of a metric without labels.
fn one(value: f64) -> Vec<(Vec<Label>, f64)> {
    vec![(vec![], value)]
}

/// A sample for each value of a label.
fn by(label: &'static str, values: Vec<(&'static str, u64)>) -> Vec<(Vec<Label>, f64)> {
    values.into_iter().map(|(value, n)| (vec![(label, value.to_owned())], n as f64)).collect()
}

fn families(state: &ApiState) -> Exposition {
    let mut out = Exposition::default();
    let build =
        vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("build", state.settings.build.clone())];
    out.gauge("build_info", "The version that runs, as labels.", vec![(build, 1.0)]);
    streams(&mut out, state);
    network(&mut out, state);
    store(&mut out, state);
    for counter in state.node.counters() {
        out.counter(counter.name, counter.help, one(counter.value as f64));
    }
    cluster(&mut out, state);
    process(&mut out, state);
    out
}

fn streams(out: &mut Exposition, state: &ApiState) {
    let streams = state.hub.streams();
    let live: Vec<_> = streams.iter().filter(|s| !s.is_ended()).collect();
    let relayed = live.iter().filter(|s| s.is_relayed()).count();
    out.gauge("streams", "Live streams published to this node.", one((live.len() - relayed) as f64));
    out.gauge("streams_relayed", "Live streams fetched from other nodes.", one(relayed as f64));
    let broken = live.iter().filter(|s| !s.is_relayed() && s.is_interrupted()).count() as f64;
    out.gauge("streams_interrupted", "Live streams whose publisher's connection is broken.", one(broken));
    let viewers = |p: Protocol| (p.name(), live.iter().map(|s| s.stats().viewers(p)).sum::<u64>());
    let viewers = vec![viewers(Protocol::Hls), viewers(Protocol::Rtmp), viewers(Protocol::WebRtc)];
    out.gauge("viewers", "Viewers on this node now.", by("protocol", viewers));
    let kept: u64 = live.iter().map(|s| s.bytes()).sum();
    out.gauge("media_kept_bytes", "Payload bytes kept for readers.", one(kept as f64));
    let t = state.sampler.totals(&streams);
    out.counter("streams_started_total", "Streams that went live.", one(t.streams as f64));
    out.counter("media_in_bytes_total", "Payload bytes received from publishers.", one(t.bytes_in as f64));
    out.counter("frames_in_total", "Frames received from publishers.", one(t.frames_in as f64));
    let dropped = one(t.frames_dropped as f64);
    out.counter("frames_dropped_total", "Received frames that could not be used.", dropped);
    let skipped = "Groups that readers left out because they were too slow.";
    out.counter("groups_skipped_total", skipped, one(t.groups_skipped as f64));
}

fn network(out: &mut Exposition, state: &ApiState) {
    let traffic = state.node.traffic();
    out.counter("received_bytes_total", "Bytes received on all ports.", one(traffic.bytes_in as f64));
    out.counter("sent_bytes_total", "Bytes sent on all ports.", one(traffic.bytes_out as f64));
    out.gauge("connections", "Open connections.", by("port", state.node.connections()));
    let refused = by("reason", state.node.refusals());
    out.counter("publishers_refused_total", "Publishers that were refused.", refused);
}

fn store(out: &mut Exposition, state: &ApiState) {
    let times = state.store.timings().snapshot();
    out.histogram("store_call_seconds", "How long calls to the store took, waiting included.", &times);
    let failed = one(times.failed as f64);
    out.counter("store_failures_total", "Calls that the store could not do.", failed);
}

fn cluster(out: &mut Exposition, state: &ApiState) {
    let accepting = state.node.ready().and(state.node.accepts()).is_ok();
    out.gauge("accepting", "1 while new sessions are let in.", one(f64::from(u8::from(accepting))));
    let Some(cluster) = &state.cluster else { return };
    let nodes = cluster.nodes();
    let are = |what: fn(&NodeView) -> bool| nodes.iter().filter(|n| what(n)).count() as u64;
    let members = vec![
        ("alive", are(|n| n.alive && n.reachable)),
        ("unreachable", are(|n| n.alive && !n.reachable)),
        ("dead", are(|n| !n.alive)),
    ];
    let help = "Members of the cluster; unreachable ones are heard of, but the link to them is broken.";
    out.gauge("cluster_members", help, by("state", members));
    let draining = one(are(|n| n.alive && n.draining) as f64);
    out.gauge("cluster_members_draining", "Members that take no new sessions.", draining);
    let away = cluster.health().store_away.map_or(0.0, |d| d.as_secs_f64());
    out.gauge("store_away_seconds", "For how long the store has not answered; 0 while it does.", one(away));
    for counter in cluster.counters() {
        out.counter(counter.name, counter.help, one(counter.value as f64));
    }
}

fn process(out: &mut Exposition, state: &ApiState) {
    let memory = Memory::read();
    let cpu = CpuTimes::read().process as f64 / 100.0;
    out.counter("process_cpu_seconds_total", "Processor time used, user and system.", one(cpu));
    let resident = one(memory.resident as f64);
    out.gauge("process_resident_memory_bytes", "Resident memory of the process.", resident);
    let size = one(memory.virtual_size as f64);
    out.gauge("process_virtual_memory_bytes", "Virtual memory of the process.", size);
    out.gauge("process_open_fds", "Open file descriptors.", one(machine::open_files() as f64));
    let start = millis(state.started.1) as f64 / 1000.0;
    out.gauge("process_start_time_seconds", "When the process started, since the epoch.", one(start));
}
