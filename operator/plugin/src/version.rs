//! `kubectl sluice version`: the versions of all parts.

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde::Serialize;

use crate::args::Output;
use crate::failure::{Asked, Failure};
use crate::logs::operator_selector;
use crate::print;
use crate::session::Session;
use crate::snapshot::{self, pods_selector};

/// The versions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    plugin: &'static str,
    kubernetes: String,
    /// Images of the operator's pods.
    operator: Vec<String>,
    /// Images of nodes, and how many run each.
    nodes: Vec<Image>,
    notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Image {
    image: String,
    pods: usize,
}

/// Reads and prints.
pub(crate) async fn run(session: &Session, output: Output) -> Result<(), Failure> {
    let asked = Asked::all("get", "/version", None);
    let kubernetes = session.ask(asked, session.client.apiserver_version()).await?.git_version;
    let mut notes = Vec::new();
    let operators =
        images(session, Some(&session.operator_namespace), &operator_selector(), &mut notes).await?;
    let nodes = images(session, session.namespace.as_deref(), &pods_selector(), &mut notes).await?;
    let versions = Versions {
        plugin: env!("CARGO_PKG_VERSION"),
        kubernetes,
        operator: operators.into_iter().map(|image| image.image).collect(),
        nodes,
        notes,
    };
    if output == Output::Json {
        return print::json(&versions);
    }
    print::lines(&lines(&versions))
}

async fn images(
    session: &Session,
    namespace: Option<&str>,
    selector: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<Image>, Failure> {
    let api: Api<Pod> = session.api(namespace);
    match session.list(&api, "pods", namespace, selector).await {
        Ok(pods) => Ok(count(&pods)),
        Err(failure) if failure.is_partial() => {
            notes.push(failure.to_string());
            Ok(Vec::new())
        }
        Err(failure) => Err(failure),
    }
}

/// The images of pods: of nodes, the node's own container.
fn count(pods: &[Pod]) -> Vec<Image> {
    let mut found: Vec<Image> = Vec::new();
    for pod in pods {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut containers = containers
            .filter(|container| !snapshot::is_ours(pod) || container.name == sluice_crds::names::CONTAINER);
        let Some(image) = containers.next().and_then(|container| container.image.clone()) else {
            continue;
        };
        match found.iter_mut().find(|one| one.image == image) {
            Some(one) => one.pods += 1,
            None => found.push(Image { image, pods: 1 }),
        }
    }
    found.sort_by(|a, b| a.image.cmp(&b.image));
    found
}

fn lines(versions: &Versions) -> Vec<String> {
    let mut lines =
        vec![format!("Plugin:     {}", versions.plugin), format!("Kubernetes: {}", versions.kubernetes)];
    lines.extend(versions.operator.iter().map(|image| format!("Operator:   {image}")));
    if versions.operator.is_empty() {
        lines.push("Operator:   none seen (see --operator-namespace)".into());
    }
    lines.extend(versions.nodes.iter().map(|image| {
        format!(
            "Nodes:      {} ({} {})",
            image.image,
            image.pods,
            if image.pods == 1 { "pod" } else { "pods" }
        )
    }));
    lines.extend(versions.notes.iter().map(|note| format!("Not all could be read: {note}.")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_counted() {
        let pod = |name: &str, image: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name, "labels": {
                    "app.kubernetes.io/name": "sluice-node",
                    "app.kubernetes.io/managed-by": "sluice-operator",
                    "sluice.dev/pool": "p",
                } },
                "spec": { "containers": [{ "name": "side", "image": "s:1" }, { "name": "node", "image": image }] },
            }))
            .unwrap()
        };
        let nodes = count(&[pod("a", "n:2"), pod("b", "n:1"), pod("c", "n:2")]);
        assert_eq!(nodes, [Image { image: "n:1".into(), pods: 1 }, Image { image: "n:2".into(), pods: 2 }]);
        let versions = Versions {
            plugin: "1",
            kubernetes: "v1.35.4".into(),
            operator: Vec::new(),
            nodes,
            notes: Vec::new(),
        };
        assert_eq!(
            lines(&versions),
            [
                "Plugin:     1",
                "Kubernetes: v1.35.4",
                "Operator:   none seen (see --operator-namespace)",
                "Nodes:      n:1 (1 pod)",
                "Nodes:      n:2 (2 pods)",
            ]
        );
    }
}
