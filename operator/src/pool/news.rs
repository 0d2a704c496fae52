//! What of a change of status a person would want to be told: Kubernetes events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sluice_crds::condition::kind;
use sluice_crds::pool::PoolStatus;

use super::status::{PROGRESS_DEADLINE_EXCEEDED, ROLLOUT_HALTED};
use crate::events::Note;

/// The news between two statuses of a pool.
pub fn news(before: Option<&PoolStatus>, after: &PoolStatus) -> Vec<Note> {
    of_conditions(before.map(|before| before.conditions.as_slice()).unwrap_or_default(), &after.conditions)
}

/// The news between two lists of conditions: what became ready or degraded, and why.
pub fn of_conditions(before: &[Condition], after: &[Condition]) -> Vec<Note> {
    let mut notes = Vec::new();
    for now in after {
        let old = before.iter().find(|condition| condition.type_ == now.type_);
        let turned = old.is_none_or(|old| old.status != now.status);
        let another = old.is_none_or(|old| old.reason != now.reason);
        match (now.type_.as_str(), now.status.as_str()) {
            (kind::READY, "True") if turned => notes.push(Note::normal("Ready", now.message.clone())),
            (kind::READY, "False") if turned && old.is_some() => {
                notes.push(Note::warning("NotReady", now.message.clone()))
            }
            // That is told of `Progressing`.
            (kind::DEGRADED, "True") if now.reason == ROLLOUT_HALTED => {}
            (kind::DEGRADED, "True") if turned || another => {
                notes.push(Note::warning("Degraded", format!("{}: {}", now.reason, now.message)));
            }
            (kind::DEGRADED, "False") if turned && old.is_some() => {
                notes.push(Note::normal("Recovered", "nothing is wrong any more"))
            }
            (kind::PROGRESSING, _) if another && now.reason == PROGRESS_DEADLINE_EXCEEDED => {
                notes.push(Note::warning("RolloutHalted", now.message.clone()));
            }
            (kind::PROGRESSING, _)
                if old.is_some_and(|old| old.reason == PROGRESS_DEADLINE_EXCEEDED) && another =>
            {
                notes.push(Note::normal("RolloutResumed", "pods are replaced again"));
            }
            (kind::SCALING_LIMITED, "True") if another && now.reason == "AtMaximum" => {
                notes.push(Note::warning("AtMaximum", now.message.clone()));
            }
            (kind::METRICS_AVAILABLE, "False") if turned || another => {
                notes.push(Note::warning("MetricsUnknown", now.message.clone()));
            }
            (kind::METRICS_AVAILABLE, "True") if turned && old.is_some_and(|old| old.status == "False") => {
                notes.push(Note::normal("MetricsKnown", now.message.clone()));
            }
            (kind::DATABASE_READY, "False") if turned => {
                notes.push(Note::warning("DatabaseAway", now.message.clone()))
            }
            (kind::DATABASE_READY, "True") if turned && old.is_some_and(|old| old.status == "False") => {
                notes.push(Note::normal("DatabaseBack", now.message.clone()));
            }
            (kind::PAUSED, status) if turned && (old.is_some() || status == "True") => {
                let reason = if status == "True" { "Paused" } else { "Resumed" };
                notes.push(Note::normal(reason, now.message.clone()));
            }
            (kind::EXPOSURE_READY, "True") if turned && old.is_some() => {
                notes.push(Note::normal("Exposed", now.message.clone()))
            }
            _ => {}
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use sluice_crds::condition::{Decided, set};

    use super::*;

    fn with(kind: &'static str, status: bool, reason: &'static str) -> Vec<Condition> {
        let mut all = Vec::new();
        let decided = Decided { kind, status: Some(status), reason, message: "why".into() };
        set(&mut all, decided, None, &Time(Timestamp::UNIX_EPOCH));
        all
    }

    #[test]
    fn turns_are_told_once() {
        let (yes, no) = (with(kind::READY, true, "A"), with(kind::READY, false, "B"));
        assert_eq!(of_conditions(&no, &yes), [Note::normal("Ready", "why")]);
        assert_eq!(of_conditions(&yes, &no), [Note::warning("NotReady", "why")]);
        assert!(of_conditions(&yes, &yes).is_empty());
        assert!(of_conditions(&[], &no).is_empty(), "what is new is not ready yet, and that is no news");
        let (one, two) = (with(kind::DEGRADED, true, "ImagePull"), with(kind::DEGRADED, true, "Crashing"));
        assert_eq!(of_conditions(&one, &two), [Note::warning("Degraded", "Crashing: why")]);
    }
}
