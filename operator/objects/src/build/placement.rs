//! Where pods may run.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodAntiAffinity,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::{gpu, meta};
use crate::Pool;

/// The label of machines with their own name.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The spec's affinity; pods of the pool prefer different machines unless the spec says something of pods to avoid.
pub(crate) fn affinity(pool: &Pool) -> Affinity {
    let mut affinity = pool.spec().placement.affinity.clone().unwrap_or_default();
    affinity.pod_anti_affinity.get_or_insert_with(|| PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
            weight: 100,
            pod_affinity_term: PodAffinityTerm {
                label_selector: Some(meta::selector(meta::pool_selector(pool, &[]))),
                topology_key: HOSTNAME.into(),
                ..PodAffinityTerm::default()
            },
        }]),
        required_during_scheduling_ignored_during_execution: None,
    });
    if let Some(products) = gpu::products(&pool.spec().gpu) {
        let node = affinity.node_affinity.get_or_insert_default();
        require(node.required_during_scheduling_ignored_during_execution.get_or_insert_default(), &products);
    }
    affinity
}

/// Adds a requirement. Terms are alternatives, so each gets it; an empty term matches nothing and stays so.
fn require(selector: &mut NodeSelector, requirement: &NodeSelectorRequirement) {
    if selector.node_selector_terms.is_empty() {
        selector.node_selector_terms.push(NodeSelectorTerm {
            match_expressions: Some(vec![requirement.clone()]),
            match_fields: None,
        });
        return;
    }
    for term in &mut selector.node_selector_terms {
        let empty = term.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && term.match_fields.as_ref().is_none_or(Vec::is_empty);
        if !empty {
            term.match_expressions.get_or_insert_default().push(requirement.clone());
        }
    }
}

pub(crate) fn tolerations(pool: &Pool) -> Option<Vec<Toleration>> {
    let mut all = pool.spec().placement.tolerations.clone();
    for one in gpu::tolerations(&pool.spec().gpu) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    (!all.is_empty()).then_some(all)
}

/// The spec's constraints; one without a selector means the pool's pods.
pub(crate) fn spread(pool: &Pool) -> Option<Vec<TopologySpreadConstraint>> {
    let mut all = pool.spec().placement.spread.clone();
    for constraint in &mut all {
        constraint.label_selector.get_or_insert_with(|| meta::selector(meta::pool_selector(pool, &[])));
    }
    (!all.is_empty()).then_some(all)
}
