//! The view as a tree of lines.

use jiff::Timestamp;
use sluice_crds::cluster::Endpoint;

use super::view::{ClusterView, PodView, PoolView, View};
use crate::duration::short;
use crate::streams::Stream;
use crate::table::{self, Column};

const NARROW: &[Column] = &[
    Column::Always("NAME"),
    Column::Always("STATE"),
    Column::Always("READY"),
    Column::WhenUsed("DRAINING"),
    Column::Always("STREAMS"),
    Column::Always("VIEWERS"),
    Column::WhenUsed("VERSION"),
    Column::WhenUsed("REVISION"),
    Column::WhenUsed("MACHINE"),
    Column::WhenUsed("ENDS IN"),
    Column::WhenUsed("MESSAGE"),
];

const WIDE: &[Column] = &[
    Column::Always("NAME"),
    Column::Always("STATE"),
    Column::Always("READY"),
    Column::WhenUsed("DRAINING"),
    Column::Always("STREAMS"),
    Column::Always("VIEWERS"),
    Column::WhenUsed("VERSION"),
    Column::WhenUsed("REVISION"),
    Column::WhenUsed("MACHINE"),
    Column::WhenUsed("ENDS IN"),
    Column::Always("AGE"),
    Column::WhenUsed("RESTARTS"),
    Column::WhenUsed("METRICS"),
    Column::WhenUsed("MESSAGE"),
];

/// The text of `status`. Addresses are told when it is about one cluster, or `wide`.
pub(crate) fn text(view: &View, wide: bool, now: Timestamp) -> Vec<String> {
    let mut rows = Vec::new();
    for cluster in &view.clusters {
        rows.push(cluster_row(cluster));
        pools(&mut rows, &cluster.pools, now);
    }
    if !view.stray_pools.is_empty() {
        rows.push(Row { name: "(no MediaCluster)".into(), ..Row::default() });
        pools(&mut rows, &view.stray_pools, now);
    }
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let cells: Vec<Vec<String>> = rows.into_iter().map(|row| row.cells(wide)).collect();
        lines = table::lines(if wide { WIDE } else { NARROW }, &cells);
    }
    for cluster in &view.clusters {
        let head = format!("{}/{}", cluster.namespace, cluster.name);
        lines.extend(cluster.problems.iter().map(|problem| format!("{head}: {problem}")));
        for pool in &cluster.pools {
            let head = format!("{} {}/{}", pool.kind, pool.namespace, pool.name);
            lines.extend(pool.problems.iter().map(|problem| format!("{head}: {problem}")));
        }
    }
    if wide || view.clusters.len() == 1 {
        for cluster in &view.clusters {
            endpoints(&mut lines, "Publish", &cluster.publish);
            endpoints(&mut lines, "Watch", &cluster.watch);
        }
    }
    lines.extend(view.operator.note());
    lines.extend(view.notes.iter().map(|note| format!("Not all could be read: {note}.")));
    lines.iter().map(|line| table::printable(line)).collect()
}

fn endpoints(lines: &mut Vec<String>, what: &str, endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        let place = if endpoint.scope == "External" { "outside" } else { "inside" };
        lines.push(format!("{what} ({}, {place}): {}", endpoint.protocol, endpoint.url));
    }
}

#[derive(Default)]
struct Row {
    name: String,
    state: String,
    ready: String,
    draining: String,
    streams: String,
    viewers: String,
    version: String,
    revision: String,
    machine: String,
    ends: String,
    age: String,
    restarts: String,
    metrics: String,
    message: String,
}

impl Row {
    fn cells(self, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.name,
            self.state,
            self.ready,
            self.draining,
            self.streams,
            self.viewers,
            self.version,
            self.revision,
            self.machine,
            self.ends,
        ];
        if wide {
            cells.extend([self.age, self.restarts, self.metrics]);
        }
        cells.push(self.message);
        cells
    }
}

fn nonzero(count: i32) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn number(count: Option<i64>) -> String {
    count.map_or_else(|| "?".into(), |count| count.to_string())
}

fn cluster_row(cluster: &ClusterView) -> Row {
    Row {
        name: format!("{}/{}", cluster.namespace, cluster.name),
        state: cluster.phase.clone(),
        ready: cluster.nodes.clone().unwrap_or_default(),
        draining: nonzero(cluster.pools.iter().map(|pool| pool.draining).sum()),
        streams: cluster.streams.to_string(),
        viewers: cluster.viewers.to_string(),
        version: cluster.version.clone().unwrap_or_default(),
        age: cluster.age_seconds.map(short).unwrap_or_default(),
        message: cluster.message.clone().unwrap_or_default(),
        ..Row::default()
    }
}

fn pools(rows: &mut Vec<Row>, pools: &[PoolView], now: Timestamp) {
    for (index, pool) in pools.iter().enumerate() {
        let last = index + 1 == pools.len();
        rows.push(pool_row(pool, if last { "└─ " } else { "├─ " }));
        let stem = if last { "   " } else { "│  " };
        for (index, pod) in pool.pods.iter().enumerate() {
            let last = index + 1 == pool.pods.len();
            rows.push(pod_row(pod, &format!("{stem}{}", if last { "└─ " } else { "├─ " }), now));
            let stem = format!("{stem}{}", if last { "   " } else { "│  " });
            let carried = pod.carried.as_deref().unwrap_or_default();
            for (index, stream) in carried.iter().enumerate() {
                let branch = if index + 1 == carried.len() { "└─ " } else { "├─ " };
                rows.push(stream_row(stream, &format!("{stem}{branch}")));
            }
        }
    }
}

fn pool_row(pool: &PoolView, branch: &str) -> Row {
    Row {
        name: format!("{branch}{}/{}", pool.kind, pool.name),
        state: pool.phase.clone(),
        ready: format!("{}/{}", pool.ready, pool.desired),
        draining: nonzero(pool.draining),
        streams: pool.streams.to_string(),
        viewers: pool.viewers.to_string(),
        version: pool.version.clone().unwrap_or_default(),
        revision: pool.revision.clone().unwrap_or_default(),
        age: pool.age_seconds.map(short).unwrap_or_default(),
        metrics: pool.metrics.clone().unwrap_or_default(),
        message: pool.message.clone().unwrap_or_default(),
        ..Row::default()
    }
}

fn pod_row(pod: &PodView, branch: &str, now: Timestamp) -> Row {
    Row {
        name: format!("{branch}{}", pod.name),
        state: pod.state.clone(),
        ready: if pod.ready { "yes" } else { "no" }.into(),
        streams: number(pod.streams),
        viewers: number(pod.viewers),
        revision: pod.revision.clone().unwrap_or_default(),
        machine: pod.machine.clone().unwrap_or_default(),
        ends: pod.deadline.as_deref().map(|deadline| until(deadline, now)).unwrap_or_default(),
        age: pod.age_seconds.map(short).unwrap_or_default(),
        restarts: nonzero(pod.restarts),
        message: pod.message.clone().unwrap_or_default(),
        ..Row::default()
    }
}

fn stream_row(stream: &Stream, branch: &str) -> Row {
    Row {
        name: format!("{branch}{}/{}", stream.app, stream.stream),
        state: stream.state.clone(),
        viewers: stream.viewers.to_string(),
        message: stream.in_words(),
        ..Row::default()
    }
}

/// How long until a point of time; the text itself where it is none.
fn until(deadline: &str, now: Timestamp) -> String {
    match deadline.parse::<Timestamp>() {
        Ok(at) => short(at.duration_since(now).as_secs()),
        Err(_) => deadline.to_owned(),
    }
}
