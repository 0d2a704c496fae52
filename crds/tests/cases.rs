//! The table of specs in `cases/`: what CEL refuses is refused here with the same words as by the API server, to which
//! `e2e/kubernetes/cases.py` sends all of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde::Deserialize;
use serde_json::Value;
use sluice_crds::generate::crds;

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    /// What was there before, where the case is a change.
    old: Option<Value>,
    /// A JSON merge patch of the kind's base.
    patch: Value,
    #[serde(flatten)]
    refusal: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    refused_by: By,
    field: String,
    says: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum By {
    Schema,
    Cel,
    Condition,
}

fn wrong() -> Vec<Case> {
    serde_json::from_str(include_str!("../cases/wrong.json")).expect("a list of cases")
}

fn right() -> Vec<Case> {
    serde_json::from_str(include_str!("../cases/right.json")).expect("a list of cases")
}

struct Table {
    bases: BTreeMap<String, Value>,
    schemas: BTreeMap<String, CompiledSchema>,
    validator: Validator,
}

impl Table {
    fn new() -> Table {
        let schemas = crds()
            .iter()
            .map(|crd| {
                let schema =
                    crd.spec.versions.first().and_then(|version| version.schema.as_ref()).expect("a schema");
                let schema = serde_json::to_value(&schema.open_api_v3_schema).expect("a schema is JSON");
                let compiled = compile_schema(&schema);
                assert!(
                    !compiled.has_errors(),
                    "{}: {:?}",
                    crd.spec.names.kind,
                    compiled.compilation_errors()
                );
                (crd.spec.names.kind.clone(), compiled)
            })
            .collect();
        let bases = serde_json::from_str(include_str!("../cases/bases.json")).expect("objects by kind");
        Table { bases, schemas, validator: Validator::new() }
    }

    /// What the rules say: (field, message), with rules that could not be evaluated among them.
    fn say(&self, case: &Case) -> Vec<(String, String)> {
        let object = |patch: &Value| {
            let mut object = self.bases.get(&case.kind).expect("a base for the kind").clone();
            merge(&mut object, patch);
            object
        };
        let old = case.old.as_ref().map(object);
        let schema = self.schemas.get(&case.kind).expect("a schema for the kind");
        match self.validator.validate_compiled(schema, &object(&case.patch), old.as_ref()) {
            Ok(()) => Vec::new(),
            Err(errors) => errors
                .into_vec()
                .into_iter()
                .map(|error| {
                    let failed = matches!(error.kind, ErrorKind::ValidationFailure);
                    let message =
                        if failed { error.message } else { format!("not evaluated: {}", error.message) };
                    // A path from the root begins with a dot.
                    (error.field_path.trim_start_matches('.').to_owned(), message)
                })
                .collect(),
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in changes {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[test]
fn what_cel_refuses_is_refused_with_the_field_and_the_sentence() {
    let table = Table::new();
    let mut failed = Vec::new();
    let mut tried = 0;
    for case in wrong() {
        let refusal = case.refusal.as_ref().expect("a wrong one says who refuses it");
        if refusal.refused_by != By::Cel {
            continue;
        }
        tried += 1;
        let said = table.say(&case);
        let found = said.iter().any(|(field, message)| {
            let below = field.strip_prefix(&refusal.field);
            // A rule about metadata has no field of its own (the API server refuses such a path): its sentence names the field.
            let named = (field.is_empty() && message.contains(&refusal.field))
                || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            named && message.contains(&refusal.says)
        });
        if !found {
            failed.push(format!(
                "{}: {}: expected {}: {}; said {said:?}",
                case.kind, case.name, refusal.field, refusal.says
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(tried >= 40, "only {tried} cases");
}

#[test]
fn what_is_right_is_taken() {
    let table = Table::new();
    let failed: Vec<String> = right()
        .iter()
        .filter_map(|case| {
            let said = table.say(case);
            (!said.is_empty()).then(|| format!("{}: {}: {said:?}", case.kind, case.name))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(right().iter().filter(|case| case.old.is_some()).count() >= 5, "too few changes among them");
}

/// What the types can read is what the schema takes: a right spec loses nothing on its way through them.
#[test]
fn what_is_right_can_be_read() {
    let table = Table::new();
    for case in right() {
        let mut object = table.bases.get(&case.kind).expect("a base").clone();
        merge(&mut object, &case.patch);
        let read = |error: serde_json::Error| format!("{}: {error}", case.name);
        let written = match case.kind.as_str() {
            "MediaCluster" => {
                serde_json::from_value::<sluice_crds::MediaCluster>(object.clone()).map(serde_json::to_value)
            }
            "OriginPool" => {
                serde_json::from_value::<sluice_crds::OriginPool>(object.clone()).map(serde_json::to_value)
            }
            _ => serde_json::from_value::<sluice_crds::EdgePool>(object.clone()).map(serde_json::to_value),
        };
        let written =
            written.map_err(read).and_then(|value| value.map_err(read)).expect("it can be read and written");
        assert_eq!(lost(&object, &written), None, "{}", case.name);
    }
}

/// The path of something that is in `given` and not in `kept`; quantities may come back as text.
fn lost(given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            given.iter().find_map(|(name, value)| match kept.get(name) {
                Some(other) => lost(value, other).map(|rest| format!(".{name}{rest}")),
                None => Some(format!(".{name}")),
            })
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (value, other))| lost(value, other).map(|rest| format!("[{index}]{rest}"))),
        (Value::Number(number), Value::String(text)) if number.to_string() == *text => None,
        _ => (given != kept).then(|| format!(" is {kept} and not {given}")),
    }
}

#[test]
fn each_case_is_one_of_its_own() {
    let mut names = BTreeSet::new();
    for case in wrong().iter().chain(&right()) {
        assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
    }
    let wrong = wrong();
    let by = |by: By| {
        wrong.iter().filter(|case| case.refusal.as_ref().is_some_and(|r| r.refused_by == by)).count()
    };
    assert!(by(By::Schema) >= 20 && by(By::Condition) >= 5, "the table has lost cases");
}

/// Every sentence of a rule, wherever it stands in the schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                found.extend(rule.get("message").and_then(Value::as_str).map(str::to_owned));
            }
            fields.values().for_each(|field| messages(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

#[test]
fn every_rule_has_a_case() {
    let mut rules = BTreeSet::new();
    for crd in crds() {
        messages(&serde_json::to_value(&crd).expect("a definition is JSON"), &mut rules);
    }
    assert!(rules.len() >= 35, "only {} rules: the walk does not see them", rules.len());
    let cases = wrong();
    let without: Vec<&String> = rules
        .iter()
        .filter(|rule| {
            !cases.iter().any(|case| {
                case.refusal.as_ref().is_some_and(|r| r.refused_by == By::Cel && rule.contains(&r.says))
            })
        })
        .collect();
    assert!(without.is_empty(), "no wrong spec for {without:#?}");
}
