//! Wrong specs: each is refused by field, in words, without a panic; and all that is wrong is said at once.

use serde_json::{Value, json};
use sluice_crds::{EdgePool, MediaCluster};

use super::{cluster, cluster_with, merge, origins_of, origins_with, pinned, pool_spec, resource};
use crate::{Cluster, Invalid, Pinned, Pool};

fn fields(wrong: &[Invalid]) -> Vec<&str> {
    wrong.iter().map(|one| one.field.as_str()).collect()
}

fn says(result: Result<impl Sized, Vec<Invalid>>, field: &str, spec: &Value) {
    let wrong = result.err().unwrap_or_default();
    assert!(fields(&wrong).contains(&field), "{spec}: {wrong:?}");
    for one in &wrong {
        assert!(one.problem.len() > 8 && one.to_string().starts_with(&one.field), "{one:?}");
    }
}

#[test]
fn of_a_pool() {
    let template = |part: &str, value: Value| json!({ "podTemplate": { part: value } });
    let exposed = |value: Value| json!({ "exposure": { "rtmp": value } });
    let scaled = |more: Value| {
        let mut spec = json!({ "autoscaling": { "min": 1, "max": 4, "streamsPerPod": 5 } });
        merge(&mut spec, json!({ "autoscaling": more }));
        spec
    };
    let metrics = |metric: Value| scaled(json!({ "metrics": [metric] }));
    let behavior = |rules: Value| scaled(json!({ "behavior": { "scaleDown": rules } }));
    let schedule = |more: Value| {
        let mut schedule = json!({ "start": "0 18 * * 5", "end": "0 23 * * 5", "min": 3 });
        merge(&mut schedule, more);
        scaled(json!({ "schedules": [schedule] }))
    };
    let table: Vec<(Value, &str)> = vec![
        (json!({ "clusterRef": { "name": "other" } }), "spec.clusterRef.name"),
        (json!({ "replicas": -1 }), "spec.replicas"),
        (json!({ "replicas": 1001 }), "spec.replicas"),
        (json!({ "version": "a b" }), "spec.version"),
        (json!({ "version": "" }), "spec.version"),
        (json!({ "group": "" }), "spec.group"),
        (json!({ "group": "a b" }), "spec.group"),
        (json!({ "capacity": { "streams": 0 } }), "spec.capacity.streams"),
        (json!({ "capacity": { "viewers": 1_000_001 } }), "spec.capacity.viewers"),
        (json!({ "resources": { "requests": { "cpu": "much" } } }), "spec.resources.requests[cpu]"),
        (json!({ "resources": { "requests": { "cpu": "-1" } } }), "spec.resources.requests[cpu]"),
        (
            json!({ "resources": { "requests": { "cpu": 2 }, "limits": { "cpu": "500m" } } }),
            "spec.resources.requests[cpu]",
        ),
        (json!({ "resources": { "limits": { "c p u": 2 } } }), "spec.resources.limits[c p u]"),
        (
            json!({ "resources": { "limits": { "nvidia.com/gpu": 2 } }, "gpu": { "mode": "ExtendedResource" } }),
            "spec.resources.limits[nvidia.com/gpu]",
        ),
        (json!({ "gpu": { "resourceName": "nvidia.com/gpu" } }), "spec.gpu.resourceName"),
        (json!({ "gpu": { "count": 1 } }), "spec.gpu.count"),
        (json!({ "gpu": { "mode": "ExtendedResource", "count": 17 } }), "spec.gpu.count"),
        (json!({ "gpu": { "mode": "ExtendedResource", "resourceName": "gpu" } }), "spec.gpu.resourceName"),
        (json!({ "gpu": { "products": ["L4"] } }), "spec.gpu.products"),
        (json!({ "gpu": { "mode": "ExtendedResource", "products": ["an L4"] } }), "spec.gpu.products[0]"),
        (json!({ "gpu": { "maxEncodeSessions": 1 } }), "spec.gpu.maxEncodeSessions"),
        (json!({ "gpu": { "mode": "ResourceClaim" } }), "spec.gpu.resourceClaimTemplateName"),
        (json!({ "gpu": { "resourceClaimTemplateName": "a" } }), "spec.gpu.resourceClaimTemplateName"),
        (json!({ "gpu": { "runtimeClassName": "A B" } }), "spec.gpu.runtimeClassName"),
        (json!({ "placement": { "nodeSelector": { "a b": "c" } } }), "spec.placement.nodeSelector[a b]"),
        (json!({ "placement": { "nodeSelector": { "a": "b c" } } }), "spec.placement.nodeSelector[a]"),
        (json!({ "placement": { "tolerations": [{}] } }), "spec.placement.tolerations[0].key"),
        (
            json!({ "placement": { "tolerations": [{ "key": "a", "operator": "Exists", "value": "b" }] } }),
            "spec.placement.tolerations[0].value",
        ),
        (
            json!({ "placement": { "tolerations": [{ "key": "a", "effect": "Never" }] } }),
            "spec.placement.tolerations[0].effect",
        ),
        (
            json!({ "placement": { "spread": [{ "maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway" }] } }),
            "spec.placement.spread[0].maxSkew",
        ),
        (
            json!({ "placement": { "spread": [{ "maxSkew": 1, "topologyKey": "", "whenUnsatisfiable": "ScheduleAnyway" }] } }),
            "spec.placement.spread[0].topologyKey",
        ),
        (
            json!({ "placement": { "spread": [{ "maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "Perhaps" }] } }),
            "spec.placement.spread[0].whenUnsatisfiable",
        ),
        (json!({ "placement": { "priorityClassName": "" } }), "spec.placement.priorityClassName"),
        (json!({ "config": { "role": "edge" } }), "spec.config[role]"),
        (json!({ "config": { "max_viewers": "5" } }), "spec.config[max_viewers]"),
        (json!({ "config": { "drain_deadline": "5s" } }), "spec.config[drain_deadline]"),
        (json!({ "config": { "rtc_turn_password": "1234" } }), "spec.config[rtc_turn_password]"),
        (json!({ "config": { "Log": "info" } }), "spec.config[Log]"),
        (json!({ "config": { "a\"b": "info" } }), "spec.config[a\"b]"),
        (json!({ "config": { "": "info" } }), "spec.config[]"),
        (json!({ "config": { "log": "x".repeat(4097) } }), "spec.config[log]"),
        (json!({ "config": { "log": "a\u{0}b" } }), "spec.config[log]"),
        (json!({ "config": { "stop_delay": "10m" } }), "spec.config[stop_delay]"),
        (json!({ "config": { "stop_delay": "15001ms" } }), "spec.config[stop_delay]"),
        (json!({ "drain": { "deadline": "5s" } }), "spec.drain.deadline"),
        (json!({ "drain": { "deadline": "49h" } }), "spec.drain.deadline"),
        (json!({ "drain": { "deadline": "soon" } }), "spec.drain.deadline"),
        (json!({ "rollout": { "maxSurge": 0 } }), "spec.rollout"),
        (json!({ "rollout": { "maxSurge": -1, "maxUnavailable": 1 } }), "spec.rollout.maxSurge"),
        (json!({ "rollout": { "maxUnavailable": 101 } }), "spec.rollout.maxUnavailable"),
        (json!({ "storage": { "size": "big" } }), "spec.storage.size"),
        (json!({ "storage": { "size": "0" } }), "spec.storage.size"),
        (json!({ "storage": { "size": "1Gi", "storageClassName": "" } }), "spec.storage.storageClassName"),
        (exposed(json!({ "loadBalancerClass": "a/b" })), "spec.exposure.rtmp.loadBalancerClass"),
        (exposed(json!({ "sourceRanges": ["10.0.0.0/8"] })), "spec.exposure.rtmp.sourceRanges"),
        (exposed(json!({ "addresses": ["192.0.2.1"] })), "spec.exposure.rtmp.addresses"),
        (exposed(json!({ "annotations": { "a": "b" } })), "spec.exposure.rtmp.annotations"),
        (exposed(json!({ "nodePort": 30000 })), "spec.exposure.rtmp.nodePort"),
        (exposed(json!({ "hostPort": 30000 })), "spec.exposure.rtmp.hostPort"),
        (exposed(json!({ "mode": "HostPort", "hostPort": 0 })), "spec.exposure.rtmp.hostPort"),
        (
            exposed(json!({ "mode": "LoadBalancer", "sourceRanges": ["10.0.0.0/33"] })),
            "spec.exposure.rtmp.sourceRanges[0]",
        ),
        (
            exposed(json!({ "mode": "LoadBalancer", "addresses": ["a.example.com"] })),
            "spec.exposure.rtmp.addresses[0]",
        ),
        (
            exposed(json!({ "mode": "LoadBalancer", "addresses": ["127.0.0.1"] })),
            "spec.exposure.rtmp.addresses[0]",
        ),
        (
            exposed(json!({ "mode": "LoadBalancer", "loadBalancerClass": "" })),
            "spec.exposure.rtmp.loadBalancerClass",
        ),
        (
            json!({ "exposure": { "rtmp": { "mode": "NodePort", "nodePort": 30000 }, "srt": { "mode": "NodePort", "nodePort": 30000 } } }),
            "spec.exposure.srt.nodePort",
        ),
        (
            json!({ "exposure": { "webrtc": { "mode": "NodePort", "nodePort": 30000 } } }),
            "spec.exposure.webrtc.nodePort",
        ),
        (
            json!({ "exposure": { "srt": { "mode": "HostPort", "hostPort": 5004 }, "webrtc": { "mode": "HostPort" } } }),
            "spec.exposure.webrtc.hostPort",
        ),
        (scaled(json!({ "min": 0 })), "spec.autoscaling.min"),
        (scaled(json!({ "min": 5 })), "spec.autoscaling.min"),
        (scaled(json!({ "max": 1001 })), "spec.autoscaling.max"),
        (scaled(json!({ "streamsPerPod": null })), "spec.autoscaling"),
        (scaled(json!({ "streamsPerPod": 0 })), "spec.autoscaling.streamsPerPod"),
        (scaled(json!({ "viewersPerPod": 1_000_001 })), "spec.autoscaling.viewersPerPod"),
        (scaled(json!({ "cpuPercent": 60 })), "spec.autoscaling.cpuPercent"),
        (
            json!({ "autoscaling": { "min": 1, "max": 4, "cpuPercent": 0 }, "resources": { "limits": { "cpu": 1 } } }),
            "spec.autoscaling.cpuPercent",
        ),
        (scaled(json!({ "minSpareSlots": 5 })), "spec.autoscaling.minSpareSlots"),
        (
            json!({ "autoscaling": { "min": 1, "max": 4, "streamsPerPod": 5, "minSpareSlots": 5 }, "capacity": { "viewers": 5 } }),
            "spec.autoscaling.minSpareSlots",
        ),
        (metrics(json!({ "type": "Objects" })), "spec.autoscaling.metrics[0].type"),
        (metrics(json!({ "type": "Pods" })), "spec.autoscaling.metrics[0].pods"),
        (
            metrics(json!({ "type": "ContainerResource", "resource": { "name": "cpu" } })),
            "spec.autoscaling.metrics[0].containerResource",
        ),
        (metrics(json!({ "type": "Pods", "pod": {} })), "spec.autoscaling.metrics[0]"),
        (
            behavior(json!({ "stabilizationWindowSeconds": 3601 })),
            "spec.autoscaling.behavior.scaleDown.stabilizationWindowSeconds",
        ),
        (behavior(json!({ "selectPolicy": "Least" })), "spec.autoscaling.behavior.scaleDown.selectPolicy"),
        (behavior(json!({ "tolerance": "-0.1" })), "spec.autoscaling.behavior.scaleDown.tolerance"),
        (
            behavior(json!({ "policies": [{ "type": "Pod", "value": 1, "periodSeconds": 1 }] })),
            "spec.autoscaling.behavior.scaleDown.policies[0].type",
        ),
        (
            behavior(json!({ "policies": [{ "type": "Pods", "value": 0, "periodSeconds": 1 }] })),
            "spec.autoscaling.behavior.scaleDown.policies[0].value",
        ),
        (
            behavior(json!({ "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 1801 }] })),
            "spec.autoscaling.behavior.scaleDown.policies[0].periodSeconds",
        ),
        (schedule(json!({ "start": "0 25 * * *" })), "spec.autoscaling.schedules[0].start"),
        (schedule(json!({ "end": "at noon" })), "spec.autoscaling.schedules[0].end"),
        (schedule(json!({ "timeZone": "Mars/Olympus" })), "spec.autoscaling.schedules[0].timeZone"),
        (schedule(json!({ "min": 0 })), "spec.autoscaling.schedules[0].min"),
        (template("labels", json!({ "sluice.dev/pool": "a" })), "spec.podTemplate.labels[sluice.dev/pool]"),
        (
            template("labels", json!({ "app.kubernetes.io/name": "a" })),
            "spec.podTemplate.labels[app.kubernetes.io/name]",
        ),
        (template("labels", json!({ "a": "b c" })), "spec.podTemplate.labels[a]"),
        (
            template("annotations", json!({ "sluice.dev/drain": "" })),
            "spec.podTemplate.annotations[sluice.dev/drain]",
        ),
        (template("annotations", json!({ "a b": "" })), "spec.podTemplate.annotations[a b]"),
        (template("env", json!([{ "name": "SLUICE_LOG", "value": "a" }])), "spec.podTemplate.env[0].name"),
        (template("env", json!([{ "name": "POD_NAME", "value": "a" }])), "spec.podTemplate.env[0].name"),
        (template("env", json!([{ "name": "1A" }])), "spec.podTemplate.env[0].name"),
        (template("env", json!([{ "name": "A" }, { "name": "A" }])), "spec.podTemplate.env[1].name"),
        (template("volumes", json!([7])), "spec.podTemplate.volumes[0]"),
        (template("volumes", json!([{}])), "spec.podTemplate.volumes[0].name"),
        (template("volumes", json!([{ "name": "a", "emptydir": {} }])), "spec.podTemplate.volumes[0]"),
        (
            template("volumes", json!([{ "name": "a", "emptyDir": { "size": 1 } }])),
            "spec.podTemplate.volumes[0]",
        ),
        (template("volumes", json!([{ "name": "A" }])), "spec.podTemplate.volumes[0].name"),
        (template("volumes", json!([{ "name": "config" }])), "spec.podTemplate.volumes[0].name"),
        (template("volumes", json!([{ "name": "a" }, { "name": "a" }])), "spec.podTemplate.volumes[1].name"),
        (
            template("volumeMounts", json!([{ "name": "a", "mountPath": "/a" }])),
            "spec.podTemplate.volumeMounts[0].name",
        ),
        (
            template("sidecars", json!([{ "name": "node", "image": "a" }])),
            "spec.podTemplate.sidecars[0].name",
        ),
        (template("sidecars", json!([{ "name": "a" }])), "spec.podTemplate.sidecars[0].image"),
        (
            template("sidecars", json!([{ "name": "a", "image": "b", "ports": [{ "port": 1 }] }])),
            "spec.podTemplate.sidecars[0]",
        ),
        (
            template(
                "sidecars",
                json!([{ "name": "a", "image": "b", "volumeMounts": [{ "name": "config", "mountPath": "/a" }] }]),
            ),
            "spec.podTemplate.sidecars[0].volumeMounts[0].name",
        ),
        (
            json!({ "podTemplate": { "sidecars": [{ "name": "a", "image": "b" }], "initContainers": [{ "name": "a", "image": "b" }] } }),
            "spec.podTemplate.sidecars[0].name",
        ),
    ];
    assert!(table.len() > 40);
    for (spec, field) in table {
        says(origins_with(spec.clone()), field, &spec);
    }
    let streams = json!({ "autoscaling": { "min": 1, "max": 4, "streamsPerPod": 5 } });
    assert!(origins_with(streams.clone()).is_ok());
    let edges =
        Pool::new(&resource::<EdgePool>("EdgePool", "demo-edge", pool_spec(streams.clone())), &cluster());
    says(edges, "spec.autoscaling.streamsPerPod", &streams);
    for path in [
        "/etc/sluice",
        "/etc/sluice/",
        "/etc/sluice/secrets",
        "/tmp",
        "/var/lib/sluice",
        "relative",
        "/a/../b",
        "",
    ] {
        let mount = json!([{ "name": "a", "mountPath": path }]);
        let spec =
            json!({ "podTemplate": { "volumes": [{ "name": "a", "emptyDir": {} }], "volumeMounts": mount } });
        says(origins_with(spec.clone()), "spec.podTemplate.volumeMounts[0].mountPath", &spec);
    }
}

#[test]
fn of_a_cluster() {
    let ingress = |value: Value| json!({ "exposure": { "ingress": value } });
    let gateway = |value: Value| json!({ "exposure": { "gateway": value } });
    let table: Vec<(Value, &str)> = vec![
        (json!({ "version": "a/b" }), "spec.version"),
        (json!({ "image": { "repository": "" } }), "spec.image.repository"),
        (json!({ "image": { "repository": "a:1" } }), "spec.image.repository"),
        (json!({ "image": { "repository": "example.com:5000/a:1" } }), "spec.image.repository"),
        (json!({ "image": { "repository": "A/b" } }), "spec.image.repository"),
        (json!({ "image": { "pullSecrets": [{ "name": "" }] } }), "spec.image.pullSecrets[0].name"),
        (json!({ "database": { "mode": "Managed" } }), "spec.database.mode"),
        (json!({ "database": { "external": null } }), "spec.database.external"),
        (
            json!({ "database": { "external": { "secret": { "name": "A" } } } }),
            "spec.database.external.secret.name",
        ),
        (
            json!({ "database": { "external": { "secret": { "key": "../a" } } } }),
            "spec.database.external.secret.key",
        ),
        (json!({ "database": { "external": { "namePrefix": "a.b" } } }), "spec.database.external.namePrefix"),
        (
            json!({ "database": { "external": { "namePrefix": "a".repeat(25) } } }),
            "spec.database.external.namePrefix",
        ),
        (json!({ "security": { "clusterKey": { "name": "" } } }), "spec.security.clusterKey.name"),
        (
            json!({ "security": { "adminToken": { "name": "a", "key": "a/b" } } }),
            "spec.security.adminToken.key",
        ),
        (json!({ "security": { "tls": {} } }), "spec.security.tls"),
        (
            json!({ "security": { "tls": { "secretName": "a", "issuer": { "name": "b" } } } }),
            "spec.security.tls",
        ),
        (json!({ "security": { "tls": { "secretName": "A B" } } }), "spec.security.tls.secretName"),
        (json!({ "security": { "tls": { "issuer": { "name": "b" } } } }), "spec.security.tls.dnsNames"),
        (
            json!({ "security": { "tls": { "issuer": { "name": "b" }, "dnsNames": ["a b"] } } }),
            "spec.security.tls.dnsNames[0]",
        ),
        (ingress(json!({ "host": "A b" })), "spec.exposure.ingress.host"),
        (ingress(json!({ "host": "a", "className": "" })), "spec.exposure.ingress.className"),
        (ingress(json!({ "host": "a", "publishHost": "a" })), "spec.exposure.ingress.publishHost"),
        (ingress(json!({ "host": "a", "tls": true })), "spec.exposure.ingress.tls"),
        (
            ingress(json!({ "host": "a", "annotations": { "a b": "" } })),
            "spec.exposure.ingress.annotations[a b]",
        ),
        (gateway(json!({ "hostnames": ["a b"] })), "spec.exposure.gateway.hostnames[0]"),
        (gateway(json!({ "publishHostnames": [""] })), "spec.exposure.gateway.publishHostnames[0]"),
        (gateway(json!({ "http": [{ "name": "" }] })), "spec.exposure.gateway.http[0].name"),
        (
            gateway(json!({ "rtmp": [{ "name": "a", "namespace": "B" }] })),
            "spec.exposure.gateway.rtmp[0].namespace",
        ),
        (
            gateway(json!({ "srt": [{ "name": "a", "sectionName": "B" }] })),
            "spec.exposure.gateway.srt[0].sectionName",
        ),
        (gateway(json!({ "rtmps": [{ "name": "a" }] })), "spec.exposure.gateway.rtmps"),
        (json!({ "monitoring": { "interval": "5" } }), "spec.monitoring.interval"),
        (json!({ "monitoring": { "interval": "1h" } }), "spec.monitoring.interval"),
        (json!({ "monitoring": { "labels": { "a": "b c" } } }), "spec.monitoring.labels[a]"),
        (
            json!({ "monitoring": { "labels": { "sluice.dev/cluster": "x" } } }),
            "spec.monitoring.labels[sluice.dev/cluster]",
        ),
        (json!({ "apps": [{ "name": "rest" }] }), "spec.apps[0].name"),
        (json!({ "apps": [{ "name": "a/b" }] }), "spec.apps[0].name"),
        (json!({ "apps": [{ "name": "a" }, { "name": "a" }] }), "spec.apps[1].name"),
    ];
    for (spec, field) in table {
        says(cluster_with(spec.clone()), field, &spec);
    }
    let resource = super::cluster_resource(json!({}));
    says(Cluster::new(&resource, &Pinned::default()), "spec.version", &json!({}));
    says(Cluster::new(&resource, &Pinned::default()), "spec.database.external.namePrefix", &json!({}));
}

#[test]
fn of_names_and_what_is_not_stored() {
    let long = "a".repeat(41);
    for name in ["", "-a", "a-", "A", "1a", "a.b", &long] {
        let pool: EdgePool = resource("EdgePool", name, pool_spec(json!({})));
        says(Pool::new(&pool, &cluster()), "metadata.name", &json!(name));
        let other: MediaCluster = resource("MediaCluster", name, json!({ "database": {} }));
        says(Cluster::new(&other, &pinned()), "metadata.name", &json!(name));
    }
    for taken in ["demo-watch", "demo-publish", "a-headless", "a-media", "a-rtmp", "a-srt", "a-0-webrtc"] {
        let pool: EdgePool = resource("EdgePool", taken, pool_spec(json!({})));
        says(Pool::new(&pool, &cluster()), "metadata.name", &json!(taken));
    }
    let mut pool: EdgePool = resource("EdgePool", "a", pool_spec(json!({})));
    pool.metadata.uid = None;
    pool.metadata.namespace = None;
    says(Pool::new(&pool, &cluster()), "metadata.uid", &json!("no uid"));
    says(Pool::new(&pool, &cluster()), "metadata.namespace", &json!("no namespace"));
}

#[test]
fn all_of_it_is_said_at_once_but_not_without_end() {
    let spec = json!({ "replicas": -1, "group": "", "drain": { "deadline": "x" } });
    let wrong = origins_with(spec).expect_err("three things are wrong");
    assert_eq!(fields(&wrong), ["spec.replicas", "spec.group", "spec.drain.deadline"]);
    let many: serde_json::Map<String, Value> = (0..100).map(|n| (format!("Key{n}"), json!(""))).collect();
    assert_eq!(origins_with(json!({ "config": many })).expect_err("wrong").len(), 32);
}

#[test]
fn numbers_are_taken_for_quantities_as_kubernetes_does() {
    let sidecar =
        json!({ "name": "a", "image": "b", "resources": { "limits": { "cpu": 1, "memory": "1Gi" } } });
    let volume = json!({ "name": "a", "emptyDir": { "sizeLimit": 1000 } });
    let pool = origins_with(json!({ "podTemplate": { "sidecars": [sidecar], "volumes": [volume] } }))
        .expect("right");
    let spec = crate::pod(&pool, 0, crate::TEMPLATE).spec.expect("a spec");
    let limits = spec.containers[1].resources.as_ref().and_then(|one| one.limits.clone()).expect("limits");
    assert_eq!(limits["cpu"].0, "1");
}

#[test]
fn the_port_of_the_machine_for_rtmps_is_nobody_elses() {
    let spec = json!({ "exposure": { "rtmp": { "mode": "HostPort" }, "webrtc": { "mode": "HostPort", "hostPort": 1936 } } });
    assert!(origins_with(spec.clone()).is_ok(), "there is no RTMPS without a certificate");
    let secure = cluster_with(json!({ "security": { "tls": { "secretName": "tls" } } })).expect("right");
    let problems = origins_of(&secure, spec).expect_err("two of them want one port");
    assert_eq!(problems[0].field, "spec.exposure.webrtc.hostPort");
}
