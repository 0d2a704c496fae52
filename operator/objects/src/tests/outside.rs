//! How a cluster is reached: routes in the versions that are served, addresses, and what is still waited for.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::{cluster, cluster_with, edges, origins, origins_of, served, site};
use crate::{
    Cluster, ClusterObjects, Seen, Served, TEMPLATE, apps, candidates, cluster_objects, endpoints,
    live_settings, pod, pool_objects, waiting,
};

fn exposed() -> Cluster {
    cluster_with(json!({
        "apps": [{ "name": "live" }],
        "security": { "tls": { "issuer": { "name": "ca" }, "dnsNames": ["*.example.com"] } },
        "exposure": {
            "ingress": { "host": "watch.example.com", "publishHost": "publish.example.com", "tls": true, "className": "nginx",
                         "annotations": { "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600" } },
            "gateway": {
                "http": [{ "name": "web", "namespace": "infra", "sectionName": "https" }],
                "hostnames": ["w.example.com"], "publishHostnames": ["p.example.com"],
                "rtmp": [{ "name": "web", "port": 1935 }], "rtmps": [{ "name": "web", "port": 443 }], "srt": [{ "name": "web" }],
            },
        },
    }))
    .expect("right")
}

#[test]
fn routes_are_of_the_versions_that_are_served() {
    let objects = cluster_objects(&exposed(), &site(), &served(), true);
    let kinds: Vec<String> = objects
        .routes
        .iter()
        .map(|route| {
            let types = route.types.clone().unwrap_or_default();
            format!(
                "{} {} {}",
                types.api_version,
                types.kind,
                route.metadata.name.clone().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "gateway.networking.k8s.io/v1 HTTPRoute demo-watch",
            "gateway.networking.k8s.io/v1 HTTPRoute demo-publish",
            "gateway.networking.k8s.io/v1alpha2 TCPRoute demo-rtmp",
            "gateway.networking.k8s.io/v1alpha2 TLSRoute demo-rtmps",
            "gateway.networking.k8s.io/v1alpha2 UDPRoute demo-srt",
        ]
    );
    let spec = |index: usize| objects.routes[index].data["spec"].clone();
    let watched = spec(0)["rules"].as_array().cloned().expect("rules");
    let to: Vec<_> = watched.iter().map(|rule| rule["backendRefs"][0]["name"].clone()).collect();
    assert_eq!(to, ["demo-publish", "demo-publish", "demo-watch"]);
    assert_eq!(watched[0]["matches"][0]["queryParams"][0]["value"], "origin", "WebSockets that publish");
    assert_eq!(watched[1]["matches"], json!([{ "path": { "type": "PathPrefix", "value": "/live/whip" } }]));
    assert!(watched.iter().all(|rule| rule["timeouts"]["request"] == "0s"), "WebSockets stay open");
    assert_eq!(spec(0)["hostnames"], json!(["w.example.com"]));
    assert_eq!(
        spec(0)["parentRefs"],
        json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web", "namespace": "infra", "sectionName": "https" }])
    );
    assert_eq!(spec(2)["rules"][0]["backendRefs"][0]["port"], 1935);
    assert_eq!(spec(3)["hostnames"], json!(["p.example.com"]));
    assert_eq!(spec(4)["rules"][0]["backendRefs"][0]["name"], "demo-publish-media");
}

#[test]
fn what_is_not_served_is_missing_where_the_spec_asks_for_it() {
    let nothing = Served::default();
    let ClusterObjects { routes, certificate, service_monitor, prometheus_rule, missing, .. } =
        cluster_objects(&exposed(), &site(), &nothing, true);
    assert!(
        routes.is_empty() && certificate.is_none() && service_monitor.is_none() && prometheus_rule.is_none()
    );
    let group = "gateway.networking.k8s.io";
    let wanted = ["HTTPRoute", "TCPRoute", "TLSRoute", "UDPRoute"].map(|kind| format!("{kind} ({group})"));
    assert_eq!(missing[..4], wanted);
    assert_eq!(missing[4], "Certificate (cert-manager.io)");
    let said = waiting(&missing, &Seen::default());
    assert_eq!(said.len(), 5);
    assert!(said[0].starts_with("HTTPRoute (gateway.networking.k8s.io) is not served"), "{}", said[0]);
    let plain = cluster_objects(&cluster(), &site(), &nothing, true);
    assert_eq!(
        plain.missing,
        Vec::<String>::new(),
        "monitoring is made where it can be, and asked for by nobody"
    );
}

#[test]
fn an_ingress_is_plain() {
    let ingress = cluster_objects(&exposed(), &site(), &served(), true).ingress.expect("wanted");
    let annotations = ingress.metadata.annotations.expect("the spec's");
    assert_eq!(annotations.len(), 1);
    let spec = ingress.spec.expect("a spec");
    assert_eq!(spec.ingress_class_name.as_deref(), Some("nginx"));
    let mut to = Vec::new();
    for rule in spec.rules.iter().flatten() {
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            let service = &path.backend.service.as_ref().expect("a Service").name;
            let (host, path) = (rule.host.as_deref().expect("a host"), path.path.as_deref().expect("a path"));
            to.push(format!("{host}{path} {service}"));
        }
    }
    let expected = [
        "watch.example.com/live/whip demo-publish",
        "watch.example.com/ demo-watch",
        "publish.example.com/ demo-publish",
    ];
    assert_eq!(to, expected);
    let tls = spec.tls.expect("wanted").remove(0);
    assert_eq!(tls.secret_name.as_deref(), Some("demo-tls"));
    assert_eq!(tls.hosts.map(|hosts| hosts.len()), Some(2));
}

/// The Service of a pool's RTMP, as the API server has it.
fn service(pool: &crate::Pool, status: Value) -> Service {
    let service = pool_objects(pool, &[], true).exposures.remove(0);
    let mut value = serde_json::to_value(&service).expect("JSON");
    value["status"] = status;
    if value["spec"]["type"] == "NodePort" {
        value["spec"]["ports"][0]["nodePort"] = json!(31935);
    }
    serde_json::from_value(value).expect("a Service")
}

fn on(pool: &crate::Pool, machine: &str) -> Pod {
    let mut pod = pod(pool, 0, TEMPLATE);
    pod.status = Some(serde_json::from_value(json!({ "hostIP": machine })).expect("a status"));
    pod
}

fn urls(list: &[sluice_crds::cluster::Endpoint]) -> Vec<String> {
    list.iter().map(|one| format!("{} {} {}", one.scope, one.protocol, one.url)).collect()
}

#[test]
fn endpoints_inside_are_always_there() {
    let found = endpoints(&cluster(), &site(), &Seen::default());
    assert_eq!(
        urls(&found.publish),
        [
            "Cluster RTMP rtmp://demo-publish.media.svc.cluster.local:1935/{app}/{stream}",
            "Cluster HTTP http://demo-publish.media.svc.cluster.local:5080/",
        ]
    );
    assert_eq!(
        urls(&found.watch),
        ["Cluster HLS http://demo-watch.media.svc.cluster.local:5080/{app}/streams/{stream}.m3u8"]
    );
}

#[test]
fn endpoints_outside_come_first_and_from_status() {
    let balanced = origins(json!({ "exposure": { "rtmp": { "mode": "LoadBalancer" } } }));
    let by_node = edges(json!({ "exposure": { "rtmp": { "mode": "NodePort" } } }));
    let on_host = origins(json!({ "exposure": { "rtmp": { "mode": "HostPort", "hostPort": 9000 } } }));
    let services = [
        service(
            &balanced,
            json!({ "loadBalancer": { "ingress": [{ "ip": "2001:db8::1" }, { "hostname": "lb.example.com" }] } }),
        ),
        service(&by_node, json!({})),
    ];
    let pods = [on(&on_host, "192.0.2.5"), on(&by_node, "192.0.2.6"), on(&by_node, "192.0.2.6")];
    let seen = Seen { services: &services, pods: &pods, ..Seen::default() };
    let found = endpoints(&exposed(), &site(), &seen);
    let publish = urls(&found.publish);
    assert_eq!(
        publish[..9],
        [
            "External HTTP https://publish.example.com/",
            "External WHIP https://publish.example.com/{app}/whip/{stream}",
            "External HTTP https://p.example.com/",
            "External WHIP https://p.example.com/{app}/whip/{stream}",
            "External RTMP rtmp://p.example.com:1935/{app}/{stream}",
            "External RTMPS rtmps://p.example.com:443/{app}/{stream}",
            "External RTMP rtmp://[2001:db8::1]:1935/{app}/{stream}",
            "External RTMP rtmp://lb.example.com:1935/{app}/{stream}",
            "External RTMP rtmp://192.0.2.5:9000/{app}/{stream}",
        ]
    );
    assert_eq!(publish.len(), 12, "{publish:?}");
    let watch = urls(&found.watch);
    assert_eq!(watch[0], "External HLS https://watch.example.com/{app}/streams/{stream}.m3u8");
    assert_eq!(watch[1], "External WHEP https://watch.example.com/{app}/whep/{stream}");
    assert_eq!(watch[2], "External HLS https://w.example.com/{app}/streams/{stream}.m3u8");
    assert!(watch.contains(&"External RTMP rtmp://192.0.2.6:31935/{app}/{stream}".to_owned()), "{watch:?}");
    // However many there are, the status takes them.
    let many: Vec<Pod> = (0..200).map(|n| on(&on_host, &format!("192.0.2.{n}"))).collect();
    let found = endpoints(&exposed(), &site(), &Seen { pods: &many, ..Seen::default() });
    assert_eq!(found.publish.len(), 64);
}

#[test]
fn rtmps_is_at_a_port_of_the_machine_where_rtmp_is_at_its_own() {
    let secure = cluster_with(json!({ "security": { "tls": { "secretName": "tls" } } })).expect("right");
    let found = |rtmp: Value| {
        let pool = origins_of(&secure, json!({ "exposure": { "rtmp": rtmp } })).expect("right");
        let pods = [on(&pool, "192.0.2.5")];
        urls(&endpoints(&secure, &site(), &Seen { pods: &pods, ..Seen::default() }).publish)
    };
    let rtmps = "External RTMPS rtmps://192.0.2.5:1936/{app}/{stream}".to_owned();
    assert!(found(json!({ "mode": "HostPort" })).contains(&rtmps));
    assert!(found(json!({ "mode": "HostPort", "hostPort": 1935 })).contains(&rtmps));
    assert!(!found(json!({ "mode": "HostPort", "hostPort": 9000 })).contains(&rtmps));
    let plain = origins(json!({ "exposure": { "rtmp": { "mode": "HostPort" } } }));
    let pods = [on(&plain, "192.0.2.5")];
    let seen = Seen { pods: &pods, ..Seen::default() };
    assert!(!urls(&endpoints(&cluster(), &site(), &seen).publish).contains(&rtmps));
}

#[test]
fn a_host_that_leads_to_edges_takes_no_publishers() {
    let cluster =
        cluster_with(json!({ "exposure": { "ingress": { "host": "a.example.com" } } })).expect("right");
    let external = |has_edges: bool| {
        let found = endpoints(&cluster, &site(), &Seen { has_edges, ..Seen::default() });
        let outside = |list: &[sluice_crds::cluster::Endpoint]| -> Vec<String> {
            urls(list).into_iter().filter(|url| url.starts_with("External")).collect()
        };
        (outside(&found.publish), outside(&found.watch).len())
    };
    assert_eq!(external(true), (vec![], 2));
    let publish = ["HTTP http://a.example.com/", "WHIP http://a.example.com/{app}/whip/{stream}"];
    assert_eq!(external(false), (publish.map(|url| format!("External {url}")).to_vec(), 2));
}

#[test]
fn what_is_waited_for_is_named() {
    let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    let with = |object: &kube::core::DynamicObject, status: Value| {
        let mut object = object.clone();
        object.data["status"] = status;
        object
    };
    let objects = cluster_objects(&exposed(), &site(), &served(), true);
    let pool = origins(json!({ "exposure": { "rtmp": { "mode": "LoadBalancer" } } }));
    let taken = |accepted: &str| {
        json!({ "parents": [{ "parentRef": { "name": "web" }, "conditions": [
            { "type": "Accepted", "status": accepted, "message": "no such listener" }, { "type": "ResolvedRefs", "status": "True" } ] }] })
    };
    let certificate = objects.certificate.expect("wanted");
    let ingress = objects.ingress.expect("wanted");
    let waits = [service(&pool, json!({}))];
    let routes = [objects.routes[0].clone(), with(&objects.routes[2], taken("False"))];
    let not_issued = with(
        &certificate,
        json!({ "conditions": [{ "type": "Ready", "status": "False", "message": "no issuer" }] }),
    );
    let seen = Seen {
        has_edges: true,
        services: &waits,
        pods: &[],
        ingress: Some(&ingress),
        routes: &routes,
        certificate: Some(&not_issued),
    };
    assert_eq!(
        waiting(&[], &seen),
        [
            "the Service demo-origin-rtmp waits for the address of its load balancer",
            "the Ingress demo has no address yet: is there a controller for its class?",
            "no Gateway has taken the HTTPRoute demo-watch yet",
            "the Gateway web does not take the TCPRoute demo-rtmp: no such listener",
            "the Certificate demo-tls is not issued yet: no issuer",
        ]
    );
    let address = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } });
    let mut value = serde_json::to_value(&ingress).expect("JSON");
    value["status"] = address.clone();
    let ingress: Ingress = serde_json::from_value(value).expect("an Ingress");
    let services = [service(&pool, address)];
    let routes = [with(&objects.routes[0], taken("True"))];
    let issued = with(&certificate, ready);
    let seen = Seen {
        has_edges: true,
        services: &services,
        pods: &[],
        ingress: Some(&ingress),
        routes: &routes,
        certificate: Some(&issued),
    };
    assert_eq!(waiting(&[], &seen), Vec::<String>::new());
}

#[test]
fn metrics_are_read_with_the_token_of_the_cluster() {
    let spec = json!({ "security": { "adminToken": { "name": "mine", "key": "secret" } },
                       "monitoring": { "interval": "10s", "labels": { "release": "prometheus" } } });
    let cluster = cluster_with(spec).expect("right");
    let monitor = cluster_objects(&cluster, &site(), &served(), true).service_monitor.expect("wanted");
    assert_eq!(monitor.metadata.labels.as_ref().expect("labels")["release"], "prometheus");
    let endpoint = &monitor.data["spec"]["endpoints"][0];
    assert_eq!(endpoint["authorization"]["credentials"], json!({ "name": "mine", "key": "secret" }));
    assert_eq!(endpoint["interval"], "10s");
    // It finds the headless Service of a pool, and no other.
    let wanted = monitor.data["spec"]["selector"]["matchLabels"].as_object().expect("labels").clone();
    let objects = pool_objects(&origins(json!({})), &[], true);
    let finds = |service: &Service| {
        let labels = service.metadata.labels.clone().unwrap_or_default();
        wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    };
    assert!(finds(&objects.headless) && !finds(&objects.new_sessions) && !finds(&objects.media));
    let off = json!({ "monitoring": { "serviceMonitor": "Disabled", "prometheusRule": "Disabled" } });
    let objects = cluster_objects(&cluster_with(off).expect("right"), &site(), &served(), true);
    assert!(objects.service_monitor.is_none() && objects.prometheus_rule.is_none());
}

#[test]
fn apps_are_those_of_the_spec_and_those_to_delete() {
    let with = |settings: Value| {
        cluster_with(json!({ "apps": [{ "name": "live", "settings": settings }, { "name": "vod" }] }))
            .expect("right")
    };
    let cluster = with(json!({ "hlsTime": "2" }));
    let delete = ["old", "live", "old", ""].map(String::from);
    let found = apps(&cluster, &delete);
    assert_eq!(found.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["live", "vod"]);
    assert_eq!(found.apps[0].settings["hlsTime"], "2");
    assert_eq!(found.delete, ["old"], "an app that came back stays");
    assert_eq!(found, apps(&cluster, &delete));
    assert_ne!(found.hash, apps(&cluster, &[]).hash);
    assert_ne!(found.hash, apps(&with(json!({ "hlsTime": "4" })), &delete).hash);
}

#[test]
fn live_settings_are_whole_and_their_hash_follows_them() {
    let plain = live_settings(&origins(json!({})), TEMPLATE, None, "");
    assert_eq!(plain.settings["drain_deadline"], "3600s");
    assert_eq!(plain.settings["max_viewers"], "", "no number is given back as no number");
    assert_eq!(
        plain.hash,
        live_settings(&origins(json!({ "config": { "hls_segment_time": "4s" } })), TEMPLATE, None, "").hash
    );
    for (spec, key, value) in [
        (json!({ "capacity": { "streams": 7 } }), "max_streams", "7"),
        (json!({ "capacity": { "viewers": 8 } }), "max_viewers", "8"),
        (json!({ "config": { "log": "debug" } }), "log", "debug"),
        (json!({ "drain": { "deadline": "30m" } }), "drain_deadline", "1800s"),
        (json!({ "drain": { "policy": "Immediate" } }), "drain_deadline", "0s"),
    ] {
        let live = live_settings(&origins(spec), TEMPLATE, None, "");
        assert_eq!(live.settings[key], value);
        assert_ne!(live.hash, plain.hash, "{key}");
    }
}

#[test]
fn clients_of_webrtc_are_told_where_their_pod_is_reached() {
    let made = |value: serde_json::Value| -> Pod { serde_json::from_value(value).expect("a pod") };
    let pod = made(json!({ "status": { "hostIP": "10.0.0.7", "podIP": "10.244.0.9" } }));
    let machine: k8s_openapi::api::core::v1::Node =
        serde_json::from_value(json!({ "status": { "addresses": [
        { "type": "InternalIP", "address": "10.0.0.7" }, { "type": "ExternalIP", "address": "2001:db8::7" }
    ] } }))
        .expect("a machine");
    let service = |value: serde_json::Value| -> Service { serde_json::from_value(value).expect("a Service") };
    let told = |exposure: serde_json::Value, service: Option<Service>| {
        let pool = origins(json!({ "exposure": { "webrtc": exposure } }));
        candidates(&pool, &pod, service.as_ref(), Some(&machine))
    };
    assert_eq!(told(json!({ "mode": "None" }), None), "");
    assert_eq!(
        told(json!({ "mode": "HostPort", "hostPort": 6000 }), None),
        "[2001:db8::7]:6000,10.0.0.7:6000,10.244.0.9:5004"
    );
    assert_eq!(told(json!({ "mode": "NodePort" }), None), "", "Kubernetes has not chosen yet");
    let ports = service(json!({ "spec": { "ports": [
        { "name": "rtc-udp", "protocol": "UDP", "port": 5004, "nodePort": 31000 },
        { "name": "rtc-tcp", "protocol": "TCP", "port": 5004, "nodePort": 32000 }
    ] } }));
    assert_eq!(
        told(json!({ "mode": "NodePort" }), Some(ports)),
        "[2001:db8::7]:31000/udp,10.0.0.7:31000/udp,[2001:db8::7]:32000/tcp,10.0.0.7:32000/tcp,10.244.0.9:5004"
    );
    let balanced = |ingress| service(json!({ "status": { "loadBalancer": { "ingress": ingress } } }));
    let mode = || json!({ "mode": "LoadBalancer" });
    assert_eq!(told(mode(), Some(balanced(json!([])))), "");
    assert_eq!(
        told(mode(), Some(balanced(json!([{ "hostname": "lb.example.com" }])))),
        "",
        "an address is needed"
    );
    assert_eq!(
        told(mode(), Some(balanced(json!([{ "ip": "198.51.100.9" }])))),
        "198.51.100.9:5004,10.244.0.9:5004"
    );
    let pool = origins(json!({}));
    let live = |candidates| live_settings(&pool, TEMPLATE, None, candidates);
    assert_eq!(live("198.51.100.9:5004").settings["rtc_candidates"], "198.51.100.9:5004");
    assert_ne!(live("198.51.100.9:5004").hash, live("").hash);
    assert!(!live_settings(&pool, 2, None, "198.51.100.9:5004").settings.contains_key("rtc_candidates"));
}
