//! `kubectl sluice report`: an archive for support. What is in it, and what never is, is in docs/kubectl-plugin.md.

mod archive;
mod collect;
mod forms;
mod redact;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};
use sluice_crds::names;

use crate::failure::{Asked, Failure};
use crate::logs;
use crate::print;
use crate::session::Session;
use crate::snapshot::{OPERATOR_LEASE, no_cluster};
use archive::Archive;
use collect::{DEFINITIONS, EVENTS, Kind, LEASES, MACHINES, OPERATORS, OURS, OWNED};
use redact::Redactor;

/// How many objects of one kind in one namespace go in.
const MOST_OBJECTS: usize = 2_000;

/// How many pods' logs go in.
const MOST_LOGS: usize = 200;

/// How many bytes of one log go in: the last ones.
const LONGEST_LOG: usize = 4 << 20;

/// How many logs are read at the same time.
const AT_ONCE: usize = 8;

/// How many Secrets are looked at.
const MOST_SECRETS: usize = 200;

/// The Secret with the operator's own CA.
const OPERATOR_CA: &str = "sluice-operator-ca";

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) cluster: Option<&'a str>,
    pub(crate) file: &'a Path,
    pub(crate) force: bool,
    pub(crate) tail: u32,
}

/// Makes the archive.
pub(crate) async fn run(session: &Session, wanted: Wanted<'_>) -> Result<(), Failure> {
    let now = Timestamp::now();
    let io = |what: &str| {
        let what = format!("{what} {}", wanted.file.display());
        move |source| Failure::Io { what, source }
    };
    let mut report = Report { session, notes: Vec::new(), gathered: Vec::new(), pods: Vec::new() };
    report.gather(wanted.cluster).await?;
    // Only now: nothing is left behind when there is no connection.
    let file = archive::create(wanted.file, wanted.force).map_err(io("make"))?;
    let made = write(&mut report, file, &wanted, now).await;
    match made {
        Ok(files) => {
            for note in &report.notes {
                print::warn(&format!("Left out: {note}"));
            }
            print::line(&format!(
                "{} has {files} files; look into it before you send it",
                wanted.file.display()
            ))
        }
        Err(failure) => {
            // Half a report is none.
            let _ = std::fs::remove_file(wanted.file);
            Err(failure)
        }
    }
}

struct Report<'a> {
    session: &'a Session,
    /// What was left out, and why.
    notes: Vec<String>,
    /// Objects, with the folders that they go into.
    gathered: Vec<(Vec<String>, Value)>,
    /// Pods whose logs go in, with their folders.
    pods: Vec<(Vec<String>, Pod)>,
}

impl Report<'_> {
    async fn gather(&mut self, cluster: Option<&str>) -> Result<(), Failure> {
        let namespace = self.session.namespace.clone();
        let clusters = self.list(OURS[0], namespace.as_deref(), "").await?;
        let named: Vec<(String, String)> = clusters
            .iter()
            .filter(|(_, name, _)| cluster.is_none_or(|cluster| cluster == name))
            .map(|(namespace, name, _)| (namespace.clone(), name.clone()))
            .collect();
        if named.is_empty() {
            let there: Vec<String> = clusters.into_iter().map(|(_, name, _)| name).collect();
            let missing = no_cluster(cluster, namespace.as_deref(), &there);
            if cluster.is_some() {
                return Err(missing);
            }
            // Why there is none may be in the operator's log.
            self.notes.push(missing.to_string());
        }
        let mut by_namespace: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (namespace, name) in named {
            by_namespace.entry(namespace).or_default().insert(name);
        }
        for (namespace, clusters) in &by_namespace {
            self.gather_namespace(namespace, clusters).await?;
        }
        self.gather_operator().await
    }

    async fn gather_namespace(
        &mut self,
        namespace: &str,
        clusters: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let mut objects = BTreeSet::new();
        let mut pools = BTreeSet::new();
        for kind in OURS {
            for (_, name, value) in self.try_list(*kind, Some(namespace), "").await? {
                let of = value.pointer("/spec/clusterRef/name").and_then(Value::as_str);
                let ours = if kind.kind == "MediaCluster" {
                    clusters.contains(&name)
                } else {
                    of.is_some_and(|of| clusters.contains(of))
                };
                if !ours {
                    continue;
                }
                if kind.kind != "MediaCluster" {
                    pools.insert(name.clone());
                }
                objects.insert((kind.kind.to_owned(), name.clone()));
                self.put(&["namespaces", namespace, kind.plural], &name, value);
            }
        }
        let listed: Vec<&str> = clusters.iter().map(String::as_str).collect();
        let selector = format!("{} in ({})", names::CLUSTER, listed.join(","));
        for kind in OWNED {
            for (_, name, value) in self.try_list(*kind, Some(namespace), &selector).await? {
                objects.insert((kind.kind.to_owned(), name.clone()));
                if kind.kind == "Pod" {
                    self.put_pod(&["namespaces", namespace, "logs"], &value);
                }
                self.put(&["namespaces", namespace, kind.plural], &name, value);
            }
        }
        let events: Vec<Value> = self
            .try_list(EVENTS, Some(namespace), "")
            .await?
            .into_iter()
            .map(|(_, _, event)| event)
            .filter(|event| collect::concerns(event, &objects, &pools))
            .collect();
        self.put(&["namespaces", namespace], "events", Value::Array(events));
        Ok(())
    }

    async fn gather_operator(&mut self) -> Result<(), Failure> {
        let namespace = self.session.operator_namespace.clone();
        let selector = logs::operator_selector();
        let mut objects = BTreeSet::new();
        for kind in OPERATORS {
            for (_, name, value) in self.try_list(*kind, Some(&namespace), &selector).await? {
                objects.insert((kind.kind.to_owned(), name.clone()));
                if kind.kind == "Pod" {
                    self.put_pod(&["operator", "logs"], &value);
                }
                self.put(&["operator", kind.plural], &name, value);
            }
        }
        for (_, name, value) in self.try_list(LEASES, Some(&namespace), "").await? {
            if name == OPERATOR_LEASE {
                self.put(&["operator"], "lease", value);
            }
        }
        let events = self.try_list(EVENTS, Some(&namespace), "").await?;
        let events = events
            .into_iter()
            .map(|(_, _, event)| event)
            .filter(|event| collect::concerns(event, &objects, &BTreeSet::new()));
        let events = Value::Array(events.collect());
        self.put(&["operator"], "events", events);
        // Versions and conditions only: the schemas are in the chart.
        for (_, name, mut value) in self.try_list(DEFINITIONS, None, "").await? {
            if name.ends_with(sluice_crds::GROUP) {
                for version in
                    value.pointer_mut("/spec/versions").and_then(Value::as_array_mut).into_iter().flatten()
                {
                    if let Some(version) = version.as_object_mut() {
                        version.remove("schema");
                    }
                }
                self.put(&["customresourcedefinitions"], &name, value);
            }
        }
        for (_, name, value) in self.try_list(MACHINES, None, "").await? {
            self.put(&["machines"], &name, value);
        }
        Ok(())
    }

    fn put(&mut self, folders: &[&str], name: &str, value: Value) {
        let mut path: Vec<String> = folders.iter().map(|folder| (*folder).to_owned()).collect();
        path.push(format!("{name}.json"));
        self.gathered.push((path, value));
    }

    fn put_pod(&mut self, folders: &[&str], value: &Value) {
        let Ok(pod) = serde_json::from_value::<Pod>(value.clone()) else { return };
        self.pods.push((folders.iter().map(|folder| (*folder).to_owned()).collect(), pod));
    }

    /// Objects with their namespaces and names.
    async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<(String, String, Value)>, Failure> {
        let resource = kind.resource();
        let client = self.session.client.clone();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let mut page = ListParams::default().limit(500).labels(selector);
        let mut found = Vec::new();
        loop {
            let list = self.session.ask(Asked::all("list", kind.name(), namespace), api.list(&page)).await?;
            for object in list.items {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                let mut value = serde_json::to_value(&object).unwrap_or_default();
                // Objects of a list do not say what they are.
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("apiVersion".into(), resource.api_version.clone().into());
                    fields.insert("kind".into(), kind.kind.into());
                }
                found.push((namespace, name, value));
            }
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() && found.len() < MOST_OBJECTS => {
                    page = page.continue_token(&token)
                }
                _ => return Ok(found),
            }
        }
    }

    /// The same, where it may fail: what fails is noted.
    async fn try_list(
        &mut self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<(String, String, Value)>, Failure> {
        match self.list(kind, namespace, selector).await {
            Ok(mut found) => {
                if found.len() > MOST_OBJECTS {
                    found.truncate(MOST_OBJECTS);
                    self.notes.push(format!("{} beyond {MOST_OBJECTS}", kind.name()));
                }
                Ok(found)
            }
            // Kinds that this Kubernetes does not have.
            Err(Failure::NotFound(_)) => Ok(Vec::new()),
            Err(failure) if failure.is_partial() => {
                self.notes.push(failure.in_short());
                Ok(Vec::new())
            }
            Err(failure) => Err(failure),
        }
    }

    /// The Secrets that are used: what is told of them, and their values, to take them out of all else.
    async fn secrets(&mut self) -> Result<(BTreeMap<String, Vec<Value>>, Vec<(String, Vec<u8>)>), Failure> {
        let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
        for (path, value) in &self.gathered {
            let namespace = match path.first().map(String::as_str) {
                Some("namespaces") => path.get(1).cloned().unwrap_or_default(),
                Some("operator") => self.session.operator_namespace.clone(),
                _ => continue,
            };
            let mut used = BTreeSet::new();
            collect::secrets_used(value, &mut used);
            if value.get("kind").and_then(Value::as_str) == Some("MediaCluster") {
                let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                used.extend(collect::secrets_made(name));
            }
            wanted.extend(used.into_iter().map(|secret| (namespace.clone(), secret)));
        }
        // Nothing refers to it: the operator reads it by its name.
        wanted.insert((self.session.operator_namespace.clone(), OPERATOR_CA.into()));
        if wanted.len() > MOST_SECRETS {
            self.notes.push(format!("Secrets beyond {MOST_SECRETS}"));
        }
        let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut values = Vec::new();
        let mut refused = BTreeSet::new();
        for (namespace, name) in wanted.into_iter().take(MOST_SECRETS) {
            if refused.contains(&namespace) {
                continue;
            }
            let secrets: Api<Secret> = self.session.api(Some(&namespace));
            let asked = Asked::one("get", "secrets", &namespace, &name);
            let about = match self.session.ask(asked, secrets.get_opt(&name)).await {
                Ok(None) => json!({ "name": name, "missing": true }),
                Ok(Some(secret)) => {
                    let data = secret.data.unwrap_or_default();
                    let entries: Vec<(&str, &[u8])> =
                        data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
                    let kind = secret.type_.unwrap_or_default();
                    let about =
                        collect::about_secret(&name, &kind, secret.immutable.unwrap_or(false), &entries);
                    values.extend(data.into_iter().map(|(key, value)| (key, value.0)));
                    about
                }
                Err(failure) if failure.is_partial() => {
                    self.notes.push(format!(
                        "names and sizes of Secrets ({}); without their values, secrets are taken out of the rest by name and \
                         form only",
                        failure.in_short()
                    ));
                    refused.insert(namespace.clone());
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            told.entry(namespace).or_default().push(about);
        }
        Ok((told, values))
    }
}

async fn write(
    report: &mut Report<'_>,
    file: File,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<usize, Failure> {
    let session = report.session;
    let io = |source| Failure::Io { what: format!("write {}", wanted.file.display()), source };
    let (secrets, values) = report.secrets().await?;
    let redactor = Redactor::new(values.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
    let seconds = now.as_second();
    let folder = format!("sluice-report-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut archive =
        Archive::new(std::io::BufWriter::new(file), &folder, u64::try_from(seconds).unwrap_or(0));
    for (path, value) in &report.gathered {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        archive.add(&path, &redactor.json(value)).map_err(io)?;
    }
    for (namespace, about) in secrets {
        // Only names and sizes were put into it; it would not survive the redaction, which knows names of secrets.
        let lines: Vec<String> = about.iter().map(ToString::to_string).collect();
        archive
            .add(&["secrets", &format!("{namespace}.txt")], &redactor.text(&(lines.join("\n") + "\n")))
            .map_err(io)?;
    }
    let mut jobs = Vec::new();
    for (folders, pod) in report.pods.iter().take(MOST_LOGS) {
        for (container, restarted) in containers(pod) {
            jobs.push((folders, pod, container.clone(), false));
            if restarted {
                jobs.push((folders, pod, container, true));
            }
        }
    }
    if report.pods.len() > MOST_LOGS {
        report.notes.push(format!("logs of pods beyond {MOST_LOGS}"));
    }
    let mut read = stream::iter(jobs)
        .map(|(folders, pod, container, previous)| async move {
            let log = logs::last_lines(session, pod, &container, previous, wanted.tail, LONGEST_LOG).await;
            (folders, pod.name_any(), container, previous, log)
        })
        .buffered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some((folders, pod, container, previous, log)) = read.next().await {
        match log {
            Ok(None) => {}
            Ok(Some(text)) => {
                let name = format!("{container}{}.log", if previous { ".previous" } else { "" });
                let mut path: Vec<&str> = folders.iter().map(String::as_str).collect();
                path.extend([pod.as_str(), name.as_str()]);
                archive.add(&path, &redactor.log(&text)).map_err(io)?;
            }
            Err(failure) if failure.is_partial() => failed.push(failure.in_short()),
            Err(failure) => return Err(failure),
        }
    }
    drop(read);
    report.notes.extend(failed);
    let server = session
        .ask(Asked::all("get", "/version", None), session.client.apiserver_version())
        .await
        .map(|version| version.git_version)
        .unwrap_or_else(|failure| failure.to_string());
    let about = json!({
        "made": now.to_string(),
        "plugin": env!("CARGO_PKG_VERSION"),
        "kubernetes": server,
        "namespace": session.namespace,
        "cluster": wanted.cluster,
        "leftOut": report.notes,
    });
    archive.add(&["report.json"], &redactor.json(&about)).map_err(io)?;
    let files = archive.files();
    let rest = archive.finish().map_err(io)?;
    rest.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
    Ok(files)
}

/// The containers of a pod, and whether they were restarted.
fn containers(pod: &Pod) -> Vec<(String, bool)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let restarted = |name: &str| {
        status
            .iter()
            .flat_map(|status| [&status.container_statuses, &status.init_container_statuses])
            .flatten()
            .flatten()
            .any(|container| container.name == name && container.restart_count > 0)
    };
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|container| (container.name.clone(), restarted(&container.name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_objects_are_found_by_their_standard_name() {
        assert_eq!(logs::operator_selector(), "app.kubernetes.io/name=sluice-operator");
    }

    #[test]
    fn logs_of_every_container_are_asked_for_and_earlier_ones_where_there_are() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {
                "initContainers": [{ "name": "init" }],
                "containers": [{ "name": "node" }, { "name": "side" }],
            },
            "status": {
                "containerStatuses": [
                    { "name": "node", "restartCount": 2, "image": "", "imageID": "", "ready": true },
                    { "name": "side", "restartCount": 0, "image": "", "imageID": "", "ready": true },
                ],
            },
        }))
        .unwrap();
        assert_eq!(containers(&pod), [("init".into(), false), ("node".into(), true), ("side".into(), false)]);
    }
}
