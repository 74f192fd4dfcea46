//! Log lines and traces: where they go, how they look, which are shown. Never a key, a token or a body.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Telemetry};

const FILTER_VARIABLE: &str = "STATUSLIST_LOG";

/// Sends log lines to standard error, and traces to a collector where the settings name one. `STATUSLIST_LOG` chooses which
/// lines, `info` is the default. A second call does nothing. What is returned must be held as long as the service runs.
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
    // The only failure is that somebody started logging before, as tests do.
    #[cfg(feature = "otlp")]
    {
        let (traces, exporting) = otlp::layer(config.otlp_endpoint.as_deref());
        let _ = registry.with(traces).try_init();
        exporting
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = registry.try_init();
        Exporting {}
    }
}

/// Sends what is left of the traces when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the traces"]
pub struct Exporting {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Makes `span` a part of the caller's trace, if it has sent one (W3C Trace Context).
#[cfg(feature = "otlp")]
pub(crate) use otlp::continue_trace;

/// Without the feature `otlp` there are no traces.
#[cfg(not(feature = "otlp"))]
pub(crate) fn continue_trace(_span: &tracing::Span, _headers: &actix_web::http::header::HeaderMap) {}

/// Traces over OTLP. Only spans of requests and passes are sent: no events, so no log line goes that way.
#[cfg(feature = "otlp")]
mod otlp {
    use actix_web::http::header::HeaderMap;
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{Span, Subscriber};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::Layer;
    use tracing_subscriber::registry::LookupSpan;

    use super::Exporting;

    /// The layer that sends spans to `endpoint`, if there is one.
    pub(super) fn layer<S>(endpoint: Option<&str>) -> (Option<impl Layer<S> + use<S>>, Exporting)
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let provider = endpoint.and_then(provider);
        let layer = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("statuslist"))
                .with_filter(filter_fn(|about| about.is_span() && about.target().starts_with("statuslist")))
        });
        (layer, Exporting { provider })
    }

    fn provider(endpoint: &str) -> Option<SdkTracerProvider> {
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces)
            .build();
        match exporter {
            Ok(exporter) => {
                let resource = Resource::builder().with_service_name("statuslist").build();
                Some(
                    SdkTracerProvider::builder()
                        .with_resource(resource)
                        .with_batch_exporter(exporter)
                        .build(),
                )
            }
            Err(error) => {
                // There is no subscriber yet.
                eprintln!("warning: no traces are sent: {error}");
                None
            }
        }
    }

    impl Drop for Exporting {
        fn drop(&mut self) {
            if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
                tracing::warn!(%error, "the last traces could not be sent");
            }
        }
    }

    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(|name| name.as_str()).collect()
        }
    }

    pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
        if !span.is_disabled() && headers.contains_key("traceparent") {
            // Fails only where no collector is set, and then there is nothing to continue.
            let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
        }
    }
}
