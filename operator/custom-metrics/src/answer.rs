//! How it is answered: JSON as `k8s.io/metrics` defines it.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::path::METRICS;
use crate::{GROUP, Kind, Version};

/// An exact number of thousandths, written as Kubernetes writes quantities: `12`, `1500m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(u128);

impl Quantity {
    /// A whole number.
    pub fn whole(number: u64) -> Quantity {
        Quantity(u128::from(number) * 1000)
    }

    /// So many thousandths.
    pub fn thousandths(number: u64) -> Quantity {
        Quantity(u128::from(number))
    }

    /// `part` of `whole`, to the nearest thousandth; 0 of 0.
    pub fn fraction(part: u64, whole: u64) -> Quantity {
        let whole = u128::from(whole);
        Quantity((u128::from(part) * 1000 + whole / 2).checked_div(whole).unwrap_or_default())
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(all: I) -> Quantity {
        all.fold(Quantity::default(), |sum, one| sum + one)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (whole, 0) => write!(f, "{whole}"),
            _ => write!(f, "{}m", self.0),
        }
    }
}

/// What a metric of one object is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What the object is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When that was so.
    pub at: Timestamp,
    /// How much.
    pub value: Quantity,
}

/// Values of a metric: a `MetricValueList`.
pub fn list(version: Version, metric: &str, items: &[Item]) -> Value {
    let items: Vec<Value> = items.iter().map(|item| described(version, metric, item)).collect();
    json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{GROUP}/{}", version.as_str()),
        "metadata": {},
        "items": items,
    })
}

fn described(version: Version, metric: &str, item: &Item) -> Value {
    let mut described = json!({
        "describedObject": {
            "kind": item.kind.name(),
            "namespace": item.namespace,
            "name": item.name,
            "apiVersion": item.kind.api_version(),
        },
    });
    match version {
        Version::V1Beta1 => described["metricName"] = json!(metric),
        Version::V1Beta2 => described["metric"] = json!({ "name": metric }),
    }
    described["timestamp"] = json!(item.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    described["value"] = json!(item.value.to_string());
    described
}

/// Which metrics there are: an `APIResourceList`.
pub fn resources(version: Version) -> Value {
    let all: Vec<Value> = Kind::ALL
        .iter()
        .flat_map(|kind| METRICS.map(|metric| format!("{}/{metric}", kind.resource())))
        .map(|name| {
            json!({
                "name": name, "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"],
            })
        })
        .collect();
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{}", version.as_str()),
        "resources": all,
    })
}

/// A description without paths, of `OpenAPI` 2 or 3: metrics are not described there, and the API server wants to be told so.
pub fn nothing_to_describe(three: bool) -> Value {
    if three {
        return json!({ "paths": {} });
    }
    json!({
        "swagger": "2.0",
        "info": { "title": GROUP, "version": Version::V1Beta2.as_str() },
        "paths": {},
    })
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was asked cannot be read.
    BadRequest(String),
    /// Who asks is not the API server.
    Unauthorized(String),
    /// There is no such object or metric.
    NotFound(String),
    /// Nothing is changed here.
    MethodNotAllowed(String),
    /// It is not known now: whoever scales by it keeps what there is.
    Unknown(String),
}

impl Refusal {
    /// The status of HTTP.
    pub fn code(&self) -> u16 {
        self.parts().0
    }

    /// One word, for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Refusal::BadRequest(_) => "bad_request",
            Refusal::Unauthorized(_) => "unauthorized",
            Refusal::NotFound(_) => "not_found",
            Refusal::MethodNotAllowed(_) => "bad_method",
            Refusal::Unknown(_) => "unknown_value",
        }
    }

    /// As a `Status`.
    pub fn status(&self) -> Value {
        let (code, reason, message) = self.parts();
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
            "code": code,
        })
    }

    fn parts(&self) -> (u16, &'static str, &str) {
        match self {
            Refusal::BadRequest(message) => (400, "BadRequest", message),
            Refusal::Unauthorized(message) => (401, "Unauthorized", message),
            Refusal::NotFound(message) => (404, "NotFound", message),
            Refusal::MethodNotAllowed(message) => (405, "MethodNotAllowed", message),
            Refusal::Unknown(message) => (503, "ServiceUnavailable", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(Quantity::whole(12).to_string(), "12");
        assert_eq!(Quantity::thousandths(1500).to_string(), "1500m");
        assert_eq!(Quantity::thousandths(3000).to_string(), "3");
        assert_eq!(Quantity::fraction(1, 3).to_string(), "333m");
        assert_eq!(Quantity::fraction(2, 3).to_string(), "667m");
        assert_eq!(Quantity::fraction(7, 0), Quantity::default());
        assert_eq!(Quantity::whole(u64::MAX).to_string(), u64::MAX.to_string());
        let sum: Quantity = [Quantity::fraction(1, 2), Quantity::whole(1)].into_iter().sum();
        assert_eq!(sum.to_string(), "1500m");
    }

    #[test]
    fn both_versions_are_as_the_autoscaler_reads_them() {
        let item = Item {
            kind: Kind::EdgePool,
            namespace: "media".into(),
            name: "demo-edge".into(),
            at: "2026-01-01T00:00:00.75Z".parse().unwrap(),
            value: Quantity::whole(7),
        };
        let object = json!({
            "kind": "EdgePool", "namespace": "media", "name": "demo-edge", "apiVersion": "sluice.dev/v1alpha1",
        });
        let two = list(Version::V1Beta2, "viewers", std::slice::from_ref(&item));
        assert_eq!(two["apiVersion"], "custom.metrics.k8s.io/v1beta2");
        assert_eq!(
            two["items"],
            json!([{
                "describedObject": object, "metric": { "name": "viewers" }, "timestamp": "2026-01-01T00:00:00Z", "value": "7",
            }])
        );
        let one = list(Version::V1Beta1, "viewers", &[item]);
        assert_eq!(one["apiVersion"], "custom.metrics.k8s.io/v1beta1");
        assert_eq!(
            (&one["items"][0]["metricName"], one["items"][0].get("metric")),
            (&json!("viewers"), None)
        );
    }

    #[test]
    fn every_metric_of_every_kind_is_listed() {
        let list = resources(Version::V1Beta1);
        let names: Vec<&str> =
            list["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names.len(), 15);
        for name in ["pods/streams", "originpools.sluice.dev/encoder_load", "edgepools.sluice.dev/viewers"] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_refusal_is_a_status() {
        let status = Refusal::Unknown("why".into()).status();
        assert_eq!(
            (&status["code"], &status["reason"], &status["message"]),
            (&json!(503), &json!("ServiceUnavailable"), &json!("why"))
        );
    }
}
