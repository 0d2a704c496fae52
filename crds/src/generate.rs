//! The CustomResourceDefinitions, made from the types, with everything bounded that they leave open.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use sha2::{Digest, Sha256};

use crate::{EdgePool, MediaCluster, OriginPool};

/// Limits for what a type does not bound itself: CEL's cost is estimated from them, and an object stays far below what etcd takes.
const STRING: i64 = 1024;
const LIST: i64 = 64;
const MAP: i64 = 64;

/// All three definitions.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [MediaCluster::crd(), OriginPool::crd(), EdgePool::crd()].map(|mut crd| {
        for version in &mut crd.spec.versions {
            if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
            {
                for part in ["spec", "status"] {
                    if let Some(part) = root.properties.as_mut().and_then(|fields| fields.get_mut(part)) {
                        bound(part);
                    }
                }
            }
        }
        crd
    })
}

/// The first ten digits (hexadecimal) of a SHA-256: enough to tell revisions apart.
pub fn short_hash(bytes: &[u8]) -> String {
    hash(bytes).chars().take(10).collect()
}

/// A SHA-256, hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bound(schema: &mut JSONSchemaProps) {
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() && schema.format.as_deref() != Some("date-time") => {
            schema.max_length.get_or_insert(STRING);
        }
        Some("array") => {
            schema.max_items.get_or_insert(LIST);
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(MAP);
        }
        _ => {}
    }
    for field in schema.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        bound(field);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => bound(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(bound),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        bound(value);
    }
}
