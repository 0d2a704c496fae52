//! docs/kubernetes-api.md: every field of every kind, from the definitions.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

const INTRODUCTION: &str = "# Kubernetes API

<!-- Written by `SLUICE_WRITE_CRDS=1 cargo test -p sluice-crds` from crds/src: change it there. -->

Group `sluice.dev`, version `v1alpha1`. `kubectl explain mediacluster.spec` shows the same texts.

- The API server fills in defaults and refuses what does not fit, in words that name the field. What it cannot know (a Secret that is
  not there) is explained in a condition; see [Operating a cluster](kubernetes-operations.md).
- **bold** fields must be given. Where no default stands, a field that is left out means what its text says.
- Settings that `spec.config` of a pool takes are those of the [configuration](configuration.md), as text.
";

/// What Kubernetes documents itself: named here, not repeated.
const KNOWN: &[(&str, &str)] = &[
    ("affinity", "Affinity, of Kubernetes' core/v1"),
    ("tolerations", "list of Toleration, of Kubernetes' core/v1"),
    ("spread", "list of TopologySpreadConstraint, of Kubernetes' core/v1"),
    ("conditions", "list of Condition, of Kubernetes' meta/v1"),
];

/// The page, complete.
pub(crate) fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (index, crd) in crds.iter().enumerate() {
        kind(crd, &crds[..index], &mut page);
    }
    page
}

fn kind(crd: &CustomResourceDefinition, before: &[CustomResourceDefinition], page: &mut String) {
    let names = &crd.spec.names;
    let _ = write!(page, "\n## {}\n\n", names.kind);
    let version = crd.spec.versions.first().expect("a version");
    let root =
        version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).expect("a schema");
    let _ = writeln!(page, "{}\n", text(root));
    let _ = writeln!(
        page,
        "`kubectl get {}`, short `{}`; in the category `sluice`.{}",
        names.plural,
        names.short_names.iter().flatten().cloned().collect::<Vec<_>>().join("`, `"),
        if version.subresources.as_ref().is_some_and(|sub| sub.scale.is_some()) {
            " Has `scale`: `kubectl scale`, and autoscalers."
        } else {
            ""
        }
    );
    let rules = rules(root);
    if !rules.is_empty() {
        let _ = writeln!(
            page,
            "\nRules:\n\n{}",
            rules.iter().map(|rule| format!("- {rule}")).collect::<Vec<_>>().join("\n")
        );
    }
    let columns: Vec<String> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| {
            if column.priority == Some(1) {
                format!("{} (`-o wide`)", column.name)
            } else {
                column.name.clone()
            }
        })
        .collect();
    let _ = writeln!(page, "\nColumns: {}.", columns.join(", "));
    for part in ["spec", "status"] {
        let _ = write!(page, "\n### {} {part}\n\n", names.kind);
        let Some(schema) = part_of(crd, part) else { continue };
        let all = |schema: &JSONSchemaProps| schema.properties.clone().unwrap_or_default();
        let mine = all(schema);
        // The kinds of pools have most in common: what was said is not said again.
        let same = before.iter().find_map(|other| {
            let theirs = all(part_of(other, part)?);
            let within = mine.iter().all(|(name, field)| theirs.get(name) == Some(field));
            let without: Vec<String> = theirs
                .keys()
                .filter(|name| !mine.contains_key(*name))
                .map(|name| format!("`{name}`"))
                .collect();
            within.then(|| (other.spec.names.kind.clone(), without.join(", ")))
        });
        match same {
            Some((other, without)) => {
                let without = if without.is_empty() { without } else { format!(", without {without}") };
                let anchor = other.to_lowercase();
                let _ = writeln!(page, "The same fields as of [{other}](#{anchor}-{part}){without}.");
            }
            None => {
                page.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
                fields("", schema, page);
            }
        }
    }
}

fn part_of<'a>(crd: &'a CustomResourceDefinition, part: &str) -> Option<&'a JSONSchemaProps> {
    let root = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    root.properties.as_ref()?.get(part)
}

fn fields(path: &str, schema: &JSONSchemaProps, page: &mut String) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|needed| needed == name);
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let known = KNOWN.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        row(&here, field, required, known, page);
        if known.is_some() {
            continue;
        }
        fields(&here, field, page);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
            fields(&format!("{here}[]"), item, page);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &field.additional_properties {
            fields(&format!("{here}.*"), value, page);
        }
    }
}

fn row(path: &str, field: &JSONSchemaProps, required: bool, known: Option<&str>, page: &mut String) {
    let name = if required { format!("**`{path}`**") } else { format!("`{path}`") };
    let kind = known.map_or_else(|| shape(field), str::to_owned);
    let default = match &field.default {
        // An object's default is that of its fields, which stand below.
        Some(value) if value.0.is_object() => "–".to_owned(),
        Some(value) => format!("`{}`", show(&value.0)),
        None => "–".to_owned(),
    };
    let mut meaning = vec![text(field)];
    meaning.extend(rules(field).into_iter().map(|rule| format!("*{rule}*")));
    let _ =
        writeln!(page, "| {name} | {} | {} | {} |", cell(&kind), cell(&default), cell(&meaning.join(" ")));
}

fn shape(field: &JSONSchemaProps) -> String {
    if let Some(values) = &field.enum_ {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", show(&value.0))).collect();
        return format!("one of {}", values.join(", "));
    }
    if field.x_kubernetes_int_or_string == Some(true) {
        return "quantity".into();
    }
    let mut shape = match field.type_.as_deref() {
        Some("array") => match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", plain(item)),
            _ => "list".into(),
        },
        Some("object") => match &field.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(value)) => format!("map of {}", plain(value)),
            _ => "object".into(),
        },
        Some(other) => other.to_owned(),
        None => "any".into(),
    };
    let number = |value: f64| format!("{value:.0}");
    match (field.minimum, field.maximum) {
        (Some(min), Some(max)) => shape = format!("{shape}, {} to {}", number(min), number(max)),
        (Some(min), None) => shape = format!("{shape}, {} or more", number(min)),
        (None, Some(max)) => shape = format!("{shape}, at most {}", number(max)),
        (None, None) => {}
    }
    let longest = field.max_length.map(|n| format!("{n} characters"));
    let most = field.max_items.or(field.max_properties).map(|n| n.to_string());
    if let Some(limit) = longest.or(most) {
        shape = format!("{shape}, at most {limit}");
    }
    if let Some(pattern) = &field.pattern {
        shape = format!("{shape}, `{pattern}`");
    }
    shape
}

fn plain(field: &JSONSchemaProps) -> String {
    if field.x_kubernetes_int_or_string == Some(true) {
        return "quantities".into();
    }
    match field.type_.as_deref() {
        Some("string") => "text".into(),
        Some("object") => "objects".into(),
        Some(other) => other.to_owned(),
        None => "anything".into(),
    }
}

fn text(schema: &JSONSchemaProps) -> String {
    schema.description.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rules(schema: &JSONSchemaProps) -> Vec<String> {
    schema
        .x_kubernetes_validations
        .iter()
        .flatten()
        .filter_map(|rule| rule.message.clone())
        .map(|message| format!("{}.", message.trim_end_matches('.')))
        .collect()
}

fn show(value: &Value) -> String {
    value.as_str().filter(|text| !text.is_empty()).map_or_else(|| value.to_string(), str::to_owned)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
