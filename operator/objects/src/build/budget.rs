//! No eviction of a pod that accepts or holds sessions.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_crds::names;

use super::meta;
use crate::Pool;

/// More than any pool has. A number it must be: with `maxUnavailable` or a percentage Kubernetes takes the expected count from the
/// pool's `spec.replicas`, and draining pods beyond it could be evicted.
const MORE_THAN_ANY: i32 = 1_000_000;

/// One budget for a pool, over its busy pods: two budgets over one pod would make its eviction an error.
pub(crate) fn budget(pool: &Pool) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta::of_pool(pool, pool.name().to_owned()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(MORE_THAN_ANY)),
            selector: Some(meta::selector(meta::pool_selector(pool, &[(names::BUSY, "true")]))),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
