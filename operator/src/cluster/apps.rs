//! Declarative apps: told to one node, which spreads them as it does a change over REST.

use sluice_control::{AppOutcome, Apps, AppsResult, Report};
use sluice_crds::cluster::{App, AppStatus};
use sluice_crds::common::DeletionPolicy;
use sluice_crds::pool::Role;

/// The apps that were declared with deletion policy Delete and are declared no more.
pub fn to_delete(declared: &[App], before: &[AppStatus]) -> Vec<String> {
    before
        .iter()
        .filter(|status| status.deletion_policy == DeletionPolicy::Delete)
        .filter(|status| declared.iter().all(|app| app.name != status.name))
        .map(|status| status.name.clone())
        .collect()
}

/// A node that may be asked.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The uid of its pod.
    pub uid: String,
    /// What it is for.
    pub role: Role,
    /// What it said lately.
    pub report: &'a Report,
}

/// Which node is told: none when one has applied just this; else an origin before an edge, in the order of names.
pub fn whom<'a>(wanted: &Apps, candidates: &[Candidate<'a>]) -> Option<Candidate<'a>> {
    let applied =
        candidates.iter().any(|candidate| candidate.report.apps_hash.as_deref() == Some(&wanted.hash));
    if applied || (wanted.apps.is_empty() && wanted.delete.is_empty()) {
        return None;
    }
    let mut order: Vec<&Candidate<'a>> = candidates
        .iter()
        .filter(|candidate| candidate.report.ready && candidate.report.draining.is_none())
        .collect();
    order.sort_by(|a, b| (a.role, &a.report.node).cmp(&(b.role, &b.report.node)));
    order.first().map(|candidate| (*candidate).clone())
}

/// What the status says of the apps. `result` is what a node answered now; `applied` that one has applied all of it.
pub fn statuses(
    declared: &[App],
    deleting: &[String],
    before: &[AppStatus],
    applied: bool,
    result: Option<&AppsResult>,
    failure: Option<&str>,
) -> Vec<AppStatus> {
    let outcome = |name: &str| {
        result.and_then(|result| result.apps.iter().find(|app| app.name == name)).map(|app| &app.outcome)
    };
    let last = |name: &str| before.iter().find(|status| status.name == name);
    let state = |name: &str, done: &str, pending: &str| -> (String, Option<String>) {
        match (outcome(name), applied) {
            (Some(AppOutcome::Failed(why)), _) => ("Failed".into(), Some(why.chars().take(1000).collect())),
            (Some(_), _) | (None, true) => (done.into(), None),
            (None, false) => match (failure, last(name)) {
                (Some(why), _) => (pending.into(), Some(why.chars().take(1000).collect())),
                (None, Some(status)) if status.state == "Failed" => {
                    (status.state.clone(), status.message.clone())
                }
                (None, _) => (pending.into(), None),
            },
        }
    };
    let mut all: Vec<AppStatus> = declared
        .iter()
        .map(|app| {
            let (state, message) = state(&app.name, "Applied", "Pending");
            AppStatus { name: app.name.clone(), deletion_policy: app.deletion_policy, state, message }
        })
        .collect();
    for name in deleting {
        let (state, message) = state(name, "Deleted", "Deleting");
        if state != "Deleted" {
            all.push(AppStatus {
                name: name.clone(),
                deletion_policy: DeletionPolicy::Delete,
                state,
                message,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use sluice_control::AppResult;

    use super::*;

    fn app(name: &str, deletion_policy: DeletionPolicy) -> App {
        App { name: name.into(), deletion_policy, ..App::default() }
    }

    fn status(name: &str, deletion_policy: DeletionPolicy, state: &str) -> AppStatus {
        AppStatus { name: name.into(), deletion_policy, state: state.into(), message: None }
    }

    #[test]
    fn only_what_was_to_be_deleted_is() {
        let before = [
            status("a", DeletionPolicy::Keep, "Applied"),
            status("b", DeletionPolicy::Delete, "Applied"),
            status("c", DeletionPolicy::Delete, "Applied"),
        ];
        assert_eq!(to_delete(&[app("c", DeletionPolicy::Keep)], &before), ["b"]);
    }

    #[test]
    fn an_origin_is_told_first_and_nobody_when_it_is_done() {
        let wanted = Apps { hash: "h".into(), apps: vec![sluice_control::App::default()], ..Apps::default() };
        let report = |node: &str| Report { node: node.into(), ready: true, ..Report::default() };
        let (edge, origin, mut done) = (report("a-edge"), report("z-origin"), report("b-edge"));
        let of = |role, report| Candidate { uid: String::new(), role, report };
        let all = [of(Role::Edge, &edge), of(Role::Origin, &origin)];
        assert_eq!(whom(&wanted, &all).map(|candidate| candidate.report.node.as_str()), Some("z-origin"));
        done.apps_hash = Some("h".into());
        assert!(whom(&wanted, &[of(Role::Edge, &done), of(Role::Origin, &origin)]).is_none());
        assert!(whom(&Apps::default(), &all).is_none());
    }

    #[test]
    fn failures_are_told_and_stay_until_it_works() {
        let declared = [app("a", DeletionPolicy::Keep), app("b", DeletionPolicy::Keep)];
        let failed = AppsResult {
            apps: vec![
                AppResult { name: "a".into(), outcome: AppOutcome::Created },
                AppResult { name: "b".into(), outcome: AppOutcome::Failed("hlsTime is no number".into()) },
            ],
        };
        let first = statuses(&declared, &[], &[], false, Some(&failed), None);
        assert_eq!(first.iter().map(|app| app.state.as_str()).collect::<Vec<_>>(), ["Applied", "Failed"]);
        let waiting = statuses(&declared, &[], &first, false, None, None);
        assert_eq!(waiting[1].message.as_deref(), Some("hlsTime is no number"));
        assert!(
            statuses(&declared, &[], &waiting, true, None, None).iter().all(|app| app.state == "Applied")
        );
        let deleted =
            AppsResult { apps: vec![AppResult { name: "old".into(), outcome: AppOutcome::Deleted }] };
        assert!(statuses(&[], &["old".into()], &[], false, Some(&deleted), None).is_empty());
        assert_eq!(statuses(&[], &["old".into()], &[], false, None, None)[0].state, "Deleting");
    }
}
