//! Puts the parts together, and ends them in order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use sluice_crds::pool::{PoolKind, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::apply::Applier;
use crate::authority::{self, AuthorityError};
use crate::client::{self, ClientError};
use crate::cluster;
use crate::context::{Context, Shelf};
use crate::discovery::{self, Served};
use crate::events::Events;
use crate::health::Health;
use crate::http::{self, HttpError};
use crate::leader::{Leader, Lost};
use crate::metrics::Metrics;
use crate::metrics_api::{self, ListenError, MetricsApi};
use crate::nodes::{Nodes, Urgency};
use crate::owned::{ClusterRef, PoolRef, Stores, Triggers, Watches};
use crate::pool;
use crate::settings::{Settings, SettingsError};

/// Changes of counts within this time are told together.
const COUNTS: Duration = Duration::from_secs(1);

/// Between attempts to reach the API server at the start.
const AGAIN: Duration = Duration::from_secs(2);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its settings are of no use.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its own port cannot be had.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The port of the metrics API cannot be had.
    #[error(transparent)]
    MetricsApi(#[from] ListenError),
    /// Its CA cannot be had.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another operator does the work now.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A defect.
    #[error("{0}: please report this with the lines before")]
    Broken(String),
    /// No signals can be had of the system.
    #[error("cannot wait for signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs until SIGTERM or SIGINT, or until the lease is lost.
///
/// # Errors
/// Says why it could not start, or had to end.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    settings.check()?;
    let stop = stopped()?;
    tokio::pin!(stop);
    let client = client::connect().await?;
    let metrics = Metrics::new();
    let health = Health::new();
    let listener = http::listen(settings.http_addr).await?;
    tokio::spawn(http::serve(listener, health.clone(), metrics.clone()));

    let served = tokio::select! {
        served = first_look(&client) => served,
        () = &mut stop => return Ok(()),
    };
    let (found, served) = watch::channel(Arc::new(served));
    tokio::spawn(discovery::follow(client.clone(), found, health.watch("discovery")));

    let events = Events::start(client.clone(), &settings.pod_name, &metrics);
    let (stores, triggers) = (Stores::default(), Triggers::new());
    let mut watches = Watches::start(
        &client,
        &settings.namespaces(),
        &stores,
        &triggers,
        served.clone(),
        &events,
        &metrics,
    );
    let nodes = nodes(&settings, &stores, &triggers, &metrics);
    let metrics_api = MetricsApi::start(&client, &settings, &stores, &nodes, &metrics, &health).await?;
    tokio::spawn({
        let (stores, nodes, health) = (stores.clone(), nodes.clone(), health.clone());
        let answers = settings.metrics_api;
        async move {
            stores.ready().await;
            if answers {
                metrics_api::first_reports(&stores, &nodes).await;
            }
            health.set_ready();
        }
    });

    let mut leader = Leader::new(client.clone(), &settings, health.watch("leader"), &metrics);
    tokio::select! {
        () = leader.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    let work = work(
        &client,
        settings,
        stores,
        triggers,
        events,
        nodes,
        &metrics_api,
        &metrics,
        &health,
        served,
        &mut stop,
    );
    let ended = tokio::select! {
        ended = work => ended,
        lost = leader.keep() => return Err(lost.into()),
        why = watches.failed() => return Err(RunError::Broken(why)),
    };
    leader.release().await;
    ended
}

/// Both controllers, until they are to stop.
#[expect(clippy::too_many_arguments, reason = "everything is put together here")]
async fn work(
    client: &Client,
    settings: Settings,
    stores: Stores,
    triggers: Triggers,
    events: Events,
    nodes: Nodes,
    metrics_api: &MetricsApi,
    metrics: &Metrics,
    health: &Health,
    served: watch::Receiver<Arc<Served>>,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let authority = authority::load(client, &settings.pod_namespace).await?;
    tokio::spawn(authority::keep(
        client.clone(),
        settings.pod_namespace.clone(),
        authority.clone(),
        health.watch("authority"),
    ));
    stores.ready().await;
    metrics_api.lead();
    let concurrency = usize::from(settings.concurrency);
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), metrics),
        nodes,
        stores: stores.clone(),
        triggers: triggers.clone(),
        events,
        metrics: metrics.clone(),
        settings,
        served,
        metrics_api: metrics_api.state.clone(),
        authority,
        secrets: Default::default(),
        overlay: Default::default(),
        prepared: Shelf::default(),
        counted: Shelf::default(),
        floors: Shelf::default(),
        targets: Shelf::default(),
        draining: Shelf::default(),
        unlisted: Shelf::default(),
        reached: Shelf::default(),
        failures: Default::default(),
        refused: Shelf::default(),
        taken: Shelf::default(),
        read: Shelf::default(),
    });
    stores.trigger_all(&triggers);
    let (halt, halted) = watch::channel(false);
    let until = |mut halted: watch::Receiver<bool>| async move {
        let _ = halted.wait_for(|halted| *halted).await;
    };
    let beats = (health.watch("clusters"), health.watch("pools"));
    let clusters =
        triggers.clusters.run("MediaCluster", concurrency, metrics, &beats.0, until(halted.clone()), {
            let context = context.clone();
            move |key: ClusterRef| cluster::reconcile::reconcile(context.clone(), key)
        });
    let pools = triggers.pools.run("Pool", concurrency, metrics, &beats.1, until(halted), {
        let context = context.clone();
        move |key: PoolRef| pool::reconcile::reconcile(context.clone(), key)
    });
    tokio::pin!(stop);
    let asked = async {
        stop.await;
        tracing::info!("stopping: what was begun is ended");
        let _ = halt.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = async { tokio::join!(clusters, pools) } => {}
        () = asked => {}
    }
    Ok(())
}

/// The nodes: what changes in one makes it the turn of its pool and of its cluster.
fn nodes(settings: &Settings, stores: &Stores, triggers: &Triggers, metrics: &Metrics) -> Nodes {
    let (stores, triggers) = (stores.clone(), triggers.clone());
    Nodes::new(settings.node_report_interval, metrics, move |pool, urgency| {
        let within = match urgency {
            Urgency::Counts => COUNTS,
            Urgency::Now => Duration::ZERO,
        };
        triggers.pools.trigger_within(pool.clone(), within);
        let cluster = match pool.role {
            Role::Origin => stores
                .origins
                .get(&pool.namespace, &pool.name)
                .map(|pool| pool.pool().cluster_ref.name.clone()),
            Role::Edge => {
                stores.edges.get(&pool.namespace, &pool.name).map(|pool| pool.pool().cluster_ref.name.clone())
            }
        };
        if let Some(cluster) = cluster {
            triggers.clusters.trigger_within(ClusterRef::new(&pool.namespace, &cluster), within);
        }
    })
}

/// What is served, asked until there is an answer.
async fn first_look(client: &Client) -> Served {
    loop {
        match discovery::look(client).await {
            Ok(served) => return served,
            Err(error) => tracing::warn!(%error, "the API server does not answer yet"),
        }
        sleep(AGAIN).await;
    }
}

/// Resolves with SIGTERM or SIGINT.
fn stopped() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
