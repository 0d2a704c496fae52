//! Where pods may run.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodAntiAffinity,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use super::{generation, gpu, meta};
use crate::Pool;

/// The label of machines with their own name.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The taints that Kubernetes gives to a machine that does not answer.
const SILENT: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The effect of taints by which pods that run are deleted.
const NO_EXECUTE: &str = "NoExecute";

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

/// The spec's tolerations, that of the GPU, and those by which pods stay on a machine that does not answer.
pub(crate) fn tolerations(pool: &Pool, generation: i64) -> Option<Vec<Toleration>> {
    let given = &pool.spec().placement.tolerations;
    let mut all = given.clone();
    for one in gpu::tolerations(&pool.spec().gpu) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    if generation::of(generation).outlasts_silence {
        all.extend(SILENT.into_iter().filter(|key| !says_of(given, key)).map(|key| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(NO_EXECUTE.into()),
            ..Toleration::default()
        }));
    }
    (!all.is_empty()).then_some(all)
}

/// Whether tolerations say how long a pod stays with this taint, as Kubernetes reads them before it adds its own five minutes.
fn says_of(tolerations: &[Toleration], key: &str) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    tolerations.iter().any(|one| {
        let (its, effect) = (text(&one.key), text(&one.effect));
        (its.is_empty() || its == key) && (effect.is_empty() || effect == NO_EXECUTE)
    })
}

/// The spec's constraints; one without a selector means the pool's pods.
pub(crate) fn spread(pool: &Pool) -> Option<Vec<TopologySpreadConstraint>> {
    let mut all = pool.spec().placement.spread.clone();
    for constraint in &mut all {
        constraint.label_selector.get_or_insert_with(|| meta::selector(meta::pool_selector(pool, &[])));
    }
    (!all.is_empty()).then_some(all)
}
