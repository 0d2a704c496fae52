//! The revision of a pool: what its pods are made from, as a hash. A pod with another one is replaced.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sluice_crds::common::{ExposureMode, PullPolicy};
use sluice_crds::generate::short_hash;
use sluice_crds::names::port;
use sluice_crds::pool::{Gpu, GpuMode, Placement, PodTemplate, PoolExposure, Resources};

use super::config;
use crate::{Pool, SecretRef};

/// The hash of what reaches a pod: from the spec, settings that are taken at the start only, the annotation by which a person asks for
/// a restart, and the generation of the template. The rest of what the operator puts into a pod is a matter of that generation.
///
/// An entry that says nothing (a default, an empty list) is left out, so a field that is added later replaces no pod.
pub fn revision(pool: &Pool, generation: i64) -> String {
    let text = serde_json::to_string(&entries(pool, generation)).unwrap_or_default();
    short_hash(text.as_bytes())
}

type Entries = BTreeMap<&'static str, Value>;

fn put(entries: &mut Entries, name: &'static str, value: impl Serialize) {
    let value = sorted(serde_json::to_value(value).unwrap_or_default());
    let nothing = match &value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if !nothing {
        entries.insert(name, value);
    }
}

/// With the fields of every object in the order of the alphabet: the order in which somebody wrote them means nothing.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn entries(pool: &Pool, generation: i64) -> Entries {
    let cluster = pool.cluster();
    let spec = pool.spec();
    let mut all = Entries::new();
    put(&mut all, "generation", generation);
    put(&mut all, "image", format!("{}:{}", cluster.image().repository, pool.version()));
    let pull = Some(cluster.image().pull_policy).filter(|policy| *policy != PullPolicy::default());
    put(&mut all, "pullPolicy", pull.map(PullPolicy::as_str));
    let secrets: Vec<&str> = cluster.image().pull_secrets.iter().map(|secret| secret.name.as_str()).collect();
    put(&mut all, "pullSecrets", secrets);
    let secret = |secret: &SecretRef| (!secret.generated).then(|| format!("{}/{}", secret.name, secret.key));
    put(&mut all, "database", secret(cluster.database()));
    put(&mut all, "clusterKey", secret(cluster.cluster_key()));
    put(&mut all, "adminToken", secret(cluster.admin_token()));
    put(&mut all, "namePrefix", cluster.name_prefix());
    put(&mut all, "tls", cluster.certificate().map(|certificate| certificate.secret.as_str()));
    put(&mut all, "config", config::at_start(pool, generation));
    put(&mut all, "group", Some(pool.group()).filter(|group| *group != pool.name()));
    put(&mut all, "storage", pool.storage().map(|_| true));
    put(&mut all, "restartedAt", pool.restarted_at());
    let Resources { requests, limits } = &spec.resources;
    put(&mut all, "requests", requests);
    put(&mut all, "limits", limits);
    gpu(&mut all, &spec.gpu);
    let Placement { node_selector, affinity, tolerations, spread, priority_class_name } = &spec.placement;
    put(&mut all, "nodeSelector", node_selector);
    put(&mut all, "affinity", affinity);
    put(&mut all, "tolerations", tolerations);
    put(&mut all, "spread", spread);
    put(&mut all, "priorityClass", priority_class_name);
    let PoolExposure { rtmp, srt, webrtc } = &spec.exposure;
    for (name, exposure, own) in [
        ("rtmpHostPort", rtmp, port::RTMP),
        ("srtHostPort", srt, port::SRT),
        ("webrtcHostPort", webrtc, port::RTC),
    ] {
        let on_host = exposure.mode == ExposureMode::HostPort;
        put(&mut all, name, on_host.then(|| exposure.host_port.unwrap_or(own)));
    }
    let PodTemplate { labels, annotations, env, volumes, volume_mounts, init_containers, sidecars } =
        &spec.pod_template;
    put(&mut all, "labels", labels);
    put(&mut all, "annotations", annotations);
    put(&mut all, "env", env);
    put(&mut all, "volumes", volumes);
    put(&mut all, "volumeMounts", volume_mounts);
    put(&mut all, "initContainers", init_containers);
    put(&mut all, "sidecars", sidecars);
    all
}

fn gpu(all: &mut Entries, gpu: &Gpu) {
    // How many encoder sessions there are is a matter of planning; the pod does not know it.
    let Gpu {
        mode,
        resource_name: _,
        count,
        products,
        max_encode_sessions: _,
        resource_claim_template_name,
        runtime_class_name,
    } = gpu;
    let extended = *mode == GpuMode::ExtendedResource;
    put(all, "gpu", extended.then(|| config::gpu_resource(gpu)));
    put(all, "gpuCount", count.filter(|count| *count != 1));
    put(all, "gpuProducts", products);
    put(all, "gpuClaim", resource_claim_template_name);
    put(all, "runtimeClass", runtime_class_name);
}
