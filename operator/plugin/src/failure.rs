//! What can go wrong, in sentences that say what was attempted and what to do; and the exit codes.

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(String),
    /// The API server cannot be reached.
    #[error(
        "no connection to the Kubernetes API at {url}: {reason}. Is that cluster up, and is it the right --context?"
    )]
    Connection { url: String, reason: String },
    /// The API server does not know who is asking.
    #[error("the Kubernetes API at {url} does not accept your credentials ({reason}): log in again")]
    Unauthorized { url: String, reason: String },
    /// Not allowed.
    #[error("no right to {what}: {reason}")]
    Forbidden { what: String, reason: String },
    /// The kinds are missing.
    #[error(
        "Sluice is not installed in this Kubernetes: it has no {resource} of {group}. Install the chart first (docs/kubernetes.md), \
         or choose another --context"
    )]
    NotInstalled { resource: String, group: &'static str },
    /// Something that was named, or anything at all, is not there.
    #[error("{0}")]
    NotFound(String),
    /// Not something that this plugin should do.
    #[error("{0}")]
    Refused(String),
    /// A request or a wait took too long.
    #[error("{what} took longer than {limit}: {hint}")]
    Late { what: String, limit: String, hint: &'static str },
    /// The API server said no for another reason.
    #[error("cannot {what}: {reason}")]
    Api { what: String, reason: String },
    /// Files and terminals.
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// Something was left out; what, has been said.
    #[error("{0}")]
    Partly(String),
}

impl Failure {
    /// The exit code. The command line's own is 2.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Kubeconfig(_) => 2,
            Failure::NotInstalled { .. } | Failure::NotFound(_) => 3,
            Failure::Forbidden { .. } | Failure::Unauthorized { .. } => 4,
            Failure::Connection { .. } => 5,
            Failure::Late { .. } => 6,
            Failure::Refused(_) | Failure::Api { .. } | Failure::Io { .. } | Failure::Partly(_) => 1,
        }
    }

    /// The sentence without what the API server says in the same words.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Failure::Forbidden { what, .. } => format!("no right to {what}"),
            other => other.to_string(),
        }
    }

    /// Whether the rest of a command may go on without what was asked for.
    pub(crate) fn is_partial(&self) -> bool {
        !matches!(self, Failure::Connection { .. } | Failure::Unauthorized { .. } | Failure::Kubeconfig(_))
    }
}

/// One request: a verb on a resource, for sentences.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `list`, `get`, `patch`, `exec into`, `read the logs of`.
    pub(crate) verb: &'static str,
    /// `pods`, `mediaclusters.sluice.dev`.
    pub(crate) resource: String,
    /// The object, where it is about one.
    pub(crate) name: Option<String>,
    /// The namespace; all, when it is missing.
    pub(crate) namespace: Option<String>,
}

impl Asked {
    /// About all objects of a resource.
    pub(crate) fn all(verb: &'static str, resource: impl Into<String>, namespace: Option<&str>) -> Asked {
        Asked { verb, resource: resource.into(), name: None, namespace: namespace.map(Into::into) }
    }

    /// About one object.
    pub(crate) fn one(verb: &'static str, resource: impl Into<String>, namespace: &str, name: &str) -> Asked {
        Asked { verb, resource: resource.into(), name: Some(name.into()), namespace: Some(namespace.into()) }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

/// What a failed request means.
pub(crate) fn of_request(asked: &Asked, url: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let reason = if status.message.is_empty() { status.reason.clone() } else { status.message.clone() };
            match status.code {
                401 => Failure::Unauthorized { url: url.into(), reason },
                403 => Failure::Forbidden { what: asked.to_string(), reason },
                404 => match (&asked.name, asked.resource.strip_suffix(".sluice.dev")) {
                    (Some(name), _) => Failure::NotFound(format!(
                        "there is no {} {name} in namespace {}",
                        asked.resource.trim_end_matches('s'),
                        asked.namespace.as_deref().unwrap_or_default()
                    )),
                    (None, Some(resource)) => {
                        Failure::NotInstalled { resource: resource.into(), group: sluice_crds::GROUP }
                    }
                    (None, None) => {
                        Failure::NotFound(format!("this Kubernetes does not know {}", asked.resource))
                    }
                },
                _ => Failure::Api { what: asked.to_string(), reason },
            }
        }
        // The API server answers an exec's handshake with a status code only.
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(status)) => {
            match status.as_u16() {
                401 => Failure::Unauthorized { url: url.into(), reason: status.to_string() },
                403 => Failure::Forbidden {
                    what: asked.to_string(),
                    reason: "the API server refuses it (403): it takes the verb create, for some versions get, on pods/exec".into(),
                },
                404 => Failure::NotFound(format!("cannot {asked}: it is not there (any more)")),
                _ => Failure::Api { what: asked.to_string(), reason: status.to_string() },
            }
        }
        kube::Error::Auth(error) => Failure::Unauthorized { url: url.into(), reason: root_cause(error) },
        kube::Error::HyperError(error) => {
            Failure::Connection { url: url.into(), reason: root_cause(error) }
        }
        kube::Error::Service(error) => {
            // Credentials of an exec plugin are fetched on the way to the server.
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
            while let Some(one) = cause {
                if one.is::<kube::client::AuthError>() {
                    return Failure::Unauthorized { url: url.into(), reason: root_cause(one) };
                }
                cause = one.source();
            }
            Failure::Connection { url: url.into(), reason: root_cause(error.as_ref()) }
        }
        other => Failure::Api { what: asked.to_string(), reason: other.to_string() },
    }
}

/// The innermost error, which says more than `client error (Connect)`.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }))
    }

    #[test]
    fn sentences_name_verb_resource_and_place() {
        let asked = Asked::all("list", "mediaclusters.sluice.dev", Some("media"));
        let failure = of_request(&asked, "https://k", &api(403, "User \"eve\" cannot list"));
        assert_eq!(failure.code(), 4);
        assert_eq!(
            failure.to_string(),
            "no right to list mediaclusters.sluice.dev in namespace media: User \"eve\" cannot list"
        );
        assert_eq!(failure.in_short(), "no right to list mediaclusters.sluice.dev in namespace media");
        let failure = of_request(&asked, "https://k", &api(404, "the server could not find the resource"));
        assert_eq!(failure.code(), 3);
        assert!(failure.to_string().starts_with("Sluice is not installed"), "{failure}");
        let pod = Asked::one("get", "pods", "media", "demo-edge-7");
        let failure = of_request(&pod, "https://k", &api(404, "not found"));
        assert_eq!(failure.code(), 3);
        assert_eq!(failure.to_string(), "there is no pod demo-edge-7 in namespace media");
        assert_eq!(of_request(&pod, "https://k", &api(401, "Unauthorized")).code(), 4);
        let failure = of_request(&pod, "https://k", &api(409, "has been modified"));
        assert_eq!(failure.code(), 1);
        assert_eq!(failure.to_string(), "cannot get pods demo-edge-7 in namespace media: has been modified");
    }

    #[test]
    fn a_connection_that_fails_says_why() {
        let io =
            std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        let asked = Asked::all("list", "pods", None);
        let failure = of_request(&asked, "https://10.0.0.1:6443", &kube::Error::Service(Box::new(io)));
        assert_eq!(failure.code(), 5);
        assert!(failure.to_string().contains("https://10.0.0.1:6443"), "{failure}");
        assert!(failure.to_string().contains("refused"), "{failure}");
    }
}
