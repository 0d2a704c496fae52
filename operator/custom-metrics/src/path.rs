//! What is asked: a path and a query of HTTP, taken apart.

use crate::{BadSelector, GROUP, Selector};

/// Names of all metrics. They are those of `sluice_crds::names::metric`; a test of the operator compares them.
pub const METRICS: [&str; 5] =
    ["streams", "viewers", "egress_bits_per_second", "encoder_load", "capacity_used"];

/// A name of an object, a namespace or a metric has at most so many bytes, as in Kubernetes.
const NAME_BYTES: usize = 253;

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The first one: a metric is a name.
    V1Beta1,
    /// The second one: a metric is a name and a selector.
    V1Beta2,
}

impl Version {
    /// Both, the preferred one first.
    pub const ALL: [Version; 2] = [Version::V1Beta2, Version::V1Beta1];

    /// As paths spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1Beta1 => "v1beta1",
            Version::V1Beta2 => "v1beta2",
        }
    }

    /// The name of the APIService.
    pub fn api_service(self) -> &'static str {
        match self {
            Version::V1Beta1 => "v1beta1.custom.metrics.k8s.io",
            Version::V1Beta2 => "v1beta2.custom.metrics.k8s.io",
        }
    }

    fn parse(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// A kind of object that has metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `OriginPool`.
    OriginPool,
    /// `EdgePool`.
    EdgePool,
    /// `Pod`.
    Pod,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::OriginPool, Kind::EdgePool, Kind::Pod];

    /// As paths spell it.
    pub fn resource(self) -> &'static str {
        match self {
            Kind::OriginPool => "originpools.sluice.dev",
            Kind::EdgePool => "edgepools.sluice.dev",
            Kind::Pod => "pods",
        }
    }

    /// As YAML spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OriginPool => "OriginPool",
            Kind::EdgePool => "EdgePool",
            Kind::Pod => "Pod",
        }
    }

    /// Its `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Kind::OriginPool | Kind::EdgePool => "sluice.dev/v1alpha1",
            Kind::Pod => "v1",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.resource() == text)
    }
}

/// Which objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objects {
    /// The one of this name.
    One(String),
    /// All whose labels fit.
    All(Selector),
}

/// A metric of one or several objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In which version it is asked, and answered.
    pub version: Version,
    /// In which namespace they are.
    pub namespace: String,
    /// What they are.
    pub kind: Kind,
    /// Which of them.
    pub objects: Objects,
    /// One of [`METRICS`].
    pub metric: &'static str,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which metrics there are.
    Resources(Version),
    /// How they are written, for `OpenAPI` 2.
    OpenApi2,
    /// The same for `OpenAPI` 3.
    OpenApi3,
    /// What one is worth.
    Value(Question),
}

/// Nothing is found at this path, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// A selector is of no use: the one who asks has to change it.
    #[error("{0}")]
    Selector(#[from] BadSelector),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
}

impl Ask {
    /// Takes a request's path and query apart.
    ///
    /// # Errors
    /// There is nothing at this path, or a selector cannot be read.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Ask, Unclear> {
        match path {
            "/openapi/v2" => return Ok(Ask::OpenApi2),
            "/openapi/v3" => return Ok(Ask::OpenApi3),
            _ => {}
        }
        let elsewhere = || {
            Unclear::NotFound(format!(
                "nothing is served here but /apis/{GROUP}/v1beta2 and /apis/{GROUP}/v1beta1"
            ))
        };
        let rest =
            path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(GROUP)).ok_or_else(elsewhere)?;
        let rest = rest.strip_prefix('/').ok_or_else(elsewhere)?.trim_end_matches('/');
        let parts: Vec<String> =
            rest.split('/').map(|part| decode(part, false)).collect::<Option<_>>().ok_or_else(|| {
                Unclear::NotFound(
                    "the path has a % that is not followed by two hexadecimal digits, or is not UTF-8".into(),
                )
            })?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (version, parts) = parts.split_first().ok_or_else(elsewhere)?;
        let version = Version::parse(version).ok_or_else(elsewhere)?;
        match *parts {
            [] => Ok(Ask::Resources(version)),
            ["namespaces", _, "metrics", metric] => Err(Unclear::NotFound(format!(
                "namespaces have no metric {:?}: ask for one of a pool or of pods",
                short(metric)
            ))),
            ["namespaces", namespace, resource, name, metric] => {
                question(version, namespace, resource, name, metric, query).map(Ask::Value)
            }
            _ => Err(Unclear::NotFound(format!(
                "metrics are at /apis/{GROUP}/{}/namespaces/NAMESPACE/RESOURCE/NAME/METRIC, RESOURCE being {}",
                version.as_str(),
                Kind::ALL.map(Kind::resource).join(", ")
            ))),
        }
    }
}

fn question(
    version: Version,
    namespace: &str,
    resource: &str,
    name: &str,
    metric: &str,
    query: Option<&str>,
) -> Result<Question, Unclear> {
    let kind = Kind::parse(resource).ok_or_else(|| {
        Unclear::NotFound(format!(
            "{:?} have no metrics here: {} have",
            short(resource),
            Kind::ALL.map(Kind::resource).join(", ")
        ))
    })?;
    let metric = METRICS.into_iter().find(|known| *known == metric).ok_or_else(|| {
        Unclear::NotFound(format!("there is no metric {:?}: there are {}", short(metric), METRICS.join(", ")))
    })?;
    if !is_name(namespace) || !(name == "*" || is_name(name)) {
        return Err(Unclear::NotFound("an object or a namespace is never called so".into()));
    }
    let parameter = |wanted: &str| -> Result<Option<String>, Unclear> {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let Some((_, value)) = pairs.into_iter().find(|(name, _)| *name == wanted) else { return Ok(None) };
        let value =
            decode(value, true).ok_or_else(|| BadSelector::new(wanted, "it is not UTF-8 with %XX"))?;
        Ok(Some(value))
    };
    // Our metrics have no labels: only a selector that asks for none fits.
    if let Some(text) = parameter("metricLabelSelector")? {
        let selector = Selector::parse(&text)?;
        if !selector.fits(|_| None) {
            return Err(Unclear::NotFound(format!(
                "the metric {metric} has no labels: leave its selector out"
            )));
        }
    }
    let objects = match name {
        "*" => Objects::All(Selector::parse(&parameter("labelSelector")?.unwrap_or_default())?),
        name => Objects::One(name.to_owned()),
    };
    Ok(Question { version, namespace: namespace.to_owned(), kind, objects, metric })
}

/// Whether Kubernetes would let something be called so.
fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(inner)
}

/// As much of it as a sentence needs.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Undoes %XX, and `+` in queries.
fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(path: &str, query: Option<&str>) -> Result<Question, Unclear> {
        match Ask::parse(path, query)? {
            Ask::Value(question) => Ok(question),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_horizontal_pod_autoscaler_asks_is_understood() {
        let pool =
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/media/edgepools.sluice.dev/demo-edge/viewers";
        assert_eq!(
            value(pool, Some("metricLabelSelector=")).unwrap(),
            Question {
                version: Version::V1Beta2,
                namespace: "media".into(),
                kind: Kind::EdgePool,
                objects: Objects::One("demo-edge".into()),
                metric: "viewers",
            }
        );
        let pods = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/media/pods/%2A/streams";
        let question = value(pods, Some("timeout=1s&labelSelector=a%3Db%2Cc+in+%28d%2Ce%29")).unwrap();
        assert_eq!(
            (question.version, question.kind, question.metric),
            (Version::V1Beta1, Kind::Pod, "streams")
        );
        assert_eq!(question.objects, Objects::All(Selector::parse("a=b,c in (d,e)").unwrap()));
        for version in Version::ALL {
            let list = format!("/apis/custom.metrics.k8s.io/{}", version.as_str());
            assert_eq!(Ask::parse(&list, None), Ok(Ask::Resources(version)));
            assert_eq!(Ask::parse(&format!("{list}/"), Some("timeout=32s")), Ok(Ask::Resources(version)));
        }
        assert_eq!(Ask::parse("/openapi/v2", None), Ok(Ask::OpenApi2));
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let base = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/media";
        for (path, says) in [
            ("/apis".to_owned(), "/apis/custom.metrics.k8s.io/v1beta2"),
            ("/apis/custom.metrics.k8s.io".to_owned(), "v1beta2"),
            ("/apis/custom.metrics.k8s.iov1beta2".to_owned(), "v1beta2"),
            ("/apis/custom.metrics.k8s.io/v1".to_owned(), "v1beta2"),
            (format!("{base}/metrics/streams"), "namespaces have no metric"),
            (format!("{base}/services/a/streams"), "pods"),
            (format!("{base}/pods/a/kittens"), "there are streams, viewers"),
            (format!("{base}/pods/A/streams"), "never called so"),
            (format!("{base}/pods//streams"), "never called so"),
            (format!("{base}/pods/a%2fb/streams"), "never called so"),
            (format!("{base}/pods/a%2/streams"), "hexadecimal"),
            (format!("{base}/pods/a/streams/more"), "NAMESPACE/RESOURCE/NAME/METRIC"),
            ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/streams".to_owned(), "RESOURCE"),
        ] {
            match Ask::parse(&path, None) {
                Err(Unclear::NotFound(said)) => assert!(said.contains(says), "{path}: {said}"),
                other => panic!("{path}: {other:?}"),
            }
        }
        let said = Ask::parse(&format!("{base}/pods/*/streams"), Some("labelSelector=a+in+b"));
        assert!(matches!(said, Err(Unclear::Selector(_))), "{said:?}");
        let labels = Ask::parse(&format!("{base}/pods/*/streams"), Some("metricLabelSelector=a%3Db"));
        assert!(matches!(labels, Err(Unclear::NotFound(_))), "{labels:?}");
        assert!(value(&format!("{base}/pods/*/streams"), Some("metricLabelSelector=!a")).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(tail in ".{0,80}", query in ".{0,80}") {
            let _ = Ask::parse(&tail, Some(&query));
            let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{tail}");
            let _ = Ask::parse(&path, Some(&format!("labelSelector={query}")));
        }
    }
}
