//! Files that are made from the types: definitions for Helm and for kustomize, and the API reference.
//!
//! `SLUICE_WRITE_CRDS=1 cargo test -p sluice-crds` writes them; without it a file that is not current fails the test.

mod reference;

use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice_crds::generate::crds;
use sluice_crds::yaml;

const NOTE: &str =
    "# Written by `SLUICE_WRITE_CRDS=1 cargo test -p sluice-crds` from crds/src: change it there.\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A definition as text, in the order of its kind's names.
fn definitions() -> Vec<(String, Value)> {
    crds()
        .iter()
        .map(|crd| {
            let value = serde_json::to_value(crd).expect("a definition is JSON");
            (format!("{}.yaml", crd.spec.names.plural), value)
        })
        .collect()
}

fn current(path: &Path, text: &str) {
    if std::env::var_os("SLUICE_WRITE_CRDS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not current: run SLUICE_WRITE_CRDS=1 cargo test -p sluice-crds",
        path.display()
    );
}

/// For a Helm template: what Helm would take for its own is said so that it comes out as it is.
fn helm(mut crd: Value) -> String {
    let metadata = crd.pointer_mut("/metadata").and_then(Value::as_object_mut).expect("metadata");
    let mut body = {
        metadata.insert("annotations".into(), serde_json::json!({ "helm.sh/resource-policy": "keep" }));
        yaml::document(&crd)
    };
    body = body.replace("{{", "{{ \"{{\" }}");
    format!("{{{{- if .Values.crds.install }}}}\n{NOTE}{body}{{{{- end }}}}\n")
}

#[test]
fn definitions_for_kustomize_are_current() {
    for (file, crd) in definitions() {
        current(&root().join("config/crd").join(file), &format!("{NOTE}{}", yaml::document(&crd)));
    }
}

#[test]
fn definitions_for_helm_are_current() {
    for (file, crd) in definitions() {
        current(&root().join("charts/sluice/templates/crds").join(file), &helm(crd));
    }
}

#[test]
fn the_api_reference_is_current() {
    current(&root().join("docs/kubernetes-api.md"), &reference::markdown(&crds()));
}

#[test]
fn braces_survive_helm() {
    let crd = serde_json::json!({ "metadata": { "name": "x" }, "text": "a {{b}}" });
    assert!(helm(crd).contains("a {{ \"{{\" }}b}}"));
}
