//! Kubernetes events: what a person would want to know, said once.
//!
//! Only created, never changed: the same words about the same object are not said again for ten minutes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use sluice_crds::names::standard::OPERATOR;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::{REQUEST, sentence};
use crate::metrics::Metrics;

/// The same words about the same object are not said again for this long.
pub const SILENCE: Duration = Duration::from_secs(600);

/// How many events may wait to be sent, and how many are remembered.
const WAITING: usize = 256;
const REMEMBERED: usize = 4096;

/// The API server's limits, in bytes.
const REASON: usize = 128;
const MESSAGE: usize = 1024;

/// What there is to say about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// Whether somebody should look at it.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Note {
    /// All is as it should be.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Note {
        Note { warning: false, reason, message: message.into() }
    }

    /// Somebody should look at it.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Note {
        Note { warning: true, reason, message: message.into() }
    }
}

/// Says things about objects; cheap to clone. Nobody waits for it: a task of its own sends them.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    said: Mutex<Said>,
    waiting: mpsc::Sender<(ObjectReference, Note)>,
    metrics: Metrics,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events(…)")
    }
}

impl Events {
    /// Sends them as `instance` (the operator's pod), from a task that ends with the last clone.
    pub fn start(client: Client, instance: &str, metrics: &Metrics) -> Events {
        let (waiting, queue) = mpsc::channel(WAITING);
        tokio::spawn(send_all(client, instance.to_owned(), queue));
        Events(Arc::new(Inner { said: Mutex::default(), waiting, metrics: metrics.clone() }))
    }

    /// Says this about the object.
    pub fn about<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        self.about_meta::<K>(object.meta(), note);
    }

    /// Says this about the object of kind `K` with this metadata.
    pub fn about_meta<K: Resource<DynamicType = ()>>(&self, meta: &ObjectMeta, note: Note) {
        self.say(
            ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                ..Default::default()
            },
            note,
        );
    }

    fn say(&self, about: ObjectReference, note: Note) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_news(&about, &note, Instant::now()) && self.0.waiting.try_send((about, note)).is_err() {
            self.0.metrics.events_dropped.inc();
        }
    }
}

/// What was said, and when.
#[derive(Default)]
struct Said(HashMap<(String, Note), Instant>);

impl Said {
    fn is_news(&mut self, about: &ObjectReference, note: &Note, now: Instant) -> bool {
        let key = (about.uid.clone().or_else(|| about.name.clone()).unwrap_or_default(), note.clone());
        if self.0.get(&key).is_some_and(|at| now.duration_since(*at) < SILENCE) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, at| now.duration_since(*at) < SILENCE);
        }
        if self.0.len() >= REMEMBERED {
            // So much to say within ten minutes: saying something twice is better than growing.
            self.0.clear();
        }
        self.0.insert(key, now);
        true
    }
}

async fn send_all(client: Client, instance: String, mut queue: mpsc::Receiver<(ObjectReference, Note)>) {
    while let Some((about, note)) = queue.recv().await {
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let event = event(about, &note, &instance, k8s_openapi::jiff::Timestamp::now());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let sent = tokio::time::timeout(REQUEST, api.create(&PostParams::default(), &event)).await;
        let error = match sent {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => sentence(&error),
            Err(_) => format!("no answer within {REQUEST:?}"),
        };
        // Events are said once and not repeated: they are a courtesy, the conditions are what counts.
        tracing::debug!(reason = note.reason, message = note.message, error, "an event was not sent");
    }
}

fn event(about: ObjectReference, note: &Note, instance: &str, now: k8s_openapi::jiff::Timestamp) -> Event {
    let name = about.name.as_deref().unwrap_or(OPERATOR);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: about.namespace.clone(),
            ..Default::default()
        },
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&note.message, MESSAGE)),
        reason: Some(cut(note.reason, REASON)),
        regarding: Some(about),
        reporting_controller: Some(format!("sluice.dev/{OPERATOR}")),
        reporting_instance: Some(cut(instance, REASON)),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        ..Default::default()
    }
}

/// At most so many bytes, and whole characters.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mark = " …";
    let mut end = bytes - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(uid: &str) -> ObjectReference {
        ObjectReference { uid: Some(uid.into()), name: Some("demo".into()), ..Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_in_ten_minutes() {
        let mut said = Said::default();
        let (start, note) = (Instant::now(), Note::warning("Unschedulable", "no room"));
        assert!(said.is_news(&about("1"), &note, start));
        assert!(!said.is_news(&about("1"), &note, start + SILENCE / 2));
        assert!(said.is_news(&about("2"), &note, start));
        assert!(said.is_news(&about("1"), &Note::warning("Unschedulable", "no GPU"), start));
        assert!(said.is_news(&about("1"), &note, start + SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (mut said, now) = (Said::default(), Instant::now());
        for n in 0..3 * REMEMBERED {
            assert!(said.is_news(&about("1"), &Note::normal("Count", n.to_string()), now));
            assert!(said.0.len() <= REMEMBERED);
        }
    }

    #[test]
    fn events_keep_to_the_limits() {
        let note = Note::normal("Long", "ä".repeat(2000));
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let event = event(about("1"), &note, &"i".repeat(300), now);
        let message = event.note.expect("a message");
        assert!(message.len() <= MESSAGE && message.ends_with('…'));
        assert_eq!(event.reporting_instance.expect("an instance").len(), REASON);
        assert_eq!(event.metadata.name.as_deref(), Some("demo.0"));
        assert_eq!(cut("short", 128), "short");
    }
}
