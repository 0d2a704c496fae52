use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluice_media::StreamKey;
use tokio::sync::watch;

use super::core::{Core, Event, Fenced, Times};
use super::output::{Located, MemberView, Source, StreamView};
use crate::member::{BootId, Carried, Member, NodeId, Owned, Viewers};
use crate::ownership::View;

/// Others that a node dials dial back at once; this is for slow ones.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// The directory of a running node: [`Core`] behind a lock that is never held for long, with the time of now. It is the
/// mesh's [`Remote`](crate::mesh::Remote) and [`Local`](crate::mesh::Local).
#[derive(Debug)]
pub struct Directory {
    core: Mutex<Core>,
    me: NodeId,
    changed: watch::Sender<u64>,
    own_changed: watch::Sender<u64>,
    first: Arc<Member>,
    started: Instant,
}

impl Directory {
    /// Only this node is known.
    pub fn new(me: Member, times: Times) -> Arc<Self> {
        Arc::new(Directory {
            me: me.id.clone(),
            first: Arc::new(me.clone()),
            core: Mutex::new(Core::new(me, times, Instant::now())),
            changed: watch::Sender::new(0),
            own_changed: watch::Sender::new(0),
            started: Instant::now(),
        })
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut core, Instant::now());
        for (sender, version) in [(&self.changed, core.version()), (&self.own_changed, core.own_version())] {
            sender.send_if_modified(|told| std::mem::replace(told, version) != version);
        }
        answer
    }

    /// Changes when somebody comes or goes, when a stream has another owner or carrier, and when there are
    /// [`events`](Self::events).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes when this node has something to tell.
    pub fn own_changed(&self) -> watch::Receiver<u64> {
        self.own_changed.subscribe()
    }

    /// A node that has just started knows of no epoch: before its first claims it waits here until the others had the time
    /// to say hello. Returns at once later on.
    pub async fn introduced(&self) {
        tokio::time::sleep_until((self.started + INTRODUCTION).into()).await;
    }

    /// See [`Core::events`].
    pub fn events(&self) -> Vec<Event> {
        self.with(|core, _| core.events())
    }

    /// See [`Core::expire`]: every second.
    pub fn expire(&self) {
        self.with(Core::expire);
    }

    /// This node's name.
    pub fn id(&self) -> &NodeId {
        &self.me
    }

    /// This node, as it was described last.
    pub fn me(&self) -> Arc<Member> {
        self.with(|core, _| core.me()).unwrap_or_else(|| self.first.clone())
    }

    /// See [`Core::describe_me`].
    pub fn describe_me(&self, member: Member) {
        self.with(|core, _| core.describe_me(member));
    }

    /// See [`Core::own`].
    ///
    /// # Errors
    /// A higher epoch is known.
    pub fn own(&self, owned: Owned) -> Result<(), Fenced> {
        self.with(|core, now| core.own(owned, now))
    }

    /// See [`Core::take`].
    ///
    /// # Errors
    /// Another epoch has come up since the claim began.
    pub fn take(&self, owned: Owned, known: u64) -> Result<(), Fenced> {
        self.with(|core, now| core.take(owned, known, now))
    }

    /// See [`Core::disown`].
    pub fn disown(&self, key: &StreamKey, epoch: u64) -> bool {
        self.with(|core, now| core.disown(key, epoch, now))
    }

    /// See [`Core::carry`].
    pub fn carry(&self, carried: Carried) {
        self.with(|core, now| core.carry(carried, now));
    }

    /// See [`Core::drop_carried`].
    pub fn drop_carried(&self, key: &StreamKey) {
        self.with(|core, now| core.drop_carried(key, now));
    }

    /// See [`Core::owned_epoch`].
    pub fn owned_epoch(&self, key: &StreamKey) -> Option<u64> {
        self.with(|core, _| core.owned_epoch(key))
    }

    /// See [`Core::know_epoch`].
    pub fn know_epoch(&self, key: &StreamKey, epoch: u64) -> bool {
        self.with(|core, now| core.know_epoch(key, epoch, now))
    }

    /// See [`Core::highest_epoch`].
    pub fn highest_epoch(&self, key: &StreamKey) -> u64 {
        self.with(|core, _| core.highest_epoch(key))
    }

    /// See [`Core::admit`].
    pub fn admit(&self, key: &StreamKey, epoch: u64) -> bool {
        self.with(|core, now| core.admit(key, epoch, now))
    }

    /// See [`Core::heard`].
    pub fn heard(&self, id: &NodeId, boot: BootId, counter: u64) {
        self.with(|core, now| core.heard(id, boot, counter, now));
    }

    /// See [`Core::describe`].
    pub fn describe(&self, member: Member) {
        self.with(|core, _| core.describe(member));
    }

    /// See [`Core::forget`].
    pub fn forget(&self, id: &NodeId) -> bool {
        self.with(|core, now| core.forget(id, now))
    }

    /// See [`Core::find`].
    pub fn find(&self, key: &StreamKey) -> Option<Located> {
        self.with(|core, _| core.find(key))
    }

    /// See [`Core::sources`].
    pub fn sources(&self, key: &StreamKey) -> Vec<Source> {
        self.with(|core, _| core.sources(key))
    }

    /// See [`Core::view`].
    pub fn view(&self, key: &StreamKey) -> View {
        self.with(|core, _| core.view(key))
    }

    /// See [`Core::address`].
    pub fn address(&self, id: &NodeId) -> Option<String> {
        self.with(|core, _| core.address(id))
    }

    /// See [`Core::member`].
    pub fn member(&self, id: &NodeId) -> Option<MemberView> {
        self.with(|core, now| core.member(id, now))
    }

    /// See [`Core::members`].
    pub fn members(&self) -> Vec<MemberView> {
        self.with(|core, now| core.members(now))
    }

    /// See [`Core::twin`].
    pub fn twin(&self) -> Option<NodeId> {
        self.with(|core, _| core.twin())
    }

    /// See [`Core::streams`].
    pub fn streams(&self) -> Vec<StreamView> {
        self.with(|core, _| core.streams())
    }

    /// See [`Core::stream`].
    pub fn stream(&self, key: &StreamKey) -> Option<StreamView> {
        self.with(|core, _| core.stream(key))
    }

    /// See [`Core::viewers`].
    pub fn viewers(&self, key: &StreamKey) -> Viewers {
        self.with(|core, _| core.viewers(key))
    }
}
