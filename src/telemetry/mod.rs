//! Log lines and traces: destination, form and filter. Never a key, a token or a body.

pub mod connections;
pub mod freshness;
pub mod http;
pub mod metrics;
mod process;
pub mod text;
#[cfg(feature = "otlp")]
mod traces;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Telemetry};

const FILTER_VARIABLE: &str = "STATUSLIST_LOG";

/// Sends log lines to standard error, and traces to the collector in the settings, if any. `STATUSLIST_LOG` selects the
/// lines; the default is `info`. A second call does nothing. The caller must keep the returned value as long as the service
/// runs.
pub fn start(config: &Telemetry) -> Exporting {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
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
        exporting
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = registry.try_init();
        Exporting {}
    }
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
