//! Apps that the operator declares: done one request after the other, and looked at afterwards, for somebody may change
//! them over REST.

use std::sync::{Mutex, PoisonError};

use sluice_api::{ApiState, Declared};
use sluice_control::{AppOutcome, AppResult, Apps as Wanted, AppsResult, MAX_APPS};

use crate::apps::Apps;

/// What was declared last.
#[derive(Default)]
pub(super) struct Declaring {
    /// One after the other.
    turn: tokio::sync::Mutex<()>,
    done: Mutex<Option<Done>>,
}

struct Done {
    wanted: Wanted,
    /// The versions of the apps when they were last seen to be as declared, in their order.
    seen: Vec<Option<u64>>,
}

/// Why a declaration is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many apps in one request: at most {MAX_APPS}")]
pub(super) struct TooMany;

impl Declaring {
    /// Makes the apps what is wanted.
    pub(super) async fn apply(&self, wanted: Wanted, api: &ApiState) -> Result<AppsResult, TooMany> {
        if wanted.apps.len() + wanted.delete.len() > MAX_APPS {
            return Err(TooMany);
        }
        let _turn = self.turn.lock().await;
        let mut apps = Vec::new();
        for app in &wanted.apps {
            let outcome = match api.declare_app(&app.name, &app.settings).await {
                Ok(Declared::Created) => AppOutcome::Created,
                Ok(Declared::Updated) => AppOutcome::Updated,
                Ok(Declared::Unchanged) => AppOutcome::Unchanged,
                Err(why) => AppOutcome::Failed(why),
            };
            apps.push(AppResult { name: app.name.clone(), outcome });
        }
        for name in &wanted.delete {
            let outcome = match api.remove_app(name).await {
                Ok(true) => AppOutcome::Deleted,
                Ok(false) => AppOutcome::Unchanged,
                Err(why) => AppOutcome::Failed(why),
            };
            apps.push(AppResult { name: name.clone(), outcome });
        }
        let result = AppsResult { apps };
        for app in &result.apps {
            match &app.outcome {
                AppOutcome::Unchanged => {}
                AppOutcome::Failed(why) => {
                    tracing::warn!(app = app.name, %why, "the app is not as the operator wants it");
                }
                outcome => tracing::info!(app = app.name, ?outcome, "the operator set the app"),
            }
        }
        let seen = vec![None; wanted.apps.len()];
        let done = result.is_complete().then_some(Done { wanted, seen });
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        Ok(result)
    }

    /// The hash of what was declared last, if the apps that this node knows are so; only those that have changed since
    /// the last look are compared.
    pub(super) fn holds(&self, apps: &Apps) -> Option<String> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let Done { wanted, seen } = done.as_mut()?;
        for (app, seen) in wanted.apps.iter().zip(seen) {
            let here = apps.get(&app.name)?;
            if *seen != Some(here.version) {
                if !ApiState::is_as_declared(&here.settings, &app.settings) {
                    return None;
                }
                *seen = Some(here.version);
            }
        }
        if wanted.delete.iter().any(|name| apps.get(name).is_some()) {
            return None;
        }
        Some(wanted.hash.clone())
    }
}
