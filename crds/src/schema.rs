//! Pieces of schema that Rust types do not say by themselves.

use schemars::{Schema, SchemaGenerator, json_schema};

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

/// Settings of a node: keys in `snake_case`, values as text.
pub fn settings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}
