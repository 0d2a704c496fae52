//! The apps and their settings as this node knows them: read from the store, asked on every publish and play.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use sluice_store::{App, AppSettings, Result, Store};

/// All apps by name. Reading takes no store call.
#[derive(Debug)]
pub struct Apps {
    store: Arc<dyn Store>,
    apps: RwLock<HashMap<String, Arc<App>>>,
}

impl Apps {
    /// Makes the apps that are missing, with `defaults`, and reads all.
    ///
    /// # Errors
    /// What the store says.
    pub async fn load(store: Arc<dyn Store>, names: &[String], defaults: &AppSettings) -> Result<Arc<Self>> {
        for name in names {
            store.create_app(name, defaults.clone()).await?;
        }
        let apps = Arc::new(Apps { store, apps: RwLock::default() });
        apps.refresh().await?;
        Ok(apps)
    }

    /// Reads all apps again, after a change.
    ///
    /// # Errors
    /// What the store says; the apps stay as they were then.
    pub async fn refresh(&self) -> Result<()> {
        let apps = self.store.apps().await?;
        let apps = apps.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = apps;
        Ok(())
    }

    /// One app.
    pub fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Whether an address is in AMS's comma separated list of addresses and networks; an empty list has none.
pub fn listed(list: &str, addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    list.split(',').map(str::trim).filter(|s| !s.is_empty()).any(|entry| {
        entry
            .parse::<IpNet>()
            .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
            .is_ok_and(|n| n.contains(&addr))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_networks() {
        let at = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(listed("10.0.0.0/8, 192.168.1.7", at("192.168.1.7")));
        assert!(listed("10.0.0.0/8", at("::ffff:10.1.2.3")));
        assert!(!listed("", at("127.0.0.1")));
        assert!(!listed("10.0.0.0/8,nonsense", at("11.0.0.1")));
    }
}
