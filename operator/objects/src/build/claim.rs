//! The volume of a pod, where its pool has storage.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use sluice_crds::common::DeletionPolicy;
use sluice_crds::names;
use sluice_crds::pool::Storage;

use super::meta;
use crate::Pool;

/// The claim of a pod.
pub(crate) fn name(pod: &str) -> String {
    names::claim(pod)
}

/// The claim of the pod in a slot; none for a pool without storage. With deletion policy Keep nobody owns it, so that it stays when
/// the pool goes; a pod that is made again in the slot finds it.
pub fn claim(pool: &Pool, slot: u32) -> Option<PersistentVolumeClaim> {
    let Storage { size, storage_class_name, deletion_policy } = pool.storage()?;
    let pod = names::pod(pool.name(), slot);
    let mut metadata = meta::of_pool(pool, name(&pod));
    if *deletion_policy == DeletionPolicy::Keep {
        metadata.owner_references = None;
    }
    if let Some(labels) = &mut metadata.labels {
        labels.insert(names::POD.into(), pod);
    }
    Some(PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size.into())])),
                limits: None,
            }),
            storage_class_name: storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
