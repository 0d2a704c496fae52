//! Rules that hold for any spec: what is taken becomes sound objects, what is not is refused by field; nothing panics.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use super::{cluster, merge, pinned, pool_spec, resource};
use super::{restricted, selectors};
use crate::{Cluster, Pool, TEMPLATE, config_toml, pod};

/// Any JSON, of a size that a spec may have; often with names that Kubernetes knows, so that it goes deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z]{1,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        prop::sample::select(vec![
            "name",
            "image",
            "env",
            "value",
            "valueFrom",
            "secretKeyRef",
            "key",
            "ports",
            "containerPort",
            "volumeMounts",
            "mountPath",
            "emptyDir",
            "sizeLimit",
            "hostPath",
            "path",
            "secret",
            "items",
            "projected",
            "sources",
            "resources",
            "limits",
            "requests",
            "cpu",
            "securityContext",
            "privileged",
            "capabilities",
            "drop",
            "livenessProbe",
            "httpGet",
            "port",
        ])
        .prop_map(String::from),
        "[a-z]{1,6}",
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn named(raw: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    ("[a-z]{1,3}", raw).prop_map(|(name, mut value)| {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("name".into(), name.into());
        }
        value
    })
}

fn exposure(modes: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (prop::sample::select(modes), any::<bool>()).prop_map(|(mode, more)| match (mode, more) {
        ("LoadBalancer", true) => json!({ "mode": mode, "addresses": ["192.0.2.1"], "sourceRanges": ["10.0.0.0/8"], "annotations": { "a": "b" } }),
        ("HostPort", true) => json!({ "mode": mode, "hostPort": 31000 }),
        _ => json!({ "mode": mode }),
    })
}

fn gpu() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!({ "mode": "ExtendedResource" }),
        json!({ "mode": "ExtendedResource", "resourceName": "nvidia.com/mig-1g.10gb", "count": 2, "products": ["L4"] }),
        json!({ "mode": "ResourceClaim", "resourceClaimTemplateName": "gpu", "runtimeClassName": "nvidia" }),
    ])
}

fn autoscaling() -> impl Strategy<Value = Value> {
    let behavior = prop::sample::select(vec![
        json!(null),
        json!({ "scaleUp": { "stabilizationWindowSeconds": 30 } }),
        json!({ "scaleDown": { "selectPolicy": "Min", "policies": [{ "type": "Pods", "value": 2, "periodSeconds": 15 }] } }),
    ]);
    let schedules = prop::sample::select(vec![
        json!([]),
        json!([{ "start": "0 18 * * 5", "end": "0 23 * * FRI", "timeZone": "Europe/Berlin", "min": 6 }]),
    ]);
    let cpu = prop::option::of(1..200);
    (1..9u32, 0..9u32, prop::option::of(1..99u32), cpu, prop::option::of(1..99u32), behavior, schedules, any::<bool>()).prop_map(
        |(min, more, viewers, cpu, spare, behavior, schedules, paused)| {
            json!({ "min": min, "max": min + more, "streamsPerPod": 7, "viewersPerPod": viewers, "cpuPercent": cpu,
                    "minSpareSlots": spare, "behavior": behavior, "schedules": schedules,
                    "scaleIn": if paused { "Paused" } else { "Enabled" } })
        },
    )
}

fn template() -> impl Strategy<Value = Value> {
    let volume = prop::sample::select(vec![
        json!({ "emptyDir": {} }),
        json!({ "secret": { "secretName": "a" } }),
        json!({ "configMap": { "name": "a", "items": [{ "key": "b", "path": "c" }] } }),
    ]);
    let container = prop::sample::select(vec![
        json!({ "image": "a:1" }),
        json!({ "image": "a:1", "securityContext": { "readOnlyRootFilesystem": true } }),
        json!({ "image": "a:1", "volumeMounts": [{ "name": "data", "mountPath": "/data" }] }),
    ]);
    (
        prop::collection::vec(named(volume), 0..3),
        prop::collection::vec(named(container.clone()), 0..3),
        prop::collection::vec(named(container), 0..2),
        prop::collection::btree_map("[a-z]{1,5}", "[a-z0-9]{0,5}", 0..3),
        prop::collection::vec("[A-Z]{1,3}", 0..3),
    )
        .prop_map(|(volumes, sidecars, init, labels, env)| {
            let mounts: Vec<Value> = volumes
                .iter()
                .map(|volume| json!({ "name": volume["name"], "mountPath": format!("/mnt/{}", volume["name"].as_str().unwrap_or("a")) }))
                .collect();
            let env: Vec<Value> = env.into_iter().map(|name| json!({ "name": name, "value": "x" })).collect();
            json!({ "volumes": volumes, "volumeMounts": mounts, "sidecars": sidecars, "initContainers": init,
                    "labels": labels, "annotations": labels, "env": env })
        })
}

fn pool_part() -> impl Strategy<Value = Value> {
    const SHARED: &[&str] = &["None", "LoadBalancer", "NodePort", "HostPort"];
    let sizes = prop::option::of((1u32..9, prop::sample::select(vec!["250m", "2", "1.5"])));
    (
        (gpu(), template(), sizes, prop::option::of(1u32..2000)),
        (exposure(SHARED), exposure(SHARED), exposure(SHARED)),
        (any::<bool>(), prop::sample::select(vec!["10s", "30m", "48h"]), prop::option::of("[a-z]{1,9}")),
        (prop::collection::btree_map("[a-z_]{3,10}", ".{0,20}", 0..3), prop::option::of(autoscaling())),
    )
        .prop_map(|((gpu, template, sizes, viewers), (rtmp, srt, webrtc), (spread, deadline, group), (config, autoscaling))| {
            let mut spec = json!({
                "gpu": gpu, "podTemplate": template, "config": config,
                "exposure": { "rtmp": rtmp, "srt": srt, "webrtc": webrtc },
                "drain": { "deadline": deadline },
            });
            if let Some((limit, request)) = sizes {
                merge(&mut spec, json!({ "resources": { "limits": { "cpu": limit }, "requests": { "memory": request } } }));
            }
            if let Some(autoscaling) = autoscaling {
                merge(&mut spec, json!({ "autoscaling": autoscaling }));
            }
            if let Some(viewers) = viewers {
                merge(&mut spec, json!({ "capacity": { "viewers": viewers } }));
            }
            if let Some(group) = group {
                merge(&mut spec, json!({ "group": group }));
            }
            if spread {
                let constraint = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" });
                merge(&mut spec, json!({ "placement": { "spread": [constraint], "nodeSelector": { "a": "b" } } }));
            }
            spec
        })
}

fn cluster_part() -> impl Strategy<Value = Value> {
    let parents = prop::collection::vec(
        prop::sample::select(vec![
            json!({ "name": "web" }),
            json!({ "name": "web", "namespace": "infra", "port": 443 }),
        ]),
        0..3,
    );
    let tls = prop::sample::select(vec![
        json!(null),
        json!({ "secretName": "tls" }),
        json!({ "issuer": { "name": "a", "kind": "ClusterIssuer" }, "dnsNames": ["*.example.com"] }),
    ]);
    (tls, any::<bool>(), parents.clone(), parents.clone(), parents, prop::option::of("[a-z]{1,9}\\.example"))
        .prop_map(|(tls, policy, http, rtmp, rtmps, publish)| {
            let rtmps = if tls.is_null() || publish.is_none() { vec![] } else { rtmps };
            let mut exposure = json!({
                "gateway": { "http": http, "rtmp": rtmp, "rtmps": rtmps, "srt": http, "hostnames": ["watch.example"],
                             "publishHostnames": publish.iter().collect::<Vec<_>>() },
                "ingress": { "host": "watch.example", "tls": !tls.is_null() },
            });
            if let Some(publish) = publish {
                exposure["ingress"]["publishHost"] = publish.into();
            }
            json!({ "exposure": exposure, "security": {
                "tls": tls, "networkPolicy": if policy { "Enabled" } else { "Disabled" } } })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn specs_become_sound_objects(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", part in pool_part(), of_cluster in cluster_part(), origin in any::<bool>()) {
        let cluster: MediaCluster = super::cluster_resource(of_cluster);
        let cluster = Cluster::new(&cluster, &pinned()).expect("made to be right");
        selectors::check_cluster(&cluster, origin);
        let mut part = part;
        if !origin && part["autoscaling"].is_object() {
            part["autoscaling"]["viewersPerPod"] = part["autoscaling"]["streamsPerPod"].take();
        }
        let spec = pool_spec(part.clone());
        let (pool, kind) = if origin {
            (Pool::new(&resource::<OriginPool>("OriginPool", &name, spec), &cluster), "OriginPool")
        } else {
            (Pool::new(&resource::<EdgePool>("EdgePool", &name, spec), &cluster), "EdgePool")
        };
        match pool {
            Ok(pool) => {
                selectors::check_pool(&pool, kind, &[0, 1, 7, 1023]);
                config_toml(&pool, TEMPLATE).parse::<toml::Table>().expect("TOML");
                let only_host_ports = restricted::violations(&pod(&pool, 0, TEMPLATE)).iter().all(|one| one == "node: hostPort");
                prop_assert!(only_host_ports);
                let text = serde_json::to_string(&pod(&pool, 3, TEMPLATE)).expect("JSON");
                let back: k8s_openapi::api::core::v1::Pod = serde_json::from_str(&text).expect("a pod");
                prop_assert_eq!(back, pod(&pool, 3, TEMPLATE));
            }
            // CPU without a request, spare slots without a capacity. Names that meet: two volumes or containers of one name, a name that ends like a Service, two host ports.
            Err(wrong) => {
                for one in wrong {
                    let expected = ["metadata.name", "spec.podTemplate.", "spec.exposure.", "spec.config[",
                        "spec.autoscaling.cpuPercent", "spec.autoscaling.minSpareSlots"];
                    prop_assert!(expected.iter().any(|field| one.field.starts_with(field)), "{}", one);
                }
            }
        }
    }

    #[test]
    fn any_volume_or_container_is_built_or_refused(
        volumes in prop::collection::vec(any_json(), 0..3),
        mounts in prop::collection::vec(named(any_json()), 0..3),
        init in prop::collection::vec(named(any_json()), 0..3),
        sidecars in prop::collection::vec(any_json(), 0..3),
    ) {
        let spec = pool_spec(json!({ "podTemplate": {
            "volumes": volumes, "volumeMounts": mounts, "initContainers": init, "sidecars": sidecars } }));
        match Pool::new(&resource::<EdgePool>("EdgePool", "edge", spec), &cluster()) {
            Ok(pool) => selectors::check_pool(&pool, "EdgePool", &[0]),
            Err(wrong) => for one in wrong {
                prop_assert!(one.field.starts_with("spec.podTemplate."), "{}", one);
                prop_assert!(one.to_string().len() < 1000);
            },
        }
    }
}
