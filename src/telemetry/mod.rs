//! Log lines and traces: destination, form and filter. Never a key, a token or a body.

pub mod connections;
pub mod freshness;
pub mod http;
pub mod metrics;
mod process;
mod reloads;
pub mod text;
#[cfg(feature = "otlp")]
mod traces;

use std::io::IsTerminal;

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Telemetry};

const FILTER_VARIABLE: &str = "STATUSLIST_LOG";
/// What libraries say at `info` is of no use to operators.
const LIBRARIES: &str = "actix_server=warn,actix_web=warn,actix_http=warn";
/// Our own part of a filter.
const OURS: &str = "statuslist";

/// Why log lines cannot be selected as `STATUSLIST_LOG` says.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "STATUSLIST_LOG: `{0}` is no filter; write a level (error, warn, info, debug, trace, off), or parts and levels, such as `statuslist=debug,warn`"
)]
pub struct InvalidFilter(String);

/// Sends log lines to standard error, and traces to the collector in the settings, if any. `STATUSLIST_LOG` selects the
/// lines; the default is `usual`. A second call does nothing. The caller must keep the returned value as long as the service
/// runs.
pub fn start(config: &Telemetry, usual: LevelFilter) -> Result<Exporting, InvalidFilter> {
    let asked = std::env::var_os(FILTER_VARIABLE).map(|asked| asked.to_string_lossy().into_owned());
    let filter = filter(asked.as_deref(), usual)?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal() && !plain)
        .with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    // Fails only if logging has already started, as in tests.
    #[cfg(feature = "otlp")]
    {
        let (traces, exporting) = traces::layer(config.otlp_endpoint.as_deref());
        let _ = registry.with(traces).try_init();
        Ok(exporting)
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = registry.try_init();
        Ok(Exporting {})
    }
}

/// The filter that was asked for. A misspelt level would be taken for the name of a part, and hide every line.
fn filter(asked: Option<&str>, usual: LevelFilter) -> Result<EnvFilter, InvalidFilter> {
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty());
    let asked = asked.map_or_else(|| usual.to_string(), str::to_owned);
    for directive in asked.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '['])) {
        if directive.parse::<LevelFilter>().is_err() && !directive.starts_with(OURS) {
            return Err(InvalidFilter(directive.to_owned()));
        }
    }
    EnvFilter::try_new(format!("{LIBRARIES},{asked}")).map_err(|_| InvalidFilter(asked))
}

/// Sends the remaining traces when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the traces"]
pub struct Exporting {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Makes `span` part of the caller's trace, if the request names one (W3C Trace Context).
#[cfg(feature = "otlp")]
pub(crate) use traces::continue_trace;

/// Without the feature `otlp` there are no traces.
#[cfg(not(feature = "otlp"))]
pub(crate) fn continue_trace(_span: &tracing::Span, _headers: &actix_web::http::header::HeaderMap) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_filter_is_refused_and_libraries_are_quiet() {
        let filter = |asked: Option<&str>| filter(asked, LevelFilter::INFO).map(|filter| filter.to_string());
        for asked in
            ["info", "DEBUG", "statuslist=debug,warn", "statuslist::publish", "off", "actix_server=info"]
        {
            let made = filter(Some(asked)).unwrap();
            assert!(made.contains("actix_web=warn"), "{made}");
        }
        for unset in [None, Some(""), Some(" ")] {
            assert!(filter(unset).unwrap().contains("info"));
        }
        for wrong in ["inof", "statuslist=inof", "info,warnn", "verbose"] {
            let refused = filter(Some(wrong)).unwrap_err().to_string();
            assert!(
                refused.contains("STATUSLIST_LOG") && refused.contains("statuslist=debug,warn"),
                "{refused}"
            );
        }
        assert!(
            filter(Some("actix_server=info")).unwrap().contains("actix_server=info"),
            "asked for by name"
        );
    }
}
