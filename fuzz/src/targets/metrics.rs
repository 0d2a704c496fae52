//! What the API server passes on to the operator's metrics API: a path and a query that anybody may have written.

use sluice_custom_metrics::{Ask, METRICS, Objects, Refusal, Selector, Unclear};

/// Parts of a path and of a query.
pub(crate) const WORDS: &[&[u8]] = &[
    b"/apis/custom.metrics.k8s.io/v1beta2",
    b"/apis/custom.metrics.k8s.io/v1beta1/namespaces/media/",
    b"edgepools.sluice.dev/",
    b"pods/*/",
    b"capacity_used",
    b"?labelSelector=",
    b"&metricLabelSelector=",
    b"%2C",
    b"+in+(",
    b"notin (a,b)",
    b"!=",
    b"!",
];

/// What is understood has names that Kubernetes would give; what is not is told in a sentence of a bounded length.
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let good = |name: &str| {
        (1..=253).contains(&name.len())
            && !name.contains(|c: char| c.is_control() || c == '/' || c == '%' || c.is_whitespace())
    };
    match Ask::parse(path, query) {
        Ok(Ask::Value(question)) => {
            assert!(METRICS.contains(&question.metric) && good(&question.namespace));
            match &question.objects {
                Objects::One(name) => assert!(good(name)),
                // No condition asks for a label of another kind than those that there are.
                Objects::All(selector) => {
                    let all = *selector == Selector::default();
                    let (none, some) = (selector.fits(|_| None), selector.fits(|_| Some("a")));
                    assert!(!all || (none && some));
                }
            }
        }
        Ok(_) => {}
        Err(unclear) => {
            let said = unclear.to_string();
            assert!(!said.is_empty() && said.len() < 2048 && !said.contains(char::is_control), "{said:?}");
            let refusal = match unclear {
                Unclear::Selector(_) => Refusal::BadRequest(said),
                Unclear::NotFound(_) => Refusal::NotFound(said),
            };
            let status = refusal.status().to_string();
            assert!(serde_json::from_str::<serde_json::Value>(&status).is_ok());
        }
    }
}
