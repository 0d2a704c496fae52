//! `kubectl sluice status`: clusters, pools and pods as a tree.

mod tree;
mod view;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::args::Output;
use crate::failure::Failure;
use crate::print;
use crate::session::Session;
use crate::snapshot::{self, Operator, Snapshot};
use crate::streams::{self, Stream};
use view::View;

/// Reads what there is, and prints it.
pub(crate) async fn run(
    session: &Session,
    cluster: Option<&str>,
    with_streams: bool,
    output: Output,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let (snapshot, operator) = tokio::join!(Snapshot::read(session), Operator::read(session, now));
    let mut snapshot = snapshot?;
    if let Some(cluster) = cluster {
        snapshot = snapshot.only(cluster, session)?;
    }
    if snapshot.clusters.is_empty() && snapshot.origins.is_empty() && snapshot.edges.is_empty() {
        return Err(snapshot::no_cluster(None, session.namespace.as_deref(), &[]));
    }
    let mut view = view::view(&snapshot, operator?, now);
    if with_streams {
        add_streams(session, &snapshot, &mut view).await?;
    }
    match output {
        Output::Json => print::json(&view),
        Output::Table | Output::Wide => print::lines(&tree::text(&view, output == Output::Wide, now)),
    }
}

async fn add_streams(session: &Session, snapshot: &Snapshot, view: &mut View) -> Result<(), Failure> {
    let pods: Vec<_> = snapshot
        .pods
        .iter()
        .flatten()
        .filter(|pod| snapshot::is_ours(pod) && snapshot::is_ready(pod))
        .cloned()
        .collect();
    let mut told: BTreeMap<(String, String), Vec<Stream>> = BTreeMap::new();
    let answers = match streams::ask(session, &pods).await {
        // The tree is worth showing without them.
        Err(failure) if failure.is_partial() => {
            view.notes.push(failure.in_short());
            return Ok(());
        }
        answers => answers?,
    };
    for answer in answers {
        match answer.streams {
            Ok(streams) => {
                told.insert((answer.namespace, answer.pod), streams);
            }
            Err(reason) => view.notes.push(reason),
        }
    }
    let pools = view.clusters.iter_mut().flat_map(|cluster| &mut cluster.pools).chain(&mut view.stray_pools);
    for pool in pools {
        for pod in &mut pool.pods {
            pod.carried = told.remove(&(pool.namespace.clone(), pod.name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
