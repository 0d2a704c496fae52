//! What drains wait for, in short: pure.

use std::cmp::Reverse;

use jiff::{Timestamp, Unit};
use sluice_crds::pool::DrainPolicy;

use super::status::View;

/// The drain that holds most, and how many more there are: `demo-origin-1: 1 publisher until 21:40:05Z and 2 more`; none when nobody is
/// waited for.
pub fn waiting_for(pods: &[View<'_>], policy: DrainPolicy, now: Timestamp) -> Option<String> {
    let mut waits: Vec<_> = pods
        .iter()
        .filter(|view| !view.seen.terminating)
        .filter_map(|view| {
            let drain = view.seen.drain?;
            let (publishers, viewers) = match &view.seen.heard {
                Some(heard) => (heard.publishers, heard.viewers),
                None => (0, 0),
            };
            let viewers = if policy == DrainPolicy::Wait { viewers } else { 0 };
            let what = match (&view.seen.heard, publishers, viewers) {
                (None, ..) => "a node that is not heard".to_owned(),
                (Some(_), 0, 0) => return None,
                (Some(_), publishers, 0) => counted(publishers, "publisher"),
                (Some(_), 0, viewers) => counted(viewers, "viewer"),
                (Some(_), publishers, viewers) => {
                    format!("{} and {}", counted(publishers, "publisher"), counted(viewers, "viewer"))
                }
            };
            let text = format!("{}: {what} until {}", view.seen.name, clock(drain.deadline, now));
            Some((Reverse((publishers, viewers)), view.seen.slot, text))
        })
        .collect();
    waits.sort();
    let more = waits.len().saturating_sub(1);
    let (.., text) = waits.into_iter().next()?;
    Some(if more == 0 { text } else { format!("{text} and {more} more") })
}

/// How many of something, in words.
pub(super) fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The time of day, where it cannot be mistaken for that of another day.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let at = at.round(Unit::Second).unwrap_or(at);
    if at.duration_since(now).as_hours() >= 24 {
        at.to_string()
    } else {
        at.strftime("%H:%M:%SZ").to_string()
    }
}
