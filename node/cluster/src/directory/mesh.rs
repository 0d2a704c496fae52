//! The directory as the mesh sees it.

use std::sync::Arc;

use tokio::sync::watch;

use super::shared::Directory;
use crate::member::{BootId, Carried, Member, NodeId, Owned};
use crate::mesh::{Changes, Local, Remote};

impl Remote for Directory {
    fn hello(&self, member: Member, owned: Vec<Owned>, carried: Vec<Carried>) -> bool {
        self.with(|core, now| core.hello(member, owned, carried, now))
    }

    fn tick(&self, member: Member) {
        self.with(|core, now| core.tick(member, now));
    }

    fn update(&self, from: &NodeId, boot: BootId, owned: Changes<Owned>, carried: Changes<Carried>) {
        self.with(|core, now| core.update(from, boot, owned, carried, now));
    }

    fn down(&self, from: &NodeId, boot: BootId) {
        self.with(|core, _| core.down(from, boot));
    }
}

impl Local for Directory {
    fn member(&self) -> Member {
        Arc::unwrap_or_clone(self.me())
    }

    fn owned(&self) -> Vec<Owned> {
        self.with(|core, _| core.owned())
    }

    fn carried(&self) -> Vec<Carried> {
        self.with(|core, _| core.carried())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.own_changed()
    }
}
