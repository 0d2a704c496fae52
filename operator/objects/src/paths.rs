//! Where the files of a node's pod are. Configuration, secrets, certificate and trust are one projected volume, read-only.

/// The folder of everything that a node is given.
pub const GIVEN: &str = "/etc/sluice";
/// The configuration file.
pub const CONFIG: &str = "/etc/sluice/node.toml";
/// The cluster key.
pub const CLUSTER_KEY: &str = "/etc/sluice/secrets/cluster-key";
/// The admin token.
pub const ADMIN_TOKEN: &str = "/etc/sluice/secrets/admin-token";
/// The URI of the database.
pub const DATABASE_URI: &str = "/etc/sluice/secrets/database-uri";
/// The certificate, where the cluster has one.
pub const TLS_CERTIFICATE: &str = "/etc/sluice/tls/tls.crt";
/// The certificate's key.
pub const TLS_KEY: &str = "/etc/sluice/tls/tls.key";
/// The authority that the operator is known by.
pub const OPERATOR_CA: &str = "/etc/sluice/trust/operator-ca.crt";
/// What the node keeps: a volume of its own where the pool has storage.
pub const DATA: &str = "/var/lib/sluice";
/// For what need not be kept.
pub const TMP: &str = "/tmp";

/// Where something of [`GIVEN`] is in the projected volume.
pub(crate) fn inside(path: &str) -> &str {
    path.strip_prefix(GIVEN).and_then(|path| path.strip_prefix('/')).unwrap_or(path)
}
