//! A node that has nothing to do, as the operator sees it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_control::{
    AppOutcome, AppResult, Apps, AppsResult, Drain, DrainOrder, Draining, LiveSettings, Report, Role,
    SettingsResult, StoreState,
};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The state of one node.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    role: Role,
    boot: u32,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    revision: u64,
    viewers: u32,
    drain: Option<(Instant, Drain)>,
    apps: Option<String>,
    settings: Option<String>,
    born: Instant,
}

impl Node {
    pub(crate) fn new(name: &str, role: Role, boot: u32) -> Node {
        let state = State {
            revision: u64::from(boot) << 32,
            viewers: 0,
            drain: None,
            apps: None,
            settings: None,
            born: Instant::now(),
        };
        Node { name: name.to_owned(), role, boot, state: Mutex::new(state), changed: Notify::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        {
            let mut state = self.state();
            how(&mut state);
            state.revision += 1;
        }
        self.changed.notify_waiters();
    }

    /// Edges have viewers, origins have none.
    pub(crate) fn set_viewers(&self, viewers: u32) {
        if self.role == Role::Edge {
            self.change(|state| state.viewers = viewers);
        }
    }

    pub(crate) fn drain(&self, order: Drain) {
        self.change(|state| {
            // A drained node has nobody left.
            state.viewers = 0;
            state.drain.get_or_insert((Instant::now(), order));
        });
    }

    pub(crate) fn undrain(&self) {
        self.change(|state| state.drain = None);
    }

    pub(crate) fn apply_apps(&self, apps: Apps) -> AppsResult {
        let result = AppsResult {
            apps: (apps.apps.into_iter().map(|app| app.name))
                .chain(apps.delete)
                .map(|name| AppResult { name, outcome: AppOutcome::Unchanged })
                .collect(),
        };
        self.change(|state| state.apps = Some(apps.hash));
        result
    }

    pub(crate) fn apply_settings(&self, settings: LiveSettings) -> SettingsResult {
        self.change(|state| state.settings = Some(settings.hash));
        SettingsResult::default()
    }

    /// How it is now.
    pub(crate) fn report(&self) -> Report {
        let state = self.state();
        Report {
            node: self.name.clone(),
            boot: self.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.role,
            uptime_s: state.born.elapsed().as_secs(),
            revision: state.revision,
            ready: true,
            accepting: state.drain.is_none(),
            draining: state.drain.as_ref().map(|(since, order)| Draining {
                since_s: since.elapsed().as_secs(),
                deadline_s: order.deadline_s.map(|s| s.saturating_sub(since.elapsed().as_secs())),
                by: DrainOrder::Operator,
                reason: order.reason.clone(),
                ..Draining::default()
            }),
            viewers: state.viewers,
            store: StoreState::Reachable,
            members: 1,
            apps_hash: state.apps.clone(),
            settings_hash: state.settings.clone(),
            ..Report::default()
        }
    }

    /// How it is once its revision is another than `known`, or after `wait`.
    pub(crate) async fn report_after(&self, known: Option<u64>, wait: Duration) -> Report {
        let end = Instant::now() + wait;
        loop {
            // Before the look: a change between the look and the wait is not missed.
            let changed = self.changed.notified();
            let report = self.report();
            if known != Some(report.revision) || tokio::time::timeout_at(end, changed).await.is_err() {
                return self.report();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_ends_with_a_change_or_with_time() {
        let node = Arc::new(Node::new("e", Role::Edge, 7));
        let known = node.report().revision;
        let begin = Instant::now();
        assert_eq!(node.report_after(Some(known), Duration::from_secs(5)).await.revision, known);
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
        let waiting = tokio::spawn({
            let node = node.clone();
            async move { node.report_after(Some(known), Duration::from_secs(60)).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.set_viewers(3);
        assert_eq!(waiting.await.unwrap().viewers, 3);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn draining_is_told_and_taken_back() {
        let node = Node::new("o", Role::Origin, 1);
        node.drain(Drain { reason: "ScaleIn".into(), deadline_s: Some(60), accept_for_s: 0 });
        let report = node.report();
        assert!(!report.accepting);
        assert_eq!(report.draining.unwrap().reason, "ScaleIn");
        node.undrain();
        assert!(node.report().accepting);
    }

    #[tokio::test]
    async fn what_was_applied_comes_back_by_its_hash() {
        let node = Node::new("o", Role::Origin, 1);
        let apps = Apps { hash: "a".into(), delete: vec!["x".into()], ..Apps::default() };
        assert!(node.apply_apps(apps).is_complete());
        node.apply_settings(LiveSettings { hash: "s".into(), ..LiveSettings::default() });
        let report = node.report();
        assert_eq!((report.apps_hash.as_deref(), report.settings_hash.as_deref()), (Some("a"), Some("s")));
    }
}
