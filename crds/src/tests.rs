//! Of the generated definitions: what Kubernetes needs of them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use crate::generate::crds;
use crate::names::{name_prefix, slot};

fn schemas() -> Vec<(String, JSONSchemaProps)> {
    crds()
        .into_iter()
        .flat_map(|crd| {
            let name = crd.spec.names.kind.clone();
            crd.spec
                .versions
                .into_iter()
                .filter_map(move |version| Some((name.clone(), version.schema?.open_api_v3_schema?)))
        })
        .collect()
}

fn walk(
    path: &str,
    schema: &JSONSchemaProps,
    named: bool,
    visit: &mut impl FnMut(&str, &JSONSchemaProps, bool),
) {
    visit(path, schema, named);
    for (name, field) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), field, true, visit);
    }
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    };
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk(&format!("{path}[]"), item, false, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), value, false, visit);
    }
}

#[test]
fn every_field_is_documented_and_bounded() {
    let mut wrong = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            let part_schema =
                schema.properties.as_ref().and_then(|fields| fields.get(part)).expect("both are there");
            walk(&format!("{kind}.{part}"), part_schema, true, &mut |path, field, named| {
                if named && field.description.as_deref().unwrap_or_default().is_empty() {
                    wrong.push(format!("{path}: no description"));
                }
                match field.type_.as_deref() {
                    Some("string")
                        if field.max_length.is_none() && field.enum_.is_none() && field.format.is_none() =>
                    {
                        wrong.push(format!("{path}: no maxLength"));
                    }
                    Some("array") if field.max_items.is_none() => wrong.push(format!("{path}: no maxItems")),
                    Some("object")
                        if field.additional_properties.is_some() && field.max_properties.is_none() =>
                    {
                        wrong.push(format!("{path}: no maxProperties"));
                    }
                    _ => {}
                }
            });
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn kinds_have_their_names_columns_and_scale() {
    let [cluster, origin, edge] = crds();
    for (crd, short) in [(&cluster, "mcl"), (&origin, "opool"), (&edge, "epool")] {
        let names = &crd.spec.names;
        assert_eq!(names.short_names.as_deref(), Some(&[short.to_string()][..]));
        assert_eq!(names.categories.as_deref(), Some(&["sluice".to_string()][..]));
        let version = crd.spec.versions.first().expect("one version");
        let columns = version.additional_printer_columns.as_ref().expect("columns");
        for name in ["Phase", "Ready", "Streams", "Viewers", "Age"] {
            assert!(columns.iter().any(|column| column.name == name), "{}: {name}", names.kind);
        }
        assert!(columns.iter().any(|column| column.priority == Some(1)), "{}: no wide column", names.kind);
        assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()));
        // Client-side apply keeps the whole object in an annotation of at most 256 KiB.
        assert!(serde_json::to_string(crd).expect("JSON").len() < 200_000);
    }
    for crd in [&origin, &edge] {
        let sub = crd
            .spec
            .versions
            .first()
            .and_then(|version| version.subresources.as_ref())
            .expect("subresources");
        let scale = sub.scale.as_ref().expect("scale");
        assert_eq!(scale.spec_replicas_path, ".spec.replicas");
        assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
    }
}

#[test]
fn prefixes_of_two_clusters_differ() {
    assert_eq!(name_prefix("media", "demo"), "media-demo-");
    let prefixes: Vec<String> = [
        ("a-b", "c"),
        ("a", "b-c"),
        ("a", "b"),
        ("averyveryverylongnamespace", "x"),
        ("averyveryverylongnamespace", "y"),
    ]
    .iter()
    .map(|(namespace, name)| name_prefix(namespace, name))
    .collect();
    for (index, prefix) in prefixes.iter().enumerate() {
        assert!(prefix.len() <= crate::names::NAME_PREFIX_BYTES, "{prefix}");
        assert!(!prefixes[..index].contains(prefix), "{prefix}");
    }
}

#[test]
fn slots_are_read_from_names_of_the_pool_only() {
    assert_eq!(slot("edge", "edge-0"), Some(0));
    assert_eq!(slot("edge", "edge-12"), Some(12));
    for other in ["edge-", "edge-a", "edge-01", "edges-1", "edge-1-2", "edge", "edge-99999999999"] {
        assert_eq!(slot("edge", other), None, "{other}");
    }
}

#[test]
fn what_the_operator_sets_is_refused_in_pools() {
    let list = crate::names::OPERATOR_SETTINGS;
    assert!(list.is_sorted(), "{list:?}");
    for (kind, schema) in schemas().into_iter().filter(|(kind, _)| kind != "MediaCluster") {
        let spec = schema.properties.as_ref().and_then(|fields| fields.get("spec")).expect("a spec");
        let config = spec.properties.as_ref().and_then(|fields| fields.get("config")).expect("config");
        let rules = config.x_kubernetes_validations.as_deref().unwrap_or_default();
        let inside = rules
            .iter()
            .find_map(|rule| rule.rule.split_once("k in [")?.1.split_once(']'))
            .expect("a list")
            .0;
        let keys: Vec<&str> = inside.split(", ").map(|key| key.trim_matches('\'')).collect();
        assert_eq!(keys, list, "{kind}");
    }
}
