//! Pieces of schema that Rust types do not say by themselves.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::names::OPERATOR_SETTINGS;

/// An object whose fields are not known here.
pub fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A list of named objects whose fields Kubernetes knows: it checks them when the pod is made.
pub fn free_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "required": ["name"],
            "properties": { "name": { "type": "string", "minLength": 1, "maxLength": 253, "description": "Its name." } }
        }
    })
}

/// Metrics of a HorizontalPodAutoscaler: it checks them itself.
pub fn metrics(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "required": ["type"],
            "properties": { "type": { "type": "string", "minLength": 1, "maxLength": 64, "description": "Resource, ContainerResource, Pods, Object or External." } }
        }
    })
}

/// Settings of a node: keys in `snake_case`, values as text.
pub fn settings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}

/// The rule that keeps passwords out of specs.
pub fn no_passwords() -> Rule {
    Rule::new("!('rtc_turn_password' in self)").message(
        "config may not have rtc_turn_password, for whoever reads the pool would read it: mount a Secret with podTemplate.volumes and \
         podTemplate.volumeMounts, and set rtc_turn_password_file to its path",
    )
}

/// The rule that refuses settings which the operator sets itself.
pub fn not_the_operators() -> Rule {
    let keys = OPERATOR_SETTINGS.map(|key| format!("'{key}'")).join(", ");
    Rule::new(format!("self.all(k, !(k in [{keys}]))")).message(
        "config may not set what the operator sets itself: identity, role, addresses, members, store, keys, tokens and certificates come \
         from other fields, max_streams and max_viewers from capacity, node_group from group, drain_deadline, drain_waits_for and \
         shutdown_timeout from drain",
    )
}
