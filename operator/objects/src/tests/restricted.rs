//! The Pod Security Standard "restricted", as a check over a pod; the rules of "baseline" included.

use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext, Volume};
use serde_json::{Value, json};

use super::{edges, origins};
use crate::{TEMPLATE, pod};

/// What the restricted level does not admit.
pub(super) fn violations(pod: &Pod) -> Vec<String> {
    let mut all = Vec::new();
    let mut unless = |good: bool, what: String| {
        if !good {
            all.push(what);
        }
    };
    let spec = pod.spec.clone().expect("a spec");
    for (what, on) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        unless(on != Some(true), what.into());
    }
    let context = spec.security_context.clone().unwrap_or_default();
    unless(context.run_as_user != Some(0), "runAsUser of the pod".into());
    unless(context.sysctls.is_none(), "sysctls".into());
    for volume in spec.volumes.iter().flatten() {
        unless(volume_type_is_allowed(volume), format!("the type of volume {}", volume.name));
    }
    let containers: Vec<&Container> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    for container in containers {
        let name = &container.name;
        let own = container.security_context.clone().unwrap_or_default();
        let SecurityContext {
            allow_privilege_escalation,
            capabilities,
            privileged,
            proc_mount,
            run_as_non_root,
            run_as_user,
            seccomp_profile,
            ..
        } = own;
        unless(privileged != Some(true), format!("{name}: privileged"));
        unless(allow_privilege_escalation == Some(false), format!("{name}: allowPrivilegeEscalation"));
        let capabilities = capabilities.unwrap_or_default();
        unless(
            capabilities.drop.is_some_and(|drop| drop.iter().any(|one| one == "ALL")),
            format!("{name}: capabilities are not dropped"),
        );
        unless(
            capabilities.add.iter().flatten().all(|one| one == "NET_BIND_SERVICE"),
            format!("{name}: capabilities are added"),
        );
        unless(proc_mount.is_none_or(|mount| mount == "Default"), format!("{name}: procMount"));
        unless(run_as_non_root.or(context.run_as_non_root) == Some(true), format!("{name}: runAsNonRoot"));
        unless(run_as_user != Some(0), format!("{name}: runAsUser"));
        let profile = seccomp_profile.or_else(|| context.seccomp_profile.clone());
        unless(
            profile.is_some_and(|profile| ["RuntimeDefault", "Localhost"].contains(&&*profile.type_)),
            format!("{name}: seccompProfile"),
        );
        for port in container.ports.iter().flatten() {
            unless(port.host_port.is_none(), format!("{name}: hostPort"));
        }
    }
    all
}

fn volume_type_is_allowed(volume: &Volume) -> bool {
    const ALLOWED: [&str; 8] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let Value::Object(fields) = serde_json::to_value(volume).expect("JSON") else { return false };
    fields.keys().filter(|name| *name != "name").all(|name| ALLOWED.contains(&name.as_str()))
}

#[test]
fn pods_are_restricted_and_so_are_added_containers() {
    let more = json!({
        "gpu": { "mode": "ExtendedResource" },
        "podTemplate": {
            "volumes": [{ "name": "cache", "emptyDir": {} }],
            "initContainers": [{ "name": "prepare", "image": "example/prepare:1" }],
            "sidecars": [{ "name": "agent", "image": "example/agent:1", "securityContext": { "runAsUser": 5 } }],
        },
    });
    for pool in [origins(more.clone()), edges(more)] {
        assert_eq!(violations(&pod(&pool, 0, TEMPLATE)), Vec::<String>::new());
        assert!(!pool.uses_host_ports());
    }
}

#[test]
fn what_a_person_asks_for_is_not_overruled() {
    let sidecar =
        json!({ "name": "agent", "image": "example/agent:1", "securityContext": { "privileged": true } });
    let pool = origins(json!({ "podTemplate": { "sidecars": [sidecar] } }));
    let found = violations(&pod(&pool, 0, TEMPLATE));
    assert!(found.contains(&"agent: privileged".to_owned()), "{found:?}");
    assert!(!found.iter().any(|one| one.starts_with("node: ")), "{found:?}");
}

#[test]
fn ports_of_the_machine_are_the_only_exception_and_are_told() {
    let pool = origins(json!({ "exposure": { "rtmp": { "mode": "HostPort", "hostPort": 31935 } } }));
    assert!(pool.uses_host_ports());
    let pod = pod(&pool, 0, TEMPLATE);
    assert_eq!(violations(&pod), ["node: hostPort"]);
    let ports = pod.spec.expect("a spec").containers.remove(0).ports.expect("ports");
    let rtmp = ports.iter().find(|port| port.name.as_deref() == Some("rtmp")).expect("it is there");
    assert_eq!((rtmp.container_port, rtmp.host_port), (1935, Some(31935)));
}
