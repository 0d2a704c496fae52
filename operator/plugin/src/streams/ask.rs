//! Asks nodes for their streams by running `sluice-node streams --json` in their pods.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, AttachParams};
use sluice_crds::names;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Stream;
use super::merge::Told;
use crate::failure::{Asked, Failure};
use crate::session::Session;
use crate::snapshot::label;

/// How many pods are asked at the same time.
const AT_ONCE: usize = 8;

/// How long a pod may take: the node itself allows 15 s for its answer.
const WITHIN: Duration = Duration::from_secs(25);

/// The longest answer that is read.
const LONGEST: u64 = 32 << 20;

/// How much of what a command complains is read.
const COMPLAINT: u64 = 4 << 10;

const COMMAND: [&str; 3] = ["sluice-node", "streams", "--json"];

/// Asks all these pods. A pod that does not answer is told as such; only when the API server cannot be reached, or lets nobody
/// in, it is a failure of all.
pub(crate) async fn ask(session: &Session, pods: &[Pod]) -> Result<Vec<Told>, Failure> {
    let answers: Vec<(Told, Option<Failure>)> =
        stream::iter(pods).map(|pod| one(session, pod)).buffered(AT_ONCE).collect().await;
    let mut told = Vec::with_capacity(answers.len());
    let mut none_allowed = true;
    let mut last = None;
    for (answer, failure) in answers {
        match failure {
            Some(failure) if !failure.is_partial() => return Err(failure),
            Some(failure) => {
                none_allowed &= matches!(failure, Failure::Forbidden { .. });
                last = Some(failure);
            }
            None => none_allowed = false,
        }
        told.push(answer);
    }
    match last {
        Some(failure) if none_allowed => Err(failure),
        _ => Ok(told),
    }
}

async fn one(session: &Session, pod: &Pod) -> (Told, Option<Failure>) {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let answer = tokio::time::timeout(WITHIN, run(session, &namespace, &name)).await.unwrap_or_else(|_| {
        Err(Failure::Late {
            what: format!("the answer of pod {name}"),
            limit: format!("{WITHIN:?}"),
            hint: "see its logs",
        })
    });
    let told = |streams| Told {
        cluster: label(pod, names::CLUSTER).unwrap_or_default().into(),
        namespace,
        pod: name,
        streams,
    };
    match answer {
        Ok(streams) => {
            let mut told = told(Ok(streams));
            for stream in told.streams.iter_mut().flatten() {
                stream.namespace.clone_from(&told.namespace);
                stream.cluster.clone_from(&told.cluster);
                stream.pods = vec![told.pod.clone()];
            }
            (told, None)
        }
        Err(failure) => (told(Err(failure.to_string())), Some(failure)),
    }
}

async fn run(session: &Session, namespace: &str, pod: &str) -> Result<Vec<Stream>, Failure> {
    let api: Api<Pod> = session.api(Some(namespace));
    let params = AttachParams::default().container(names::CONTAINER).stdin(false).stdout(true).stderr(true);
    let asked = Asked::one("exec into", "pods", namespace, pod);
    let mut process = session.ask(asked.clone(), api.exec(pod, COMMAND, &params)).await?;
    let status = process.take_status();
    // Both at once: the remote side stops when either is not read.
    let (out, complaint) = tokio::join!(read(process.stdout(), LONGEST), read(process.stderr(), COMPLAINT));
    let failed =
        |reason: String| Failure::Api { what: format!("run {} in pod {pod}", COMMAND.join(" ")), reason };
    let (out, complaint) = (
        out.map_err(|error| failed(error.to_string()))?,
        complaint.map_err(|error| failed(error.to_string()))?,
    );
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let done = status.as_ref().is_some_and(|status| status.status.as_deref() == Some("Success"));
    if !done {
        let complaint = String::from_utf8_lossy(&complaint.bytes).trim().to_owned();
        let ended = status.and_then(|status| status.message).unwrap_or_else(|| "the connection ended".into());
        return Err(failed(if complaint.is_empty() { ended } else { complaint }));
    }
    if out.cut {
        return Err(failed(format!("it tells more than {} MiB", LONGEST >> 20)));
    }
    parse(&out.bytes).map_err(failed)
}

fn parse(answer: &[u8]) -> Result<Vec<Stream>, String> {
    serde_json::from_slice(answer).map_err(|error| format!("its answer is no list of streams: {error}"))
}

struct Read {
    bytes: Vec<u8>,
    /// There was more.
    cut: bool,
}

/// Reads to the end; what is beyond `longest` is let go, so that the other side is not held up.
async fn read(from: Option<impl AsyncRead + Unpin>, longest: u64) -> std::io::Result<Read> {
    let Some(mut from) = from else { return Ok(Read { bytes: Vec::new(), cut: false }) };
    let mut bytes = Vec::new();
    (&mut from).take(longest).read_to_end(&mut bytes).await?;
    let beyond = tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(Read { bytes, cut: beyond > 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_up_to_a_limit() {
        let read = read(Some(&b"abcdef"[..]), 4).await.unwrap();
        assert_eq!((read.bytes.as_slice(), read.cut), (&b"abcd"[..], true));
        let read = super::read(Some(&b"abcd"[..]), 4).await.unwrap();
        assert_eq!((read.bytes.as_slice(), read.cut), (&b"abcd"[..], false));
        assert!(super::read(None::<&[u8]>, 4).await.unwrap().bytes.is_empty());
    }

    #[test]
    fn what_is_no_list_is_said_so() {
        assert!(parse(b"sluice-node 0.0.1").unwrap_err().contains("no list of streams"));
        assert_eq!(parse(b"[]"), Ok(Vec::new()));
    }
}
