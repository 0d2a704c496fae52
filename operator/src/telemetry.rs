//! Log lines to standard error, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::settings::LogFormat;

/// The client logs each answer that is an error as one; whoever asked knows better whether it is.
const QUIET: &str = "kube_client::client::builder=off,kube_runtime=error";

/// Logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error(
        "the log filter {filter:?} is none: {source}. Use a level (info), or levels by module (info,sluice_operator=debug)"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody started it before.
    #[error("logging was started already: {0}")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter is not one, or logging was started before.
pub fn start(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = parse(filter)?;
    let layer = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_current_span(true)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init()?;
    Ok(())
}

/// What is asked for comes last, so that it counts where both speak of the same module.
fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let wrong = |source| TelemetryError::Filter { filter: filter.to_owned(), source };
    EnvFilter::try_new(filter).map_err(wrong)?;
    EnvFilter::try_new(format!("{QUIET},{filter}")).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_by_name() {
        assert!(parse("info").is_ok());
        assert!(parse("info,sluice_operator=debug,kube_runtime=trace").is_ok());
        let error = parse("info,sluice_operator=loudly").expect_err("no level").to_string();
        assert!(error.contains("loudly"), "{error}");
    }
}
