//! Parts of objects that a spec has as they are (volumes, containers, metrics), read into Kubernetes' own types.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, EnvVar, Volume, VolumeMount};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_crds::common::StringMap;
use sluice_crds::{names, pool::PodTemplate};

use super::{keys, label, labels, variable};
use crate::build::volumes;
use crate::invalid::Problems;
use crate::paths;

/// What a spec adds to pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    pub(crate) labels: StringMap,
    pub(crate) annotations: StringMap,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) mounts: Vec<VolumeMount>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) sidecars: Vec<Container>,
}

/// Variables of the node container that the operator sets.
pub(crate) const OUR_VARIABLES: [&str; 3] = ["POD_NAME", "POD_IP", "NODE_NAME"];

impl Template {
    pub(crate) fn read(raw: &PodTemplate, problems: &mut Problems) -> Template {
        let PodTemplate {
            labels: their_labels,
            annotations,
            env,
            volumes,
            volume_mounts,
            init_containers,
            sidecars,
        } = raw;
        const FIELD: &str = "spec.podTemplate";
        labels(problems, &format!("{FIELD}.labels"), their_labels);
        for key in their_labels.keys() {
            if key.starts_with("sluice.dev/") || key.starts_with("app.kubernetes.io/") {
                let problem =
                    "labels may not begin with sluice.dev/ or app.kubernetes.io/: the operator sets those";
                problems.say(format!("{FIELD}.labels[{key}]"), problem);
            }
        }
        keys(problems, &format!("{FIELD}.annotations"), annotations);
        for key in annotations.keys().filter(|key| key.starts_with("sluice.dev/")) {
            let problem = "annotations may not begin with sluice.dev/: the operator sets those";
            problems.say(format!("{FIELD}.annotations[{key}]"), problem);
        }
        let mut seen = BTreeSet::new();
        for (index, variable_) in env.iter().enumerate() {
            let field = format!("{FIELD}.env[{index}].name");
            if !variable(&variable_.name) {
                problems.say(
                    &field,
                    "is no name of a variable: letters, digits and '_' only, and no digit first",
                );
            }
            if variable_.name.starts_with("SLUICE_") || OUR_VARIABLES.contains(&&*variable_.name) {
                problems.say(
                    &field,
                    "SLUICE_ variables, POD_NAME, POD_IP and NODE_NAME are the operator's: use config",
                );
            }
            if !seen.insert(&variable_.name) {
                problems.say(&field, "is there twice: keep one of them");
            }
        }
        let volumes: Vec<Volume> = read(problems, &format!("{FIELD}.volumes"), volumes);
        let mounts: Vec<VolumeMount> = read(problems, &format!("{FIELD}.volumeMounts"), volume_mounts);
        let init_containers: Vec<Container> =
            read(problems, &format!("{FIELD}.initContainers"), init_containers);
        let sidecars: Vec<Container> = read(problems, &format!("{FIELD}.sidecars"), sidecars);
        check_volumes(problems, &volumes, &mounts);
        check_containers(problems, &volumes, &init_containers, &sidecars);
        Template {
            labels: their_labels.clone(),
            annotations: annotations.clone(),
            env: env
                .iter()
                .map(|one| EnvVar {
                    name: one.name.clone(),
                    value: Some(one.value.clone()),
                    ..EnvVar::default()
                })
                .collect(),
            volumes,
            mounts,
            init_containers,
            sidecars,
        }
    }
}

fn check_volumes(problems: &mut Problems, volumes: &[Volume], mounts: &[VolumeMount]) {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = format!("spec.podTemplate.volumes[{index}].name");
        if !label(&volume.name) {
            problems.say(&field, "is no name of a volume: at most 63 lower-case letters, digits and '-'");
        }
        if volumes::OURS.contains(&&*volume.name) {
            problems
                .say(&field, format!("{:?} is a volume of the operator: choose another name", volume.name));
        }
        if !names.insert(&volume.name) {
            problems.say(&field, "is there twice: keep one of them");
        }
    }
    let mut paths = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let field = format!("spec.podTemplate.volumeMounts[{index}]");
        if !names.contains(&mount.name) {
            problems.say(
                format!("{field}.name"),
                format!("there is no volume {:?} in podTemplate.volumes", mount.name),
            );
        }
        let path = mount.mount_path.trim_end_matches('/');
        if !path.starts_with('/')
            || mount.mount_path.contains(':')
            || path.split('/').any(|part| part == "..")
        {
            problems.say(format!("{field}.mountPath"), "is no absolute path of a folder or file");
        }
        let taken = [paths::DATA, paths::TMP].contains(&path)
            || path == paths::GIVEN
            || path.starts_with(&format!("{}/", paths::GIVEN));
        if taken {
            problems
                .say(format!("{field}.mountPath"), format!("{path} is the operator's: choose another path"));
        }
        if !paths.insert(path) {
            problems.say(format!("{field}.mountPath"), "is there twice: keep one of them");
        }
    }
}

fn check_containers(problems: &mut Problems, volumes: &[Volume], init: &[Container], sidecars: &[Container]) {
    let mut names = BTreeSet::from([names::CONTAINER]);
    for (list, containers) in [("initContainers", init), ("sidecars", sidecars)] {
        for (index, container) in containers.iter().enumerate() {
            let field = format!("spec.podTemplate.{list}[{index}]");
            if !label(&container.name) {
                problems.say(
                    format!("{field}.name"),
                    "is no name of a container: at most 63 lower-case letters, digits and '-'",
                );
            }
            if !names.insert(&container.name) {
                problems
                    .say(format!("{field}.name"), "another container has that name: choose one of its own");
            }
            if container.image.as_deref().unwrap_or_default().is_empty() {
                problems.say(format!("{field}.image"), "is needed");
            }
            for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
                let known = volumes.iter().any(|volume| volume.name == mount.name)
                    || [volumes::DATA, volumes::TMP].contains(&&*mount.name);
                if !known {
                    problems.say(
                        format!("{field}.volumeMounts[{at}].name"),
                        format!("there is no volume {:?} in podTemplate.volumes, and of the operator's only `data` and `tmp` can be shared", mount.name),
                    );
                }
            }
        }
    }
}

/// Reads each into its type. A field that the type does not have is said, not dropped: it would be a typing error that nobody sees.
/// A list of Kubernetes' own objects; what it does not know is a problem, by field.
pub(crate) fn read<T: DeserializeOwned + Serialize>(
    problems: &mut Problems,
    field: &str,
    raw: &[Value],
) -> Vec<T> {
    let mut all = Vec::with_capacity(raw.len());
    for (index, value) in raw.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let value = quantities_as_text(value);
        match serde_json::from_value::<T>(value.clone()) {
            Ok(typed) => {
                let written = serde_json::to_value(&typed).unwrap_or_default();
                if let Some(lost) = lost(&value, &written) {
                    let lost = lost.trim_start_matches('.');
                    problems.say(&field, format!("Kubernetes has no field {lost:?} there"));
                }
                all.push(typed);
            }
            Err(error) => problems.say(&field, format!("cannot be read: {}", short(&error.to_string()))),
        }
    }
    all
}

/// YAML's bare numbers, where Kubernetes takes a quantity as well: `cpu: 1`.
fn quantities_as_text(value: &Value) -> Value {
    let text = |value: &Value| match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => quantities_as_text(other),
    };
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(name, value)| {
                    let value = match (name.as_str(), value) {
                        ("limits" | "requests", Value::Object(amounts)) => {
                            Value::Object(amounts.iter().map(|(k, v)| (k.clone(), text(v))).collect())
                        }
                        ("sizeLimit", amount) => text(amount),
                        (_, other) => quantities_as_text(other),
                    };
                    (name.clone(), value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(quantities_as_text).collect()),
        other => other.clone(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The path of something that is in `given` and not in `kept`; nulls are nothing.
fn lost(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(name, value)| {
            if value.is_null() {
                return None;
            }
            let below = match kept.get(name) {
                Some(kept) => lost(value, kept)?,
                None => String::new(),
            };
            Some(format!(".{}{below}", short(name)))
        }),
        (Value::Array(given), Value::Array(kept)) => given.iter().enumerate().find_map(|(index, value)| {
            let below = match kept.get(index) {
                Some(kept) => lost(value, kept)?,
                None => String::new(),
            };
            Some(format!("[{index}]{below}"))
        }),
        _ => None,
    }
}
