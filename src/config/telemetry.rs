//! Settings of log lines and traces.

use super::ConfigError;
use super::raw::{RawLog, RawLogFormat, RawTracing};

/// Log lines and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The form of log lines.
    pub format: LogFormat,
    /// The OpenTelemetry collector that traces go to (OTLP over HTTP), without a path.
    pub otlp_endpoint: Option<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For human readers.
    Human,
    /// One JSON object per line.
    Json,
}

impl Telemetry {
    pub(super) fn check(log: &RawLog, tracing: RawTracing) -> Result<Self, ConfigError> {
        let at = |why: &str| Err(ConfigError::at("tracing.otlp-endpoint", why));
        if let Some(endpoint) = &tracing.otlp_endpoint {
            if !cfg!(feature = "otlp") {
                return at(
                    "this program was built without the export of traces; build it with `--features otlp`",
                );
            }
            if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
                return at("must begin with http:// or https://, for example http://localhost:4318");
            }
        }
        let format = match log.format {
            RawLogFormat::Human => LogFormat::Human,
            RawLogFormat::Json => LogFormat::Json,
        };
        Ok(Self { format, otlp_endpoint: tracing.otlp_endpoint })
    }
}
