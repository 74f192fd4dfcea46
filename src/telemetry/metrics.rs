//! Every metric: name, unit, meaning. Parts count through handles; `/metrics` shows all.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::connections::ConnectionMetrics;
use super::freshness::{Freshness, FreshnessMetrics};
use super::http::{HttpMetrics, RouteMetrics};
use super::process::Process;
pub use super::reloads::ReloadMetrics;
use super::text;
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::pool::PoolId;

/// All metrics of the service.
pub struct Metrics {
    registry: Registry,
    /// The metrics of the audit trail.
    pub audit: AuditMetrics,
    references_issued: Family<Labels, Counter>,
    buffer_underflows: Family<Labels, Counter>,
    updates: Family<Labels, Counter>,
    published: Family<Labels, Counter>,
    publish_failed: Family<Labels, Counter>,
    publish_refused: Family<Labels, Counter>,
    lists_behind: Family<Labels, Counter>,
    sinks: Sinks,
    update_to_publish: Family<Labels, Histogram, fn() -> Histogram>,
    batch_size: Family<Labels, Histogram, fn() -> Histogram>,
    store_commit: Family<Labels, Histogram, fn() -> Histogram>,
    signing: Family<Labels, Histogram, fn() -> Histogram>,
    references_ready: Family<Labels, Gauge>,
    references_free: Family<Labels, Gauge>,
    references_today: Family<Labels, Gauge>,
    references_per_day_max: Family<Labels, Gauge>,
    lists: Family<Labels, Gauge>,
    lists_max: Family<Labels, Gauge>,
    quota_reached: Family<Labels, Counter>,
    freshness: FreshnessMetrics,
    certificate_not_after: Family<Labels, Gauge>,
    certificate_out_of_date: Family<Labels, Gauge>,
    clock_implausible: Family<Labels, Gauge>,
    lists_ahead: Family<Labels, Gauge>,
    api_key_not_after: Family<Labels, Gauge>,
    http: HttpMetrics,
    /// The metrics of reloading.
    pub reloads: ReloadMetrics,
    /// The metrics of connections.
    pub connections: ConnectionMetrics,
}

/// The metrics of the audit trail.
#[derive(Clone, Debug, Default)]
pub struct AuditMetrics {
    /// Lines written durably.
    pub lines: Counter,
    /// Failed writes of one or more lines.
    pub failed: Counter,
}

/// The quotas that can be reached, named as below `quotas`.
const QUOTAS: [&str; 3] = ["references-per-day", "references-per-key-per-day", "lists"];
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
    /// Failed publications of lists; retried at the next beat.
    pub publish_failed: Counter,
    /// Lists whose leases the store lost; their allocation has ended.
    pub lists_behind: Counter,
    /// How fresh the published lists are.
    pub freshness: Arc<Freshness>,
    /// Seconds from the first unpublished change of a list to its publication.
    pub update_to_publish: Histogram,
    /// Entries in one durable batch of updates.
    pub batch_size: Histogram,
    /// Seconds that the store took for one batch.
    pub store_commit: Histogram,
    /// Seconds that one signature took.
    pub signing: Histogram,
    /// References in memory, when they were last taken or refilled.
    pub references_ready: Gauge,
    /// References left in open lists besides those in memory, at the latest refill.
    pub references_free: Gauge,
    /// References handed out since midnight (UTC), at the latest request.
    pub references_today: Gauge,
    /// Lists that are not retired, of all instances, when this one last opened one.
    pub lists: Gauge,
    /// The most of them.
    pub lists_max: Gauge,
    /// 1 if a certificate of the signing key is not valid at the moment, at the latest beat; otherwise 0.
    pub certificate_out_of_date: Gauge,
    /// 1 if the clock could not be believed when it was last read for publishing; otherwise 0.
    pub clock_implausible: Gauge,
    /// Lists whose published `iat` lies more than a minute in the future, at the latest look over all files.
    pub lists_ahead: Gauge,
    pool: PoolId,
    refused: Family<Labels, Counter>,
    quota_reached: Family<Labels, Counter>,
    sinks: Sinks,
}

/// The metrics of one pool's uploads to one bucket.
#[derive(Debug)]
pub struct SinkMetrics {
    /// Lists and documents uploaded.
    pub uploaded: Counter,
    /// Failed uploads; retried.
    pub failed: Counter,
    /// Age of the oldest upload that is still to be done, after the latest round.
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
    quota: Option<&'static str>,
    sink: Option<String>,
}

impl Labels {
    fn of(pool: &PoolId) -> Self {
        Self { pool: pool.to_string(), check: None, quota: None, sink: None }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        [("pool", self.pool.as_str())].encode(encoder)?;
        self.check.map_or(Ok(()), |check| [("check", check)].encode(&mut *encoder))?;
        self.quota.map_or(Ok(()), |quota| [("quota", quota)].encode(&mut *encoder))?;
        self.sink.as_deref().map_or(Ok(()), |sink| [("sink", sink)].encode(encoder))
    }
}

/// Each usual beat has a bucket that ends with it and one that ends a second later: a quantile is never farther from "a beat and a
/// second", where it becomes an alarm, than that.
fn publish_buckets() -> Histogram {
    Histogram::new([
        0.5, 1.0, 2.0, 3.0, 5.0, 6.0, 10.0, 11.0, 15.0, 16.0, 30.0, 31.0, 60.0, 61.0, 120.0, 121.0, 300.0,
        301.0, 900.0, 901.0, 3600.0,
    ])
}

/// From a single change over a full batch to one large request.
fn batch_buckets() -> Histogram {
    Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 10_000.0, 100_000.0])
}

/// From an fsync on a fast disk to the longest wait for a store.
fn commit_buckets() -> Histogram {
    Histogram::new([0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0])
}

/// From a key in memory to a hardware module over a network.
fn signing_buckets() -> Histogram {
    Histogram::new([0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0])
}

impl Metrics {
    /// Ends what is told of a pool that was deleted, so that no alarm waits for it.
    pub fn forget_pool(&self, pool: &PoolId) {
        self.freshness.forget(pool);
        let labels = Labels::of(pool);
        for gauges in [
            &self.references_ready,
            &self.references_free,
            &self.references_today,
            &self.references_per_day_max,
            &self.lists,
            &self.lists_max,
            &self.certificate_not_after,
            &self.certificate_out_of_date,
            &self.clock_implausible,
            &self.lists_ahead,
            &self.api_key_not_after,
        ] {
            gauges.remove(&labels);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let registry = root.sub_registry_with_prefix("statuslist");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of the program", Info::new(version));
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
        let publish_failed = counter("publish_failed", "Publications that failed and are retried");
        let publish_refused = counter("publish_refused", "Publications that the gate refused, by check");
        let help =
            "Requests for references that a quota refused, and how often lists reached theirs, by quota";
        let quota_reached = counter("quota_reached", help);
        let help = "Lists whose leases the store lost, or whose marks were lost: alarm on any increase";
        let lists_behind = counter("lists_behind", help);
        let sinks = Sinks {
            uploaded: counter("sink_uploaded", "Lists and documents uploaded to a bucket"),
            failed: counter("sink_failed", "Uploads that failed and are retried"),
            oldest_owed: Family::default(),
        };
        let help = "Age of the oldest upload still to be done, at the latest round";
        registry.register_with_unit("sink_oldest_owed", help, Unit::Seconds, sinks.oldest_owed.clone());
        let audit = AuditMetrics::default();
        registry.register("audit_lines", "Lines of the audit trail written durably", audit.lines.clone());
        let help = "Writes of the audit trail that failed, so that requests were answered 503: alarm on any increase";
        registry.register("audit_failed", help, audit.failed.clone());
        let freshness = FreshnessMetrics::register(registry);
        let update_to_publish = Family::new_with_constructor(publish_buckets as fn() -> Histogram);
        let help = "From a list's first unpublished change to its publication";
        registry.register_with_unit("update_to_publish", help, Unit::Seconds, update_to_publish.clone());
        let mut histogram = |name: &str, help: &str, unit: Option<Unit>, buckets: fn() -> Histogram| {
            let family = Family::new_with_constructor(buckets);
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
                None => registry.register(name, help, family.clone()),
            }
            family
        };
        let help = "Entries in one durable batch of updates";
        let batch_size = histogram("batch_size", help, None, batch_buckets);
        let help = "How long the store took for one batch of updates";
        let store_commit = histogram("store_commit", help, Some(Unit::Seconds), commit_buckets);
        let help = "How long one signature took";
        let signing = histogram("signing", help, Some(Unit::Seconds), signing_buckets);
        let references_ready = Family::<Labels, Gauge>::default();
        let help = "References in memory, when they were last taken or refilled";
        registry.register("references_ready", help, references_ready.clone());
        let references_free = Family::<Labels, Gauge>::default();
        let help = "References left in this instance's open lists, besides those in memory";
        registry.register("references_free", help, references_free.clone());
        let mut gauge = |name: &str, help: &str| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        let help = "References that this instance handed out since midnight (UTC), at the latest request";
        let references_today = gauge("references_today", help);
        let help = "The most of them, if the pool has a quota";
        let references_per_day_max = gauge("references_per_day_max", help);
        let help = "Lists that are not retired, of all instances, when this one last opened one";
        let lists = gauge("lists", help);
        let lists_max =
            gauge("lists_max", "The most lists that the pool may have: alarm when lists comes near");
        let http = HttpMetrics::register(registry);
        let certificate_not_after = Family::<Labels, Gauge>::default();
        let help = "When the first certificate of the signing key's chain ends, in seconds since 1970";
        registry.register_with_unit(
            "certificate_not_after",
            help,
            Unit::Seconds,
            certificate_not_after.clone(),
        );
        let certificate_out_of_date = Family::<Labels, Gauge>::default();
        let help = "Whether a certificate of the signing key's chain is not valid now, so that verifiers refuse its tokens";
        registry.register("certificate_out_of_date", help, certificate_out_of_date.clone());
        let clock_implausible = Family::<Labels, Gauge>::default();
        let help = "Whether the clock cannot be believed, so that nothing is published: alarm on 1";
        registry.register("clock_implausible", help, clock_implausible.clone());
        let lists_ahead = Family::<Labels, Gauge>::default();
        let help = "Lists whose published iat lies more than a minute in the future, at the latest look over all files";
        registry.register("lists_ahead", help, lists_ahead.clone());
        let api_key_not_after = Family::<Labels, Gauge>::default();
        let help = "When the next of the API keys ends, in seconds since 1970";
        registry.register_with_unit("api_key_not_after", help, Unit::Seconds, api_key_not_after.clone());
        let reloads = ReloadMetrics::register(registry);
        let connections = ConnectionMetrics::register(registry);
        Self {
            registry: root,
            audit,
            references_issued,
            buffer_underflows,
            updates,
            published,
            publish_failed,
            publish_refused,
            lists_behind,
            sinks,
            freshness,
            update_to_publish,
            batch_size,
            store_commit,
            signing,
            references_ready,
            references_free,
            references_today,
            references_per_day_max,
            lists,
            lists_max,
            quota_reached,
            http,
            certificate_not_after,
            certificate_out_of_date,
            clock_implausible,
            lists_ahead,
            api_key_not_after,
            reloads,
            connections,
        }
    }
}

impl Metrics {
    /// The handles of one pool.
    pub fn pool(&self, pool: &PoolId) -> Arc<PoolMetrics> {
        let labels = Labels::of(pool);
        // From 0, so that an alarm on any increase sees the first one.
        for quota in QUOTAS {
            drop(self.quota_reached.get_or_create(&Labels { quota: Some(quota), ..labels.clone() }));
        }
        Arc::new(PoolMetrics {
            references_issued: self.references_issued.get_or_create_owned(&labels),
            buffer_underflows: self.buffer_underflows.get_or_create_owned(&labels),
            updates: self.updates.get_or_create_owned(&labels),
            published: self.published.get_or_create_owned(&labels),
            publish_failed: self.publish_failed.get_or_create_owned(&labels),
            lists_behind: self.lists_behind.get_or_create_owned(&labels),
            freshness: self.freshness.pool(pool),
            update_to_publish: self.update_to_publish.get_or_create_owned(&labels),
            batch_size: self.batch_size.get_or_create_owned(&labels),
            store_commit: self.store_commit.get_or_create_owned(&labels),
            signing: self.signing.get_or_create_owned(&labels),
            references_ready: self.references_ready.get_or_create_owned(&labels),
            references_free: self.references_free.get_or_create_owned(&labels),
            references_today: self.references_today.get_or_create_owned(&labels),
            lists: self.lists.get_or_create_owned(&labels),
            lists_max: self.lists_max.get_or_create_owned(&labels),
            certificate_out_of_date: self.certificate_out_of_date.get_or_create_owned(&labels),
            clock_implausible: self.clock_implausible.get_or_create_owned(&labels),
            lists_ahead: self.lists_ahead.get_or_create_owned(&labels),
            pool: pool.clone(),
            refused: self.publish_refused.clone(),
            quota_reached: self.quota_reached.clone(),
            sinks: self.sinks.clone(),
        })
    }

    /// Sets the end of the first certificate of a pool's signing key; `None` removes it.
    pub fn certificate_not_after(&self, pool: &PoolId, end: Option<NumericDate>) {
        set_or_remove(&self.certificate_not_after, pool, end.map(NumericDate::secs));
    }

    /// Sets the most references of a pool in a day; `None` removes it.
    pub fn references_per_day_max(&self, pool: &PoolId, most: Option<u32>) {
        set_or_remove(&self.references_per_day_max, pool, most.map(u64::from));
    }

    /// Sets the end of the next API key of a pool to expire; `None` removes it.
    pub fn api_key_not_after(&self, pool: &PoolId, end: Option<NumericDate>) {
        set_or_remove(&self.api_key_not_after, pool, end.map(NumericDate::secs));
    }

    /// The handles of one route.
    pub fn route(&self, route: &'static str) -> RouteMetrics {
        self.http.route(route)
    }

    /// All metrics at `now`, in the OpenMetrics text format.
    pub fn to_openmetrics(&self, now: Timestamp) -> String {
        self.freshness.refresh(now);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to memory does not fail");
        text
    }

    /// The same in the older text format.
    pub fn to_prometheus(&self, now: Timestamp) -> String {
        text::to_prometheus(&self.to_openmetrics(now))
    }
}

fn set_or_remove(gauges: &Family<Labels, Gauge>, pool: &PoolId, value: Option<u64>) {
    let labels = Labels::of(pool);
    match value.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => _ = gauges.get_or_create_owned(&labels).set(value),
        None => _ = gauges.remove(&labels),
    }
}

impl PoolMetrics {
    /// Names the checks of the gate, whose counters begin at 0: an alarm on any increase sees the first one.
    pub fn publish_checks(&self, checks: &[&'static str]) {
        for check in checks {
            drop(self.refused.get_or_create(&Labels { check: Some(check), ..Labels::of(&self.pool) }));
        }
    }

    /// Counts a publication that the gate refused in this check.
    pub fn publish_refused(&self, check: &'static str) {
        self.refused.get_or_create(&Labels { check: Some(check), ..Labels::of(&self.pool) }).inc();
    }

    /// Counts that this quota, named as below `quotas`, was reached.
    pub fn quota_reached(&self, quota: &'static str) {
        self.quota_reached.get_or_create(&Labels { quota: Some(quota), ..Labels::of(&self.pool) }).inc();
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
        let text = metrics.to_openmetrics(Timestamp::from_secs(0));
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

    /// The operators' page lists exactly the existing metrics.
    #[test]
    fn the_operators_page_lists_exactly_the_metrics() {
        let metrics = Metrics::default();
        let pool = metrics.pool(&"demo".parse().unwrap());
        pool.publish_refused("newer");
        pool.quota_reached("lists");
        metrics.references_per_day_max(&"demo".parse().unwrap(), Some(1));
        pool.sink("s3://b/");
        metrics.route("/version").answered(200, 0.001);
        metrics.certificate_not_after(&"demo".parse().unwrap(), Some(NumericDate::from_secs(1)));
        metrics.api_key_not_after(&"demo".parse().unwrap(), Some(NumericDate::from_secs(1)));
        metrics.reloads.note(true);
        let text = metrics.to_prometheus(Timestamp::from_secs(0));
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let families = families.map(|line| line.split_once(' ').unwrap().0.to_owned());
        let page = std::fs::read_to_string("docs/OPERATIONS.md").unwrap();
        let section = page.split("\n## ").find(|section| section.starts_with("Metrics")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented = rows.map(|row| row.split('`').next().unwrap().to_owned());
        let [families, documented]: [std::collections::BTreeSet<_>; 2] =
            [families.collect(), documented.collect()];
        assert_eq!(families, documented);
    }
}
