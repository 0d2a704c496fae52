//! The protocol of `custom.metrics.k8s.io`, both versions: what is asked by a path and a query, and how it is answered in JSON. Pure.
//! It knows which objects have metrics and what those are called, not what they are worth.

mod answer;
mod path;
mod selector;

pub use answer::{Item, Quantity, Refusal, list, nothing_to_describe, resources};
pub use path::{Ask, Kind, METRICS, Objects, Question, Unclear, Version};
pub use selector::{BadSelector, Selector};

/// The API's group.
pub const GROUP: &str = "custom.metrics.k8s.io";
