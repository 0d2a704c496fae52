//! To which pods Kubernetes still sends new sessions: what the EndpointSlices of their Services list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_crds::names;

use super::status::View;
use crate::context::Context;

/// By which a slice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Writes into each pod that is drained since when no Service lists it for new sessions, as far as this operator has seen.
pub(super) fn note(context: &Context, namespace: &str, pool: &str, views: &mut [View<'_>], now: Timestamp) {
    let pool = pool.to_owned();
    if views.iter().all(|view| view.seen.drain.is_none()) {
        context.unlisted.remove(&pool);
        return;
    }
    let stores = &context.stores;
    let service = |name: &str| stores.services.get(namespace, name);
    let listed = listed(&stores.slices.filter(namespace, |_| true), service);
    let before = context.unlisted.get(&pool).unwrap_or_default();
    context.unlisted.put(pool, since(&listed, &before, views, now));
}

/// The uids of the pods that are listed by Services that lead to those which take new sessions. The others lead to draining pods too.
fn listed(slices: &[Arc<EndpointSlice>], service: impl Fn(&str) -> Option<Arc<Service>>) -> HashSet<String> {
    let mut chosen: BTreeMap<&str, bool> = BTreeMap::new();
    let mut uids = HashSet::new();
    for slice in slices {
        let Some(name) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
            continue;
        };
        let chosen = *chosen.entry(name).or_insert_with(|| {
            service(name).is_some_and(|service| {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector.is_some_and(|selector| selector.contains_key(names::ACCEPTING))
            })
        });
        if !chosen {
            continue;
        }
        // Nothing is sent to who is not ready; who says nothing is.
        let ready = slice.endpoints.iter().filter(|endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
        });
        uids.extend(ready.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()));
    }
    uids
}

/// Since when drained pods are in no list, by uid; `before` is what was found the last time.
fn since(
    listed: &HashSet<String>,
    before: &HashMap<String, Timestamp>,
    views: &mut [View<'_>],
    now: Timestamp,
) -> HashMap<String, Timestamp> {
    let mut all = HashMap::new();
    for view in views.iter_mut().filter(|view| view.seen.drain.is_some()) {
        let Some(uid) = view.pod.metadata.uid.clone().filter(|uid| !listed.contains(uid)) else { continue };
        let since = before.get(&uid).copied().unwrap_or(now);
        view.seen.unlisted = Some(since);
        all.insert(uid, since);
    }
    all
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::super::observe::observe;
    use super::*;
    use crate::machines::Standing;

    fn service(name: &str) -> Option<Arc<Service>> {
        let selector = match name {
            "edge" | "demo-watch" => json!({ (names::POOL): "edge", (names::ACCEPTING): "true" }),
            "edge-media" => json!({ (names::POOL): "edge" }),
            _ => return None,
        };
        let service = json!({ "metadata": { "name": name }, "spec": { "selector": selector } });
        Some(Arc::new(serde_json::from_value(service).expect("a Service")))
    }

    fn slice(service: &str, endpoints: Value) -> Arc<EndpointSlice> {
        let slice = json!({
            "metadata": { "labels": { (SERVICE_NAME): service } }, "addressType": "IPv4", "endpoints": endpoints
        });
        Arc::new(serde_json::from_value(slice).expect("a slice"))
    }

    fn endpoint(uid: &str, conditions: Value) -> Value {
        json!({ "addresses": [], "conditions": conditions, "targetRef": { "kind": "Pod", "uid": uid } })
    }

    #[test]
    fn only_services_for_new_sessions_count() {
        let ready = || json!({ "ready": true });
        let slices = [
            slice("edge", json!([endpoint("a", ready()), endpoint("b", json!({ "ready": false }))])),
            slice("edge", json!([endpoint("c", json!({}))])),
            slice("demo-watch", json!([endpoint("d", ready()), { "addresses": [] }])),
            slice("edge-media", json!([endpoint("e", ready())])),
            slice("strange", json!([endpoint("f", ready())])),
        ];
        let found = listed(&slices, service);
        assert_eq!(found, HashSet::from(["a", "c", "d"].map(str::to_owned)));
    }

    #[test]
    fn it_is_counted_from_when_a_drained_pod_is_in_no_list() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let pods: Vec<Pod> = [("a", true), ("b", true), ("c", false)]
            .iter()
            .enumerate()
            .map(|(slot, (uid, drained))| {
                let annotations =
                    if *drained { json!({ (names::DRAINING_SINCE): at(0).to_string() }) } else { json!({}) };
                let meta = json!({ "name": format!("edge-{slot}"), "uid": uid, "annotations": annotations });
                serde_json::from_value(json!({ "metadata": meta })).expect("a pod")
            })
            .collect();
        let look = |listed: &[&str], before: &HashMap<String, Timestamp>, now| {
            let view = |pod| {
                let seen = observe("edge", pod, None, Standing::default(), at(now)).expect("of the pool");
                View { pod, seen, report: None, failure: None, again: None }
            };
            let mut views: Vec<View<'_>> = pods.iter().map(view).collect();
            let listed = listed.iter().map(|uid| (*uid).to_owned()).collect();
            let after = since(&listed, before, &mut views, at(now));
            (views.iter().map(|view| view.seen.unlisted).collect::<Vec<_>>(), after)
        };
        let (seen, first) = look(&["a", "c"], &HashMap::new(), 1);
        assert_eq!(seen, [None, Some(at(1)), None]);
        let (seen, second) = look(&["c"], &first, 2);
        assert_eq!(seen, [Some(at(2)), Some(at(1)), None]);
        // Listed again, it begins anew.
        let (seen, third) = look(&["b"], &second, 3);
        assert_eq!(seen, [Some(at(2)), None, None]);
        assert_eq!(look(&[], &third, 4).0, [Some(at(2)), Some(at(4)), None]);
    }
}
