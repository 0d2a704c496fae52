//! Which object is meant, in a few words that can be keys.

use std::fmt;
use std::sync::Arc;

use sluice_crds::pool::Role;

/// A `MediaCluster`, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ClusterRef {
    /// From its names.
    pub fn new(namespace: &str, name: &str) -> ClusterRef {
        ClusterRef { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ClusterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaCluster {}/{}", self.namespace, self.name)
    }
}

/// An `OriginPool` or an `EdgePool`, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolRef {
    /// Which of the two kinds.
    pub role: Role,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl PoolRef {
    /// From its kind and names.
    pub fn new(role: Role, namespace: &str, name: &str) -> PoolRef {
        PoolRef { role, namespace: namespace.into(), name: name.into() }
    }

    /// Its kind, as YAML spells it.
    pub fn kind(&self) -> &'static str {
        match self.role {
            Role::Origin => "OriginPool",
            Role::Edge => "EdgePool",
        }
    }
}

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind(), self.namespace, self.name)
    }
}
