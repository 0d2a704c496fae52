//! What holds for every object, whatever the spec: owners, names, labels, and selectors that select what they should.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use sluice_crds::names;

use super::{cluster, edges, origins, served, site};
use crate::{
    Cluster, ClusterObjects, Pool, PoolObjects, TEMPLATE, claim, cluster_objects, pod, pool_objects, revision,
};

type Labels = BTreeMap<String, String>;

fn labels(meta: &ObjectMeta) -> Labels {
    meta.labels.clone().expect("labels")
}

fn within(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn selector(service: &Service) -> Labels {
    service.spec.as_ref().and_then(|spec| spec.selector.clone()).expect("a selector")
}

/// As the pod's labels become when its node accepts.
fn accepting(pod: &Pod) -> Labels {
    let mut labels = labels(&pod.metadata);
    assert_eq!(labels.insert(names::ACCEPTING.into(), "true".into()).as_deref(), Some("false"));
    labels
}

/// As they become when the pod drains.
fn draining(pod: &Pod) -> Labels {
    let mut labels = labels(&pod.metadata);
    labels.insert(names::STATE.into(), "draining".into());
    labels
}

fn owned(meta: &ObjectMeta, namespace: &str, kind: &str, name: &str) {
    let OwnerReference { api_version, kind: owner, name: owner_name, uid, controller, block_owner_deletion } =
        meta.owner_references.as_ref().and_then(|all| all.first()).expect("an owner").clone();
    assert_eq!(
        (api_version.as_str(), owner.as_str(), owner_name.as_str()),
        ("sluice.dev/v1alpha1", kind, name)
    );
    assert!(!uid.is_empty());
    assert_eq!((controller, block_owner_deletion), (Some(true), Some(false)));
    sound(meta, namespace);
}

fn sound(meta: &ObjectMeta, namespace: &str) {
    assert_eq!(meta.namespace.as_deref(), Some(namespace));
    let name = meta.name.as_deref().expect("a name");
    assert!(name.len() <= 63, "{name}");
    assert!(crate::check::label(name), "{name}");
    let labels = labels(meta);
    assert!(labels.contains_key(names::CLUSTER), "{name}");
    assert_eq!(labels[names::standard::MANAGED_BY], names::standard::OPERATOR);
    for (key, value) in &labels {
        assert!(crate::check::qualified(key) && crate::check::label_value(value), "{name}: {key}={value}");
    }
}

/// Everything that must hold for a pool.
pub(super) fn check_pool(pool: &Pool, kind: &str, slots: &[u32]) {
    let pods: Vec<Pod> = slots.iter().map(|slot| pod(pool, *slot, TEMPLATE)).collect();
    let names: Vec<String> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    let objects = pool_objects(pool, &names, true);
    assert_eq!(objects, pool_objects(pool, &names, true), "the same input, the same output");
    let PoolObjects { new_sessions, headless, media, exposures, config, budget, autoscaler } = objects;
    let (namespace, name) = (pool.namespace(), pool.name());
    for meta in [&new_sessions, &headless, &media]
        .into_iter()
        .chain(&exposures)
        .map(|service| &service.metadata)
        .chain([&config.metadata, &budget.metadata])
        .chain(autoscaler.iter().map(|one| &one.metadata))
        .chain(pods.iter().map(|pod| &pod.metadata))
    {
        owned(meta, namespace, kind, name);
        assert_eq!(labels(meta)[names::POOL], name);
    }
    let services: std::collections::BTreeSet<_> = [&new_sessions, &headless, &media]
        .into_iter()
        .chain(&exposures)
        .map(|service| service.metadata.name.clone())
        .collect();
    assert_eq!(services.len(), 3 + exposures.len(), "no two Services have one name");
    for pod in &pods {
        let fresh = labels(&pod.metadata);
        // Nobody is sent to a pod before its node accepts, and nobody evicts it.
        assert!(!within(&selector(&new_sessions), &fresh));
        assert!(within(&selector(&new_sessions), &accepting(pod)));
        let budgeted = budget.spec.as_ref().and_then(|spec| spec.selector.clone()).expect("a selector");
        assert!(within(&budgeted.match_labels.expect("labels"), &fresh));
        // A draining pod keeps its packets.
        for service in [&headless, &media] {
            assert!(within(&selector(service), &fresh) && within(&selector(service), &draining(pod)));
        }
        let counted: Labels = pool
            .selector()
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        assert!(within(&counted, &fresh) && !within(&counted, &draining(pod)));
        assert_eq!(fresh[names::REVISION], revision(pool, TEMPLATE));
        let own = pod.metadata.name.clone().unwrap_or_default();
        for service in &exposures {
            let service_name = service.metadata.name.as_deref().unwrap_or_default();
            let selects = within(&selector(service), &accepting(pod));
            match service_name.strip_suffix("-webrtc") {
                Some(only) => assert_eq!(selects, only == own, "{service_name} and {own}"),
                None => assert!(selects, "{service_name}"),
            }
        }
        check_spec(pod);
        assert_eq!(*pod, crate::pod(pool, names::slot(name, &own).expect("a slot"), TEMPLATE));
    }
    for slot in slots {
        if let Some(claim) = claim(pool, *slot) {
            sound(&claim.metadata, namespace);
        }
    }
}

fn check_spec(pod: &Pod) {
    let spec = pod.spec.as_ref().expect("a spec");
    let node = spec.containers.first().expect("the node");
    assert_eq!(node.name, names::CONTAINER);
    let image = node.image.as_deref().expect("an image");
    assert!(image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest" && !tag.contains('/')), "{image}");
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.enable_service_links, Some(false));
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        for mount in container.volume_mounts.iter().flatten() {
            assert!(volumes.contains(&mount.name.as_str()), "{}: {}", container.name, mount.name);
        }
    }
    let mut variables: Vec<&str> = node.env.iter().flatten().map(|one| one.name.as_str()).collect();
    let all = variables.len();
    variables.sort_unstable();
    variables.dedup();
    assert_eq!(variables.len(), all, "every variable once");
    // What the API server stores of it is what was sent: no list with the same key twice.
    let mut mounts: Vec<&str> =
        node.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str()).collect();
    let all = mounts.len();
    mounts.sort_unstable();
    mounts.dedup();
    assert_eq!(mounts.len(), all, "every path once");
}

/// Everything that must hold for a cluster.
pub(super) fn check_cluster(cluster: &Cluster, has_edges: bool) {
    let objects = cluster_objects(cluster, &site(), &served(), has_edges);
    assert_eq!(objects, cluster_objects(cluster, &site(), &served(), has_edges));
    let ClusterObjects {
        watch,
        publish,
        publish_media,
        service_account,
        trust,
        policies,
        ingress,
        routes,
        certificate,
        service_monitor,
        prometheus_rule,
        missing,
    } = objects;
    assert!(missing.is_empty(), "{missing:?}");
    let dynamic = routes.iter().chain(&certificate).chain(&service_monitor).chain(&prometheus_rule);
    for meta in [&watch.metadata, &publish.metadata, &service_account.metadata, &trust.metadata]
        .into_iter()
        .chain(publish_media.iter().map(|one| &one.metadata))
        .chain(policies.iter().map(|one| &one.metadata))
        .chain(ingress.iter().map(|one| &one.metadata))
        .chain(dynamic.map(|one| &one.metadata))
    {
        owned(meta, cluster.namespace(), "MediaCluster", cluster.name());
    }
    // Every Service that a route or an Ingress names is there, with that port.
    let services = [Some(&watch), Some(&publish), publish_media.as_ref()];
    let has = |name: &str, number: i64| {
        services.into_iter().flatten().any(|service| {
            let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
            service.metadata.name.as_deref() == Some(name)
                && ports.iter().any(|port| i64::from(port.port) == number)
        })
    };
    for route in &routes {
        for backend in route.data["spec"]["rules"][0]["backendRefs"].as_array().expect("a list") {
            let (name, port) =
                (backend["name"].as_str().expect("a name"), backend["port"].as_i64().expect("a port"));
            assert!(has(name, port), "{name}:{port}");
        }
    }
    for rule in
        ingress.iter().filter_map(|one| one.spec.as_ref()).flat_map(|spec| spec.rules.iter().flatten())
    {
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            let service = path.backend.service.as_ref().expect("a Service");
            assert!(has(&service.name, 5080));
        }
    }
}

#[test]
fn services_of_a_cluster_lead_to_the_right_role() {
    let (origin, edge) = (pod(&origins(json!({})), 0, TEMPLATE), pod(&edges(json!({})), 0, TEMPLATE));
    for (has_edges, to_origins) in [(true, false), (false, true)] {
        let ClusterObjects { watch, publish, .. } =
            cluster_objects(&cluster(), &site(), &served(), has_edges);
        assert_eq!(within(&selector(&watch), &accepting(&origin)), to_origins);
        assert_eq!(within(&selector(&watch), &accepting(&edge)), !to_origins);
        assert!(
            within(&selector(&publish), &accepting(&origin))
                && !within(&selector(&publish), &accepting(&edge))
        );
        for service in [&watch, &publish] {
            assert!(!within(&selector(service), &labels(&origin.metadata)));
        }
    }
}

#[test]
fn new_sessions_have_http_everywhere_and_rtmp_at_origins() {
    let ports = |pool: &Pool| {
        let ports =
            pool_objects(pool, &[], true).new_sessions.spec.and_then(|spec| spec.ports).expect("ports");
        ports.iter().map(|port| port.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(&origins(json!({}))), [5080, 1935]);
    assert_eq!(ports(&edges(json!({}))), [5080]);
    let cluster =
        super::cluster_with(json!({ "security": { "tls": { "secretName": "tls" } } })).expect("right");
    let with_certificate = super::origins_of(&cluster, json!({})).expect("right");
    assert_eq!(ports(&with_certificate), [5080, 5443, 1935, 1936]);
}

#[test]
fn pods_of_two_pools_are_told_apart() {
    let (origin, edge) = (origins(json!({})), edges(json!({})));
    assert_ne!(origin.selector(), edge.selector());
    let pod = pod(&origin, 0, TEMPLATE);
    let PoolObjects { new_sessions, headless, media, .. } = pool_objects(&edge, &[], true);
    for service in [new_sessions, headless, media] {
        assert!(!within(&selector(&service), &accepting(&pod)));
    }
}

#[test]
fn exposures_are_what_the_spec_says() {
    let pool = origins(json!({ "exposure": {
        "rtmp": { "mode": "LoadBalancer", "loadBalancerClass": "example.com/lb", "sourceRanges": ["203.0.113.0/24"],
                  "addresses": ["198.51.100.7", "198.51.100.8"], "annotations": { "example.com/pool": "a" }, "nodePort": 31935 },
        "srt": { "mode": "NodePort", "nodePort": 30420 },
        "webrtc": { "mode": "LoadBalancer", "addresses": ["198.51.100.9"] },
    } }));
    // Another pool's pod, a pod twice, and slots out of order.
    let pods = ["demo-origin-1", "demo-origin-0", "demo-origin-0", "demo-edge-0"].map(String::from);
    let services = pool_objects(&pool, &pods, true).exposures;
    let names: Vec<&str> = services.iter().filter_map(|service| service.metadata.name.as_deref()).collect();
    assert_eq!(
        names,
        ["demo-origin-rtmp", "demo-origin-srt", "demo-origin-0-webrtc", "demo-origin-1-webrtc"]
    );
    let spec = |index: usize| services[index].spec.clone().expect("a spec");
    let rtmp = spec(0);
    assert_eq!(rtmp.load_balancer_class.as_deref(), Some("example.com/lb"));
    assert_eq!(rtmp.load_balancer_ip.as_deref(), Some("198.51.100.7"));
    assert_eq!(rtmp.external_ips, None, "every machine would take packets for them");
    assert_eq!(rtmp.load_balancer_source_ranges, Some(vec!["203.0.113.0/24".into()]));
    assert_eq!(rtmp.ports.expect("ports")[0].node_port, Some(31935));
    assert_eq!(services[0].metadata.annotations.as_ref().expect("annotations")["example.com/pool"], "a");
    assert_eq!(spec(1).type_.as_deref(), Some("NodePort"));
    assert_eq!(spec(1).ports.expect("ports")[0].protocol.as_deref(), Some("UDP"));
    // Each pod's own address, and packets that are not passed on to other machines.
    assert_eq!(spec(2).load_balancer_ip.as_deref(), Some("198.51.100.9"));
    assert_eq!(spec(3).load_balancer_ip, None);
    assert_eq!(spec(2).external_traffic_policy.as_deref(), Some("Local"));
}

#[test]
fn volumes_stay_unless_the_spec_says_otherwise() {
    let with = |policy: &str| origins(json!({ "storage": { "size": "10Gi", "deletionPolicy": policy } }));
    let keep = claim(&with("Keep"), 2).expect("storage");
    assert_eq!(keep.metadata.owner_references, None);
    assert_eq!(keep.metadata.name.as_deref(), Some("demo-origin-2-data"));
    let delete = claim(&with("Delete"), 2).expect("storage");
    owned(&delete.metadata, "media", "OriginPool", "demo-origin");
    assert_eq!(claim(&origins(json!({})), 2), None);
    let volumes = pod(&with("Keep"), 2, TEMPLATE).spec.and_then(|spec| spec.volumes).expect("volumes");
    let data = volumes.iter().find(|volume| volume.name == "data").expect("it is there");
    assert_eq!(
        data.persistent_volume_claim.as_ref().map(|claim| &*claim.claim_name),
        Some("demo-origin-2-data")
    );
}

#[test]
fn a_gpu_comes_with_all_that_it_needs() {
    let pool = origins(json!({
        "gpu": { "mode": "ExtendedResource", "resourceName": "nvidia.com/mig-1g.24gb", "count": 2, "products": ["L4", "T4"],
                 "runtimeClassName": "nvidia" },
        "placement": { "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] },
            { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["b"] }] } ] } } } },
    }));
    let spec = pod(&pool, 0, TEMPLATE).spec.expect("a spec");
    let node = &spec.containers[0];
    let limits = node.resources.as_ref().and_then(|resources| resources.limits.clone()).expect("limits");
    assert_eq!(limits["nvidia.com/mig-1g.24gb"].0, "2");
    let env = node.env.clone().expect("variables");
    let capabilities = env.iter().find(|one| one.name == "NVIDIA_DRIVER_CAPABILITIES").expect("it is there");
    assert_eq!(capabilities.value.as_deref(), Some("compute,video,utility"));
    assert!(env.iter().all(|one| one.name != "NVIDIA_VISIBLE_DEVICES"), "the device plugin says which");
    assert_eq!(spec.runtime_class_name.as_deref(), Some("nvidia"));
    let tolerated: Vec<_> = spec.tolerations.iter().flatten().filter_map(|one| one.key.clone()).collect();
    assert_eq!(tolerated[..2], ["nvidia.com/mig-1g.24gb", "nvidia.com/gpu"]);
    let affinity = spec.affinity.expect("affinity");
    let required =
        affinity.node_affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution);
    for term in required.expect("terms").node_selector_terms {
        let keys: Vec<_> = term.match_expressions.iter().flatten().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["zone", "nvidia.com/gpu.product"], "each alternative needs the product");
    }
    assert!(affinity.pod_anti_affinity.is_some());
    let claimed =
        origins(json!({ "gpu": { "mode": "ResourceClaim", "resourceClaimTemplateName": "one-gpu" } }));
    let spec = pod(&claimed, 0, TEMPLATE).spec.expect("a spec");
    let claims = spec.resource_claims.expect("claims");
    assert_eq!(claims[0].resource_claim_template_name.as_deref(), Some("one-gpu"));
    let used =
        spec.containers[0].resources.as_ref().and_then(|resources| resources.claims.clone()).expect("claims");
    assert_eq!(used[0].name, claims[0].name);
    let none = pod(&origins(json!({})), 0, TEMPLATE).spec.expect("a spec");
    assert_eq!(none.containers[0].resources, None);
    let tolerated: Vec<_> = none.tolerations.iter().flatten().filter_map(|one| one.key.clone()).collect();
    assert!(tolerated.iter().all(|key| !key.contains("nvidia")), "{tolerated:?}");
}

#[test]
fn pods_stay_on_a_machine_that_does_not_answer_unless_the_spec_says_how_long() {
    let of = |given: Value, generation: i64| {
        let pool = edges(json!({ "placement": { "tolerations": given } }));
        let all = pod(&pool, 0, generation).spec.and_then(|spec| spec.tolerations).unwrap_or_default();
        serde_json::to_value(all).expect("JSON")
    };
    let stays = |key: &str| json!({ "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute" });
    let (not_ready, unreachable) = (stays("not-ready"), stays("unreachable"));
    assert_eq!(of(json!([]), TEMPLATE), json!([not_ready, unreachable]));
    let other = json!({ "key": "media", "operator": "Exists" });
    assert_eq!(of(json!([other]), TEMPLATE), json!([other, not_ready, unreachable]));
    // What is for the scheduler alone says nothing of pods that run.
    let placed =
        json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule" });
    assert_eq!(of(json!([placed]), TEMPLATE), json!([placed, not_ready, unreachable]));
    let mut short = not_ready.clone();
    short["tolerationSeconds"] = json!(60);
    assert_eq!(of(json!([short]), TEMPLATE), json!([short, unreachable]));
    let everything = json!({ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60 });
    assert_eq!(of(json!([everything]), TEMPLATE), json!([everything]));
    // Pods of the first generation are as they were.
    assert_eq!(of(json!([]), 1), json!([]));
}

#[test]
fn placement_is_the_specs_where_it_says_something() {
    let avoid = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "zone", "labelSelector": {} } ] } });
    let constraint = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" });
    let pool = origins(json!({ "placement": { "affinity": avoid, "spread": [constraint] } }));
    let spec = pod(&pool, 0, TEMPLATE).spec.expect("a spec");
    let anti = spec.affinity.and_then(|affinity| affinity.pod_anti_affinity).expect("it is there");
    assert_eq!(anti.preferred_during_scheduling_ignored_during_execution, None);
    let spread = spec.topology_spread_constraints.expect("constraints");
    let selector =
        spread[0].label_selector.as_ref().and_then(|one| one.match_labels.clone()).expect("labels");
    assert_eq!(selector[names::POOL], "demo-origin");
}

#[test]
fn grace_is_longer_than_the_drain() {
    for (drain, grace) in [("10s", 40), ("30m", 1830), ("48h", 172_830)] {
        let pool = origins(json!({ "drain": { "deadline": drain } }));
        let spec = pod(&pool, 0, TEMPLATE).spec.expect("a spec");
        assert_eq!(spec.termination_grace_period_seconds, Some(grace));
    }
}
