//! Every metric: name, unit, meaning. Parts count through the handles; `/metrics` shows them all.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::pool::PoolId;

/// All metrics of the service.
pub struct Metrics {
    registry: Registry,
    references_issued: Family<Labels, Counter>,
    buffer_underflows: Family<Labels, Counter>,
    updates: Family<Labels, Counter>,
    published: Family<Labels, Counter>,
    publish_failed: Family<Labels, Counter>,
    publish_refused: Family<Labels, Counter>,
    lists_behind: Family<Labels, Counter>,
    sinks: Sinks,
    oldest_unpublished: Family<Labels, Gauge>,
    update_to_publish: Family<Labels, Histogram, fn() -> Histogram>,
    certificate_not_after: Family<Labels, Gauge>,
    /// What became of changed settings and keys.
    pub reloads: ReloadMetrics,
}

/// The metrics of reloading.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    total: Family<[(&'static str, &'static str); 1], Counter>,
    stale: Gauge,
}

impl ReloadMetrics {
    fn register(registry: &mut Registry) -> Self {
        let reloads = Self::default();
        registry.register("reloads", "Changed settings or keys, by result", reloads.total.clone());
        let help = "Whether the files say something else than what is used, because it was refused";
        registry.register("settings_stale", help, reloads.stale.clone());
        reloads
    }

    /// Changed settings or keys were taken, or refused.
    pub fn note(&self, taken: bool) {
        self.total.get_or_create_owned(&[("result", if taken { "ok" } else { "refused" })]).inc();
        self.stale.set(i64::from(!taken));
    }
}

/// The metrics of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    /// References handed out.
    pub references_issued: Counter,
    /// Requests that found too few references in memory.
    pub buffer_underflows: Counter,
    /// Entries updated durably.
    pub updates: Counter,
    /// Lists published.
    pub published: Counter,
    /// Lists whose publication failed; tried again at the next beat.
    pub publish_failed: Counter,
    /// Lists of which the store had lost leases; their allocation was ended.
    pub lists_behind: Counter,
    /// Age of the oldest change that is not published yet, as the latest pass found it.
    pub oldest_unpublished: Gauge,
    /// Seconds from the first unpublished change of a list to its publication.
    pub update_to_publish: Histogram,
    pool: PoolId,
    refused: Family<Labels, Counter>,
    sinks: Sinks,
}

/// The metrics of one pool's uploads to one bucket.
#[derive(Debug)]
pub struct SinkMetrics {
    /// Lists and documents uploaded.
    pub uploaded: Counter,
    /// Uploads that failed; tried again.
    pub failed: Counter,
    /// Age of the oldest upload that has not gone through yet, as the latest round left it.
    pub oldest_owed: Gauge,
}

#[derive(Clone, Debug, Default)]
struct Sinks {
    uploaded: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    oldest_owed: Family<Labels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    pool: String,
    check: Option<&'static str>,
    sink: Option<String>,
}

impl Labels {
    fn of(pool: &PoolId) -> Self {
        Self { pool: pool.to_string(), check: None, sink: None }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        [("pool", self.pool.as_str())].encode(encoder)?;
        self.check.map_or(Ok(()), |check| [("check", check)].encode(&mut *encoder))?;
        self.sink.as_deref().map_or(Ok(()), |sink| [("sink", sink)].encode(encoder))
    }
}

fn publish_buckets() -> Histogram {
    Histogram::new([0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("statuslist");
        let mut counter = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let references_issued = counter("references_issued", "References handed out");
        let buffer_underflows =
            counter("buffer_underflows", "Requests that found too few references in memory");
        let updates = counter("updates", "Entries updated durably");
        let published = counter("published", "Lists signed and written");
        let publish_failed = counter("publish_failed", "Publications that failed and are tried again");
        let publish_refused = counter("publish_refused", "Publications that the gate refused, by check");
        let help = "Lists of which the store had lost leases: alarm on any increase";
        let lists_behind = counter("lists_behind", help);
        let sinks = Sinks {
            uploaded: counter("sink_uploaded", "Lists and documents uploaded to a bucket"),
            failed: counter("sink_failed", "Uploads that failed and are tried again"),
            oldest_owed: Family::default(),
        };
        let help = "Age of the oldest upload that has not gone through yet, at the latest round";
        registry.register_with_unit("sink_oldest_owed", help, Unit::Seconds, sinks.oldest_owed.clone());
        let oldest_unpublished = Family::<Labels, Gauge>::default();
        let help = "Age of the oldest change that is not published yet, at the latest pass";
        registry.register_with_unit("oldest_unpublished", help, Unit::Seconds, oldest_unpublished.clone());
        let update_to_publish = Family::new_with_constructor(publish_buckets as fn() -> Histogram);
        let help = "From a list's first unpublished change to its publication";
        registry.register_with_unit("update_to_publish", help, Unit::Seconds, update_to_publish.clone());
        let certificate_not_after = Family::<Labels, Gauge>::default();
        let help = "When the certificate of the signing key ends, in seconds since 1970";
        registry.register_with_unit(
            "certificate_not_after",
            help,
            Unit::Seconds,
            certificate_not_after.clone(),
        );
        let reloads = ReloadMetrics::register(&mut registry);
        Self {
            registry,
            references_issued,
            buffer_underflows,
            updates,
            published,
            publish_failed,
            publish_refused,
            lists_behind,
            sinks,
            oldest_unpublished,
            update_to_publish,
            certificate_not_after,
            reloads,
        }
    }
}

impl Metrics {
    /// The handles of one pool.
    pub fn pool(&self, pool: &PoolId) -> Arc<PoolMetrics> {
        let labels = Labels::of(pool);
        Arc::new(PoolMetrics {
            references_issued: self.references_issued.get_or_create_owned(&labels),
            buffer_underflows: self.buffer_underflows.get_or_create_owned(&labels),
            updates: self.updates.get_or_create_owned(&labels),
            published: self.published.get_or_create_owned(&labels),
            publish_failed: self.publish_failed.get_or_create_owned(&labels),
            lists_behind: self.lists_behind.get_or_create_owned(&labels),
            oldest_unpublished: self.oldest_unpublished.get_or_create_owned(&labels),
            update_to_publish: self.update_to_publish.get_or_create_owned(&labels),
            pool: pool.clone(),
            refused: self.publish_refused.clone(),
            sinks: self.sinks.clone(),
        })
    }

    /// When the certificate of a pool's signing key ends, if it has one.
    pub fn certificate_not_after(&self, pool: &PoolId, end: Option<u64>) {
        let labels = Labels::of(pool);
        match end.and_then(|end| i64::try_from(end).ok()) {
            Some(end) => _ = self.certificate_not_after.get_or_create_owned(&labels).set(end),
            None => _ = self.certificate_not_after.remove(&labels),
        }
    }

    /// All of them, in the OpenMetrics text format.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to memory does not fail");
        text
    }
}

impl PoolMetrics {
    /// The gate refused a publication for this reason.
    pub fn publish_refused(&self, check: &'static str) {
        self.refused.get_or_create(&Labels { check: Some(check), ..Labels::of(&self.pool) }).inc();
    }

    /// The handles of this pool's uploads to one bucket.
    pub fn sink(&self, sink: &str) -> SinkMetrics {
        let labels = Labels { sink: Some(sink.to_owned()), ..Labels::of(&self.pool) };
        SinkMetrics {
            uploaded: self.sinks.uploaded.get_or_create_owned(&labels),
            failed: self.sinks.failed.get_or_create_owned(&labels),
            oldest_owed: self.sinks.oldest_owed.get_or_create_owned(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_names_units_and_labels() {
        let metrics = Metrics::default();
        let pool = metrics.pool(&"demo".parse().unwrap());
        pool.references_issued.inc_by(3);
        pool.publish_refused("final-status");
        pool.update_to_publish.observe(0.7);
        pool.sink("s3://b/lists/").oldest_owed.set(7);
        let text = metrics.to_text();
        assert!(text.contains("statuslist_references_issued_total{pool=\"demo\"} 3"), "{text}");
        let oldest = "statuslist_sink_oldest_owed_seconds{pool=\"demo\",sink=\"s3://b/lists/\"} 7";
        assert!(text.contains(oldest), "{text}");
        assert!(
            text.contains("statuslist_publish_refused_total{pool=\"demo\",check=\"final-status\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("statuslist_update_to_publish_seconds_bucket{le=\"1.0\",pool=\"demo\"} 1"),
            "{text}"
        );
    }
}
