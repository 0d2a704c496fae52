//! `/rest/v2/cluster/node/{id}/drain`: ours, taking a node out of service and back.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::cluster::Forwarded;
use crate::forward::send_on;
use crate::nodes::ALONE;
use crate::reply::{Failed, Outcome, json};
use crate::state::ApiState;

/// The longest time until a deadline: as long as a stop may wait.
const LONGEST_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest time for which sessions are still let in.
const LONGEST_ACCEPT: Duration = Duration::from_secs(600);
/// Characters of a reason.
const LONGEST_REASON: usize = 300;

/// An order to let no new sessions in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainWish {
    /// After this time a stop does not wait any longer for those who are left; never without it.
    pub deadline: Option<Duration>,
    /// For this long sessions are still let in; what is configured without it.
    pub accept_for: Option<Duration>,
    /// Why, for people.
    pub reason: String,
}

/// How far a node is with it. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainState {
    /// Who ordered it: `operator`, `rest` or `signal`.
    pub by: &'static str,
    /// Why, for people.
    pub reason: String,
    /// For how long.
    pub since: u64,
    /// Until sessions are turned away; 0 when they are.
    pub refuses_in: u64,
    /// Until whoever is left may be cut; none without a deadline.
    pub deadline_in: Option<u64>,
    /// Streams that are waited for.
    pub waiting_publishers: u32,
    /// Viewers that are waited for.
    pub waiting_viewers: u32,
}

impl DrainState {
    fn sentence(&self) -> String {
        let DrainState { refuses_in, waiting_publishers, waiting_viewers, .. } = self;
        let from = if *refuses_in > 0 { format!("in {refuses_in} s") } else { "from now on".into() };
        let until = match self.deadline_in {
            Some(left) => format!("at most {left} s longer"),
            None => "as long as it takes".into(),
        };
        format!(
            "no new sessions {from}; {waiting_publishers} streams and {waiting_viewers} viewers are left, waited for \
             {until}"
        )
    }
}

/// `GET` of it.
#[derive(Debug, Serialize)]
struct Shown {
    draining: bool,
    #[serde(flatten)]
    state: Option<DrainState>,
}

/// The body of `POST`; it may be left out, and each of its fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Wish {
    deadline: Option<String>,
    accept_for: Option<String>,
    reason: String,
}

impl Wish {
    fn read(body: &[u8]) -> Result<DrainWish, String> {
        let wish: Wish = match body {
            [] => Wish::default(),
            body => serde_json::from_slice(body).map_err(|e| {
                format!(
                    "the body is no order to drain: {e}. Expected {{\"deadline\": \"30m\", \"acceptFor\": \"5s\", \
                     \"reason\": \"…\"}}, each of which may be left out"
                )
            })?,
        };
        if wish.reason.chars().count() > LONGEST_REASON {
            return Err(format!("reason: expected at most {LONGEST_REASON} characters"));
        }
        let span = |name: &str, text: Option<String>, most: Duration| match text {
            None => Ok(None),
            Some(text) => match span(&text).filter(|span| *span <= most) {
                Some(span) => Ok(Some(span)),
                None => Err(format!(
                    "{name}: {text:?} is no time span from 0s to {} s; write it as \"90s\", \"30m\" or \"2h\"",
                    most.as_secs()
                )),
            },
        };
        Ok(DrainWish {
            deadline: span("deadline", wish.deadline, LONGEST_DEADLINE)?,
            accept_for: span("acceptFor", wish.accept_for, LONGEST_ACCEPT)?,
            reason: wish.reason,
        })
    }
}

/// A whole number with its unit.
fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(scale)?))
}

/// Whom a request is for, and how it came.
struct To<'a> {
    state: &'a ApiState,
    id: &'a str,
    forwarded: bool,
}

impl To<'_> {
    /// The answer when it is not for this node: the other one's, or why there is none.
    async fn elsewhere(&self, method: Method, uri: &Uri, body: Bytes) -> Option<Result<Response, Failed>> {
        let me = &self.state.settings.node_id;
        if self.id == me {
            return None;
        }
        let Some(cluster) = &self.state.cluster else { return Some(Ok(Outcome::no(ALONE).into_response())) };
        if self.forwarded {
            return Some(Ok(Outcome::no(format!("this is node {me}, not {}", self.id)).into_response()));
        }
        Some(send_on(cluster.as_ref(), self.id, method, uri, body).await)
    }
}

/// `POST`: the node takes no new sessions. A second order may only shorten what the first allows.
pub(crate) async fn begin(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    forwarded: Option<Extension<Forwarded>>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Failed> {
    let wish = Wish::read(&body).map_err(Failed::bad)?;
    let to = To { state: &state, id: &id, forwarded: forwarded.is_some() };
    if let Some(answer) = to.elsewhere(Method::POST, &uri, body).await {
        return answer;
    }
    state.node.drain(wish);
    let now = state.node.drains();
    Ok(Outcome::yes(now.map_or_else(String::new, |now| now.sentence())).into_response())
}

/// `DELETE`: it takes them again.
pub(crate) async fn take_back(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    forwarded: Option<Extension<Forwarded>>,
    uri: Uri,
) -> Result<Response, Failed> {
    let to = To { state: &state, id: &id, forwarded: forwarded.is_some() };
    if let Some(answer) = to.elsewhere(Method::DELETE, &uri, Bytes::new()).await {
        return answer;
    }
    Ok(state.node.undrain().map_or_else(Outcome::no, |()| Outcome::yes("")).into_response())
}

/// `GET`: whether it does, for whom it waits and until when.
pub(crate) async fn show(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    forwarded: Option<Extension<Forwarded>>,
    uri: Uri,
) -> Result<Response, Failed> {
    let to = To { state: &state, id: &id, forwarded: forwarded.is_some() };
    if let Some(answer) = to.elsewhere(Method::GET, &uri, Bytes::new()).await {
        return answer;
    }
    let state = state.node.drains();
    Ok(json(StatusCode::OK, &Shown { draining: state.is_some(), state }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        assert_eq!(Wish::read(b""), Ok(DrainWish::default()));
        assert_eq!(Wish::read(b"{}"), Ok(DrainWish::default()));
        let all = Wish::read(br#"{"deadline": "30m", "acceptFor": "1500ms", "reason": "new disk"}"#);
        let expected = DrainWish {
            deadline: Some(Duration::from_secs(1800)),
            accept_for: Some(Duration::from_millis(1500)),
            reason: "new disk".into(),
        };
        assert_eq!(all, Ok(expected));
        for (body, says) in [
            ("\"soon\"", "no order to drain"),
            (r#"{"deadline": 30}"#, "30m"),
            (r#"{"dedline": "30m"}"#, "dedline"),
            (r#"{"deadline": "30"}"#, "deadline: \"30\""),
            (r#"{"deadline": "-1s"}"#, "deadline"),
            (r#"{"deadline": "8000h"}"#, "604800 s"),
            (r#"{"deadline": "99999999999999999999h"}"#, "deadline"),
            (r#"{"acceptFor": "11m"}"#, "acceptFor"),
        ] {
            let error = Wish::read(body.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{body}: {error}");
        }
        let long = format!(r#"{{"reason": "{}"}}"#, "ä".repeat(301));
        assert!(Wish::read(long.as_bytes()).unwrap_err().contains("300"));
    }

    #[test]
    fn the_answer_says_for_whom_and_until_when() {
        let state = DrainState {
            by: "rest",
            reason: String::new(),
            since: 0,
            refuses_in: 5,
            deadline_in: Some(1800),
            waiting_publishers: 2,
            waiting_viewers: 3,
        };
        let text = state.sentence();
        assert!(text.contains("in 5 s") && text.contains("2 streams and 3 viewers"), "{text}");
        assert!(text.contains("1800 s"), "{text}");
        let open = DrainState { refuses_in: 0, deadline_in: None, ..state }.sentence();
        assert!(open.contains("from now on") && open.contains("as long as it takes"), "{open}");
    }
}
