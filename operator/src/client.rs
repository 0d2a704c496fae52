//! The connection to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// A request that is not a watch takes no longer.
pub const REQUEST: Duration = Duration::from_secs(15);

/// Opening a connection takes no longer.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection on which nothing comes for this long is broken. Longer than watches live without a word (290 s).
const SILENT: Duration = Duration::from_secs(310);

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither in a pod nor with a kubeconfig.
    #[error(
        "cannot tell where the Kubernetes API is: {0}. Run it in a pod with a service account, or set KUBECONFIG"
    )]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration is of no use.
    #[error("cannot use the configuration for the Kubernetes API: {0}")]
    Use(#[source] Box<kube::Error>),
}

/// A client as the operator needs it.
///
/// It repeats nothing by itself: the library's default waits up to a quarter of an hour when a disruption budget or an
/// overloaded server says 429, and a reconcile would wait with it. Queues try again, with waits of their own.
///
/// # Errors
/// There is no configuration, or it is of no use. The server need not be there yet.
pub async fn connect() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENT);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| ClientError::Use(Box::new(error)))
}

/// What was said, for people; the library's own words are long, and say it twice.
pub(crate) fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Service(inner) => {
            format!("the API server cannot be reached: {}", innermost(inner.as_ref()))
        }
        kube::Error::HyperError(inner) => {
            format!("the connection to the API server broke: {}", innermost(inner))
        }
        other => other.to_string(),
    }
}

/// The outer ones only say that something was wrong.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
