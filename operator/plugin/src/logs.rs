//! `kubectl sluice logs`: the logs of many pods as one, each line with its pod in front.

mod merge;
pub(crate) mod read;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use sluice_crds::names::{self, standard};
use tokio::sync::mpsc;

use crate::args::Logs;
use crate::failure::{Asked, Failure, of_request};
use crate::print;
use crate::session::Session;
use crate::snapshot;
use merge::Merge;
use read::{Line, Lines};

/// How many logs are read at the same time; each is a connection.
const AT_ONCE: usize = 50;

/// How many lines wait for each log while they are put into order.
const AHEAD: usize = 64;

/// How often new pods are looked for while following.
const LOOK: Duration = Duration::from_secs(3);

/// Selects the operator's pods.
pub(crate) fn operator_selector() -> String {
    format!("{}={}", standard::NAME, standard::OPERATOR)
}

/// Prints logs.
pub(crate) async fn run(session: &Session, wanted: &Logs) -> Result<(), Failure> {
    let pods = pods(session, wanted).await?;
    if pods.len() > AT_ONCE {
        return Err(Failure::Refused(format!(
            "{} pods are meant, and at most {AT_ONCE} logs are read at once: choose with --pool or --pod",
            pods.len()
        )));
    }
    let prefix = Prefix::of(&pods, wanted);
    if wanted.follow {
        follow(session, wanted, pods, prefix).await
    } else {
        once(session, wanted, &pods, &prefix).await
    }
}

async fn pods(session: &Session, wanted: &Logs) -> Result<Vec<Pod>, Failure> {
    if !wanted.operator {
        return snapshot::pods(session, &wanted.target).await;
    }
    let namespace = &session.operator_namespace;
    let api: Api<Pod> = session.api(Some(namespace));
    let found = session.list(&api, "pods", Some(namespace), &operator_selector()).await?;
    if found.is_empty() {
        return Err(Failure::NotFound(format!(
            "there is no pod of the operator in namespace {namespace}: see --operator-namespace"
        )));
    }
    Ok(found)
}

/// What stands before a line.
#[derive(Clone, Debug)]
struct Prefix {
    none: bool,
    with_namespace: bool,
    width: usize,
    timestamps: bool,
}

impl Prefix {
    fn of(pods: &[Pod], wanted: &Logs) -> Prefix {
        let mut prefix = Prefix {
            // One pod that was named is told plainly, so that its lines can be read by programs.
            none: wanted.target.pod.is_some(),
            with_namespace: pods
                .iter()
                .any(|pod| pod.namespace() != pods.first().and_then(ResourceExt::namespace)),
            width: 0,
            timestamps: wanted.timestamps,
        };
        prefix.width = pods.iter().map(|pod| prefix.name(pod).chars().count()).max().unwrap_or(0);
        prefix
    }

    fn name(&self, pod: &Pod) -> String {
        let name = pod.name_any();
        if self.with_namespace { format!("{}/{name}", pod.namespace().unwrap_or_default()) } else { name }
    }

    fn line(&self, name: &str, line: &Line) -> String {
        let stamp = line.stamp.as_deref().filter(|_| self.timestamps);
        let text = stamp.map_or_else(|| line.text.clone(), |stamp| format!("{stamp} {}", line.text));
        if self.none { text } else { format!("{name:<width$} | {text}", width = self.width) }
    }
}

fn params(wanted: &Logs, pod: &Pod) -> LogParams {
    LogParams {
        container: container(wanted, pod),
        follow: wanted.follow,
        previous: wanted.previous,
        since_seconds: wanted.since.map(|since| i64::try_from(since.as_secs().max(1)).unwrap_or(i64::MAX)),
        tail_lines: wanted.tail.map(i64::from),
        timestamps: true,
        ..LogParams::default()
    }
}

/// The container that is meant: the one that was named, or the node's (of the operator's pods, the first).
fn container(wanted: &Logs, pod: &Pod) -> Option<String> {
    if wanted.container.is_some() {
        return wanted.container.clone();
    }
    if !wanted.operator {
        return Some(names::CONTAINER.into());
    }
    pod.spec.as_ref()?.containers.first().map(|container| container.name.clone())
}

async fn open(
    session: &Session,
    pod: &Pod,
    params: &LogParams,
) -> Result<impl futures_util::AsyncBufRead + use<>, Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = session.api(Some(&namespace));
    session
        .ask(Asked::one("read the logs of", "pods", &namespace, &name), api.log_stream(&name, params))
        .await
}

/// What there is, in the order of time.
async fn once(session: &Session, wanted: &Logs, pods: &[Pod], prefix: &Prefix) -> Result<(), Failure> {
    let opened = futures_util::future::join_all(
        pods.iter()
            .map(|pod| async move { (prefix.name(pod), open(session, pod, &params(wanted, pod)).await) }),
    )
    .await;
    let mut failed = Vec::new();
    let mut names = Vec::new();
    let mut sources = Vec::new();
    for (name, log) in opened {
        match log {
            Ok(log) => {
                let (to, from) = mpsc::channel(AHEAD);
                tokio::spawn(async move {
                    let mut lines = Lines::new(Box::pin(log));
                    loop {
                        let (line, last) = match lines.next().await {
                            Ok(Some(line)) => (Ok(line), false),
                            Ok(None) => return,
                            Err(error) => (Err(error.to_string()), true),
                        };
                        if to.send(line).await.is_err() || last {
                            return;
                        }
                    }
                });
                names.push(name);
                sources.push(from);
            }
            Err(failure) if failure.is_partial() => failed.push(failure),
            Err(failure) => return Err(failure),
        }
    }
    let mut merge = Merge::new(sources.len());
    loop {
        for (index, source) in sources.iter_mut().enumerate() {
            while merge.wants(index) {
                match source.recv().await {
                    Some(Ok(line)) => merge.put(index, line),
                    Some(Err(reason)) => {
                        let name = names.get(index).cloned().unwrap_or_default();
                        failed.push(Failure::Api { what: format!("read on in the log of {name}"), reason });
                    }
                    None => merge.end(index),
                }
            }
        }
        let Some((index, line)) = merge.take() else { break };
        let name = names.get(index).map(String::as_str).unwrap_or_default();
        print::line(&prefix.line(name, &line))?;
    }
    for pod in pods.iter().filter(|pod| !runs(pod) && !has_ended(pod) && !was_restarted(pod)) {
        print::warn(&format!("{} has not started: it has no log", prefix.name(pod)));
    }
    if pods.len() > 1 {
        for failure in &failed {
            print::warn(&failure.to_string());
        }
    }
    match failed.len() {
        0 => Ok(()),
        count if count == pods.len() && failed.iter().all(|failure| failure.code() == failed[0].code()) => {
            Err(failed.remove(0))
        }
        count => Err(Failure::Partly(format!("{count} of {} logs could not be read", pods.len()))),
    }
}

/// What a following task tells.
enum Heard {
    Line(String, Line),
    /// It has ended; the last stamp that it saw.
    Ended(String, Option<String>),
    /// It could not begin.
    Failed(String, Failure),
}

/// Lines as they come; pods that come later are followed as well, and restarted containers again.
async fn follow(session: &Session, wanted: &Logs, pods: Vec<Pod>, mut prefix: Prefix) -> Result<(), Failure> {
    let (to, mut heard) = mpsc::channel(1024);
    let mut running: HashSet<String> = HashSet::new();
    let mut seen: HashMap<String, Option<String>> = HashMap::new();
    let mut said: HashSet<String> = HashSet::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = Some(pods);
    let mut first = true;
    loop {
        tokio::select! {
            event = heard.recv() => match event {
                Some(Heard::Line(name, line)) => print::line(&prefix.line(&name, &line))?,
                Some(Heard::Ended(uid, last)) => {
                    running.remove(&uid);
                    seen.insert(uid, last);
                }
                Some(Heard::Failed(uid, failure)) => {
                    running.remove(&uid);
                    match failure {
                        // A container that has not started yet has no log yet.
                        Failure::Api { .. } | Failure::NotFound(_) | Failure::Late { .. } | Failure::Connection { .. } => {
                            if said.len() < 1000 && said.insert(failure.to_string()) { print::warn(&failure.to_string()); }
                        }
                        failure => return Err(failure),
                    }
                }
                None => return Ok(()),
            },
            _ = look.tick() => {
                let pods = match next.take() {
                    Some(pods) => pods,
                    None => match self::pods(session, wanted).await {
                        Ok(pods) => pods,
                        Err(Failure::NotFound(_) | Failure::Connection { .. } | Failure::Late { .. }) => Vec::new(),
                        Err(failure) => return Err(failure),
                    },
                };
                let there: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
                seen.retain(|uid, _| there.contains(uid));
                for pod in pods {
                    let uid = pod.metadata.uid.clone().unwrap_or_default();
                    let news = runs(&pod) || (!seen.contains_key(&uid) && has_ended(&pod));
                    if running.len() >= AT_ONCE || running.contains(&uid) || !news { continue; }
                    let mut params = params(wanted, &pod);
                    match seen.get(&uid) {
                        // Seconds are all that the API takes: what was seen in that second is left out by its stamp.
                        Some(last) => {
                            params.since_seconds = None;
                            params.tail_lines = None;
                            params.since_time = last.as_deref().and_then(|last| last.parse::<Timestamp>().ok());
                        }
                        None if first && wanted.since.is_none() && wanted.tail.is_none() => params.tail_lines = Some(10),
                        None => {}
                    }
                    let after = seen.get(&uid).cloned().flatten();
                    let name = prefix.name(&pod);
                    prefix.width = prefix.width.max(name.chars().count());
                    running.insert(uid.clone());
                    tokio::spawn(tail(session.clone(), pod, uid, name, params, after, to.clone()));
                }
                first = false;
            }
        }
    }
}

/// Whether a container of the pod runs.
fn runs(pod: &Pod) -> bool {
    states(pod).any(|state| state.running.is_some())
}

/// Whether a container of the pod has ended: its log is there, and nothing will come.
fn has_ended(pod: &Pod) -> bool {
    states(pod).any(|state| state.terminated.is_some())
}

/// Whether a container of the pod has run before.
fn was_restarted(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|container| container.restart_count > 0)
}

fn states(pod: &Pod) -> impl Iterator<Item = &ContainerState> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.filter_map(|container| container.state.as_ref())
}

async fn tail(
    session: Session,
    pod: Pod,
    uid: String,
    name: String,
    params: LogParams,
    after: Option<String>,
    to: mpsc::Sender<Heard>,
) {
    let log = match open(&session, &pod, &params).await {
        Ok(log) => log,
        Err(failure) => {
            let _ = to.send(Heard::Failed(uid, failure)).await;
            return;
        }
    };
    let mut lines = Lines::new(Box::pin(log));
    let mut last = after.clone();
    // An error ends a following as the end does: it is begun again where it was.
    while let Ok(Some(line)) = lines.next().await {
        if read::is_after(line.stamp.as_deref(), after.as_deref()) {
            if line.stamp.is_some() {
                last.clone_from(&line.stamp);
            }
            if to.send(Heard::Line(name.clone(), line)).await.is_err() {
                return;
            }
        }
    }
    let _ = to.send(Heard::Ended(uid, last)).await;
}

/// The last lines of a container's log as text, for the report: at most `lines` of them and `bytes` bytes. `None`: there is none.
pub(crate) async fn last_lines(
    session: &Session,
    pod: &Pod,
    container: &str,
    previous: bool,
    lines: u32,
    bytes: usize,
) -> Result<Option<String>, Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = session.api(Some(&namespace));
    let params = LogParams {
        container: Some(container.into()),
        previous,
        tail_lines: Some(i64::from(lines)),
        timestamps: true,
        ..LogParams::default()
    };
    let asked = Asked::one("read the logs of", "pods", &namespace, &name);
    let log = match tokio::time::timeout(session.limit, api.log_stream(&name, &params)).await {
        // A container that has not started, or was not restarted.
        Ok(Err(kube::Error::Api(status))) if status.code == 400 => return Ok(None),
        Ok(Err(error)) => return Err(of_request(&asked, &session.url, &error)),
        Err(_) => return Err(late(session, &asked)),
        Ok(Ok(log)) => log,
    };
    let whole = async {
        let mut reader = Lines::new(Box::pin(log));
        let mut kept = read::Tail::new(bytes);
        while let Some(line) = reader.next().await? {
            kept.push(line.stamp.as_deref(), &line.text);
        }
        Ok::<_, std::io::Error>(kept.into_text())
    };
    match tokio::time::timeout(session.limit, whole).await {
        Ok(Ok(text)) => Ok(Some(text)),
        Ok(Err(error)) => Err(Failure::Api { what: asked.to_string(), reason: error.to_string() }),
        Err(_) => Err(late(session, &asked)),
    }
}

fn late(session: &Session, asked: &Asked) -> Failure {
    Failure::Late {
        what: format!("the request to {asked}"),
        limit: format!("{:?}", session.limit),
        hint: "see --request-timeout",
    }
}
