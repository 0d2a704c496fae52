//! A run: clients are started at a rate, then there is a warm-up, then the window that is measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::Load;
use crate::error::Error;
use crate::process::{Usage, usage};
use crate::report::{Report, Spent};
use crate::stats::Stats;

/// Time that clients have to take their leave.
const GOODBYE: Duration = Duration::from_secs(3);

/// What a client is given.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number, from 0.
    pub(crate) index: usize,
    pub(crate) stats: Arc<Stats>,
    pub(crate) stop: Stop,
}

/// Tells a client that the run ends.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits for the end of the run.
    pub(crate) async fn wait(&mut self) {
        // The sender going away ends the run as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Does `work` up to the end of the run, and drops it then.
    pub(crate) async fn cut(mut self, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        tokio::select! {
            ended = work => ended,
            () = self.wait() => Ok(()),
        }
    }
}

/// Runs `load.clients` clients made by `client`, each until the run ends; one that returns an error failed.
pub(crate) fn run<F>(command: &str, load: &Load, client: impl Fn(Client) -> F) -> Result<Report, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut builder = match load.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(usize::from(load.threads)).enable_all().build()?;
    let report = runtime.block_on(drive(command, load, client));
    runtime.shutdown_background();
    report
}

async fn drive<F>(command: &str, load: &Load, client: impl Fn(Client) -> F) -> Result<Report, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let stats = Arc::new(Stats::new(load.clients as usize));
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let before = usage(&load.pid)?;
    let begin = Instant::now();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut interrupted = false;
    // The run, or its end by Ctrl-C: what was measured until then is reported.
    let measured = {
        let mut wait = async |until: Instant| {
            if !interrupted {
                tokio::select! {
                    () = sleep_until(until) => {}
                    _ = &mut interrupt => interrupted = true,
                }
            }
            !interrupted
        };
        for index in 0..load.clients as usize {
            if !wait(begin + Duration::from_secs_f64(index as f64 / load.rate)).await {
                break;
            }
            let one = client(Client { index, stats: stats.clone(), stop: Stop(stopped.clone()) });
            let stats = stats.clone();
            tasks.spawn(async move {
                if let Err(error) = one.await {
                    stats.fail(&error);
                }
            });
        }
        wait(Instant::now() + load.warmup).await;
        let own = usage(&[std::process::id()])?;
        let from = usage(&load.pid)?;
        stats.reset();
        let opened = Instant::now();
        wait(opened + load.duration).await;
        Window { before, from, own, opened }
    };
    let report = measured.close(command, load, &stats)?;
    let _ = stop.send(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    // Those that do not take their leave in time are cut off.
    let _ = timeout(GOODBYE, all).await;
    Ok(report)
}

/// The measured window, still open.
struct Window {
    before: Usage,
    from: Usage,
    own: Usage,
    opened: Instant,
}

impl Window {
    fn close(self, command: &str, load: &Load, stats: &Stats) -> Result<Report, Error> {
        let seconds = self.opened.elapsed().as_secs_f64().max(1e-3);
        let to = usage(&load.pid)?;
        let own = usage(&[std::process::id()])?;
        let clients = f64::from(load.clients);
        let spent = |from: Usage, to: Usage, before: Usage| {
            let cpu_s = to.cpu.saturating_sub(from.cpu).as_secs_f64();
            let rss_per_client = (to.rss as f64 - before.rss as f64) / clients;
            Spent { cpu_s, cpu_percent: cpu_s / seconds * 100.0, rss: to.rss, rss_per_client }
        };
        let (frames, least) = stats.frames();
        Ok(Report {
            command: command.to_owned(),
            clients: u64::from(load.clients),
            live: stats.live.load(Relaxed),
            failed: stats.failed.load(Relaxed),
            reconnects: stats.reconnects.load(Relaxed),
            asked_to_reconnect: stats.asked_to_reconnect.load(Relaxed),
            first_error: stats.first_error(),
            window_s: seconds,
            mbit_s: stats.bytes.load(Relaxed) as f64 * 8e-6 / seconds,
            frames_s: frames as f64 / seconds / clients,
            frames_s_least: least as f64 / seconds,
            lost_frames: stats.lost.load(Relaxed),
            packets_s: stats.packets.load(Relaxed) as f64 / seconds,
            lost_packets: stats.lost_packets.load(Relaxed),
            requests: stats.requests.load(Relaxed),
            failed_requests: stats.failed_requests.load(Relaxed),
            start_ms: stats.start.quantiles(),
            delay_ms: stats.delay.quantiles(),
            continuity: stats.continuity(),
            server: (!load.pid.is_empty()).then(|| spent(self.from, to, self.before)),
            generator: Some(spent(self.own, own, self.own)),
        })
    }
}
