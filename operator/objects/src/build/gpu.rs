//! What a GPU adds to a pod.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, NodeSelectorRequirement, PodResourceClaim, ResourceClaim, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sluice_crds::pool::{Gpu, GpuMode};

use super::config::gpu_resource;

/// The label of machines that GPU feature discovery sets.
const PRODUCT: &str = "nvidia.com/gpu.product";
/// The name of the claim in the pod.
const CLAIM: &str = "gpu";
/// Without `video` the encoder's library is not mounted into the container.
const CAPABILITIES: [(&str, &str); 1] = [("NVIDIA_DRIVER_CAPABILITIES", "compute,video,utility")];

/// Gives the node container its GPU: by the resource's name or by a claim. Which of the machine's GPUs it sees is the device plugin's
/// or the driver's to say, so that nothing here can widen it.
pub(crate) fn equip(container: &mut Container, gpu: &Gpu) {
    let resources = container.resources.get_or_insert_default();
    match gpu.mode {
        GpuMode::None => return,
        GpuMode::ExtendedResource => {
            let count = Quantity(gpu.count.unwrap_or(1).to_string());
            // The request is the same by itself.
            resources.limits.get_or_insert_default().insert(gpu_resource(gpu).to_owned(), count);
        }
        GpuMode::ResourceClaim => {
            let claim = ResourceClaim { name: CLAIM.into(), request: None };
            resources.claims.get_or_insert_default().push(claim);
        }
    }
    let env = container.env.get_or_insert_default();
    for (name, value) in CAPABILITIES {
        env.push(EnvVar { name: name.into(), value: Some(value.into()), value_from: None });
    }
}

pub(crate) fn claims(gpu: &Gpu) -> Option<Vec<PodResourceClaim>> {
    let template = gpu.resource_claim_template_name.clone().filter(|_| gpu.mode == GpuMode::ResourceClaim)?;
    Some(vec![PodResourceClaim {
        name: CLAIM.into(),
        resource_claim_name: None,
        resource_claim_template_name: Some(template),
    }])
}

/// Machines with GPUs are often tainted with the resource's name; NVIDIA's always with `nvidia.com/gpu`, whatever the slice is called.
pub(crate) fn tolerations(gpu: &Gpu) -> Vec<Toleration> {
    if gpu.mode != GpuMode::ExtendedResource {
        return Vec::new();
    }
    let resource = gpu_resource(gpu);
    let mut keys = vec![resource];
    if resource.starts_with("nvidia.com/") && resource != "nvidia.com/gpu" {
        keys.push("nvidia.com/gpu");
    }
    keys.into_iter()
        .map(|key| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some("NoSchedule".into()),
            ..Toleration::default()
        })
        .collect()
}

/// Only machines with one of the products.
pub(crate) fn products(gpu: &Gpu) -> Option<NodeSelectorRequirement> {
    (gpu.mode == GpuMode::ExtendedResource && !gpu.products.is_empty()).then(|| NodeSelectorRequirement {
        key: PRODUCT.into(),
        operator: "In".into(),
        values: Some(gpu.products.clone()),
    })
}
