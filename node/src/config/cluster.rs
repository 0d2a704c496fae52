//! What the composition of a cluster node asks of the configuration: names, addresses and identity, settled.

use std::net::IpAddr;
use std::time::Duration;

use if_addrs::Interface;

use super::error::{ConfigError, ConfigErrors};
use super::settings::Config;
use super::types::{ClusterIdentity, ClusterMode};
use crate::process;

/// Kubernetes takes a pod that ends out of its Services about as fast.
const IN_POD: Duration = Duration::from_secs(5);

impl Config {
    /// True unless the node is alone.
    #[must_use]
    pub fn in_cluster(&self) -> bool {
        self.cluster_mode != ClusterMode::Standalone
    }

    /// The name of this node: `node_id`, or the host name of the machine.
    #[must_use]
    pub fn id(&self) -> String {
        self.node_id.clone().unwrap_or_else(process::host_name)
    }

    /// The host name or address under which others reach this node: `advertise_host`, the first global address of
    /// `advertise_interface`, `pod_ip`, or the host name of the machine. An IPv6 address has no brackets.
    ///
    /// # Errors
    /// The interface does not exist or has no global address; the host name is that of the loopback address, which
    /// means another machine to every node of a cluster.
    pub fn advertised(&self) -> Result<String, ConfigErrors> {
        if let Some(host) = &self.advertise_host {
            return Ok(host.clone());
        }
        if let Some(name) = &self.advertise_interface {
            return global_address("advertise_interface", name).map(|ip| ip.to_string());
        }
        if let Some(ip) = self.pod_ip {
            return Ok(ip.to_string());
        }
        let host = process::host_name();
        if self.in_cluster() && (host == "localhost" || host.starts_with("localhost.")) {
            return Err(wrong(
                "the host name of this machine is localhost, which other nodes cannot reach: \
                 set advertise_host or advertise_interface"
                    .into(),
            ));
        }
        Ok(host)
    }

    /// The address of the interface for multicast, of the kind that the group has; `None` lets the system choose.
    ///
    /// # Errors
    /// The interface does not exist, or has no address of that kind.
    pub fn multicast_via(&self) -> Result<Option<IpAddr>, ConfigErrors> {
        let Some(name) = &self.multicast_interface else { return Ok(None) };
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Some(ip));
        }
        let of_kind = |ip: &IpAddr| ip.is_ipv4() == self.multicast_group.is_ipv4();
        let addresses = addresses_of("multicast_interface", name)?;
        addresses.into_iter().find(of_kind).map(Some).ok_or_else(|| {
            let kind = if self.multicast_group.is_ipv4() { "IPv4" } else { "IPv6" };
            wrong(format!(
                "multicast_interface: {name} has no {kind} address, and multicast_group is one: choose another"
            ))
        })
    }

    /// How the node shows others that it belongs to them: certificates before the key. `None` when it is alone
    /// and has neither.
    #[must_use]
    pub fn cluster_identity(&self) -> Option<ClusterIdentity> {
        match (&self.cluster_cert, &self.cluster_cert_key, &self.cluster_ca) {
            (Some(cert), Some(key), Some(ca)) => {
                Some(ClusterIdentity::Files { cert: cert.clone(), key: key.clone(), ca: ca.clone() })
            }
            _ => self.cluster_key.clone().map(ClusterIdentity::Key),
        }
    }

    /// For how long sessions are still let in after the node was told to stop.
    #[must_use]
    pub fn stop_delay(&self) -> Duration {
        let in_pod = if self.pod_ip.is_some() { IN_POD } else { Duration::ZERO };
        self.stop_delay.unwrap_or(in_pod)
    }

    /// How often the lease is renewed.
    #[must_use]
    pub fn lease_renewal(&self) -> Duration {
        self.lease / 3
    }
}

fn global_address(key: &str, name: &str) -> Result<IpAddr, ConfigErrors> {
    let mut addresses = addresses_of(key, name)?;
    addresses.retain(is_global);
    addresses.sort_by_key(|ip| !ip.is_ipv4());
    addresses.first().copied().ok_or_else(|| {
        wrong(format!(
            "{key}: {name} has no address that other machines can reach: choose another interface, \
             or set advertise_host"
        ))
    })
}

fn addresses_of(key: &str, name: &str) -> Result<Vec<IpAddr>, ConfigErrors> {
    let all = if_addrs::get_if_addrs()
        .map_err(|e| wrong(format!("{key}: cannot list the network interfaces: {e}")))?;
    pick(key, name, &all)
}

fn pick(key: &str, name: &str, all: &[Interface]) -> Result<Vec<IpAddr>, ConfigErrors> {
    let addresses: Vec<IpAddr> = all.iter().filter(|i| i.name == name).map(|i| i.addr.ip()).collect();
    if addresses.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
        names.dedup();
        return Err(wrong(format!(
            "{key}: there is no network interface {name} with an address; there are {}",
            names.join(", ")
        )));
    }
    Ok(addresses)
}

/// Private networks count: a cluster is often in one. Loopback, link-local and the like do not.
fn is_global(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()),
    }
}

fn wrong(sentence: String) -> ConfigErrors {
    ConfigError::Together(sentence).into()
}
