//! Traces over OTLP. Only spans of requests and passes are sent: no events, so no log lines.

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

/// The layer that sends spans to `endpoint`, if set.
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
    let exporter =
        SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(traces).build();
    match exporter {
        Ok(exporter) => {
            let resource = Resource::builder().with_service_name("statuslist").build();
            Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
        }
        Err(error) => {
            // No subscriber is set up yet.
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
        // Fails only if no collector is set, and then there is no trace to continue.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
}
